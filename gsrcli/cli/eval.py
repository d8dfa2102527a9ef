"""``gsr eval``: how good models are, in the papers' numbers."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal
from urllib.parse import urlsplit

import typer

from gsrcli.cli.console import Console
from gsrcli.cli.failures import explain, reporting
from gsrcli.cli.options import Arithmetic, Debug, Device, Json, Tile
from gsrcli.cli.outputs import check_file, check_plot
from gsrcli.weights.load import DEFAULT_MODEL

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from gsrcli.download.http import Progress
    from gsrcli.evaluation.datasets import Collection, Dataset
    from gsrcli.evaluation.gallery.archive import Gallery
    from gsrcli.evaluation.report import ScoreReport
    from gsrcli.evaluation.runner import Failure
    from gsrcli.evaluation.versions import Shot

    _File = tuple[Path, Callable[[], bytes]]  # where a report goes, and what makes it

__all__ = ["evaluate"]

EXAMPLES = """
[bold]Examples[/bold]

  gsr eval --dataset urban100 --scales 2,3,4              fetches the pictures once

  gsr eval --dataset set5 --model gsasr-edsr --published --markdown table.md

  gsr eval --dataset photos/ --restored other=results/ --html compare.html
"""


def evaluate(
    dataset: Annotated[
        list[str],
        typer.Option(
            metavar="NAME|FOLDER",
            help="set5, set14, b100, urban100, manga109, general100, div2k, lsdir, or any folder of originals. May be "
            "given several times.",
        ),
    ],
    scales: Annotated[
        str, typer.Option(metavar="NUMBER,...", help="Enlargements; 2x3 doubles the height and triples the width.")
    ] = "2,3,4",
    model: Annotated[
        list[str] | None,
        typer.Option(
            "--model",
            "-m",
            metavar="NAME|[NAME=]FILE",
            help="Names that gsr weights list shows, checkpoints, and bicubic, lanczos and nearest, by Pillow. May be "
            f"given several times. Default: {DEFAULT_MODEL} and bicubic, unless --restored is given.",
        ),
    ] = None,
    restored: Annotated[
        list[str] | None,
        typer.Option(
            metavar="[NAME=]FOLDER",
            help="Score what another program made: pictures named as the originals, or with x2, _x2, _SR and such; one "
            "folder in it for each data set and each scale, if you like. May be given several times.",
        ),
    ] = None,
    protocol: Annotated[
        Literal["gsasr", "liif", "rgb"],
        typer.Option(
            help="gsasr: on Y, border = min(⌈scale⌉, 8), results rounded to 8 bits. liif: on Y, border = ⌈scale⌉, "
            "DIV2K in RGB with border = ⌈scale⌉ + 6, not rounded. rgb: as gsasr, in RGB."
        ),
    ] = "gsasr",
    degradation: Annotated[
        Literal["matlab", "pillow", "photo"],
        typer.Option(
            help="How the small pictures are made: bicubic as MATLAB does it, and most papers, or as Pillow; photo: "
            "with blur, noise, sharpening and JPEG as photographs have them, drawn by each picture's name and scale."
        ),
    ] = "matlab",
    lr_dir: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Take the small pictures from there instead, named as for --restored."),
    ] = None,
    data_root: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Where data sets are looked for first, in the usual layouts.")
    ] = None,
    metrics: Annotated[
        str,
        typer.Option(
            metavar="NAME,...",
            help="psnr, ssim, lpips (with AlexNet), lpips-vgg and dists; the last three fetch their networks once.",
        ),
    ] = "psnr,ssim",
    self_ensemble: Annotated[
        bool, typer.Option("--self-ensemble", help="Average models over eight flips and turns; marked by a +.")
    ] = False,
    limit: Annotated[int | None, typer.Option(min=1, help="Score only the first so many pictures of each set.")] = None,
    published: Annotated[
        bool,
        typer.Option(
            "--published", help="Show what papers report of other methods, of the same pictures by the same protocol."
        ),
    ] = False,
    device: Device = "auto",
    precision: Arithmetic = "auto",
    tile: Tile = None,
    json: Json = False,
    csv: Annotated[Path | None, typer.Option(metavar="FILE", help="Write every picture's scores there.")] = None,
    markdown: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the means there, as papers do.")] = None,
    plot: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write PSNR by scale there, .png or .svg. Needs matplotlib.")
    ] = None,
    html: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write a page to compare the pictures on there.")
    ] = None,
    save_images: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Write what was restored there: SET/MODEL/x2/PICTURE.png.")
    ] = None,
    debug: Debug = False,
) -> None:
    """Score models: shrink pictures, enlarge them again, compare. The protocol stands beside the numbers.

    A picture that cannot be scored is reported, and the rest go on; the exit code is then 1. Ctrl-C ends with the
    means so far.
    """
    console = Console(json)
    with reporting(console, debug):
        from gsrcli.errors import UsageError
        from gsrcli.evaluation.datasets import check
        from gsrcli.evaluation.gallery.archive import Gallery
        from gsrcli.evaluation.methods import load
        from gsrcli.evaluation.protocols import PROTOCOLS
        from gsrcli.evaluation.report import ScoreReport, parse_metrics
        from gsrcli.evaluation.runner import Evaluation
        from gsrcli.evaluation.scales import parse_scales
        from gsrcli.evaluation.versions import Folder
        from gsrcli.metrics.perceptual import load_perceptual
        from gsrcli.runtime.devices import pick_device
        from gsrcli.runtime.hardware import environment

        for file in (csv, markdown, html):
            if file:
                check_file(file)
        told = parse_metrics(metrics)
        if plot:
            check_plot(plot)
            if "psnr" not in told:
                raise UsageError("a plot shows PSNR, which is not among the metrics", hint=f"--metrics psnr,{metrics}")
        where = pick_device(device)
        method = PROTOCOLS[protocol]
        looks = [name for name in told if name not in ("psnr", "ssim")]
        folders = [Folder.parse(text) for text in restored or []]
        names = model or ([] if folders else [DEFAULT_MODEL, "bicubic"])
        enlargements = parse_scales(scales)
        lows = Folder.parse(str(lr_dir)) if lr_dir else None
        for name in dataset:
            check(name, data_root)
        with console.downloads() as transfer:
            evaluation = Evaluation(
                protocol=method,
                degradation=degradation,
                scales=enlargements,
                restorers=load(names, where, precision, tile, method.rounded, self_ensemble, transfer),
                folders=folders,
                lows=lows,
                metrics=told,
                perceptual=load_perceptual(looks, where, transfer) if looks else None,
                device=where,
            )
            collections = _collect(dataset, data_root, limit, transfer, console)
        report = ScoreReport(evaluation, collections, environment(where), published)
        gallery = Gallery() if html else None
        files: list[_File] = []
        if csv:
            files.append((csv, report.csv))
        if markdown:
            files.append((markdown, report.markdown))
        if plot:
            files.append((plot, partial(report.plot, plot.suffix.lower())))
        if html and gallery:
            files.append((html, partial(_page, gallery, report)))
        try:
            _run(report, gallery, save_images, console)
        except BaseException:
            if report.rows:
                _tell(report, files, console, debug)
            raise
        if not _tell(report, files, console, debug) or report.failures:
            raise SystemExit(1)


evaluate.__doc__ = f"{evaluate.__doc__}\n{EXAMPLES}"


def _collect(
    given: Sequence[str], root: Path | None, limit: int | None, transfer: Progress, console: Console
) -> list[Collection]:
    """The originals to score on; the licence of what is fetched is told."""
    from gsrcli.evaluation.datasets import collect

    def announce(dataset: Dataset) -> None:
        assert dataset.archive
        size, host = dataset.archive.size, urlsplit(dataset.archive.urls[0]).hostname
        console.note(f"{dataset.title} comes from {host}, about {size}. Its licence: {dataset.license}")

    return [collect(name, root, transfer, announce).limited(limit) for name in dict.fromkeys(given)]


def _run(report: ScoreReport, gallery: Gallery | None, images: Path | None, console: Console) -> None:
    """Score picture by picture, with the means so far on the terminal."""
    with console.live(report.cases, "scoring") as show, ThreadPoolExecutor(1, "encode") as writer:
        saved: Future[list[Failure]] | None = None
        for outcome in report.evaluation.run(report.collections):
            report.add(outcome)
            for failure in outcome.failures:
                console.error(str(failure), failure.hint)
            if outcome.shot:
                if gallery:
                    gallery.add(outcome.shot, outcome.rows)
                if images:
                    if saved:
                        report.failures += saved.result()  # no more than one waits to be written
                    saved = writer.submit(_save, outcome.shot, images, console)
            show(outcome.cases, report.table)
        if saved:
            report.failures += saved.result()


def _page(gallery: Gallery, report: ScoreReport) -> bytes:
    from gsrcli.evaluation.gallery.page import render
    from gsrcli.runtime.files import encoded

    return encoded(render(gallery, report.data()))


def _tell(report: ScoreReport, files: Sequence[_File], console: Console, debug: bool) -> bool:
    """Print the means, then write the files; gives whether all could be. What fails does not cost the others."""
    try:
        console.result(report.text(), report.json())
    finally:
        written = [_write(path, content, console, debug) for path, content in files]
    return all(written)


def _write(path: Path, content: Callable[[], bytes], console: Console, debug: bool) -> bool:
    from gsrcli.errors import GsrError
    from gsrcli.runtime.files import write_whole

    try:
        write_whole(path, content())
    except Exception as error:
        if debug:
            raise
        reason = f"cannot write {path}: {error.strerror or error}" if isinstance(error, OSError) else None
        failure = explain(GsrError(reason) if reason else error)
        console.error(failure.message, failure.hint)
        return False
    return True


def _save(shot: Shot, folder: Path, console: Console) -> list[Failure]:
    """Write what was restored of a picture; gives what went wrong."""
    from gsrcli.errors import GsrError
    from gsrcli.evaluation.runner import Failure
    from gsrcli.evaluation.versions import save_shot

    try:
        save_shot(shot, folder)
    except GsrError as error:
        console.error(str(error), error.hint)
        return [Failure.of(error, shot.dataset, shot.picture, shot.scale)]
    return []
