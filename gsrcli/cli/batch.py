"""Upscale many pictures: while one is computed strip by strip, its strips are written, and the next is decoded.

The frames of an animation and the pages of a document pass through in the same way, one by one, into one output.

This module does not import torch, so errors in the first pictures are reported before the model is loaded.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import CancelledError, Executor, Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from itertools import chain, groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from gsrcli.cli.console import Console, printable
from gsrcli.cli.failures import explain
from gsrcli.cli.jobs import Job
from gsrcli.cli.remarks import Remarks
from gsrcli.errors import PictureError, UsageError
from gsrcli.images import (
    DEFAULT_MAX_PIXELS,
    Background,
    Entry,
    Fate,
    Ledger,
    PictureFile,
    check_output,
    fit,
    make_folder,
    memory_to_write,
    output_format,
    require_several,
    with_fate,
    write_picture,
    write_pictures,
)
from gsrcli.images.strips import Strip, Strips
from gsrcli.runtime.handover import Handover
from gsrcli.size import Size
from gsrcli.upscaling.alpha import AlphaMeaning
from gsrcli.upscaling.target import Target

if TYPE_CHECKING:
    from tqdm import tqdm

    from gsrcli.runtime.timing import StageTimer
    from gsrcli.upscaling.upscaler import Upscaler

__all__ = ["Batch", "Handling", "Outcome"]

Item = TypeVar("Item")


@dataclass(frozen=True)
class Handling:
    """How pictures are read and written.

    Attributes:
        number: the only frame or page to read from a file of several, from 1 on; None for all.
        max_pixels: largest input accepted, in pixels.
        alpha: what alpha is; see `AlphaMeaning`.
        strip_metadata: whether to drop all metadata but colour tags and resolution.
        quality: quality of lossy formats, 1 to 100; None for each format's default.
        lossless: whether to write without loss formats that can be either.
        background: what lies under transparency that a format cannot keep; None refuses such pictures.
        overwrite: whether to replace existing outputs.
        keep_times: whether outputs get the times of their inputs.
    """

    number: int | None = None
    max_pixels: int = DEFAULT_MAX_PIXELS
    alpha: AlphaMeaning = "transparency"
    strip_metadata: bool = False
    quality: int | None = None
    lossless: bool = False
    background: Background | None = None
    overwrite: bool = False
    keep_times: bool = False


@dataclass(frozen=True)
class Outcome:
    """The result of one job, with the ledger of its pictures; the size is that of the first.

    ``frames`` and ``pages`` are the number of pictures in the output, if it has several.
    """

    input: str
    output: str
    status: Literal["done", "skipped", "failed"]
    width: int | None = None
    height: int | None = None
    frames: int | None = None
    pages: int | None = None
    seconds: float | None = None
    error: str | None = None
    hint: str | None = None
    ledger: Ledger = ()

    def row(self) -> dict[str, Any]:
        """Return the outcome as plain data, without what there is not; the ledger as lists by fate."""
        fates = {str(fate): with_fate(fate, self.ledger) or None for fate in Fate}
        row = {**asdict(self), **fates, "ledger": None}
        return {key: value for key, value in row.items() if value is not None}


@dataclass(eq=False)
class _Task:
    """A job under way, and what is known of it.

    Attributes:
        job: the files.
        handover: of enlarged pictures to the thread that writes them.
        passing: of the strips of each of them, which are computed while they are written.
        count: number of pictures to write; 1 if one is chosen.
        animated: whether they are frames of an animation.
        loops: how often the animation is shown.
        times: times of access and of modification of the input, in nanoseconds.
        began: when the first picture was waited for.
        reading: the ledger of reading; every entry once, however many pictures it is true of.
        writing: the ledger of writing.
    """

    job: Job
    handover: Handover[Strips] = field(default_factory=Handover)
    passing: list[Handover[Strip]] = field(default_factory=list)
    count: int = 1
    animated: bool = False
    loops: int | None = None
    times: tuple[int, int] = (0, 0)
    began: float = 0.0
    reading: dict[Entry, None] = field(default_factory=dict)
    writing: dict[Entry, None] = field(default_factory=dict)


@dataclass(frozen=True)
class _Decoded:
    """A picture, decoded or with strips that are decoded when they are needed, or why there is none."""

    task: _Task
    picture: Strips | Exception


@dataclass
class Batch:
    """Runs jobs one after another. A failed job is reported and recorded, and the others continue.

    Attributes:
        load: returns the upscaler; called once, after the first usable picture has been decoded.
        target: the size or scale asked for.
        console: where progress, failures and remarks are shown.
        handling: how pictures are read and written.
        verbose: whether to say what was kept of the pictures.
        debug: whether to let exceptions propagate.
        upscaler: the upscaler that ``load`` returned; None if no picture was usable.
    """

    load: Callable[[], Upscaler]
    target: Target
    console: Console
    handling: Handling = field(default_factory=Handling)
    verbose: bool = False
    debug: bool = False
    upscaler: Upscaler | None = field(default=None, init=False)
    _seconds: StageTimer | None = field(default=None, init=False)
    _decoding: float = field(default=0.0, init=False)
    _decoding_strips: float = field(default=0.0, init=False)  # on another thread
    _encoding: float = field(default=0.0, init=False)

    def run(self, jobs: Sequence[Job]) -> list[Outcome]:
        """Run the jobs and return their outcomes in order. After Ctrl-C, the picture being written is completed first.

        Raises whatever ``load`` raises.
        """
        outcomes: list[Future[Outcome]] = []
        remarks = Remarks(self.verbose)
        try:
            with (
                self.console.progress(len(jobs), "loading the model") as bar,
                ThreadPoolExecutor(1, "decode") as reader,
                ThreadPoolExecutor(1, "encode") as writer,
            ):
                began = time.perf_counter()
                for task, pictures in groupby(_ahead(self._decoded(jobs), reader), lambda decoded: decoded.task):
                    task.began = began
                    try:
                        outcomes.append(writer.submit(self._write, task, remarks))
                        self._enlarge(task, pictures, bar)
                    finally:
                        task.handover.end(CancelledError())
                    for outcome in outcomes[-2:]:
                        if outcome.done() or task.handover.failed():
                            outcome.result()  # raises with debug, and lets failures be reported before the next job
                    bar.update(len(outcomes) - bar.n)
                    began = time.perf_counter()
        finally:
            remarks.say(self.console)
        return [outcome.result() for outcome in outcomes]

    def seconds(self) -> dict[str, float]:
        """Return the seconds spent in each stage so far; decoding and encoding overlap the other stages."""
        drawing = self._seconds.read() if self._seconds else {}
        return {**drawing, "decode": self._decoding + self._decoding_strips, "encode": self._encoding}

    def _decoded(self, jobs: Iterable[Job]) -> Iterator[_Decoded]:
        """Yield the pictures of all jobs; for a job that fails, the exception in place of a picture."""
        for job in jobs:
            task = _Task(job)
            try:
                yield from (_Decoded(task, picture) for picture in self._read(task))
            except Exception as error:
                yield _Decoded(task, error)

    def _read(self, task: _Task) -> Iterator[Strips]:
        """Open a file and yield its pictures, or the chosen one, until the task has failed."""
        began = time.perf_counter()
        path, number = task.job.input, self.handling.number
        file = PictureFile(path, max_pixels=self.handling.max_pixels)
        task.times = _times(path)
        if number is None and file.count > 1:
            _require_room(task.job, file, self.handling.lossless)
            task.count, task.animated, task.loops = file.count, file.animated, file.loops
        for index in range(file.count) if number is None else [number - 1]:
            picture = file.strips(index, alpha_is_data=self.handling.alpha == "data")
            if task.count == 1:
                picture = replace(picture, duration=None)  # a single frame is a still picture
            self._decoding += time.perf_counter() - began
            picture = picture.asked_within(self._decoding_strip)
            yield picture.without_metadata() if self.handling.strip_metadata else picture
            began = time.perf_counter()
            if task.handover.ended():
                return

    @contextmanager
    def _decoding_strip(self) -> Iterator[None]:
        began = time.perf_counter()
        yield
        self._decoding_strips += time.perf_counter() - began

    def _enlarge(self, task: _Task, pictures: Iterable[_Decoded], bar: tqdm[Any]) -> None:
        """Enlarge pictures and hand them over, and the exception if there is one. Raises whatever ``load`` raises."""
        handover = task.handover
        for number, decoded in enumerate(pictures, 1):
            part = f" {number}/{task.count}" if task.count > 1 else ""
            bar.set_postfix_str(f"{printable(task.job.input.name)}{part}", refresh=False)
            with handover.passing_errors():
                picture, size = self._fitted(decoded)
            if handover.ended():
                return
            upscaler = self._loaded(task, bar)  # a failure here fails every picture
            with handover.passing_errors():
                _require_memory(task, picture, size, upscaler)
                work = upscaler.work(picture) * task.count
                advance = partial(_advance, bar, work)
                _hand_over(task, upscaler.stream(picture, size, advance, self._seconds, self.handling.alpha))
            if handover.ended():
                return
        handover.end()

    def _fitted(self, decoded: _Decoded) -> tuple[Strips, Size]:
        """Return a picture fitted to the output's format, and its new size; raise what prevents it."""
        task, picture = decoded.task, decoded.picture
        if isinstance(picture, Exception):
            raise picture
        output = task.job.output
        size = self.target.of(picture.size)
        _prepare_folder(output.absolute().parent)
        try:
            fitted, entries = fit(picture, output_format(output), self.handling.background)
        except PictureError as error:
            raise PictureError(f"cannot write {output}: {error}", hint=error.hint) from error
        check_output(output, size, bytes_per_pixel=fitted.bytes_per_pixel)
        task.reading.update(dict.fromkeys(picture.ledger))
        task.writing.update(dict.fromkeys(entries))
        return fitted, size

    def _loaded(self, task: _Task, bar: tqdm[Any]) -> Upscaler:
        if self.upscaler is None:
            from gsrcli.runtime.timing import StageTimer
            from gsrcli.upscaling.upscaler import STAGES

            began = time.perf_counter()
            self.upscaler, self._seconds = self.load(), StageTimer(STAGES)
            task.began += time.perf_counter() - began
            bar.set_description_str("upscaling")
            bar.unpause()  # so that loading does not count in the time left
        return self.upscaler

    def _write(self, task: _Task, remarks: Remarks) -> Outcome:
        """Write the pictures that are handed over; return the outcome of the job."""
        job, handover, handling = task.job, task.handover, self.handling
        sizes: list[Size] = []
        options: dict[str, Any] = {
            "quality": handling.quality,
            "lossless": handling.lossless,
            "overwrite": handling.overwrite,
        }
        began = time.perf_counter()
        try:
            pictures = _noting_sizes(handover, sizes)
            if task.count > 1:
                write_pictures(pictures, job.output, loops=task.loops, **options)
            else:
                write_picture(next(pictures), job.output, **options)
            if handling.keep_times:
                _set_times(job.output, task.times)
        except CancelledError:
            raise
        except Exception as error:
            return self._failure(job, error)
        finally:
            handover.end()
            for passing in task.passing:
                passing.end()
        ended = time.perf_counter()
        self._encoding += ended - began - handover.waited - sum(passing.waited for passing in task.passing)
        remarks.add(job.input, job.output, output_format(job.output).name, tuple(task.reading), tuple(task.writing))
        return Outcome(
            input=str(job.input),
            output=str(job.output),
            status="done",
            width=sizes[0].width,
            height=sizes[0].height,
            frames=task.count if task.count > 1 and task.animated else None,
            pages=task.count if task.count > 1 and not task.animated else None,
            seconds=round(ended - task.began, 3),
            ledger=(*task.reading, *task.writing),
        )

    def _failure(self, job: Job, error: Exception) -> Outcome:
        if self.debug:
            raise error
        failure = explain(error)
        message = failure.message if str(job.input) in failure.message else f"{job.input}: {failure.message}"
        self.console.error(message, failure.hint)
        return Outcome(str(job.input), str(job.output), "failed", error=message, hint=failure.hint)


