"""Training a model on a folder of pictures, with checkpoints to resume from."""

from __future__ import annotations

import copy
import dataclasses
import json
import math
import signal
import threading
import time
import warnings
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout
from torch import Tensor

from gsrcli.errors import GsrError, ModelError, PictureError, UsageError, nearest
from gsrcli.models import MODEL_NAMES, Model, build, config_of
from gsrcli.runtime.devices import channels_last, pick_device, pick_precision
from gsrcli.runtime.seeds import seed_of
from gsrcli.runtime.threads import use_threads
from gsrcli.runtime.timing import StageTimer
from gsrcli.training.config import TrainConfig
from gsrcli.training.dataset import Loaded, PictureBank, find_pictures, load_pictures
from gsrcli.training.patches import PatchSampler, Scales
from gsrcli.training.schedules import Schedule
from gsrcli.training.state import RunState, read_facts, read_state, write_state
from gsrcli.training.step import STAGES, Step
from gsrcli.training.validation import mean_psnr_y, smallest_side
from gsrcli.weights.checkpoint import save_model, write_checkpoint, writing

__all__ = [
    "Profile",
    "Progress",
    "StoppedAtOnce",
    "Trainer",
    "holds_run",
    "profile",
    "resumed",
    "start_from",
    "train",
]

_VALIDATION_SCALES = (2, 3, 4, 6)
_VALIDATION_SIDE = 384
_READ_EVERY = 20  # steps between readings of the loss, for each of which the host waits for the GPU
_PROFILED = 20  # profiled steps, after as many to warm up
_ENDING = 3.0  # seconds of a time limit reserved for the last checkpoint
_LEAST_MINUTES = 0.01  # for resuming a run whose time is up, since 0 would mean no limit

_STATE, _PLATEAU = "state", "plateau"


@dataclass(frozen=True)
class Progress:
    """The progress of a run, reported at regular steps and, with ``psnr``, after each validation.

    Attributes:
        step: steps done.
        steps: total number of steps; with a time limit, None until the rate begins to decay, then an estimate.
        loss: running mean over steps, which continues when a run is resumed.
        learning_rate: learning rate of AdamW at the last step.
        seconds: time spent in this process.
        samples_per_second: training pairs per second in this process, without validations and checkpoints.
        psnr: mean PSNR on Y over the validation set, in dB, by scale.
    """

    step: int
    steps: int | None
    loss: float
    learning_rate: float
    seconds: float
    samples_per_second: float
    psnr: dict[int, float] | None = None


@dataclass(frozen=True)
class Profile:
    """The time that a step takes.

    Attributes:
        stages: seconds per step, by stage.
        steps_per_second: whole steps per second, measured without timing the stages.
        samples_per_second: training pairs per second, likewise.
        device: name of the device.
    """

    stages: dict[str, float]
    steps_per_second: float
    samples_per_second: float
    device: str


def train(
    config: TrainConfig,
    data: Path,
    run: Path,
    report: Callable[[Progress], None],
    resume: bool = False,
    *,
    validate_on: Path | None = None,
    start: Model | None = None,
    begun: Callable[[dict[str, int]], None] | None = None,
) -> Path:
    """Train, writing weights.safetensors, log.jsonl, and state.json with its parts to the folder ``run``.

    With the schedule wsd, plateau.json and its parts hold the state at which the learning rate began to decay. A run
    that is made longer later continues from there.

    Ctrl-C and SIGTERM let the current step finish and save the state before KeyboardInterrupt is raised.

    Args:
        config: settings. When resuming, fixed settings must equal the stored ones; see :func:`resumed`.
        data: folder of pictures.
        run: folder of the run, created if missing.
        report: called regularly with the progress.
        resume: continue the run in that folder.
        validate_on: folder of pictures to validate on; by default some of ``data`` are held out.
        start: model whose weights to start from; see :func:`start_from`.
        begun: called with :attr:`Trainer.pictures` once the pictures are loaded.

    Returns:
        The path of the weights.

    Raises:
        UsageError: the folder holds a run but ``resume`` is not set, or the reverse; or a fixed setting differs, there
            are too few pictures, or another process is training in that folder.
        ModelError: unknown model.
        PictureError: no usable pictures.
        GsrError: training diverged, or a file of the run is damaged or cannot be written.
    """
    if resume:
        _require_run(run)
    with _held(run):
        trainer = Trainer(config, data, run, resume, validate_on=validate_on, start=start)
        if begun:
            begun(trainer.pictures)
        trainer.run_to_end(report)
    return trainer.weights_path


