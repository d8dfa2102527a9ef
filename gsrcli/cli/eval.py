"""``gsr eval``: score models in the way that papers do."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from inspect import getdoc
from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from urllib.parse import urlsplit

import typer

from gsrcli.cli.console import Console
from gsrcli.cli.failures import explain, reporting
from gsrcli.cli.options import Arithmetic, Debug, Device, Json, Memory, Threads, Tile
from gsrcli.cli.outputs import check_file, check_plot
from gsrcli.evaluation.config import Degradation, ProtocolName
from gsrcli.runtime.memory import parse_memory, require_room_for_libraries
from gsrcli.runtime.threads import use_threads
from gsrcli.weights.load import DEFAULT_MODEL

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from gsrcli.evaluation.cases import Case, ScoreFailure
    from gsrcli.evaluation.datasets import Dataset
    from gsrcli.evaluation.gallery.archive import Gallery
    from gsrcli.evaluation.report import ScoreReport

    _File = tuple[Path, Callable[[], bytes]]  # a path, and the function that returns the content

__all__ = ["evaluate"]

EXAMPLES = """
[bold]Examples[/bold]

  gsr eval --dataset urban100 --scales 2,3,4              downloads the dataset at first use

  gsr eval --dataset set5 --model gsasr-edsr --published --markdown table.md

  gsr eval --dataset photos/ --restored other=results/ --html compare.html
