"""``gsr bench``: how fast the models and the rasterizers run on this machine, and how fast they could run.

``plan`` defines what is timed; ``pipeline`` times models from LR picture to enlargement, ``drawing`` the rasterizers
alone; ``ceilings`` measures the device's limits, and ``report`` presents the results.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence

import torch

from gsrcli.benchmark import drawing, pipeline
from gsrcli.benchmark.plan import Case, Setting, Subject, Workload
from gsrcli.benchmark.report import Measurement
from gsrcli.errors import is_out_of_memory

__all__ = ["default_models", "measure", "run"]


def default_models(workload: Workload, device: torch.device) -> tuple[str, ...]:
    """Return the models to time by default; large networks are only timed on a GPU."""
    if device.type == "cpu":
        return ("gsasr-lite",)
    # Untrained fields are all alike, so drawing one of them is enough.
    return ("gsasr-edsr", "gsasr-lite") if workload == "rasterizer" else ("gsasr-edsr", "gsasr-rdn", "gsasr-lite")


def run(names: Sequence[str], scales: Sequence[float], setting: Setting) -> Iterator[tuple[str, list[Measurement]]]:
    """Yield a label and the measurements of each model at each scale, as they are made.

    If memory runs out there are no measurements, and a RuntimeWarning says so.

    Raises:
        ModelError: a model is unknown, or its weights are damaged.
        PictureError: the picture to enlarge cannot be read.
    """
    for name in names:
        subject = Subject.load(name, setting.device, setting.precision)
        for scale in scales:
            case = Case.of(scale, setting, subject.model.traits.multiple)
            try:
                rows = measure(subject, case, setting)
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
                warnings.warn(f"{name} ×{scale:g} is left out: memory ran out", RuntimeWarning, stacklevel=2)
                rows = []
            yield f"{subject.name} ×{scale:g}", rows


def measure(subject: Subject, case: Case, setting: Setting) -> list[Measurement]:
    """Time the setting's workload: one measurement for a pipeline, one per rasterizer."""
    if setting.workload == "rasterizer":
        return [*drawing.measure(subject, case, setting)]
    return [pipeline.measure(subject, case, setting)]
