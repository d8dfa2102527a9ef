"""Training a model on a folder of pictures, with restarts."""

from __future__ import annotations

import dataclasses
import json
import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader

from gsrcli.data import Crops, Pair, Scales, Span, find_pictures, load_pictures
from gsrcli.devices import autocast, channels_last, pick_device, pick_precision
from gsrcli.errors import UsageError
from gsrcli.evaluation import mean_psnr_y
from gsrcli.models import Model, build
from gsrcli.rendering import render
from gsrcli.train_config import TrainConfig
from gsrcli.weights import save_model

__all__ = ["Progress", "train"]

_VALIDATION_SCALES = (2, 3, 4)
_VALIDATION_SIDE = 360


@dataclass(frozen=True)
class Progress:
    """What a run tells of itself: after each step, and with ``psnr`` after each validation.

    Attributes:
        step: steps done.
        loss: mean L1 of the step, or the smoothed one in logs.
        seconds: spent in this process so far.
        psnr: mean PSNR on Y over the held-out pictures by scale, in dB.
    """

    step: int
    loss: float
    learning_rate: float
    seconds: float
    psnr: dict[int, float] | None = None


def train(config: TrainConfig, data: Path, run: Path, report: Callable[[Progress], None], resume: bool = False) -> Path:
    """Train, leaving in the folder ``run``: weights.safetensors, state.pt to resume from, and log.jsonl.

    An interrupt (Ctrl-C) saves the state before it is raised on.

    Args:
        config: the run. When resuming it must equal the stored one, except where it computes and how often it saves.
        data: folder of pictures.
        run: folder of the run, made if missing.
        report: called after each step.
        resume: continue the run found there.

    Returns:
        The path of the weights.

    Raises:
        UsageError: the folder holds a run and ``resume`` is not set, or the other way round, or configs differ.
        PictureError: the data cannot be read.
    """
    trainer = Trainer(config, data, run, resume)
    try:
        trainer.run_to_end(report)
    except KeyboardInterrupt:
        trainer.save_state()
        raise
    return trainer.weights_path