"""


def evaluate(
    dataset: Annotated[
        list[str],
        typer.Option(
            metavar="NAME|FOLDER",
            help="Dataset to score on: set5, set14, b100, urban100, manga109, general100, div2k, lsdir, or any folder "
            "of pictures. Can be repeated.",
        ),
    ],
    scales: Annotated[
        str, typer.Option(metavar="NUMBER,...", help="Upscaling factors; 2x3 doubles the height and triples the width.")
    ] = "2,3,4",
    model: Annotated[
        list[str] | None,
        typer.Option(
            "--model",
            "-m",
            metavar="NAME|[NAME=]FILE",
            help="Model to score: a name from 'gsr weights list', a checkpoint, or Pillow's bicubic, lanczos or "
            f"nearest. Can be repeated. Default: {DEFAULT_MODEL} and bicubic, or none with --restored.",
        ),
    ] = None,
    restored: Annotated[
        list[str] | None,
        typer.Option(
            metavar="[NAME=]FOLDER",
            help="Folder of results of another program to score, named like the originals, with or without endings "
            "such as x2, _x2 and _SR. It may have subfolders for datasets and scales. Can be repeated.",
        ),
    ] = None,
    protocol: Annotated[
        ProtocolName,
        typer.Option(
            help="How results are compared. gsasr: on Y, border = min(⌈scale⌉, 8), results rounded to 8 bits. liif: on "
            "Y, border = ⌈scale⌉, DIV2K in RGB with border = ⌈scale⌉ + 6, not rounded. rgb: like gsasr, in RGB."
        ),
    ] = "gsasr",
    degradation: Annotated[
        Degradation,
        typer.Option(
            help="How LR pictures are made. matlab, pillow: bicubic downscaling as in MATLAB (and most papers) or "
            "Pillow. photo: with the blur, noise, sharpening and JPEG of photographs, seeded by name and scale."
        ),
    ] = "matlab",
    lr_dir: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Folder of LR pictures to use instead, named as for --restored."),
    ] = None,
    data_root: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Folder that is searched for datasets first, in the usual layouts."),
    ] = None,
    metrics: Annotated[
        str,
        typer.Option(
            metavar="NAME,...",
            help="Metrics: psnr, ssim, lpips (AlexNet), lpips-vgg and dists. The last three download their networks at "
            "first use.",
        ),
    ] = "psnr,ssim",
    self_ensemble: Annotated[
        bool,
        typer.Option("--self-ensemble", help="Average networks over eight flips and rotations; adds + to their names."),
    ] = False,
    limit: Annotated[
        int | None, typer.Option(min=1, help="Number of pictures to score in each dataset. Default: all.")
    ] = None,
    published: Annotated[
        bool,
        typer.Option("--published", help="Also list results from papers for the same pictures, scales and protocol."),
    ] = False,
    device: Device = "auto",
    precision: Arithmetic = "auto",
    tile: Tile = None,
    memory: Memory = None,
    threads: Threads = None,
    json: Json = False,
    csv: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the scores of each picture to this file.")
    ] = None,
    markdown: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the means to this file, as a table like those in papers.")
    ] = None,
    plot: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Plot PSNR by scale to this .png or .svg file. Needs matplotlib."),
    ] = None,
    html: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write a page for comparing the pictures to this file.")
    ] = None,
    save_images: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Write restored pictures to this folder, as DATASET/MODEL/x2/PICTURE.png."),
    ] = None,
    debug: Debug = False,
) -> None:
    """Score models: downscale pictures, upscale them again, and compare with the originals.

    The protocol is printed with the results. Ctrl-C prints the means so far.

    Pictures that cannot be scored are reported and skipped; the exit code is then 1.
    """
    console = Console(json)
    with reporting(console, debug):
        require_room_for_libraries()
        from gsrcli.errors import UsageError
        from gsrcli.evaluation import EvalConfig, prepare
        from gsrcli.evaluation.gallery.archive import Gallery
        from gsrcli.evaluation.report import check_metrics
        from gsrcli.evaluation.scales import parse_scales

        for file in (csv, markdown, html):
            if file:
                check_file(file)
        names = check_metrics(metrics.split(","))
        if plot:
            check_plot(plot)
            if "psnr" not in names:
                raise UsageError("--plot shows PSNR, which is not among the metrics", hint=f"--metrics psnr,{metrics}")
        config = EvalConfig(
            datasets=dataset,
            scales=parse_scales(scales),
            models=model or None,
            restored=restored or (),
            protocol=protocol,
            degradation=degradation,
            lr_dir=lr_dir,
            data_root=data_root,
            metrics=names,
            self_ensemble=self_ensemble,
            limit=limit,
            published=published,
            device=device,
            precision=precision,
            tile=tile,
            memory=None if memory is None else parse_memory(memory),
        )
        use_threads(threads)
        with console.downloads() as transfer:
            report = prepare(config, transfer, partial(_announce, console))
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
            if report.results:
                _present(report, files, console, debug)
            raise
        if not _present(report, files, console, debug) or report.failures:
            raise SystemExit(1)


evaluate.__doc__ = f"{getdoc(evaluate)}\n{EXAMPLES}"


def _announce(console: Console, dataset: Dataset) -> None:
    """Say where a dataset is downloaded from, and under which licence."""
    assert dataset.archive
    size, host = dataset.archive.size, urlsplit(dataset.archive.urls[0]).hostname
    console.note(f"downloading {dataset.title} from {host}, about {size}; licence: {dataset.license}")


def _run(report: ScoreReport, gallery: Gallery | None, images: Path | None, console: Console) -> None:
    """Score case by case, with the means so far on the terminal; keep and write pictures as they come."""
    with console.live(report.cases, "scoring") as show, ThreadPoolExecutor(1, "encode") as writer:
        saved: Future[list[ScoreFailure]] | None = None
        for results in report.run():
            for failure in results.failures:
                console.error(str(failure), failure.hint)
            if results.case:
                if gallery:
                    gallery.add(results.case, results.results)
                if images:
                    if saved:
                        report.failures += saved.result()  # lets no more than one case wait to be written
                    saved = writer.submit(_save, results.case, images, console)
            show(results.count, report.table)
        if saved:
            report.failures += saved.result()


def _page(gallery: Gallery, report: ScoreReport) -> bytes:
    from gsrcli.evaluation.gallery.page import render
    from gsrcli.runtime.files import encoded

    return encoded(render(gallery, report.data()))


def _present(report: ScoreReport, files: Sequence[_File], console: Console, debug: bool) -> bool:
    """Print the means, then write the files, each of them even if another fails; return whether all were written."""
    try:
        console.result(report.text(), report.json())
    finally:
        written = [_write(path, content, console, debug) for path, content in files]
    return all(written)


def _write(path: Path, content: Callable[[], bytes], console: Console, debug: bool) -> bool:
    """Write a file; report a failure and return whether it was written."""
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


def _save(case: Case, folder: Path, console: Console) -> list[ScoreFailure]:
    """Write the restored pictures of a case; report and return failures."""
    from gsrcli.errors import GsrError
    from gsrcli.evaluation.cases import ScoreFailure

    try:
        case.save(folder)
    except GsrError as error:
        console.error(str(error), error.hint)
        return [ScoreFailure.of(error, case.dataset, case.picture, case.scale)]
    return []