def profile(config: TrainConfig, data: Path) -> Profile:
    """Time whole steps and their stages, without saving anything. Raises what :func:`train` raises."""
    trainer = Trainer(config, data, None, resume=False)
    for _ in range(_PROFILED):
        trainer.take_step()
    trainer.step.read()
    began = time.perf_counter()
    for _ in range(_PROFILED):
        trainer.take_step()
    trainer.step.read()
    rate = _PROFILED / (time.perf_counter() - began)
    trainer.step.seconds = StageTimer(STAGES)
    for _ in range(_PROFILED):
        trainer.take_step()
    stages = {name: seconds / _PROFILED for name, seconds in trainer.step.seconds.read().items()}
    return Profile(stages, rate, rate * config.batch, _name_of(trainer.device))


def resumed(run: Path, changes: dict[str, Any]) -> TrainConfig:
    """Return the config with which to resume the run in a folder.

    Its minutes are what is left of the run's time limit, unless they are changed.

    Args:
        run: folder of the run.
        changes: new values by name of the setting.

    Raises:
        UsageError: the folder holds no run, or a fixed setting would change.
        GsrError: the run is damaged.
    """
    stored = _stored(run)
    _check_changes(run, stored.config, changes)
    ends_by_time = stored.schedule.end == Schedule.NEVER and not changes.keys() & {"minutes", "steps"}
    left = stored.config.minutes - stored.facts.get("seconds", 0.0) / 60
    minutes = max(left, _LEAST_MINUTES) if ends_by_time else 0.0
    return dataclasses.replace(stored.config, **{"minutes": minutes, **changes})


def start_from(config: TrainConfig, weights: Model, name: str, partial: bool) -> Model:
    """Return the model to train, starting from trained weights.

    Args:
        config: settings that name the model to train.
        weights: a trained model.
        name: name of that model.
        partial: load the tensors that fit and initialise the rest; otherwise the model gets the config of ``weights``.

    Raises:
        ModelError: the weights belong to a different model, or, with ``partial``, none of them fits.
    """
    if not partial:
        if name != config.model:
            hint = f"use --model {name}, or --partial to load the weights that fit"
            raise ModelError(f"these are weights of {name}, not of {config.model}", hint=hint)
        model = build(config.model, config_of(weights))
        model.load_state_dict(weights.state_dict())
        return model
    torch.manual_seed(config.seed)
    model = _new_model(config)
    fresh = model.state_dict()
    fitting = {key: value for key, value in weights.state_dict().items() if _fits(fresh.get(key), value)}
    if not fitting:
        raise ModelError(f"none of the weights of {name} fits {config.model}")
    model.load_state_dict(fitting, strict=False)
    left = len(fresh) - len(fitting)
    warnings.warn(f"{len(fitting)} of {len(fresh)} tensors loaded, {left} newly initialised", stacklevel=2)
    return model


