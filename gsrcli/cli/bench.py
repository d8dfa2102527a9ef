"""``gsr bench``: time models and rasterizers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gsrcli.cli.console import Console
from gsrcli.cli.failures import reporting
from gsrcli.cli.options import Arithmetic, Debug, Device, Json, Threads
from gsrcli.cli.outputs import check_file, check_plot
from gsrcli.runtime.threads import use_threads

if TYPE_CHECKING:
    from gsrcli.benchmark.plan import Workload

__all__ = ["bench"]

EXAMPLES = """
[bold]Examples[/bold]

  gsr bench                                               all scales in the GSASR paper, 720x720 output

  gsr bench --models gsasr-edsr --scales 2,4,12 --plot times.svg

  gsr bench --rasterizer --threads 1                      only the rasterizer, forward and backward
"""


def bench(
    models: Annotated[
        str | None,
        typer.Option(
            metavar="NAME,...",
            help="Model names or paths of checkpoints (default: gsasr-lite; on a GPU also gsasr-edsr and, without "
            "--rasterizer, gsasr-rdn). Models without trained weights are timed with random ones.",
        ),
    ] = None,
    scales: Annotated[str, typer.Option(metavar="NUMBER,...", help="Scale factors.")] = "2,3,4,6,8,12",
    side: Annotated[int, typer.Option(min=1, help="Side of the square output, in pixels, at every scale.")] = 720,
    image: Annotated[
        Path | None,
        typer.Option(help="Input picture, cropped square and downscaled (default: a synthetic one)."),
    ] = None,
    rasterizer: Annotated[
        bool, typer.Option("--rasterizer", help="Time only the rasterizer against alternatives, forward and backward.")
    ] = False,
    device: Device = "auto",
    precision: Arithmetic = "auto",
    threads: Threads = None,
    repeats: Annotated[int, typer.Option(min=1, help="Repetitions per measurement; the median is reported.")] = 10,
    json: Json = False,
    csv: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the results to a CSV file.")] = None,
    plot: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write a plot to a .png or .svg file. Needs matplotlib.")
    ] = None,
    debug: Debug = False,
) -> None:
    """Time models in memory and without tiling, or only the rasterizer."""
    console = Console(json)
    with reporting(console, debug):
        from gsrcli.benchmark import default_models, report, run
        from gsrcli.benchmark.ceilings import measure_ceilings
        from gsrcli.benchmark.plan import Setting, Subject, parse_scales
        from gsrcli.runtime.devices import pick_device, pick_precision
        from gsrcli.runtime.files import write_whole

        if csv:
            check_file(csv)
        if plot:
            check_plot(plot)
        use_threads(threads)
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
