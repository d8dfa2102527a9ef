"""Upscale many pictures: while one is computed, the next is decoded and the previous one encoded.

This module does not import torch, so errors in the first pictures are reported before the model is loaded.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from gsrcli.cli.console import Console
from gsrcli.cli.failures import explain
from gsrcli.cli.jobs import Job
from gsrcli.errors import PictureError
from gsrcli.images import (
    DEFAULT_MAX_PIXELS,
    Fate,
    Ledger,
    Picture,
    check_output,
    fit,
    make_folder,
    output_format,
    read_picture,
    with_fate,
    write_picture,
)
from gsrcli.size import Size
from gsrcli.upscaling.alpha import AlphaMeaning
from gsrcli.upscaling.target import Target

if TYPE_CHECKING:
    from tqdm import tqdm

    from gsrcli.runtime.timing import StageTimer
    from gsrcli.upscaling.upscaler import Upscaler

__all__ = ["Batch", "Outcome"]


@dataclass(frozen=True)
class Outcome:
    """The result of one job, with the lines of the picture's ledger."""

    input: str
    output: str
    status: Literal["done", "skipped", "failed"]
    width: int | None = None
    height: int | None = None
    seconds: float | None = None
    error: str | None = None
    hint: str | None = None
    ledger: Ledger = ()

    def row(self) -> dict[str, Any]:
        """Return the outcome as plain data, without what there is not; the ledger as lists by fate."""
        fates = {str(fate): with_fate(fate, self.ledger) or None for fate in Fate}
        row = {**asdict(self), **fates, "ledger": None}
        return {key: value for key, value in row.items() if value is not None}