class Trainer:
    """A training run: its images, its step with the model and optimizers, its schedule, and its folder if it is saved.

    Attributes:
        pictures: the number of pictures, ``trained_on`` and ``validated_on``, and of their ``pixels`` and
            ``validated_pixels``.
    """

    def __init__(
        self,
        config: TrainConfig,
        data: Path,
        run: Path | None,
        resume: bool,
        *,
        validate_on: Path | None = None,
        start: Model | None = None,
    ) -> None:
        self._began = time.monotonic()
        self.config = config
        self.folder = run or Path()
        use_threads(config.threads)
        self.device = pick_device(config.device)
        stored = self._state_to_resume() if resume else None
        if run and not resume and holds_run(run):
            raise UsageError(f"{run} already holds a run", hint="continue it with --resume, or choose another --run")
        torch.manual_seed(config.seed)
        model = self._model_in(stored) if stored else _beginning(config, start)
        if config.patch % model.traits.multiple:
            raise UsageError(f"--patch must be a multiple of {model.traits.multiple} for {config.model}")
        channels_last(model.to(self.device).train().requires_grad_(True))
        self.dtype = pick_precision(self.device, config.precision, model.traits.precision)
        self.step = Step(model, config, self.dtype)
        self.schedule = Schedule.of(config)
        self.done = 0
        self._held_from = Schedule.NEVER
        self._loss = _RunningMean()
        if stored:
            self._restore(stored)
        facts = stored.facts if stored else {}
        self.validate_on = validate_on or (Path(facts["validate_on"]) if facts.get("validate_on") else None)
        self._load_pictures(data, facts.get("pictures"))

    @property
    def weights_path(self) -> Path:
        return self.folder / "weights.safetensors"

    @property
    def _seconds(self) -> float:
        """Seconds spent in this process."""
        return time.monotonic() - self._began

    def take_step(self) -> None:
        """Take one step, whose loss :meth:`Step.read` includes."""
        torch.manual_seed(seed_of(self.config.seed, self.done))  # so that a resumed run draws the same noise
        with self.step.timed("crops"):
            groups = self.sampler.batch(self.done, self.config.batch)
        self.step.take(groups, self._rate_at(self.done))
        self.done += 1

    def _rate_at(self, step: int) -> float:
        """Return the share of the peak rate. With a time limit, decay is held from one reading to the next."""
        return self.schedule.rate(min(step, self._held_from))

    def run_to_end(self, report: Callable[[Progress], None]) -> None:
        """Take the remaining steps, report progress, and save the run at its end and when interrupted."""
        pace = _Pace(self.done)
        read = self.done
        with _asked_to_stop() as asked:
            try:
                while self.done < self.schedule.end:
                    if self.done == self.schedule.fall and self.config.schedule == "wsd":
                        self._write(_PLATEAU)
                    self.take_step()
                    if not (self._is_due(self._read_every) or asked()):
                        continue
                    self._loss.add(self._loss_so_far(), self.done - read)
                    read = self.done
                    rate = self.config.learning_rate * self._rate_at(self.done - 1)
                    self._keep_to_time(pace)
                    report(self._progress(rate, pace))
                    if asked() and self.done < self.schedule.end:
                        raise KeyboardInterrupt
            except StoppedAtOnce:  # perhaps in the middle of a step, so keep what is on disk
                raise
            except KeyboardInterrupt:
                self.save_state()
                raise

    def _progress(self, rate: float, pace: _Pace) -> Progress:
        """Validate, save a checkpoint and write to the log if these are due, and return the progress."""
        speed = pace.at(self.done) * self.config.batch
        validates = self._is_due(self.config.validate_every)
        with pace.resting():
            psnr = self._validate() if validates else None
            steps = None if self.schedule.end == Schedule.NEVER else self.schedule.end
            progress = Progress(self.done, steps, self._loss.value, rate, self._seconds, speed, psnr)
            if validates or self._is_due(self.config.save_every):
                self.save_state()
                self._log(progress)
        return progress

    def _is_due(self, every: int) -> bool:
        return self.done % every == 0 or self.done == self.schedule.end

    @property
    def _read_every(self) -> int:
        """Steps between readings of the loss, for which the host waits; it divides the other intervals."""
        if self.device.type == "cpu":
            return 1
        return math.gcd(_READ_EVERY, self.config.validate_every, self.config.save_every)

    def _loss_so_far(self) -> float:
        loss, finite = self.step.read()
        if not (finite and math.isfinite(loss)):
            again = "continue from the last checkpoint with --resume" if holds_run(self.folder) else "start again"
            raise GsrError(
                f"training diverged by step {self.done}: the loss or gradient is not finite",
                hint=f"{again}, using a lower --learning-rate or --muon-rate",
            )
        return loss

    def _keep_to_time(self, pace: _Pace) -> None:
        """With a time limit, decay the rate as time passes, estimate the last step, and end when time is up.

        The rate depends only on the time, so a machine that is paused or slows down affects nothing but the estimate.
        """
        if not self.config.minutes:
            return
        limit = 60 * self.config.minutes - _ENDING - pace.longest_rest
        left, falling = limit - self._seconds, self.config.decay * limit
        speed = pace.lately(self.done, min(left, falling) / 4)
        if left <= 0:
            self.schedule = dataclasses.replace(self.schedule, fall=min(self.schedule.fall, self.done), end=self.done)
        elif left <= falling:
            self.schedule = self.schedule.falling(self.done, left / falling, self.done + max(round(left * speed), 1))
            self._held_from = self.done
        else:
            return
        self.config = dataclasses.replace(self.config, steps=self.schedule.end)  # as if it had been asked for

    def _validate(self) -> dict[int, float] | None:
        if not self.held_out:
            return None
        return {s: mean_psnr_y(self.step.averaged, self.held_out, s, self.dtype) for s in _VALIDATION_SCALES}

    def _log(self, progress: Progress) -> None:
        path = self.folder / "log.jsonl"
        with writing(path), path.open("a", encoding="utf-8") as log:
            log.write(json.dumps(_plain(progress), allow_nan=False) + "\n")

    # ---- the state

    def save_state(self) -> None:
        """Write the averaged weights and then the state, so that a run with a final state has its weights."""
        training = {"config": dataclasses.asdict(self.config), "step": self.done}
        save_model(self.step.averaged, self.config.model, self.weights_path, {"training": training})
        self._write(_STATE)

    def _write(self, name: str) -> None:
        tensors = {
            **{f"model.{key}": tensor for key, tensor in self.step.model.state_dict().items()},
            **{f"averaged.{key}": tensor for key, tensor in self.step.averaged.state_dict().items()},
            **{f"optimizer.{key}": tensor for key, tensor in self.step.named_states()},
        }
        facts = {
            "step": self.done,
            "config": dataclasses.asdict(self.config),
            "schedule": dataclasses.asdict(self.schedule),
            "model": config_of(self.step.model),
            "pictures": self.pictures,
            "validate_on": str(self.validate_on.absolute()) if self.validate_on else None,
            "loss": [self._loss.total, self._loss.weight],
            "seconds": self._seconds,
        }
        write_state(self.folder, name, RunState(facts, tensors))

    def _state_to_resume(self) -> _Stored:
        """Load the last state, or the plateau's if the run is made longer after its rate began to decay."""
        stored = _stored(self.folder)
        _check_changes(self.folder, stored.config, dataclasses.asdict(self.config))
        longer = not self._keeps_schedule(stored) and Schedule.of(self.config).fall > stored.schedule.fall
        if longer and stored.schedule.falls_at(stored.step) and (self.folder / f"{_PLATEAU}.json").exists():
            self._keep_weights(stored.step)
            stored = _stored(self.folder, _PLATEAU)
            message = f"to make the run longer, it continues from step {stored.step}, where its rate began to decay"
            warnings.warn(message, stacklevel=2)
        return stored

    def _keep_weights(self, step: int) -> None:
        """Copy the weights of a run that goes back to an earlier step, where later ones would replace them."""
        kept = self.weights_path.with_stem(f"{self.weights_path.stem}-{step}")
        if self.weights_path.exists():
            write_checkpoint(kept, self.weights_path.read_bytes())

    def _restore(self, stored: _Stored) -> None:
        parts: dict[str, dict[str, Tensor]] = {"model": {}, "averaged": {}, "optimizer": {}}
        try:
            for key, tensor in read_state(self.folder, stored.name).tensors.items():
                owner, _, name = key.partition(".")
                parts[owner][name] = tensor
            self.step.model.load_state_dict(parts["model"])
            self.step.averaged.load_state_dict(parts["averaged"])
            self.step.load_states(parts["optimizer"])
        except (KeyError, RuntimeError) as error:
            raise GsrError(f"the state in {self.folder} does not fit its run: {error}") from error
        self.done = stored.step
        self._loss = _RunningMean(*stored.facts["loss"])
        schedule = stored.schedule
        if self._keeps_schedule(stored):
            self.schedule = schedule
        elif self.schedule.end <= self.done:
            raise UsageError(f"the run in {self.folder} has already taken {self.done} steps", hint="use more --steps")
        elif not schedule.falls_at(self.done):  # a decay that is now due begins at this step
            self.schedule = dataclasses.replace(self.schedule, fall=max(self.schedule.fall, self.done))
        before, after = schedule.rate(max(self.done - 1, 0)), self.schedule.rate(self.done)
        if after > 1.5 * before and self.done >= schedule.warmup:
            warnings.warn(f"the learning rate rises from {before:.2g} to {after:.2g} of its peak", stacklevel=2)

    def _keeps_schedule(self, stored: _Stored) -> bool:
        """Return whether the run is to end where its stored schedule does, if that has an end."""
        before = stored.config
        same = (self.config.steps, self.config.decay) == (before.steps, before.decay) and not self.config.minutes
        return same and stored.schedule.end != Schedule.NEVER

    def _model_in(self, stored: _Stored) -> Model:
        with _of_this_version(self.folder):
            return build(self.config.model, stored.facts["model"])

    # ---- images

    def _load_pictures(self, data: Path, before: dict[str, int] | None) -> None:
        """Load the training and validation sets, and warn if they differ from those of the resumed run."""
        config = self.config
        scored = smallest_side(self.step.model, max(_VALIDATION_SCALES))
        smallest = max(math.ceil(config.patch * config.scale_far), scored)
        validating = find_pictures(self.validate_on) if self.validate_on else []
        loaded = load_pictures(_apart(find_pictures(data), validating), smallest)
        pictures = _usable(
            loaded, "train", smallest, hint="lower --patch or --scale-far: HR patches have up to their product a side"
        )
        if validating:
            held_out = _usable(load_pictures(validating, scored), "validate", scored)
        else:
            pictures, held_out = _split(pictures, config.held_out)
        self.held_out = [_centre(picture, _VALIDATION_SIDE) for picture in held_out]
        self.pictures = {
            "trained_on": len(pictures),
            "pixels": sum(picture[0].numel() for picture in pictures),
            "validated_on": len(held_out),
            "validated_pixels": sum(picture[0].numel() for picture in held_out),
        }
        if before and before != self.pictures:
            warnings.warn(
                "the pictures differ from those of the run before, so their scores cannot be compared", stacklevel=2
            )
        scales = Scales(config.scale_low, config.scale_high, config.scale_far, config.far_share, config.unequal_share)
        bank = PictureBank(pictures, self.device)
        self.sampler = PatchSampler(
            bank, config.patch, scales, config.groups, config.degradation, config.seed, config.reduce
        )


