"""Upscale many pictures: while one is computed, the next is decoded and the previous one encoded.

This module does not import torch, so errors in the first pictures are reported before the model is loaded.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from gsrcli.cli.console import Console
from gsrcli.cli.failures import explain
from gsrcli.cli.jobs import Job
from gsrcli.errors import PictureError
from gsrcli.images import (
    DEFAULT_MAX_PIXELS,
    Picture,
    check_output,
    losses,
    make_folder,
    output_format,
    read_picture,
    write_picture,
)
from gsrcli.size import Size
from gsrcli.upscaling.target import Target

if TYPE_CHECKING:
    from tqdm import tqdm

    from gsrcli.runtime.timing import StageTimer
    from gsrcli.upscaling.upscaler import Upscaler

__all__ = ["Batch", "Outcome"]


@dataclass(frozen=True)
class Outcome:
    """The result of one job."""

    input: str
    output: str
    status: Literal["done", "skipped", "failed"]
    width: int | None = None
    height: int | None = None
    seconds: float | None = None
    error: str | None = None
    hint: str | None = None
    warnings: list[str] | None = None


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
                    size, warnings = self._check(job, picture)
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
                    outcomes.append(writer.submit(self._write, job, enlarged, began, warnings))
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

    def _check(self, job: Job, picture: Picture) -> tuple[Size, list[str]]:
        """Return the output size and warnings of what its format drops; raise if the output cannot be written."""
        size = self.target.of(picture.size)
        _prepare_folder(job)
        check_output(job.output, size, alpha=not picture.opaque, bytes_per_pixel=picture.bytes_per_pixel)
        form = output_format(job.output)
        lost = losses(picture, form)
        warnings = [f"{job.output}: {form.name} does not keep {', '.join(lost)}"] if lost else []
        for warning in warnings:
            self.console.warn(warning)
        return size, warnings

    def _enlarge(self, upscaler: Upscaler, picture: Picture, size: Size, advance: Callable[[float], object]) -> Picture:
        work = upscaler.work(picture)
        return upscaler.enlarge(picture, size, lambda pixels: advance(pixels / work), self._seconds)

    def _write(self, job: Job, picture: Picture, began: float, warnings: list[str]) -> Outcome:
        try:
            writing = time.perf_counter()
            write_picture(picture, job.output, quality=self.quality, overwrite=self.overwrite)
            self._encoding += time.perf_counter() - writing
        except Exception as error:
            return self._failure(job, error)
        height, width = picture.size
        seconds = round(time.perf_counter() - began, 3)
        return Outcome(str(job.input), str(job.output), "done", width, height, seconds, warnings=warnings or None)

    def _failure(self, job: Job, error: Exception) -> Outcome:
        if self.debug:
            raise error
        failure = explain(error)
        message = failure.message if str(job.input) in failure.message else f"{job.input}: {failure.message}"
        self.console.error(message, failure.hint)
        return Outcome(str(job.input), str(job.output), "failed", error=message, hint=failure.hint)


def _prepare_folder(job: Job) -> None:
    folder = job.output.absolute().parent
    make_folder(folder)
    if not os.access(folder, os.W_OK):
        raise PictureError(f"cannot write to {folder}: permission denied", hint="choose a folder with --output")


def _finished(outcome: Outcome) -> Future[Outcome]:
    future: Future[Outcome] = Future()
    future.set_result(outcome)
    return future
