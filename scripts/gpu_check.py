"""What scripts/gpu_check.sh runs: the stages, and the record of them."""

from __future__ import annotations

import argparse
import datetime
import importlib.util
import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[1]
NEEDED = (
    *("numpy", "torch", "typer", "rich", "platformdirs", "psutil", "tqdm", "safetensors", "PIL", "cv2"),
    *("filelock", "cuda.core", "cuda.bindings", "pytest", "hypothesis"),
)
Facts = dict[str, Any]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--output", type=Path, default=REPOSITORY / "benchmarks")
    parser.add_argument("stages", nargs="*", choices=[[], *STAGES], default=[])
    options = parser.parse_args()
    missing = [name for name in NEEDED if not _there(name)]
    if missing:
        print(f"missing: {' '.join(missing)}; see scripts/gpu_check.sh on how to bring wheels", file=sys.stderr)
        return 2
    record: Facts = {"machine": machine(), "stages": {}}
    if record["machine"]["device"] is None:
        print("torch finds no CUDA device here", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory() as folder:
        for name in options.stages or STAGES:
            began = time.monotonic()
            print(f"== {name}", flush=True)
            try:
                facts = STAGES[name](Path(folder), options.data)
            except (subprocess.SubprocessError, OSError, ValueError, KeyError) as error:
                output = (getattr(error, "stderr", None) or "")[-4000:]
                facts = {"failed": f"{type(error).__name__}: {error}\n{output}".strip()}
            record["stages"][name] = {**facts, "seconds": round(time.monotonic() - began, 1)}
            print(facts.get("failed", f"done in {record['stages'][name]['seconds']} s"), flush=True)
            write(record, options.output)
    return int(any("failed" in facts for facts in record["stages"].values()))


def _there(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ImportError:
        return False


def machine() -> Facts:
    import torch

    device = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    return {
        "device": device,
        "capability": torch.cuda.get_device_capability() if device else None,
        "driver": _output(query),
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "python": platform.python_version(),
        "commit": _output(["git", "-C", str(REPOSITORY), "describe", "--always", "--dirty", "--abbrev=12"]),
        "date": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
    }


def _output(command: list[str]) -> str | None:
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip() or None
    except (OSError, subprocess.CalledProcessError):
        return None


# ---- the stages ----------------------------------------------------------------------------------------


def gsr(*arguments: object, limit: int) -> Facts:
    """The JSON object that a command prints."""
    command = [sys.executable, "-m", "gsrcli", *map(str, arguments), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=limit, check=True)
    return json.loads(done.stdout)


def doctor(folder: Path, data: Path | None) -> Facts:
    return gsr("doctor", limit=240)


def tests(folder: Path, data: Path | None) -> Facts:
    report = folder / "tests.xml"
    options = ["-m", "gpu", "-q", "-p", "no:cacheprovider", "--junitxml", str(report)]
    # Others may import what this machine lacks.
    files = [p for p in sorted((REPOSITORY / "tests").glob("test_*.py")) if "mark.gpu" in p.read_text(encoding="utf-8")]
    command = [sys.executable, "-m", "pytest", *options, *map(str, files)]
    done = subprocess.run(command, timeout=560, check=False)
    suite = next(ElementTree.parse(report).iter("testsuite"))
    counts = {name: int(suite.get(name, 0)) for name in ("tests", "failures", "errors", "skipped")}
    skipped = sorted({f"{case.get('name')}: {e.get('message')}" for case in suite for e in case.iter("skipped")})
    broken = [str(case.get("name")) for case in suite if list(case.iter("failure")) or list(case.iter("error"))]
    facts: Facts = {**counts, "skips": skipped, "broken": broken}
    return (
        {**facts, "failed": ", ".join(broken) or f"pytest exits with {done.returncode}"} if done.returncode else facts
    )


def bench(folder: Path, data: Path | None) -> Facts:
    return gsr("bench", "--device", "cuda", limit=560)


def rasterizer(folder: Path, data: Path | None) -> Facts:
    return gsr("bench", "--device", "cuda", "--rasterizer", limit=560)


def upscale(folder: Path, data: Path | None) -> Facts:
    """A photograph's worth of pixels from file to file, twice: the first time compiles."""
    picture = folder / "large.png"
    _synthetic(picture, (3000, 2000))
    command = ("upscale", picture, "--scale", 2, "--device", "cuda", "--overwrite", "-o", folder / "out.png")
    gsr(*command, limit=240)
    return gsr(*command, limit=240)


def train(folder: Path, data: Path | None) -> Facts:
    """A minute of it."""
    if data is None:
        data = folder / "pictures"
        data.mkdir()
        for i in range(24):
            _synthetic(data / f"{i}.png", (640, 480), seed=i)
    run = folder / "run"
    command = [sys.executable, "-m", "gsrcli", "train", str(data), "--run", str(run), "--device", "cuda"]
    command += ["--steps", "1000000", "--save-every", "20", "--validate-every", "1000000", "--workers", "8"]
    with subprocess.Popen(command, text=True, stderr=subprocess.PIPE) as process:
        try:
            _, errors = process.communicate(timeout=60)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGINT)
            _, errors = process.communicate(timeout=60)
    if process.returncode != 130:
        raise ValueError(f"training ended by itself: {errors[-2000:]}")
    log = run / "log.jsonl"
    steps = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()] if log.exists() else []
    if len(steps) < 2:
        raise ValueError("training took fewer than 40 steps in a minute")
    first, last = steps[0], steps[-1]
    rate = (last["step"] - first["step"]) / (last["seconds"] - first["seconds"])
    return {"steps": last["step"], "steps_per_s": rate, "first_loss": first["loss"], "last_loss": last["loss"]}


