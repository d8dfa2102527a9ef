"""``gsr bench``: how fast the models and the rasterizers are here, and how fast they could be.

``plan`` says what is timed; ``pipeline`` times models from LR picture to enlargement, ``drawing`` the rasterizers
alone; ``ceilings`` finds the ceilings, ``report`` tells.
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
    """The models that are timed unless others are asked for: the large networks on a GPU alone."""
    if device.type == "cpu":
        return ("gsasr-lite",)
    # Untrained fields are all alike: one of them will do to draw.
    return ("gsasr-edsr", "gsasr-lite") if workload == "rasterizer" else ("gsasr-edsr", "gsasr-rdn", "gsasr-lite")


def run(names: Sequence[str], scales: Sequence[float], setting: Setting) -> Iterator[tuple[str, list[Measurement]]]:
    """For each model at each scale what it was, for people, and its rows, as they are measured.

    What memory does not suffice for has none, and a RuntimeWarning says so.

    Raises:
        ModelError: there is no such model, or its weights are damaged.
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
    """Time what the setting asks for: one row for a pipeline, one for each rasterizer."""
    if setting.workload == "rasterizer":
        return [*drawing.measure(subject, case, setting)]
    return [pipeline.measure(subject, case, setting)]
