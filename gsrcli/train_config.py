"""Everything that decides the outcome of a training run. Needs no torch, so that ``gsr train --help`` is quick."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Literal

from gsrcli.errors import UsageError

__all__ = ["Precision", "TrainConfig"]

Precision = Literal["auto", "float32", "bfloat16"]
"""The network's arithmetic; Gaussians and their rasterization are float32 always."""


def _setting(default: Any, help: str) -> Any:
    return field(default=default, metadata={"help": help})


@dataclass(frozen=True)
class TrainConfig:
    """A training run, as ``gsr train`` shows and records it. Each field's help stands in its metadata.

    Raises:
        UsageError: a value makes no sense, by itself or with the others.
    """

    model: str = _setting("gsasr-lite", "Name of the model to train.")
    steps: int = _setting(14_000, "Optimizer steps in all.")
    batch: int = _setting(16, "Pairs a step.")
    patch: int = _setting(48, "Side of the low-resolution crops, in pixels.")
    learning_rate: float = _setting(1e-3, "The highest, after the warm-up; a cosine takes it to a hundredth.")
    warmup: int = _setting(500, "Steps over which the learning rate grows from zero.")
    weight_decay: float = _setting(1e-4, "AdamW's.")
    clip: float = _setting(1.0, "Largest norm of the gradient.")
    ema: float = _setting(0.999, "Decay a step of the averaged weights, which are validated and kept.")
    scale_low: float = _setting(1.1, "Smallest scale.")
    scale_high: float = _setting(4.4, "Largest scale of the common range, which is drawn from uniformly.")
    scale_far: float = _setting(8.0, "Largest scale of all.")
    far_share: float = _setting(0.1, "Share of pairs with scales between scale-high and scale-far.")
    unequal_share: float = _setting(0.1, "Share of pairs whose x and y scales are drawn apart.")
    held_out: int = _setting(8, "Pictures kept from training, spread over the folder, to validate on.")
    validate_every: int = _setting(1000, "Steps between validations.")
    save_every: int = _setting(500, "Steps between checkpoints.")
    seed: int = _setting(0, "Of weights and crops.")
    workers: int = _setting(0, "Processes that prepare crops; 0 prepares them between steps.")
    device: str = _setting("auto", "Where to train: auto takes a GPU if there is one; or cpu, cuda, cuda:1, mps.")
    precision: Precision = _setting("auto", "Of the network's arithmetic.")

    def __post_init__(self) -> None:
        if min(self.steps, self.batch, self.patch, self.held_out, self.validate_every, self.save_every) < 1:
            raise UsageError("steps, batch, patch, held-out, validate-every and save-every must be at least 1")
        if min(self.warmup, self.workers) < 0:
            raise UsageError("warmup and workers must be at least 0")
        # The conditions below are put so that NaN fails them.
        if not 1 <= self.scale_low <= self.scale_high <= self.scale_far < math.inf:
            raise UsageError("scales must satisfy 1 <= scale-low <= scale-high <= scale-far, and be finite")
        if not (0 <= self.far_share <= 1 and 0 <= self.unequal_share <= 1):
            raise UsageError("far-share and unequal-share must be between 0 and 1")
        if not (0 < self.learning_rate < math.inf and 0 < self.clip < math.inf):
            raise UsageError("learning-rate and clip must be above 0 and finite")
        if not 0 <= self.weight_decay < math.inf:
            raise UsageError("weight-decay must be at least 0 and finite")
        if not 0 <= self.ema < 1:
            raise UsageError("ema must be at least 0 and below 1")