class _Pace:
    """Steps per second in this process, and its longest rest (validation or checkpoint), in seconds."""

    def __init__(self, first: int) -> None:
        self._first = first
        self._began = time.monotonic()
        self._readings = deque([(self._began, first)])
        self._rested = 0.0
        self.longest_rest = 0.0

    def at(self, step: int) -> float:
        """Return the mean pace so far, without rests."""
        return (step - self._first) / max(time.monotonic() - self._began - self._rested, 1e-9)

    def lately(self, step: int, seconds: float) -> float:
        """Return the pace, with rests, since the last call at least ``seconds`` ago, or since the beginning."""
        now = time.monotonic()
        while len(self._readings) > 1 and self._readings[1][0] <= now - seconds:
            self._readings.popleft()
        then, before = self._readings[0]
        self._readings.append((now, step))
        return (step - before) / max(now - then, 1e-9)

    @contextmanager
    def resting(self) -> Iterator[None]:
        """Count the time of a block of code as a rest."""
        began = time.monotonic()
        yield
        rest = time.monotonic() - began
        self._rested += rest
        self.longest_rest = max(self.longest_rest, rest)


class _RunningMean:
    """An exponential mean of the loss over about 50 steps, without bias towards the first ones."""

    _KEPT = 0.98  # decay per step

    def __init__(self, total: float = 0.0, weight: float = 0.0) -> None:
        self.total, self.weight = total, weight

    @property
    def value(self) -> float:
        return self.total / self.weight

    def add(self, mean: float, steps: int) -> None:
        """Add the mean loss of the next ``steps`` steps."""
        kept = self._KEPT**steps
        self.total = kept * self.total + (1 - kept) * mean
        self.weight = kept * self.weight + (1 - kept)


