"""Training a model on a folder of pictures, with restarts."""

from __future__ import annotations

import dataclasses
import io
import json
import math
import pickle
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader

from gsrcli.checkpoints import save_model, write_checkpoint
from gsrcli.data import Crops, Pair, Scales, Span, find_pictures, load_pictures, mix
from gsrcli.devices import autocast, channels_last, pick_device, pick_precision
from gsrcli.errors import GsrError, ModelError, UsageError, nearest
from gsrcli.models import MODEL_NAMES, Model, build
from gsrcli.rendering import render
from gsrcli.train_config import TrainConfig
from gsrcli.validation import mean_psnr_y, smallest_side

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

    An interrupt (Ctrl-C) saves the state before it is raised on; one within a step waits for the step's end.

    Args:
        config: the run. When resuming it must equal the stored one, except where it computes and how often it saves.
        data: folder of pictures.
        run: folder of the run, made if missing.
        report: called after each step.
        resume: continue the run found there.

    Returns:
        The path of the weights.

    Raises:
        UsageError: the folder holds a run and ``resume`` is not set, or the other way round, or configs differ, or
            the pictures are too few.
        ModelError: no such model.
        PictureError: the data cannot be read.
        GsrError: training diverged, or a file of the run is damaged or cannot be written.
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
        if self.state_path.exists() and not resume:
            raise UsageError(f"{run} holds a run already", hint="continue it with --resume, or choose another folder")
        if resume and not self.state_path.exists():
            raise UsageError(f"{run} holds no run to resume")
        torch.manual_seed(config.seed)
        self.model = _new_model(config).to(self.device)
        channels_last(self.model)
        self.dtype = pick_precision(self.device, config.precision, self.model.traits.precision)
        self.averaged = AveragedModel(self.model, multi_avg_fn=get_ema_multi_avg_fn(config.ema))
        self.optimizer = torch.optim.AdamW(
            self.model.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay, betas=(0.9, 0.99)
        )
        self.step = 0
        if resume:
            self._load_state()
        smallest = max(math.ceil(config.patch * config.scale_far), smallest_side(self.model, max(_VALIDATION_SCALES)))
        pictures, held_out = _split(load_pictures(find_pictures(data), smallest), config.held_out)
        self.crops = Crops(pictures, config.patch, _scales(config), config.seed)
        self.held_out = [_centre(picture, _VALIDATION_SIDE) for picture in held_out]
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
        """Write state.pt and weights.safetensors, each in one rename. Ctrl-C waits until both are written."""
        state = {
            "config": dataclasses.asdict(self.config),
            "step": self.step,
            "model": self.model.state_dict(),
            "averaged": self.averaged.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }
        content = io.BytesIO()  # torch.save into a file would tell of a full disk by a bare RuntimeError
        torch.save(state, content)
        training = {"config": dataclasses.asdict(self.config), "step": self.step}
        with _uninterrupted():
            write_checkpoint(self.state_path, content.getbuffer())
            save_model(self._averaged_model(), self.config.model, self.weights_path, {"training": training})

    def _load_state(self) -> None:
        state = _read_state(self.state_path)
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
        torch.manual_seed(mix(self.config.seed, self.step))  # a resumed run draws the same noise
        loss = self._loss(batch)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.config.clip)
        if not norm.isfinite():
            hint = "train anew with a lower --learning-rate, in another folder"
            raise GsrError(f"training diverged at step {self.step + 1}: its gradient is not finite", hint=hint)
        with _uninterrupted():  # a resumed run must find all of the step, or nothing
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
                drawn = render(self.model, field[one], low[one], size)
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


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """Put Ctrl-C off to the end of the block."""
    usual = signal.getsignal(signal.SIGINT)
    if not callable(usual) or threading.current_thread() is not threading.main_thread():
        yield  # nothing would be raised here: Ctrl-C is ignored, ends the process at once, or goes to the main thread
        return
    pressed: list[tuple[int, Any]] = []
    signal.signal(signal.SIGINT, lambda number, frame: pressed.append((number, frame)))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, usual)
    if pressed:
        usual(*pressed[0])


def _new_model(config: TrainConfig) -> Model:
    if config.model not in MODEL_NAMES:
        hint = f"try {nearest(config.model, MODEL_NAMES)}"
        raise ModelError(f"there is no model called {config.model!r}", hint=hint)
    model = build(config.model)
    if config.patch % model.traits.multiple:
        raise UsageError(f"the patch of {config.model} must be a multiple of {model.traits.multiple}")
    return model


def _read_state(path: Path) -> dict[str, Any]:
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, EOFError, RuntimeError, ValueError, pickle.UnpicklingError) as error:
        raise GsrError(f"{path} is damaged", hint="train anew, in another folder") from error
    return state


def _scales(config: TrainConfig) -> Scales:
    return Scales(config.scale_low, config.scale_high, config.scale_far, config.far_share, config.unequal_share)


def _plain(progress: Progress) -> dict[str, Any]:
    return {name: value for name, value in dataclasses.asdict(progress).items() if value is not None}


def _split(pictures: list[Tensor], held_out: int) -> tuple[list[Tensor], list[Tensor]]:
    """Training and validation pictures: every so-many-th is held out."""
    count = len(pictures)
    if count <= held_out:
        raise UsageError(f"{count} pictures are too few to hold out {held_out}", hint="lower --held-out")
    chosen = [i * count // held_out for i in range(held_out)]
    return [pictures[i] for i in range(count) if i not in chosen], [pictures[i] for i in chosen]


def _centre(picture: Tensor, side: int) -> Tensor:
    top, left = (max(0, (length - side) // 2) for length in picture.shape[1:])
    return picture[:, top : top + side, left : left + side]
