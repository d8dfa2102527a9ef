"""Training a model on a folder of pictures, with restarts."""

from __future__ import annotations

import copy
import dataclasses
import json
import math
import signal
import threading
import time
import warnings
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
from gsrcli.runtime.timing import Seconds
from gsrcli.training.config import TrainConfig
from gsrcli.training.crops import Crops, Scales
from gsrcli.training.dataset import Loaded, PictureBank, find_pictures, load_pictures
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
_READ_EVERY = 20  # steps, where reading the loss means waiting for a device that could go on meanwhile
_PROFILED = 20  # steps, after as many that do not count
_ENDING = 3.0  # seconds kept of a run's time for its last checkpoint
_LEAST_MINUTES = 0.01  # of a process that goes on though no time is left: none would be no limit

_STATE, _PLATEAU = "state", "plateau"


@dataclass(frozen=True)
class Progress:
    """What a run tells of itself, every so many steps, and with ``psnr`` after each validation.

    Attributes:
        step: steps done.
        steps: in all; None in a run that ends by time, before that is known.
        loss: a running mean over steps, which a resumed run goes on with.
        seconds: spent in this process so far.
        samples_per_second: of these, without validations and checkpoints.
        psnr: mean PSNR on Y over the held-out pictures by scale, in dB.
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
    """Where the time of a step goes.

    Attributes:
        stages: seconds a step, by stage.
        steps_per_second: of whole steps, not timed apart.
        samples_per_second: pairs of pictures, likewise.
        device: what computed.
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
    """Train, leaving in ``run`` weights.safetensors, log.jsonl, and state.json with its parts to resume from.

    With the schedule wsd a second state, plateau.json, is that of when the rate began to fall: a run made longer after
    its end goes on from there.

    Ctrl-C and SIGTERM save the state, once the step they come in is done, before KeyboardInterrupt is raised.

    Args:
        config: the run. When resuming it must equal the stored one in all that is fixed; see :func:`resumed`.
        data: folder of pictures.
        run: folder of the run, made if missing.
        report: called every so many steps.
        resume: continue the run found there.
        validate_on: folder of pictures to validate on; else some of ``data`` are held out.
        start: begin with these weights; see :func:`start_from`.
        begun: called once the pictures are there, with :attr:`Trainer.pictures`.

    Returns:
        The path of the weights.

    Raises:
        UsageError: the folder holds a run and ``resume`` is not set, or the other way round, or configs differ, or
            the pictures are too few, or another process trains in that folder.
        ModelError: no such model.
        PictureError: the data cannot be read.
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
    """Time the stages of a step, and whole steps, of a run that is not kept. For what is raised see :func:`train`."""
    trainer = Trainer(config, data, None, resume=False)
    for _ in range(_PROFILED):
        trainer.take_step()
    trainer.step.read()
    began = time.perf_counter()
    for _ in range(_PROFILED):
        trainer.take_step()
    trainer.step.read()
    rate = _PROFILED / (time.perf_counter() - began)
    trainer.step.seconds = Seconds(STAGES)
    for _ in range(_PROFILED):
        trainer.take_step()
    stages = {name: seconds / _PROFILED for name, seconds in trainer.step.seconds.read().items()}
    return Profile(stages, rate, rate * config.batch, _name_of(trainer.device))


def resumed(run: Path, changes: dict[str, Any]) -> TrainConfig:
    """The config of the run in a folder, with changes to what may change.

    Its minutes are those of the process that goes on: what is left of a run that ends by time.

    Raises:
        UsageError: there is no run, or what must not change would.
        GsrError: the run is damaged.
    """
    stored = _stored(run)
    _check_changes(run, stored.config, changes)
    ends_by_time = stored.schedule.end == Schedule.NEVER and not changes.keys() & {"minutes", "steps"}
    left = stored.config.minutes - stored.facts.get("seconds", 0.0) / 60
    minutes = max(left, _LEAST_MINUTES) if ends_by_time else 0.0
    return dataclasses.replace(stored.config, **{"minutes": minutes, **changes})


def start_from(config: TrainConfig, weights: Model, name: str, partial: bool) -> Model:
    """The model to train, with the weights that another has.

    Args:
        config: whose model it is.
        weights: a trained model.
        name: what it is called.
        partial: take what fits and begin afresh with the rest. Otherwise the network is as the weights have it.

    Raises:
        ModelError: the weights are another model's.
    """
    if not partial:
        if name != config.model:
            hint = f"--model {name}, or --partial to take what fits"
            raise ModelError(f"these are weights of {name}, not of {config.model}", hint=hint)
        model = build(config.model, config_of(weights))
        model.load_state_dict(weights.state_dict())
        return model
    torch.manual_seed(config.seed)
    model = _new_model(config)
    fresh = model.state_dict()
    fitting = {key: value for key, value in weights.state_dict().items() if _fits(fresh.get(key), value)}
    if not fitting:
        raise ModelError(f"nothing of these weights of {name} fits {config.model}")
    model.load_state_dict(fitting, strict=False)
    left = len(fresh) - len(fitting)
    warnings.warn(f"{len(fitting)} of {len(fresh)} tensors are taken over, {left} begin afresh", stacklevel=2)
    return model


class Trainer:
    """A run: pictures, the step and what it improves, the schedule, and the folder it lives in, if it is kept.

    Attributes:
        pictures: ``trained_on`` and ``validated_on``, how many they are, and how many ``pixels`` and
            ``validated_pixels`` these have.
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
        if config.threads:
            torch.set_num_threads(config.threads)
        self.device = pick_device(config.device)
        stored = self._where_it_goes_on() if resume else None
        if run and not resume and holds_run(run):
            raise UsageError(f"{run} holds a run already", hint="continue it with --resume, or choose another folder")
        torch.manual_seed(config.seed)
        model = self._model_in(stored) if stored else _beginning(config, start)
        if config.patch % model.traits.multiple:
            raise UsageError(f"the patch of {config.model} must be a multiple of {model.traits.multiple}")
        channels_last(model.to(self.device).train().requires_grad_(True))
        self.dtype = pick_precision(self.device, config.precision, model.traits.precision)
        self.step = Step(model, config, self.dtype)
        self.schedule = Schedule.of(config)
        self.done = 0
        self._loss = _RunningMean()
        if stored:
            self._take_up(stored)
        facts = stored.facts if stored else {}
        self.validate_on = validate_on or (Path(facts["validate_on"]) if facts.get("validate_on") else None)
        self._load_pictures(data, facts.get("pictures"))

    @property
    def weights_path(self) -> Path:
        return self.folder / "weights.safetensors"

    @property
    def _seconds(self) -> float:
        """Spent in this process."""
        return time.monotonic() - self._began

    def take_step(self) -> None:
        """Take one step; what it comes to is told by :meth:`Step.read`."""
        torch.manual_seed(seed_of(self.config.seed, self.done))  # a resumed run draws the same noise
        with self.step.timed("crops"):
            groups = self.crops.batch(self.done, self.config.batch)
        self.step.take(groups, self.schedule.rate(self.done))
        self.done += 1

    def run_to_end(self, report: Callable[[Progress], None]) -> None:
        """Take the remaining steps."""
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
                    rate = self.config.learning_rate * self.schedule.rate(self.done - 1)
                    self._keep_to_time(pace)
                    report(self._progress(rate, pace))
                    if asked() and self.done < self.schedule.end:
                        raise KeyboardInterrupt
            except StoppedAtOnce:  # perhaps within a step: what is on disk stays
                raise
            except KeyboardInterrupt:
                self.save_state()
                raise

    def _progress(self, rate: float, pace: _Pace) -> Progress:
        """What there is to tell, with what is due: a validation, a checkpoint and a line in the log."""
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
        """Steps between readings of the loss, at which the host waits for the device; all others fall on them."""
        if self.device.type == "cpu":
            return 1
        return math.gcd(_READ_EVERY, self.config.validate_every, self.config.save_every)

    def _loss_so_far(self) -> float:
        loss, finite = self.step.read()
        if not (finite and math.isfinite(loss)):
            begin = "go on from the last checkpoint by --resume" if holds_run(self.folder) else "begin anew"
            raise GsrError(
                f"training diverged by step {self.done}: its gradient is not finite",
                hint=f"{begin}, with a lower --learning-rate or --muon-rate",
            )
        return loss

    def _keep_to_time(self, pace: _Pace) -> None:
        """Of a run that ends by time, find out when the rate must begin to fall, and when it must end."""
        if not self.config.minutes:
            return
        seconds, limit = self._seconds, 60 * self.config.minutes - _ENDING - pace.longest_rest
        if seconds >= limit:
            self._end_at(self.schedule.fall, self.done)
        elif self.schedule.fall == Schedule.NEVER and seconds >= (1 - self.config.decay) * limit:
            left = round((limit - seconds) * pace.with_rests_at(self.done))
            self._end_at(self.done, self.done + max(left, 1))

    def _end_at(self, fall: int, end: int) -> None:
        self.schedule = dataclasses.replace(self.schedule, fall=min(fall, end), end=end)
        self.config = dataclasses.replace(self.config, steps=end)  # as if it had been asked for

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
        """Write the averaged weights, and the state: last, so that a run that is at its end has its weights."""
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

    def _where_it_goes_on(self) -> _Stored:
        """Where the run stopped, or, made longer, where its rate began to fall."""
        stored = _stored(self.folder)
        _check_changes(self.folder, stored.config, dataclasses.asdict(self.config))
        longer = not self._keeps_schedule(stored) and Schedule.of(self.config).fall > stored.schedule.fall
        if longer and stored.schedule.falls_at(stored.step) and (self.folder / f"{_PLATEAU}.json").exists():
            self._keep_weights(stored.step)
            stored = _stored(self.folder, _PLATEAU)
            told = f"made longer, the run goes on from step {stored.step}, where its rate began to fall"
            warnings.warn(told, stacklevel=2)
        return stored

    def _keep_weights(self, step: int) -> None:
        """Copy the weights of a run that goes back to an earlier step, and may end before it is where it was."""
        kept = self.weights_path.with_stem(f"{self.weights_path.stem}-{step}")
        if self.weights_path.exists():
            write_checkpoint(kept, self.weights_path.read_bytes())

    def _take_up(self, stored: _Stored) -> None:
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
            raise UsageError(f"the run in {self.folder} has taken {self.done} steps: --steps must be more")
        elif not schedule.falls_at(self.done):  # a rate that falls begins to do so where it is
            self.schedule = dataclasses.replace(self.schedule, fall=max(self.schedule.fall, self.done))
        before, after = schedule.rate(max(self.done - 1, 0)), self.schedule.rate(self.done)
        if after > 1.5 * before and self.done >= schedule.warmup:
            warnings.warn(f"the rate rises from {before:.2g} to {after:.2g} of its highest", stacklevel=2)

    def _keeps_schedule(self, stored: _Stored) -> bool:
        """Whether the end is to be where it was, if that was known."""
        before = stored.config
        same = (self.config.steps, self.config.decay) == (before.steps, before.decay) and not self.config.minutes
        return same and stored.schedule.end != Schedule.NEVER

    def _model_in(self, stored: _Stored) -> Model:
        with _of_this_version(self.folder):
            return build(self.config.model, stored.facts["model"])

    # ---- pictures

    def _load_pictures(self, data: Path, before: dict[str, int] | None) -> None:
        """Load them, and tell where they are others than a run had before."""
        config = self.config
        scored = smallest_side(self.step.model, max(_VALIDATION_SCALES))
        smallest = max(math.ceil(config.patch * config.scale_far), scored)
        validating = find_pictures(self.validate_on) if self.validate_on else []
        loaded = load_pictures(_apart(find_pictures(data), validating), smallest)
        pictures = _told(
            loaded, "train", smallest, hint="lower --patch or --scale-far: a crop has their product a side"
        )
        if validating:
            held_out = _told(load_pictures(validating, scored), "validate", scored)
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
            warnings.warn("the pictures are not those that the run had before: its scores do not compare", stacklevel=2)
        scales = Scales(config.scale_low, config.scale_high, config.scale_far, config.far_share, config.unequal_share)
        bank = PictureBank(pictures, self.device)
        self.crops = Crops(bank, config.patch, scales, config.groups, config.degradation, config.seed, config.reduce)


