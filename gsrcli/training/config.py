"""The settings of a training run. Importing this does not import torch, so ``gsr train --help`` is quick."""

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
    """The settings of a training run, which ``gsr train`` offers as options and records.

    The metadata of each field holds its help and whether it is ``fixed``, that is, must stay the same on resuming.

    Raises:
        UsageError: a value is invalid, by itself or together with the others.
    """

    model: str = _setting("gsasr-lite", "Name of the model to train.")
    steps: int = _setting(40_000, "Total number of optimizer steps.", fixed=False)
    minutes: float = _setting(
        0.0, "Time limit in minutes, replacing --steps; the learning rate decays in time. 0: no limit.", fixed=False
    )
    batch: int = _setting(16, "Batch size: training pairs per step.")
    groups: int = _setting(2, "Number of scales per step; each is used for an equal part of the batch.")
    patch: int = _setting(48, "Side of the low-resolution patches, in pixels.")
    optimizer: Literal["auto", "muon", "adamw"] = _setting(
        "auto", "Optimizer: auto and muon use Muon for the network's trunk and AdamW for the rest, adamw AdamW for all."
    )
    learning_rate: float = _setting(1e-3, "Peak learning rate of AdamW.", fixed=False)
    muon_rate: float = _setting(0.01, "Peak learning rate of Muon.", fixed=False)
    schedule: Literal["wsd", "cosine", "halving"] = _setting(
        "wsd", "Learning rate after the warm-up: constant, then decaying to zero (wsd), cosine, or halved four times."
    )
    warmup: int = _setting(300, "Warm-up steps, over which the learning rate grows from zero.")
    decay: float = _setting(0.25, "Share of the run, at its end, over which wsd decays the learning rate.", fixed=False)
    weight_decay: float = _setting(0.01, "Weight decay of both optimizers.")
    clip: float = _setting(1.0, "Gradient norm above which gradients are clipped.")
    ema: float = _setting(0.999, "Decay per step of the averaged weights, which are validated and saved.")
    loss: Literal["l1", "l2"] = _setting("l1", "Loss: mean absolute (l1) or mean squared (l2) error.")
    degradation: Degradation = _setting(
        "bicubic", "Degradation of the low-resolution patches: bicubic, or the blur, noise and JPEG of photos."
    )
    reduce: float = _setting(
        2.0, "Largest factor to downscale pictures by before cropping, as far as the smallest picture allows."
    )
    scale_low: float = _setting(1.1, "Smallest scale factor.")
    scale_high: float = _setting(4.4, "Largest scale factor of the usual range, which is sampled uniformly.")
    scale_far: float = _setting(8.0, "Largest scale factor of all.")
    far_share: float = _setting(0.1, "Share of pairs with scale factors between --scale-high and --scale-far.")
    unequal_share: float = _setting(0.1, "Share of pairs with independent scale factors for width and height.")
    held_out: int = _setting(8, "Number of pictures held out for validation, spread evenly over the folder.")
    validate_every: int = _setting(1000, "Number of steps between validations.", fixed=False)
    save_every: int = _setting(500, "Number of steps between checkpoints.", fixed=False)
    seed: int = _setting(0, "Random seed for weights and patches.")
    device: str = _setting(
        "auto", "Device to train on: auto (a GPU if available), cpu, cuda, cuda:1 or mps.", fixed=False
    )
    precision: Precision = _setting("auto", "Precision of the network's arithmetic.", fixed=False)
    threads: int = _setting(0, "Number of CPU threads; 0 leaves the choice to torch.", fixed=False)

    def __post_init__(self) -> None:
        counts = (self.steps, self.batch, self.groups, self.patch, self.validate_every, self.save_every)
        if min(counts) < 1:
            raise UsageError("steps, batch, groups, patch, validate-every and save-every must be at least 1")
        if min(self.warmup, self.held_out, self.threads) < 0:
            raise UsageError("warmup, held-out and threads must be at least 0")
        if not 0 <= self.seed < 2**63:
            raise UsageError("seed must be at least 0 and below 2^63")
        if self.batch % self.groups:
            hint = f"use a batch that is a multiple of {self.groups}, or change --groups"
            raise UsageError(f"a batch of {self.batch} cannot be split into {self.groups} equal groups", hint=hint)
        # The conditions below are written so that NaN fails them.
        if not 1 <= self.scale_low <= self.scale_high <= self.scale_far < math.inf:
            raise UsageError("scales must satisfy 1 <= scale-low <= scale-high <= scale-far, and be finite")
        if not 1 <= self.reduce < math.inf:
            raise UsageError("reduce must be at least 1 and finite")
        if self.minutes and self.schedule != "wsd":
            raise UsageError("--minutes needs --schedule wsd: its learning rate can begin to decay at any step")
        if not (0 <= self.far_share <= 1 and 0 <= self.unequal_share <= 1 and 0 <= self.decay <= 1):
            raise UsageError("far-share, unequal-share and decay must be between 0 and 1")
        if not (0 < self.learning_rate < math.inf and 0 < self.muon_rate < math.inf and 0 < self.clip < math.inf):
            raise UsageError("learning-rate, muon-rate and clip must be above 0 and finite")
        if not (0 <= self.weight_decay < math.inf and 0 <= self.minutes < math.inf):
            raise UsageError("weight-decay and minutes must be at least 0 and finite")
        if not 0 <= self.ema < 1:
            raise UsageError("ema must be at least 0 and below 1")