class StoppedAtOnce(KeyboardInterrupt):
    """A second Ctrl-C, which discards the steps since the last checkpoint."""


@contextmanager
def _asked_to_stop() -> Iterator[Callable[[], bool]]:
    """Yield a function that returns whether Ctrl-C or SIGTERM has asked to stop; a second one raises StoppedAtOnce.

    So a step or checkpoint in progress is completed.
    """
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield asked.is_set  # only the main thread receives signals
        return

    def ask(number: int, frame: Any) -> None:
        if asked.is_set():
            raise StoppedAtOnce
        asked.set()

    numbers = [signal.SIGTERM]
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:  # as shells set it for background jobs
        numbers.append(signal.SIGINT)
    usual = {number: signal.signal(number, ask) for number in numbers}
    try:
        yield asked.is_set
    finally:
        for number, handler in usual.items():
            signal.signal(number, handler)


def _new_model(config: TrainConfig) -> Model:
    if config.model not in MODEL_NAMES:
        hint = f"try {nearest(config.model, MODEL_NAMES)}"
        raise ModelError(f"there is no model called {config.model!r}", hint=hint)
    return build(config.model)


def holds_run(folder: Path) -> bool:
    """Return whether a folder holds a run that can be resumed."""
    return (folder / f"{_STATE}.json").exists()