def _ahead(items: Iterator[Item], executor: Executor) -> Iterator[Item]:
    """Yield what a generator yields, and let it compute one item ahead on another thread."""
    following = executor.submit(next, items, None)
    while (item := following.result()) is not None:
        following = executor.submit(next, items, None)
        yield item


def _require_memory(task: _Task, picture: Strips, size: Size, upscaler: Upscaler) -> None:
    """Check that there is memory to write an enlargement in a format that holds it whole."""
    from gsrcli.upscaling.budget import require_memory

    form = output_format(task.job.output)
    needed = memory_to_write(form.of_frames if task.count > 1 else form, picture.raster._replace(size=size))
    hint = "write a .png or .tif file, whose rows are written as they come"
    require_memory(needed, f"an output of {size} pixels as {form.name}", upscaler.memory, hint)


def _hand_over(task: _Task, enlargement: Strips) -> None:
    """Hand over an enlargement, and then its strips one by one. Raises whatever computing them raises.

    The first is computed before, while the previous picture may still be being written.
    """
    strips, passing = iter(enlargement), Handover[Strip]()
    first = next(strips)
    task.passing.append(passing)
    task.handover.give(replace(enlargement, source=lambda: iter(passing)))
    try:
        for strip in chain([first], strips):
            if task.handover.ended() or passing.ended():
                return
            passing.give(strip)
        passing.end()
    except Exception as error:
        passing.end(error)
        raise
    finally:
        passing.end(CancelledError())