def _synthetic(path: Path, size: tuple[int, int], seed: int = 0) -> None:
    """Waves, an edge and speckle."""
    import numpy as np
    from PIL import Image

    random = np.random.default_rng(seed)
    y, x = np.mgrid[: size[1], : size[0]]
    layers = [np.sin(x / random.uniform(2, 40) + y / random.uniform(2, 40) + c) for c in range(3)]
    pixels = 0.5 + 0.25 * np.stack(layers, -1) + 0.15 * (x > y)[..., None] + random.normal(0, 0.02, (*x.shape, 1))
    Image.fromarray((pixels.clip(0, 1) * 255).astype(np.uint8)).save(path)


STAGES: dict[str, Callable[[Path, Path | None], Facts]] = {
    stage.__name__: stage for stage in (doctor, tests, bench, rasterizer, upscale, train)
}


# ---- the record ----------------------------------------------------------------------------------------


def write(record: Facts, output: Path) -> None:
    output.mkdir(parents=True, exist_ok=True)
    (output / "gpu.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    (output / "gpu.md").write_text("\n".join(markdown(record)) + "\n", encoding="utf-8")


def markdown(record: Facts) -> list[str]:
    facts, stages = record["machine"], record["stages"]
    lines = [
        "# Measured on a GPU",
        "",
        f"{facts['date']}, commit {facts['commit']}: {facts['device']}, driver {facts['driver']}, "
        f"torch {facts['torch']}, Python {facts['python']}. Written by scripts/gpu_check.sh; all of it is in gpu.json.",
    ]
    for name, title, columns in _TABLES:
        rows = stages.get(name, {}).get("rows", [])
        if rows:
            lines += ["", f"## {title}", "", *table(rows, columns), "", *stages[name].get("notes", [])]
    if "tests" in stages:
        told = {key: stages["tests"].get(key) for key in ("tests", "failures", "errors", "skipped", "broken", "skips")}
        lines += ["", "## Tests", "", *(f"- {key}: {value}" for key, value in told.items())]
    if "upscale" in stages:
        lines += ["", "## 3000×2000 ×2, file to file", "", f"{stages['upscale'].get('elapsed')} s: "]
        lines[-1] += ", ".join(f"{k} {v:.2f} s" for k, v in stages["upscale"].get("seconds", {}).items()) or "failed"
    if "train" in stages:
        lines += ["", "## A minute of training gsasr-lite", ""]
        lines += [f"- {key}: {value}" for key, value in stages["train"].items()]
    failures = {name: facts["failed"] for name, facts in stages.items() if "failed" in facts}
    if failures:
        lines += ["", "## Failed", "", *(f"- {name}: {why}" for name, why in failures.items())]
    return lines


Columns = tuple[tuple[str, str, str], ...]  # key, title, format


def table(rows: list[Facts], columns: Columns) -> list[str]:
    shown = [column for column in columns if any(column[0] in row for row in rows)]
    lines = [" | ".join(title for _, title, _ in shown), " | ".join("---" for _ in shown)]
    lines += [" | ".join(form.format(row[key]) if key in row else "" for key, _, form in shown) for row in rows]
    return [f"| {line} |" for line in lines]


_SUBJECT: Columns = (("model", "model", "{}"), ("weights", "weights", "{}"), ("scale", "scale", "×{:g}"))
_PIPELINE: Columns = (
    *_SUBJECT,
    ("encoder_ms", "encoder ms", "{:.2f}"),
    ("decoder_ms", "decoder ms", "{:.2f}"),
    ("network_ms", "network ms", "{:.2f}"),
    ("graph_ms", "as a CUDA graph ms", "{:.2f}"),
    ("rasterizer_ms", "rasterizer ms", "{:.3f}"),
    ("total_ms", "total ms", "{:.2f}"),
    ("total_iqr_ms", "spread ms", "{:.2f}"),
    ("memory_bytes", "peak memory bytes", "{:.3g}"),
    ("pairs", "pairs", "{:.3g}"),
    ("paper_a100_ms", "paper on an A100 ms", "{}"),
    ("paper_a100_mb", "paper on an A100 MB", "{}"),
)
_DRAWING: Columns = (
    *_SUBJECT,
    ("backend", "drawn by", "{}"),
    ("order", "order", "{}"),
    ("height", "rows", "{}"),
    ("pairs", "pairs", "{:.3g}"),
    ("forward_ms", "forward ms", "{:.3f}"),
    ("arithmetic_floor_ms", "floor ms", "{:.3f}"),
    ("backward_ms", "backward ms", "{:.3f}"),
    ("forward_over_published", "forward, times the published", "{:.1f}"),
    ("backward_over_published", "backward, times the published", "{:.1f}"),
    ("forward_over_torch", "forward, times plain torch", "{:.1f}"),
    ("error", "largest error", "{:.1e}"),
)
_TABLES = (
    ("bench", "From LR picture to 720×720", _PIPELINE),
    ("rasterizer", "Drawing alone", _DRAWING),
)

if __name__ == "__main__":
    os.chdir(REPOSITORY)
    sys.exit(main())
