"""What scripts/gpu_check.sh runs: the stages, and the record of them."""

from __future__ import annotations

import argparse
import json
import operator
import signal
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ElementTree
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any

from gsrcli import toml

REPOSITORY = Path(__file__).resolve().parents[1]
Facts = dict[str, Any]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--output", type=Path, default=REPOSITORY / "benchmarks")
    parser.add_argument("--commit", default=_output(["git", "-C", str(REPOSITORY), *_DESCRIBE]))
    parser.add_argument("--device", default="cuda")
    parser.add_argument("stages", nargs="*", choices=[[], *STAGES], default=[])
    options = parser.parse_args()
    if missing := lacking():
        print(f"missing: {', '.join(missing)}; see scripts/gpu_check.sh on how to bring wheels", file=sys.stderr)
        return 2
    if options.commit is None:
        print("there is no git to ask what is measured here: say it with --commit", file=sys.stderr)
        return 2
    record: Facts = {"machine": machine(options.device, options.commit), "stages": {}}
    if record["machine"]["device"] is None:
        print("torch finds no CUDA device here", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory() as folder:
        for name in options.stages or STAGES:
            began = time.monotonic()
            print(f"== {name}", flush=True)
            try:
                facts = STAGES[name](Work(Path(folder), options.device, options.data and options.data.resolve()))
            except (subprocess.SubprocessError, OSError, ValueError, KeyError) as error:
                # Of commands that print JSON the standard output tells what is wrong as well.
                outputs = (_text(getattr(error, stream, None)) for stream in ("stdout", "stderr"))
                facts = {
                    "error": "\n".join([f"{type(error).__name__}: {error}", *(o[-4000:] for o in outputs)]).strip()
                }
            took = round(time.monotonic() - began, 1)
            record["stages"][name] = {**facts, "took": took}
            print(facts.get("error", f"done in {took} s"), flush=True)
            write(record, options.output)
    return int(any("error" in facts for facts in record["stages"].values()))


@dataclass(frozen=True)
class Work:
    """What a stage works with: a folder for what it makes, the device, and pictures to train on, if there are."""

    folder: Path
    device: str
    data: Path | None


def lacking() -> list[str]:
    """What gsrcli and its tests require and this Python lacks, or has too old."""
    try:
        from packaging.requirements import Requirement
    except ImportError:
        return ["packaging"]
    project = toml.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    tools = [text for text in project["optional-dependencies"]["test"] if text.startswith(("pytest", "hypothesis"))]
    requirements = map(Requirement, (*project["dependencies"], *tools, *_of_cuda()))
    return [
        str(requirement)
        for requirement in requirements
        if (requirement.marker is None or requirement.marker.evaluate())
        and not any(
            requirement.specifier.contains(version, prereleases=True) for version in _versions(requirement.name)
        )
    ]


def _of_cuda() -> list[str]:
    """What a torch that is built for CUDA calls the driver with, and mostly brings."""
    try:
        import torch
    except Exception:  # which stage doctor tells of
        return []
    return ["cuda-bindings"] if torch.version.cuda else []


def _versions(name: str) -> list[str]:
    """The version of a distribution, and of its build without windows, which serves as well."""
    versions = []
    for one in (name, f"{name}-headless"):
        with suppress(metadata.PackageNotFoundError):
            versions.append(metadata.version(one))
    return versions


def machine(device: str, commit: str) -> Facts:
    """What is measured, and on what; its device is None where there is no such GPU."""
    import torch

    from gsrcli.hardware import environment

    if device == "cpu":
        return {**environment(torch.device("cpu")), "device": "no GPU: a rehearsal on the CPU", "commit": commit}
    if not torch.cuda.is_available():
        return {"device": None}
    capability = torch.cuda.get_device_capability(device)
    return {**environment(torch.device(device)), "capability": capability, "commit": commit}


def _text(output: str | bytes | None) -> str:
    """Of what ran out of time the output comes as bytes, whatever was asked for."""
    return output.decode(errors="replace") if isinstance(output, bytes) else output or ""


_DESCRIBE = ("describe", "--always", "--dirty", "--abbrev=12")


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


def doctor(work: Work) -> Facts:
    return gsr("doctor", limit=240)


def tests(work: Work) -> Facts:
    return _tests(work, "not sanitizer")


def sanitizer(work: Work) -> Facts:
    """The kernels under each of compute-sanitizer's tools, which is slow."""
    return _tests(work, "sanitizer")


def _tests(work: Work, which: str) -> Facts:
    report = work.folder / "tests.xml"
    options = ["-m", "gpu", "-k", which, "-q", "-p", "no:cacheprovider", "--junitxml", str(report)]
    # Others may import what this machine lacks.
    files = [p for p in sorted((REPOSITORY / "tests").glob("test_*.py")) if "mark.gpu" in p.read_text(encoding="utf-8")]
    command = [sys.executable, "-m", "pytest", *options, *map(str, files)]
    done = subprocess.run(command, timeout=560, check=False)
    suite = next(ElementTree.parse(report).iter("testsuite"))
    counts = {name: int(suite.get(name, 0)) for name in ("tests", "failures", "errors", "skipped")}
    skipped = Counter(str(entry.get("message")) for case in suite for entry in case.iter("skipped"))
    broken = [str(case.get("name")) for case in suite if list(case.iter("failure")) or list(case.iter("error"))]
    facts: Facts = {**counts, "skips": dict(skipped), "broken": broken}
    return {**facts, "error": ", ".join(broken) or f"pytest exits with {done.returncode}"} if done.returncode else facts


def bench(work: Work) -> Facts:
    return gsr("bench", "--device", work.device, limit=560)


def rasterizer(work: Work) -> Facts:
    return gsr("bench", "--device", work.device, "--rasterizer", limit=560)


def upscale(work: Work) -> Facts:
    """A photograph's worth of pixels from file to file, twice: the first time compiles. Fewer in a rehearsal."""
    picture, size = work.folder / "large.png", (300, 200) if work.device == "cpu" else (3000, 2000)
    _synthetic(picture, size)
    command = ("upscale", picture, "--scale", 2, "--device", work.device, "--overwrite", "-o", work.folder / "out.png")
    gsr(*command, limit=240)
    return {"picture": size, **gsr(*command, limit=240)}


def train(work: Work) -> Facts:
    """A minute of it, checkpoints included."""
    data = work.data
    if data is None:
        data = work.folder / "pictures"
        data.mkdir()
        for i in range(24):
            _synthetic(data / f"{i}.png", (640, 480), seed=i)
    run = work.folder / "run"
    command = [sys.executable, "-m", "gsrcli", "train", str(data), "--run", str(run), "--device", work.device]
    command += ["--steps", "1000000", "--save-every", "50", "--validate-every", "1000000", "--workers", "8"]
    # Where this script runs in the background it ignores Ctrl-C, and so would what it starts.
    heed = partial(signal.signal, signal.SIGINT, signal.default_int_handler)
    with subprocess.Popen(command, text=True, stderr=subprocess.PIPE, preexec_fn=heed) as process:
        try:
            _, errors = process.communicate(timeout=60)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGINT)
            try:
                _, errors = process.communicate(timeout=60)
            except subprocess.TimeoutExpired:
                process.kill()
                raise
    if process.returncode != 130:
        raise ValueError(f"training ended by itself: {errors[-2000:]}")
    log = run / "log.jsonl"
    steps = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()] if log.exists() else []
    if len(steps) < 2:
        raise ValueError("training took fewer than 100 steps in a minute")
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


