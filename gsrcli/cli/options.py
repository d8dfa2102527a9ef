"""Options that several commands have, spelled once. Needs no torch."""

from __future__ import annotations

from typing import Annotated

import typer

from gsrcli.runtime.precision import Precision

__all__ = ["Arithmetic", "Debug", "Device", "Json", "Tile"]

Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 or mps.")]
Arithmetic = Annotated[Precision, typer.Option(help="Of the network's arithmetic.")]
Tile = Annotated[int | None, typer.Option(min=1, help="Side of the network's tiles. Default: what memory allows.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show tracebacks.")]
