"""Everything that decides the outcome of a training run. Needs no torch, so that ``gsr train --help`` is quick."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Literal

from gsrcli.errors import UsageError
from gsrcli.runtime.precision import Precision

__all__ = ["Degradation", "TrainConfig"]

Degradation = Literal["bicubic", "photo"]


def _setting(default: Any, help: str, *, fixed: bool = True) -> Any:
    return field(default=default, metadata={"help": help, "fixed": fixed})


@dataclass(frozen=True)
class TrainConfig:
    """A training run, as ``gsr train`` shows and records it.

    Each field's metadata hold its help, and whether it is ``fixed``: whether a run that goes on must keep it.

    Raises:
        UsageError: a value makes no sense, by itself or with the others.
    """

    model: str = _setting("gsasr-lite", "Name of the model to train.")
    steps: int = _setting(40_000, "Optimizer steps in all.", fixed=False)
    minutes: float = _setting(
        0.0, "End so long from now, whatever the steps, the rate decayed in time; 0 sets no limit.", fixed=False
    )
    batch: int = _setting(16, "Pairs a step.")
    groups: int = _setting(2, "Scales a step: each is that of an equal part of the batch.")
    patch: int = _setting(48, "Side of the low-resolution crops, in pixels.")
    optimizer: Literal["auto", "muon", "adamw"] = _setting(
        "auto", "muon for the weights within the network's trunk and adamw for the rest, or adamw for all."
    )
    learning_rate: float = _setting(1e-3, "AdamW's highest.", fixed=False)
    muon_rate: float = _setting(0.01, "Muon's highest.", fixed=False)
    schedule: Literal["wsd", "cosine", "halving"] = _setting(
        "wsd", "The rate after its warm-up: constant and then falling to zero, a cosine, or halved four times."
    )
    warmup: int = _setting(300, "Steps over which the rate grows from zero.")
    decay: float = _setting(0.25, "With wsd, the share of the steps, at the end, in which the rate falls.", fixed=False)
    weight_decay: float = _setting(0.01, "Of both optimizers.")
    clip: float = _setting(1.0, "Largest norm of the gradient.")
    ema: float = _setting(0.999, "Decay a step of the averaged weights, which are validated and kept.")
    loss: Literal["l1", "l2"] = _setting("l1", "Mean absolute or mean squared difference.")
    degradation: Degradation = _setting("bicubic", "How pictures are made small: cleanly, or as photographs are.")
    reduce: float = _setting(
        2.0, "Largest factor that pictures are reduced by before they are cropped, as far as the smallest allows."
    )
    scale_low: float = _setting(1.1, "Smallest scale.")
    scale_high: float = _setting(4.4, "Largest scale of the common range, which is drawn from uniformly.")
    scale_far: float = _setting(8.0, "Largest scale of all.")
    far_share: float = _setting(0.1, "Share of pairs with scales between scale-high and scale-far.")
    unequal_share: float = _setting(0.1, "Share of pairs whose x and y scales are drawn apart.")
    held_out: int = _setting(8, "Pictures kept from training, spread over the folder, to validate on.")
    validate_every: int = _setting(1000, "Steps between validations.", fixed=False)
    save_every: int = _setting(500, "Steps between checkpoints.", fixed=False)
    seed: int = _setting(0, "Of weights and crops.")
    device: str = _setting(
        "auto", "Where to train: auto takes a GPU if there is one; or cpu, cuda, cuda:1, mps.", fixed=False
    )
    precision: Precision = _setting("auto", "Of the network's arithmetic.", fixed=False)
    threads: int = _setting(0, "Of the CPU; 0 leaves them to torch.", fixed=False)

    def __post_init__(self) -> None:
        counts = (self.steps, self.batch, self.groups, self.patch, self.validate_every, self.save_every)
        if min(counts) < 1:
            raise UsageError("steps, batch, groups, patch, validate-every and save-every must be at least 1")
        if min(self.warmup, self.held_out, self.threads) < 0:
            raise UsageError("warmup, held-out and threads must be at least 0")
        if not 0 <= self.seed < 2**63:
            raise UsageError("seed must be at least 0 and below 2^63")
        if self.batch % self.groups:
            hint = "choose a multiple, or other --groups"
            raise UsageError(f"a batch of {self.batch} does not part into {self.groups} groups", hint=hint)
        # The conditions below are put so that NaN fails them.
        if not 1 <= self.scale_low <= self.scale_high <= self.scale_far < math.inf:
            raise UsageError("scales must satisfy 1 <= scale-low <= scale-high <= scale-far, and be finite")
        if not 1 <= self.reduce < math.inf:
            raise UsageError("reduce must be at least 1 and finite")
        if self.minutes and self.schedule != "wsd":
            raise UsageError("a run that ends by time needs the schedule wsd, whose rate can begin to fall at any step")
        if not (0 <= self.far_share <= 1 and 0 <= self.unequal_share <= 1 and 0 <= self.decay <= 1):
            raise UsageError("far-share, unequal-share and decay must be between 0 and 1")
        if not (0 < self.learning_rate < math.inf and 0 < self.muon_rate < math.inf and 0 < self.clip < math.inf):
            raise UsageError("learning-rate, muon-rate and clip must be above 0 and finite")
        if not (0 <= self.weight_decay < math.inf and 0 <= self.minutes < math.inf):
            raise UsageError("weight-decay and minutes must be at least 0 and finite")
        if not 0 <= self.ema < 1:
            raise UsageError("ema must be at least 0 and below 1")