class _Pace:
    """Steps a second in this process, with and without what it does besides; and the longest of that, in seconds."""

    def __init__(self, first: int) -> None:
        self._first = first
        self._began = time.monotonic()
        self._rested = 0.0
        self.longest_rest = 0.0

    def at(self, step: int) -> float:
        """Without validations and checkpoints."""
        return (step - self._first) / max(time.monotonic() - self._began - self._rested, 1e-9)

    def with_rests_at(self, step: int) -> float:
        return (step - self._first) / max(time.monotonic() - self._began, 1e-9)

    @contextmanager
    def resting(self) -> Iterator[None]:
        """Do something besides."""
        began = time.monotonic()
        yield
        rest = time.monotonic() - began
        self._rested += rest
        self.longest_rest = max(self.longest_rest, rest)


class _RunningMean:
    """The mean of a loss over some fifty steps, those of its beginning weighing no more than others."""

    _KEPT = 0.98  # a step

    def __init__(self, total: float = 0.0, weight: float = 0.0) -> None:
        self.total, self.weight = total, weight

    @property
    def value(self) -> float:
        return self.total / self.weight

    def add(self, mean: float, steps: int) -> None:
        """The mean loss of so many further steps."""
        kept = self._KEPT**steps
        self.total = kept * self.total + (1 - kept) * mean
        self.weight = kept * self.weight + (1 - kept)


