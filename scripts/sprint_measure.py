"""Measure how fast everything is on this device: print a JSON object per row, the most important first."""

from __future__ import annotations

import argparse
import dataclasses
import functools
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from sprint_smoke import synthetic_pictures, tell
from sprint_train import train_command

from gsrcli.benchmark import measure
from gsrcli.benchmark.ceilings import measure_ceilings
from gsrcli.benchmark.plan import SIDE, Case, Setting, Subject, Workload
from gsrcli.benchmark.report import TimingReport
from gsrcli.runtime.devices import pick_device, pick_precision

Facts = dict[str, Any]
DRAWN, MODELS, SCALES = "gsasr-edsr", ("gsasr-edsr", "gsasr-lite"), (4.0, 2.0, 12.0, 3.0, 6.0, 8.0)
BATCH, PATCH = 64, 48


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--pictures", type=Path, help="folder of pictures to train on; synthetic ones by default")
    options = parser.parse_args()
    device = pick_device(options.device)
    work = _work(device, options.pictures)
    tell({"plan": [name for name, _ in work]})
    for name, rows in work:
        try:
            for row in rows():
                tell({"name": name, **row})
        except Exception as error:  # so that one failure does not keep the rest from being measured
            output = getattr(error, "stderr", None) or ""
            tell({"name": name, "failed": f"{type(error).__name__}: {error} {output[-1000:]}".strip()})
        if device.type == "cuda":
            torch.cuda.empty_cache()


def _work(device: torch.device, pictures: Path | None) -> list[tuple[str, Callable[[], list[Facts]]]]:
    timing = _Timing(device)

    def drawing(model: str, scale: float) -> tuple[str, Callable[[], list[Facts]]]:
        return f"drawing at x{scale:g}", functools.partial(timing.rows, "rasterizer", model, scale)

    def pipeline(model: str, scale: float) -> tuple[str, Callable[[], list[Facts]]]:
        return f"{model} at x{scale:g}", functools.partial(timing.rows, "pipeline", model, scale)

    ceilings = ("ceilings", lambda: [{"kind": "ceilings", **dataclasses.asdict(timing.ceilings)}])
    training = ("training", lambda: [_training(device, pictures)])
    if device.type == "cpu":  # a rehearsal
        models = [pipeline(model, 4.0) for model in MODELS]
        return [ceilings, drawing("gsasr-lite", 4.0), drawing("gsasr-lite", 2.0), training, *models]
    first, others = SCALES[:2], SCALES[2:]
    work = [ceilings, *(drawing(DRAWN, scale) for scale in first), training]
    work += [pipeline(model, scale) for scale in first for model in MODELS]
    return work + [step for scale in others for step in (*(pipeline(m, scale) for m in MODELS), drawing(DRAWN, scale))]


class _Timing:
    """Measurements by gsrcli.benchmark, one at a time."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.repeats, self.side = (2, 24) if device.type == "cpu" else (10, SIDE)

    @functools.cached_property
    def ceilings(self) -> Any:
        return measure_ceilings(self.device, pick_precision(self.device))

    @functools.cache  # noqa: B019 (a single object, which lives as long as the process)
    def subject(self, model: str) -> Subject:
        return Subject.load(model, self.device)

    def rows(self, what: Workload, model: str, scale: float) -> list[Facts]:
        setting = Setting(what, self.device, "auto", self.repeats, self.side, None, self.ceilings)
        subject = self.subject(model)
        rows = measure(subject, Case.of(scale, setting, subject.model.traits.multiple), setting)
        report = TimingReport.of([model], [scale], setting, rows).data()
        kind = "drawing" if what == "rasterizer" else "pipeline"
        return [{"kind": kind, **row, "notes": report["notes"]} for row in report["rows"]]


def _training(device: torch.device, pictures: Path | None) -> Facts:
    """Return the profile that gsr train reports."""
    batch = 2 if device.type == "cpu" else BATCH
    with tempfile.TemporaryDirectory() as folder:
        pictures = pictures or synthetic_pictures(Path(folder) / "pictures", 24)
        arguments = ["--batch", str(batch), "--patch", str(PATCH), "--profile", "--json"]
        command = train_command(pictures, Path(folder) / "run", str(device), arguments=arguments)
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    return {"kind": "training", "batch": batch, "patch": PATCH, **json.loads(done.stdout)}


if __name__ == "__main__":
    sys.exit(main())