STAGES: dict[str, Callable[[Work], Facts]] = {
    stage.__name__: stage for stage in (doctor, tests, sanitizer, bench, rasterizer, upscale, train)
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
        f"{facts['date']}, commit {facts['commit']}: {facts['device']}, driver {facts.get('driver')}, "
        f"torch {facts['torch']}, Python {facts['python']}. Written by scripts/gpu_check.sh; all of it is in gpu.json.",
    ]
    if compared := goals(stages):
        lines += ["", "## Goals", "", "| goal | wanted | measured | |", "| --- | --- | --- | --- |"]
        lines += [f"| {goal} | {wanted} | {measured} | {verdict} |" for goal, wanted, measured, verdict in compared]
    for name, title, columns in _TABLES:
        rows = stages.get(name, {}).get("rows", [])
        if rows:
            lines += ["", f"## {title}", "", *table(rows, columns), "", *stages[name].get("notes", [])]
    for name, title in (("tests", "Tests"), ("sanitizer", "compute-sanitizer")):
        if name in stages:
            told = ("tests", "failures", "errors", "skipped", "broken", "skips")
            lines += ["", f"## {title}", "", *(f"- {key}: {stages[name].get(key)}" for key in told)]
    if "seconds" in (enlarged := stages.get("upscale", {})):
        width, height = enlarged["picture"]
        spent = ", ".join(f"{stage} {seconds:.2f} s" for stage, seconds in enlarged["seconds"].items())
        lines += ["", f"## {width}×{height} ×2, file to file", "", f"{enlarged['elapsed']} s: {spent}"]
    if "train" in stages:
        lines += ["", "## A minute of training gsasr-lite", ""]
        lines += [f"- {key}: {value}" for key, value in stages["train"].items()]
    failures = {name: facts["error"] for name, facts in stages.items() if "error" in facts}
    if failures:
        lines += ["", "## Failed", "", *(f"- {name}: {why}" for name, why in failures.items())]
    return lines


def goals(stages: Facts) -> list[tuple[str, str, str, str]]:
    """What is to be reached, and what was: goal, wanted, measured, and the verdict."""
    drawn = [
        row
        for row in stages.get("rasterizer", {}).get("rows", [])
        if (row["backend"], row["order"], row["scale"]) == ("cuda", "picture", 4)
    ]
    timed = [row for row in stages.get("bench", {}).get("rows", []) if row["model"] == "gsasr-edsr"]
    found: list[tuple[str, float, Callable[[float, float], bool], list[tuple[str, float | None]]]] = [
        (
            f"{way}, ×4, times the published algorithm",
            wanted,
            operator.ge,
            [(row["model"], row.get(f"{way}_over_published")) for row in drawn],
        )
        for way, wanted in (("forward", 200), ("backward", 50))
    ]
    floors = [(row["model"], _ratio(row["forward_ms"], row.get("arithmetic_floor_ms"))) for row in drawn]
    shares = [(f"×{row['scale']:g}", _ratio(100 * row["rasterizer_ms"], row["total_ms"])) for row in timed]
    found += [
        ("forward, ×4, times the arithmetic floor", 5, operator.le, floors),
        ("drawing, % of gsasr-edsr's time", 5, operator.le, shares),
    ]
    return [
        (
            goal,
            f"{'≥' if reached is operator.ge else '≤'} {wanted:g}",
            ", ".join(f"{of}: {'unknown' if value is None else f'{value:.3g}'}" for of, value in values),
            "reached" if all(value is not None and reached(value, wanted) for _, value in values) else "not reached",
        )
        for goal, wanted, reached, values in found
        if values
    ]


def _ratio(a: float, b: float | None) -> float | None:
    return a / b if b else None


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
    sys.exit(main())
