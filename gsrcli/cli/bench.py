"""``gsr bench``: how long everything takes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gsrcli.cli.console import Console
from gsrcli.cli.failures import reporting
from gsrcli.cli.options import Arithmetic, Debug, Device, Json
from gsrcli.cli.outputs import check_file, check_plot

if TYPE_CHECKING:
    from gsrcli.benchmark.plan import Workload

__all__ = ["bench"]

EXAMPLES = """
[bold]Examples[/bold]

  gsr bench                                               all scales of the GSASR paper, to 720x720

  gsr bench --models gsasr-edsr --scales 2,4,12 --plot times.svg

  gsr bench --rasterizer --threads 1                      drawing alone, forward and backward
"""


def bench(
    models: Annotated[
        str | None,
        typer.Option(
            metavar="NAME,...",
            help="Names, or paths of checkpoints. Default: gsasr-lite on a CPU; on a GPU gsasr-edsr and gsasr-rdn too, "
            "the latter not with --rasterizer. What has no trained weights is timed with random ones.",
        ),
    ] = None,
    scales: Annotated[str, typer.Option(metavar="NUMBER,...", help="Enlargements.")] = "2,3,4,6,8,12",
    side: Annotated[int, typer.Option(min=1, help="Of the square output, in pixels, whatever the scale.")] = 720,
    image: Annotated[
        Path | None, typer.Option(help="A picture to enlarge, cropped square and shrunk. Default: a synthetic one.")
    ] = None,
    rasterizer: Annotated[
        bool, typer.Option("--rasterizer", help="Time drawing alone, forward and backward, beside other ways of it.")
    ] = False,
    device: Device = "auto",
    precision: Arithmetic = "auto",
    threads: Annotated[int | None, typer.Option(min=1, help="Of the CPU. Default: as torch chooses.")] = None,
    repeats: Annotated[int, typer.Option(min=1, help="Of each measurement; medians are told.")] = 10,
    json: Json = False,
    csv: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the rows there as a table.")] = None,
    plot: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write a plot there, .png or .svg. Needs matplotlib.")
    ] = None,
    debug: Debug = False,
) -> None:
    """Time models from picture to enlargement, in memory and untiled, or rasterizers alone."""
    console = Console(json)
    with reporting(console, debug):
        import torch

        from gsrcli.benchmark import default_models, report, run
        from gsrcli.benchmark.ceilings import measure_ceilings
        from gsrcli.benchmark.plan import Setting, Subject, parse_scales
        from gsrcli.runtime.devices import pick_device, pick_precision
        from gsrcli.runtime.files import write_whole

        if csv:
            check_file(csv)
        if plot:
            check_plot(plot)
        if threads:
            torch.set_num_threads(threads)
        where = pick_device(device)
        what: Workload = "rasterizer" if rasterizer else "pipeline"
        names = tuple(name.strip() for name in models.split(",")) if models else default_models(what, where)
        for name in names:
            Subject.check(name)
        enlargements = parse_scales(scales, side)
        ceilings = measure_ceilings(where, pick_precision(where, precision))
        setting = Setting(what, where, precision, repeats, side, image, ceilings)
        rows: list[report.Measurement] = []
        with console.progress(len(names) * len(enlargements), "timing") as bar:
            for described, measured in run(names, enlargements, setting):
                for row in measured:
                    console.note(f"{described}: {row.summary}")
                rows += measured
                bar.update()
        results = report.TimingReport.of(names, enlargements, setting, rows)
        if csv:
            write_whole(csv, results.csv())
        if plot:
            write_whole(plot, results.plot(plot.suffix.lower()))
        console.result(results.text(), results.data())


bench.__doc__ = f"{bench.__doc__}\n{EXAMPLES}"
