"""The settings of an evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from gsrcli.evaluation.scales import Scale
from gsrcli.runtime.precision import Precision

__all__ = ["Degradation", "EvalConfig", "ProtocolName"]

ProtocolName = Literal["gsasr", "liif", "rgb"]
Degradation = Literal["matlab", "pillow", "photo"]


@dataclass(frozen=True)
class EvalConfig:
    """Which pictures and models to score, and how.

    Attributes:
        datasets: names of datasets, and paths of folders of originals.
        scales: each one factor for both sides, or (height, width).
        models: names of models, interpolations (bicubic, lanczos, nearest) or checkpoints; ``NAME=FILE`` names a
            checkpoint. None for the default model and bicubic, or for none if ``restored`` is given.
        restored: folders of pictures that other programs restored; ``NAME=FOLDER`` names them.
        protocol: sizes, channels, border and rounding; see :data:`gsrcli.evaluation.protocols.PROTOCOLS`.
        degradation: how the LR pictures are made: bicubic as in MATLAB or Pillow, or as in photographs.
        lr_dir: folder of LR pictures to use instead.
        data_root: folder that is searched for datasets first.
        metrics: names of :data:`gsrcli.evaluation.report.METRICS`.
        self_ensemble: whether networks are averaged over eight flips and rotations.
        limit: number of pictures scored in each dataset; None for all.
        published: whether results of other methods that papers report are listed too.
        device: auto, cpu, cuda, cuda:1 or mps.
        precision: arithmetic of the networks.
        tile: side of the networks' tiles, in LR pixels; None for what memory allows.
        memory: bytes of the computer's memory that the whole process may use; None for what is free.
    """

    datasets: Sequence[str | Path]
    scales: Sequence[float | Scale] = (2, 3, 4)
    models: Sequence[str | Path] | None = None
    restored: Sequence[str | Path] = ()
    protocol: ProtocolName = "gsasr"
    degradation: Degradation = "matlab"
    lr_dir: Path | None = None
    data_root: Path | None = None
    metrics: Sequence[str] = ("psnr", "ssim")
    self_ensemble: bool = False
    limit: int | None = None
    published: bool = False
    device: str = "auto"
    precision: Precision = "auto"
    tile: int | None = None
    memory: int | None = None