class Trainer:
    """A run: model, averaged model, optimizer, the step reached, and the folder it lives in."""

    def __init__(self, config: TrainConfig, data: Path, run: Path, resume: bool) -> None:
        self.config = config
        self.folder = run
        self.weights_path = run / "weights.safetensors"
        self.state_path = run / "state.pt"
        self.device = pick_device(config.device)
        self.dtype = pick_precision(self.device, config.precision)
        if self.state_path.exists() and not resume:
            raise UsageError(f"{run} holds a run already", hint="continue it with --resume, or choose another folder")
        if resume and not self.state_path.exists():
            raise UsageError(f"{run} holds no run to resume")
        torch.manual_seed(config.seed)
        self.model: Model = build(config.model).to(self.device)
        channels_last(self.model)
        self.averaged = AveragedModel(self.model, multi_avg_fn=get_ema_multi_avg_fn(config.ema))
        self.optimizer = torch.optim.AdamW(
            self.model.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay, betas=(0.9, 0.99)
        )
        self.step = 0
        if resume:
            self._load_state()
        train_paths, held_out_paths = _split(find_pictures(data), config.held_out)
        smallest = math.ceil(config.patch * config.scale_far)
        self.crops = Crops(load_pictures(train_paths, smallest), config.patch, _scales(config), config.seed)
        self.held_out = [_centre(p, _VALIDATION_SIDE) for p in load_pictures(held_out_paths, 1)]
        run.mkdir(parents=True, exist_ok=True)

    def run_to_end(self, report: Callable[[Progress], None]) -> None:
        """Take the remaining steps."""
        began = time.monotonic()
        smoothed = None
        for batch in self._batches():
            loss = self._take_step(batch)
            smoothed = loss if smoothed is None else 0.98 * smoothed + 0.02 * loss
            validates = self.step % self.config.validate_every == 0 or self.step == self.config.steps
            psnr = self._validate() if validates else None
            rate = self.optimizer.param_groups[0]["lr"]
            progress = Progress(self.step, smoothed, rate, time.monotonic() - began, psnr)
            if validates or self.step % self.config.save_every == 0:
                self.save_state()
                self._log(progress)
            report(progress)

    def save_state(self) -> None:
        """Write state.pt and weights.safetensors, each in one rename."""
        state = {
            "config": dataclasses.asdict(self.config),
            "step": self.step,
            "model": self.model.state_dict(),
            "averaged": self.averaged.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }
        partial = self.state_path.with_suffix(".partial")
        torch.save(state, partial)
        partial.replace(self.state_path)
        training = {"config": dataclasses.asdict(self.config), "step": self.step}
        save_model(self._averaged_model(), self.config.model, self.weights_path, {"training": training})

    def _load_state(self) -> None:
        state = torch.load(self.state_path, map_location=self.device, weights_only=True)
        elsewhere = ("device", "precision", "workers", "save_every", "validate_every")
        for name, stored in state["config"].items():
            if name not in elsewhere and getattr(self.config, name) != stored:
                option = name.replace("_", "-")
                asked = getattr(self.config, name)
                raise UsageError(f"{self.folder} was trained with --{option} {stored}, not {asked}")
        self.model.load_state_dict(state["model"])
        self.averaged.load_state_dict(state["averaged"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.step = state["step"]

    def _batches(self) -> Iterable[list[Pair]]:
        size = self.config.batch
        return DataLoader(
            self.crops,
            batch_size=size,
            sampler=Span(self.step * size, self.config.steps * size),
            num_workers=self.config.workers,
            collate_fn=list,
            persistent_workers=self.config.workers > 0,
        )

    def _take_step(self, batch: list[Pair]) -> float:
        for group in self.optimizer.param_groups:
            group["lr"] = self._learning_rate()
        loss = self._loss(batch)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.config.clip, error_if_nonfinite=True)
        self.optimizer.step()
        self.averaged.update_parameters(self.model)
        self.step += 1
        return loss.item()

    def _loss(self, batch: list[Pair]) -> Tensor:
        """L1, each pair weighing the same whatever its size."""
        low = torch.stack([pair.low for pair in batch]).to(self.device)
        scale = torch.stack([pair.scale for pair in batch]).to(self.device)
        with autocast(self.device, self.dtype):
            field = self.model(low.contiguous(memory_format=torch.channels_last), scale)
        losses = []
        for i, pair in enumerate(batch):
            one = slice(i, i + 1)
            size = (pair.high.shape[1], pair.high.shape[2])
            drawn = render(field[one], low[one], size, self.model.traits)
            losses.append(F.l1_loss(drawn[0], pair.high.to(self.device)))
        return torch.stack(losses).mean()

    def _learning_rate(self) -> float:
        peak, warmup = self.config.learning_rate, self.config.warmup
        if self.step < warmup:
            return peak * (self.step + 1) / warmup
        done = (self.step - warmup) / max(1, self.config.steps - warmup)
        return peak * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * done)))

    def _averaged_model(self) -> Model:
        module = self.averaged.module
        assert isinstance(module, Model)
        return module

    def _validate(self) -> dict[int, float]:
        model = self._averaged_model().eval()
        return {s: mean_psnr_y(model, self.held_out, s, self.dtype) for s in _VALIDATION_SCALES}

    def _log(self, progress: Progress) -> None:
        with (self.folder / "log.jsonl").open("a", encoding="utf-8") as log:
            log.write(json.dumps(_plain(progress)) + "\n")


def _scales(config: TrainConfig) -> Scales:
    return Scales(config.scale_low, config.scale_high, config.scale_far, config.far_share, config.unequal_share)


def _plain(progress: Progress) -> dict[str, Any]:
    return {name: value for name, value in dataclasses.asdict(progress).items() if value is not None}


def _split(paths: list[Path], held_out: int) -> tuple[list[Path], list[Path]]:
    """Training and validation pictures: every so-many-th is held out."""
    if len(paths) <= held_out:
        raise UsageError(f"{len(paths)} pictures are too few to hold out {held_out}", hint="lower --held-out")
    chosen = {paths[i * len(paths) // held_out] for i in range(held_out)}
    return [p for p in paths if p not in chosen], sorted(chosen)


def _centre(picture: Tensor, side: int) -> Tensor:
    top, left = (max(0, (length - side) // 2) for length in picture.shape[1:])
    return picture[:, top : top + side, left : left + side]