@dataclass
class Batch:
    """Runs jobs one after another. A failed job is reported and recorded, and the others continue.

    Attributes:
        load: returns the upscaler; called once, after the first usable picture has been decoded.
        target: the size or scale asked for.
        console: where progress and failures are shown.
        quality: quality of lossy formats, 1 to 100; None for each format's default.
        overwrite: whether to replace existing outputs.
        strip_metadata: whether to drop EXIF and XMP.
        max_pixels: largest input accepted, in pixels.
        debug: whether to let exceptions propagate.
        alpha: what alpha is: see `AlphaMeaning`.
        upscaler: the upscaler that ``load`` returned; None if no picture was usable.
    """

    load: Callable[[], Upscaler]
    target: Target
    console: Console
    quality: int | None = None
    overwrite: bool = False
    strip_metadata: bool = False
    max_pixels: int = DEFAULT_MAX_PIXELS
    debug: bool = False
    alpha: AlphaMeaning = "transparency"
    upscaler: Upscaler | None = field(default=None, init=False)
    _seconds: StageTimer | None = field(default=None, init=False)
    _decoding: float = field(default=0.0, init=False)
    _encoding: float = field(default=0.0, init=False)

    def run(self, jobs: Sequence[Job]) -> list[Outcome]:
        """Run the jobs and return their outcomes in order. After Ctrl-C, the picture being written is completed first.

        Raises whatever ``load`` raises.
        """
        outcomes: list[Future[Outcome]] = []
        with (
            self.console.progress(len(jobs), "loading the model") as bar,
            ThreadPoolExecutor(1, "decode") as reader,
            ThreadPoolExecutor(1, "encode") as writer,
        ):
            ahead = reader.submit(self._read, jobs[0])
            for done, job in enumerate(jobs):
                reading = ahead
                if done + 1 < len(jobs):
                    ahead = reader.submit(self._read, jobs[done + 1])
                bar.set_postfix_str(job.input.name, refresh=False)
                waiting = time.perf_counter()
                try:
                    picture = reading.result()
                    picture, size, ledger = self._fitted(job, picture)
                except Exception as error:
                    outcomes.append(_finished(self._failure(job, error)))
                    bar.update(done + 1 - bar.n)
                    continue
                waited = time.perf_counter() - waiting
                upscaler = self._loaded(bar)  # a failure here fails every picture
                began = time.perf_counter() - waited
                try:
                    enlarged = self._enlarge(upscaler, picture, size, bar.update)
                    if outcomes:
                        outcomes[-1].result()  # at most one enlargement waits to be written
                    outcomes.append(writer.submit(self._write, job, enlarged, began, ledger))
                except Exception as error:
                    outcomes.append(_finished(self._failure(job, error)))
                bar.update(done + 1 - bar.n)
            return [outcome.result() for outcome in outcomes]

    def seconds(self) -> dict[str, float]:
        """Return the seconds spent in each stage so far; decoding and encoding overlap the other stages."""
        drawing = self._seconds.read() if self._seconds else {}
        return {**drawing, "decode": self._decoding, "encode": self._encoding}

    def _loaded(self, bar: tqdm[Any]) -> Upscaler:
        if self.upscaler is None:
            from gsrcli.runtime.timing import StageTimer
            from gsrcli.upscaling.upscaler import STAGES

            self.upscaler, self._seconds = self.load(), StageTimer(STAGES)
            bar.set_description_str("upscaling")
            bar.unpause()  # so that loading does not count in the time left
        return self.upscaler

    def _read(self, job: Job) -> Picture:
        began = time.perf_counter()
        picture = read_picture(job.input, max_pixels=self.max_pixels)
        self._decoding += time.perf_counter() - began
        return picture.without_metadata() if self.strip_metadata else picture

    def _fitted(self, job: Job, picture: Picture) -> tuple[Picture, Size, Ledger]:
        """Return the picture fitted to the output's format, its new size, and the ledger; raise if it does not fit."""
        size = self.target.of(picture.size)
        _prepare_folder(job)
        form = output_format(job.output)
        try:
            fitted, entries = fit(picture, form)
        except PictureError as error:
            raise PictureError(f"cannot write {job.output}: {error}", hint=error.hint) from error
        check_output(job.output, size, bytes_per_pixel=fitted.bytes_per_pixel)
        self._announce(job, picture.ledger, entries)
        return fitted, size, (*picture.ledger, *entries)

    def _announce(self, job: Job, reading: Ledger, writing: Ledger) -> None:
        """Say what is converted, and warn of what is lost or damaged."""
        for change in with_fate(Fate.CONVERTED, (*reading, *writing)):
            self.console.note(f"{job.input}: {change}")
        for warning in _warnings(job, reading, writing):
            self.console.warn(warning)

    def _enlarge(self, upscaler: Upscaler, picture: Picture, size: Size, advance: Callable[[float], object]) -> Picture:
        work = upscaler.work(picture)
        return upscaler.enlarge(picture, size, lambda pixels: advance(pixels / work), self._seconds, self.alpha)

    def _write(self, job: Job, picture: Picture, began: float, ledger: Ledger) -> Outcome:
        try:
            writing = time.perf_counter()
            write_picture(picture, job.output, quality=self.quality, overwrite=self.overwrite)
            self._encoding += time.perf_counter() - writing
        except Exception as error:
            return self._failure(job, error)
        height, width = picture.size
        seconds = round(time.perf_counter() - began, 3)
        return Outcome(str(job.input), str(job.output), "done", width, height, seconds, ledger=ledger)

    def _failure(self, job: Job, error: Exception) -> Outcome:
        if self.debug:
            raise error
        failure = explain(error)
        message = failure.message if str(job.input) in failure.message else f"{job.input}: {failure.message}"
        self.console.error(message, failure.hint)
        return Outcome(str(job.input), str(job.output), "failed", error=message, hint=failure.hint)


def _warnings(job: Job, reading: Ledger, writing: Ledger) -> list[str]:
    """Return the warnings of what is lost or damaged."""
    form = output_format(job.output).name
    causes = {
        f"{job.input}: damaged": with_fate(Fate.DAMAGED, reading),
        f"{job.input}: lost": with_fate(Fate.LOST, reading),
        f"{job.output}: {form} does not keep": with_fate(Fate.LOST, writing),
    }
    return [f"{cause} {', '.join(parts)}" for cause, parts in causes.items() if parts]


def _prepare_folder(job: Job) -> None:
    folder = job.output.absolute().parent
    make_folder(folder)
    if not os.access(folder, os.W_OK):
        raise PictureError(f"cannot write to {folder}: permission denied", hint="choose a folder with --output")


def _finished(outcome: Outcome) -> Future[Outcome]:
    future: Future[Outcome] = Future()
    future.set_result(outcome)
    return future