def _require_run(folder: Path) -> None:
    if not holds_run(folder):
        raise UsageError(f"{folder} holds no run to resume", hint="leave out --resume to start one")


@dataclass(frozen=True)
class _Stored:
    """A stored state of a run, without its tensors."""

    name: str
    facts: dict[str, Any]
    config: TrainConfig
    schedule: Schedule

    @property
    def step(self) -> int:
        return int(self.facts["step"])


def _stored(folder: Path, name: str = _STATE) -> _Stored:
    _require_run(folder)
    facts = read_facts(folder, name)
    with _of_this_version(folder):
        return _Stored(name, facts, TrainConfig(**facts["config"]), Schedule(**facts["schedule"]))


@contextmanager
def _of_this_version(folder: Path) -> Iterator[None]:
    """Translate unknown or missing settings of a stored run into GsrError."""
    try:
        yield
    except TypeError as error:
        hint = "start a new run in another folder; --from can load this run's weights"
        raise GsrError(f"the run in {folder} was made by another version of gsrcli", hint=hint) from error


@contextmanager
def _held(folder: Path) -> Iterator[None]:
    """Create a run's folder, check that it is writable, and keep other processes from training in it."""
    lock = FileLock(folder / ".lock")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=0)
    except Timeout as error:
        raise UsageError(f"another process is training in {folder}", hint="choose another --run") from error
    except OSError as error:
        hint = "choose another --run"
        raise GsrError(f"cannot write to the folder {folder}: {error.strerror}", hint=hint) from error
    try:
        yield
    finally:
        with suppress(OSError):
            (folder / ".lock").unlink()
        lock.release()
        with suppress(OSError):
            folder.rmdir()  # if nothing was saved