def _noting_sizes(pictures: Iterable[Strips], sizes: list[Size]) -> Iterator[Strips]:
    for picture in pictures:
        sizes.append(picture.size)
        yield picture


def _advance(bar: tqdm[Any], work: int, pixels: int) -> None:
    bar.update(pixels / work)


def _times(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_atime_ns, status.st_mtime_ns


def _set_times(path: Path, times: tuple[int, int]) -> None:
    try:
        os.utime(path, ns=times)
    except OSError as error:  # of file systems that have none, or that belong to somebody else
        reason = (error.strerror or str(error)).lower()
        raise PictureError(f"cannot set the times of {path}: {reason}", hint="leave out --keep-times") from error


def _require_room(job: Job, file: PictureFile, lossless: bool) -> None:
    """Check that the output's format holds the several pictures of a file."""
    try:
        require_several(job.output, frames=file.animated, lossless=lossless)
    except UsageError as error:
        hint = f"add --{file.noun} 1 to choose one" + (f", or {error.hint}" if error.hint else "")
        raise PictureError(f"{job.input} has {file.count} {file.noun}s; {error}", hint=hint) from None


def _prepare_folder(folder: Path) -> None:
    make_folder(folder)
    if not os.access(folder, os.W_OK):
        raise PictureError(f"cannot write to {folder}: permission denied", hint="choose a folder with --output")
