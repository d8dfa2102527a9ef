"""``gsr``: the application with its commands. Help needs no torch."""

from __future__ import annotations

from typing import Annotated

import typer

from gsrcli._version import __version__
from gsrcli.cli.bench import bench
from gsrcli.cli.doctor import doctor
from gsrcli.cli.eval import evaluate
from gsrcli.cli.streams import open_standard_streams
from gsrcli.cli.train import train
from gsrcli.cli.upscale import upscale
from gsrcli.cli.weights import weights
from gsrcli.runtime.memory import keep_freed_memory

__all__ = ["app", "main"]

app = typer.Typer(
    name="gsr",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command()(upscale)
app.command()(train)
app.command("eval")(evaluate)
app.command()(bench)
app.command()(doctor)
app.add_typer(weights)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"gsr {__version__}")
        raise typer.Exit


@app.callback()
def gsr(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Upscale pictures by any factor with 2-D Gaussian splatting."""


def main() -> None:
    """Run ``gsr``."""
    open_standard_streams()
    keep_freed_memory()
    app()