class StoppedAtOnce(KeyboardInterrupt):
    """By a second Ctrl-C: what was done since the last checkpoint is lost."""


@contextmanager
def _asked_to_stop() -> Iterator[Callable[[], bool]]:
    """Turn Ctrl-C and SIGTERM into an answer to the question whether to stop; a second Ctrl-C stops at once.

    So a step is taken whole, and a checkpoint written whole, whenever they come.
    """
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield asked.is_set  # signals go to the main thread
        return

    def ask(number: int, frame: Any) -> None:
        if asked.is_set():
            raise StoppedAtOnce
        asked.set()

    numbers = [signal.SIGTERM]
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:  # as it is of what a shell starts in the background
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
    """Whether there is a run in a folder that can be resumed."""
    return (folder / f"{_STATE}.json").exists()


def _require_run(folder: Path) -> None:
    if not holds_run(folder):
        raise UsageError(f"{folder} holds no run to resume")


@dataclass(frozen=True)
class _Stored:
    """A run as one of its states on disk tells of it, but for the tensors."""

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
    """Tell of settings of a run that are unknown here, or wanting."""
    try:
        yield
    except TypeError as error:
        hint = "train anew, in another folder; --from takes the weights that are there"
        raise GsrError(f"the run in {folder} is another version's", hint=hint) from error


