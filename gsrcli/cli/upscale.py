"""``gsr upscale``: enlarge pictures."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gsrcli.cli.console import Console, printable
from gsrcli.cli.failures import reporting
from gsrcli.cli.options import COMPUTING, Arithmetic, Debug, Device, Json, Memory, Threads, Tile
from gsrcli.runtime.memory import parse_memory, require_room_for_libraries
from gsrcli.runtime.threads import use_threads
from gsrcli.upscaling.alpha import AlphaMeaning
from gsrcli.weights.load import DEFAULT_MODEL

if TYPE_CHECKING:
    from gsrcli.cli.batch import Outcome
    from gsrcli.cli.jobs import Job, Plan
    from gsrcli.images import Background
    from gsrcli.runtime.precision import Precision
    from gsrcli.upscaling.upscaler import Upscaler

__all__ = ["upscale"]

READING, WRITING = "Reading", "Writing"

EXAMPLES = """
[bold]Examples[/bold]

  gsr upscale photo.png --scale 6.5                       writes photo_x6.5.png next to the input

  gsr upscale photo.jpg --size 3840x2160 -o poster.png

  gsr upscale scans/ --scale 2 -o large/ --recursive      run it again to resume
"""


def upscale(
    inputs: Annotated[list[str], typer.Argument(metavar="INPUT", help="Pictures, folders or glob patterns.")],
    scale: Annotated[
        float | None, typer.Option("--scale", "-s", help="Scale factor for both sides, any number from 1 up.")
    ] = None,
    size: Annotated[
        str | None, typer.Option(metavar="WIDTHxHEIGHT", help="Exact output size, such as 3840x2160.")
    ] = None,
    width: Annotated[int | None, typer.Option(help="Exact output width; the height follows.")] = None,
    height: Annotated[int | None, typer.Option(help="Exact output height; the width follows.")] = None,
    output: Annotated[
        str | None,
        typer.Option(
            "--output",
            "-o",
            metavar="PATH",
            help="Output file (for a single input) or folder (default: next to the input).",
        ),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace existing outputs instead of skipping them.")
    ] = False,
    recursive: Annotated[bool, typer.Option("--recursive", "-r", help="Search subfolders too.")] = False,
    format: Annotated[
        str | None,
        typer.Option(
            metavar="FORMAT",
            rich_help_panel=WRITING,
            help="Output format, such as png or webp (default: that of the input, or png if that is only read).",
        ),
    ] = None,
    quality: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=100,
            rich_help_panel=WRITING,
            help="Quality of lossy formats (default: 95, or the input's if higher, for JPEG; 95 for WebP; 90 for AVIF, "
            "HEIC and JPEG XL).",
        ),
    ] = None,
    lossless: Annotated[
        bool,
        typer.Option("--lossless", rich_help_panel=WRITING, help="Write without loss formats that can be either."),
    ] = False,
    background: Annotated[
        str | None,
        typer.Option(
            metavar="COLOUR",
            rich_help_panel=WRITING,
            help="Colour, such as white or #ff8800, that fills transparency in formats without.",
        ),
    ] = None,
    strip_metadata: Annotated[
        bool,
        typer.Option(
            "--strip-metadata",
            rich_help_panel=WRITING,
            help="Drop EXIF, XMP, IPTC, texts, comments and places; keep colour tags and resolution.",
        ),
    ] = False,
    keep_times: Annotated[
        bool,
        typer.Option("--keep-times", rich_help_panel=WRITING, help="Give outputs the dates of their input files."),
    ] = False,
    number: Annotated[
        int | None,
        typer.Option(
            "--frame",
            "--page",
            metavar="NUMBER",
            min=1,
            rich_help_panel=READING,
            help="Read only this frame of an animation or page of a document.",
        ),
    ] = None,
    alpha: Annotated[
        AlphaMeaning,
        typer.Option(
            rich_help_panel=READING,
            help="What alpha is; data, as in normal maps and masks, keeps the colours where alpha is 0.",
        ),
    ] = "transparency",
    max_pixels: Annotated[
        int | None,
        typer.Option(
            min=1,
            rich_help_panel=READING,
            help="Largest input accepted, in pixels (default: 500 million); guards against decompression bombs.",
        ),
    ] = None,
    model: Annotated[
        str,
        typer.Option(
            "--model",
            "-m",
            rich_help_panel=COMPUTING,
            help="Model name (see gsr weights list), or path of a checkpoint.",
        ),
    ] = DEFAULT_MODEL,
    device: Device = "auto",
    precision: Arithmetic = "auto",
    tile: Tile = None,
    memory: Memory = None,
    threads: Threads = None,
    json: Json = False,
    verbose: Annotated[
        bool,
        typer.Option(
            "--verbose", "-v", help="Show what is kept of each picture, the model, device and rasterizer, and times."
        ),
    ] = False,
    debug: Debug = False,
) -> None:
    """Upscale pictures by any factor."""
    console = Console(json)
    again = "run the same command again to resume; pictures already done are skipped"
    with reporting(console, debug, "run the same command without --overwrite to resume" if overwrite else again):
        began = time.perf_counter()
        require_room_for_libraries()
        with console.status("looking for pictures …"):
            from gsrcli.cli.batch import Batch, Handling
            from gsrcli.cli.jobs import plan_jobs
            from gsrcli.images import DEFAULT_MAX_PIXELS
            from gsrcli.size import Size
            from gsrcli.upscaling.target import Target
            from gsrcli.weights.load import require_weights

            target = Target(scale, Size.parse(size) if size else None, width, height)
            under = _colour(background, alpha)
            budget = None if memory is None else parse_memory(memory)
            label = target.label if number is None else f"{target.label}_{number}"
            plan = plan_jobs(inputs, _path(output), label, _suffix(format), recursive)
            todo = [job for job in plan.jobs if overwrite or not os.path.exists(job.output)]  # noqa: PTH110 (long names)
            _check_loss(todo, quality, lossless, console)
            if todo:
                require_weights(model)
        outcomes, facts = [], {}
        if todo:
            load = partial(_upscaler, model, device, precision, tile, budget, threads, console)
            handling = Handling(
                number=number,
                max_pixels=max_pixels or DEFAULT_MAX_PIXELS,
                alpha=alpha,
                strip_metadata=strip_metadata,
                quality=quality,
                lossless=lossless,
                background=under,
                overwrite=overwrite,
                keep_times=keep_times,
            )
            batch = Batch(load, target, console, handling, verbose, debug)
            outcomes = batch.run(sorted(todo, key=_input_exists))
            if batch.upscaler:
                facts = {**_facts(model, batch.upscaler), "seconds": batch.seconds()}
        _finish(plan, outcomes, facts, time.perf_counter() - began, console, verbose)


upscale.__doc__ = f"{upscale.__doc__}\n{EXAMPLES}"


def _path(output: str | None) -> Path | None:
    """Return the path that --output gives.

    Raises:
        UsageError: the path is empty.
    """
    if output == "":
        from gsrcli.errors import UsageError

        raise UsageError("--output is empty", hint="is a variable unset? Write . for the current folder")
    return None if output is None else Path(output)


def _suffix(format: str | None) -> str | None:
    """Return the file name suffix that --format gives.

    Raises:
        UsageError: the format is unsupported.
    """
    if format is None:
        return None
    from gsrcli.errors import UsageError
    from gsrcli.images import OUTPUT_SUFFIXES, install_hint

    suffix = f".{format.lower().lstrip('.')}"
    if suffix not in OUTPUT_SUFFIXES:
        names = ", ".join(known[1:] for known in OUTPUT_SUFFIXES)
        raise UsageError(f"unsupported output format: {format}", hint=install_hint(suffix) or f"use one of {names}")
    return suffix


def _colour(background: str | None, alpha: AlphaMeaning) -> Background | None:
    """Return the colour that --background gives.

    Raises:
        UsageError: there is no such colour, or alpha is no transparency that it could fill.
    """
    if background is None:
        return None
    from gsrcli.errors import UsageError
    from gsrcli.images import parse_colour

    if alpha == "data":
        raise UsageError("--background contradicts --alpha data", hint="write a format with transparency, such as png")
    return parse_colour(background)


def _check_loss(jobs: Sequence[Job], quality: int | None, lossless: bool, console: Console) -> None:
    """Check --quality and --lossless against the formats of the outputs; warn where --quality means nothing.

    Raises:
        UsageError: they contradict each other or a format.
    """
    from gsrcli.errors import UsageError
    from gsrcli.images import output_format, output_formats

    if lossless and quality is not None:
        raise UsageError("--lossless leaves nothing for --quality to choose", hint="give only one of them")
    if not lossless and quality is None:
        return
    forms = list(dict.fromkeys(output_format(job.output) for job in jobs))
    lossy = [form.name for form in forms if not form.lossless]
    if lossless and lossy:
        hint = f"choose one with --format: {', '.join(f.suffixes[0][1:] for f in output_formats() if f.lossless)}"
        raise UsageError(f"{' and '.join(lossy)} cannot be written without loss", hint=hint)
    indifferent = [form.name for form in forms if form.quality is None]
    if quality is not None and indifferent:
        console.warn(f"--quality does nothing for {' and '.join(indifferent)}")


def _upscaler(
    model: str,
    device: str,
    precision: Precision,
    tile: int | None,
    memory: int | None,
    threads: int | None,
    console: Console,
) -> Upscaler:
    from gsrcli.upscaling.upscaler import Upscaler

    use_threads(threads)
    with console.downloads() as report:
        return Upscaler.load(model, device, precision, tile, report, memory)


def _input_exists(job: Job) -> bool:
    """Return whether the input exists: missing ones go first, to be reported before the model is loaded."""
    return os.path.exists(job.input)  # noqa: PTH110 (names too long)


def _facts(model: str, upscaler: Upscaler) -> dict[str, Any]:
    """Return the model, device, precision and rasterizer used, as plain data."""
    from gsrcli.rasterizer import backend

    device = upscaler.device
    rasterizer, note = backend(device)
    return {
        "model": model,
        "device": str(device),
        "precision": upscaler.precision,
        "rasterizer": rasterizer,
        "rasterizer_note": note,
    }


def _finish(
    plan: Plan,
    outcomes: list[Outcome],
    facts: dict[str, Any],
    seconds: float,
    console: Console,
    verbose: bool,
) -> None:
    """Print a summary, as one line or one JSON object, and exit with 1 if any picture failed."""
    by_input = {outcome.input: outcome for outcome in outcomes}
    results: list[dict[str, Any]] = []
    for job in plan.jobs:
        outcome = by_input.get(str(job.input))
        skipped = {"input": str(job.input), "output": str(job.output), "status": "skipped"}
        results.append(outcome.row() if outcome else skipped)
    counts = Counter(row["status"] for row in results)
    if verbose and facts:
        stages = ", ".join(f"{stage} {spent:.2f} s" for stage, spent in facts["seconds"].items())
        console.note(
            f"{facts['model']} on {facts['device']} in {facts['precision']}, "
            f"rasterizer {facts['rasterizer']} ({facts['rasterizer_note']}): {stages}"
        )
    data = {"results": results, **{status: counts[status] for status in ("done", "skipped", "failed")}, **facts}
    if plan.passed_over:
        from gsrcli.cli.jobs import unread

        console.warn(f"skipped {unread(plan.passed_over)}")
        data["skipped_suffixes"] = plan.passed_over
    console.result(_summary(results, counts, seconds), {**data, "elapsed": round(seconds, 3)})
    if counts["failed"]:
        raise SystemExit(1)


def _summary(results: list[dict[str, Any]], counts: Counter[str], seconds: float) -> str:
    """Return one line: the output if it is the only one, otherwise the counts."""
    if len(results) == 1 and counts["done"]:
        row = results[0]
        several = next((f"{row[kind]} {kind} of " for kind in ("frames", "pages") if kind in row), "")
        return f"{printable(row['output'])}: {several}{row['width']}x{row['height']} in {seconds:.1f} s"
    parts = [f"{counts['done']} done"]
    if counts["skipped"]:
        parts.append(f"{counts['skipped']} skipped (output exists; use --overwrite to replace)")
    if counts["failed"]:
        parts.append(f"{counts['failed']} failed")
    return f"{', '.join(parts)} in {seconds:.1f} s"