def _beginning(config: TrainConfig, start: Model | None) -> Model:
    """Return the model to train: a newly initialised one, or a copy of ``start``."""
    fresh = _new_model(config)
    if start is None:
        return fresh
    if type(start) is not type(fresh):
        raise ModelError(f"cannot start {config.model} from a {type(start).__name__}")
    return copy.deepcopy(start)


def _check_changes(folder: Path, stored: TrainConfig, changes: dict[str, Any]) -> None:
    """Check that no fixed setting changes.

    Raises:
        UsageError: some do.
    """
    fixed = {field.name for field in dataclasses.fields(TrainConfig) if field.metadata["fixed"]}
    refused = [
        f"--{name.replace('_', '-')} {getattr(stored, name)}, not {value}"
        for name, value in changes.items()
        if name in fixed and value != getattr(stored, name)
    ]
    if refused:
        hint = "leave these out to continue, or start a new run from its weights with --from"
        raise UsageError(f"{folder} was trained with {'; '.join(refused)}", hint=hint)


def _apart(paths: list[Path], validating: list[Path]) -> list[Path]:
    """Return the training pictures without those to validate on, which may be in the same folder."""
    others = {path.resolve() for path in validating}
    apart = [path for path in paths if path.resolve() not in others]
    if len(apart) < len(paths):
        warnings.warn(
            f"pictures left out of training because they are for validation: {len(paths) - len(apart)}", stacklevel=2
        )
    return apart


def _usable(loaded: Loaded, purpose: str, smallest: int, hint: str | None = None) -> list[Tensor]:
    """Warn about files that were left out, and return the pictures.

    Raises:
        PictureError: there are none; the hint is given if some were too small.
    """
    for path, why in loaded.damaged.items():
        warnings.warn(f"left out {path}: {why}", stacklevel=2)
    if loaded.too_small:
        count = len(loaded.too_small)
        warnings.warn(f"pictures left out because a side is shorter than {smallest} pixels: {count}", stacklevel=2)
    if not loaded.pictures:
        raise PictureError(f"there are no pictures to {purpose} on", hint=hint if loaded.too_small else None)
    return loaded.pictures


def _fits(own: Tensor | None, other: Tensor) -> bool:
    return own is not None and own.shape == other.shape


def _plain(progress: Progress) -> dict[str, Any]:
    facts = {name: value for name, value in dataclasses.asdict(progress).items() if value is not None}
    if progress.psnr:  # infinite if flat images are restored exactly, which JSON cannot express
        facts["psnr"] = {scale: psnr if math.isfinite(psnr) else None for scale, psnr in progress.psnr.items()}
    return facts


def _split(pictures: list[Tensor], held_out: int) -> tuple[list[Tensor], list[Tensor]]:
    """Split pictures into a training set and ``held_out`` evenly spread ones for validation."""
    count = len(pictures)
    if count <= held_out:
        raise UsageError(
            f"cannot hold out {held_out} of {count} pictures", hint="use more pictures or lower --held-out"
        )
    chosen = [i * count // held_out for i in range(held_out)]
    return [pictures[i] for i in range(count) if i not in chosen], [pictures[i] for i in chosen]


def _centre(picture: Tensor, side: int) -> Tensor:
    top, left = (max(0, (length - side) // 2) for length in picture.shape[1:])
    return picture[:, top : top + side, left : left + side]


def _name_of(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