@contextmanager
def _held(folder: Path) -> Iterator[None]:
    """Make a run's folder, see that it can be written to, and keep other processes from training in it."""
    lock = FileLock(folder / ".lock")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=0)
    except Timeout as error:
        raise UsageError(f"another process trains in {folder}", hint="choose another folder by --run") from error
    except OSError as error:
        hint = "choose another by --run"
        raise GsrError(f"cannot write to the folder {folder}: {error.strerror}", hint=hint) from error
    try:
        yield
    finally:
        with suppress(OSError):
            (folder / ".lock").unlink()
        lock.release()
        with suppress(OSError):
            folder.rmdir()  # where nothing came of it


def _beginning(config: TrainConfig, start: Model | None) -> Model:
    """The model as training begins with it: fresh, or a copy of one that is given."""
    fresh = _new_model(config)
    if start is None:
        return fresh
    if type(start) is not type(fresh):
        raise ModelError(f"a {type(start).__name__} is no {config.model}")
    return copy.deepcopy(start)


def _check_changes(folder: Path, stored: TrainConfig, changes: dict[str, Any]) -> None:
    """See that only what may change does."""
    fixed = {field.name for field in dataclasses.fields(TrainConfig) if field.metadata["fixed"]}
    refused = [
        f"--{name.replace('_', '-')} {getattr(stored, name)}, not {value}"
        for name, value in changes.items()
        if name in fixed and value != getattr(stored, name)
    ]
    if refused:
        hint = "leave these out to go on; --from takes its weights into a new run"
        raise UsageError(f"{folder} was trained with {'; '.join(refused)}", hint=hint)


def _apart(paths: list[Path], validating: list[Path]) -> list[Path]:
    """The pictures to train on without those to validate on, which may lie in the same folder."""
    others = {path.resolve() for path in validating}
    apart = [path for path in paths if path.resolve() not in others]
    if len(apart) < len(paths):
        warnings.warn(f"pictures left out because they are validated on: {len(paths) - len(apart)}", stacklevel=2)
    return apart


def _told(loaded: Loaded, purpose: str, smallest: int, hint: str | None = None) -> list[Tensor]:
    """The pictures, once what was passed by is told.

    Raises:
        PictureError: none is left; the hint is for where all are too small.
    """
    for path, why in loaded.damaged.items():
        warnings.warn(f"{path} is left out: {why}", stacklevel=2)
    if loaded.too_small:
        count = len(loaded.too_small)
        warnings.warn(f"pictures left out because a side is below {smallest} pixels: {count}", stacklevel=2)
    if not loaded.pictures:
        raise PictureError(f"there are no pictures to {purpose} on", hint=hint if loaded.too_small else None)
    return loaded.pictures


def _fits(own: Tensor | None, other: Tensor) -> bool:
    return own is not None and own.shape == other.shape


def _plain(progress: Progress) -> dict[str, Any]:
    facts = {name: value for name, value in dataclasses.asdict(progress).items() if value is not None}
    if progress.psnr:  # infinite where a flat picture is restored exactly, which JSON cannot say
        facts["psnr"] = {scale: psnr if math.isfinite(psnr) else None for scale, psnr in progress.psnr.items()}
    return facts


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


def _name_of(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
