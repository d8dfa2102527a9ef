"""Options that several commands share. Needs no torch."""

from __future__ import annotations

from typing import Annotated

import typer

from gsrcli.runtime.precision import Precision

__all__ = ["COMPUTING", "Arithmetic", "Debug", "Device", "Json", "Memory", "Threads", "Tile"]

COMPUTING = "Computing"
"""The panel of options for the model and the device."""

Device = Annotated[
    str, typer.Option(rich_help_panel=COMPUTING, help="Device to compute on: auto, cpu, cuda, cuda:1 or mps.")
]
Arithmetic = Annotated[
    Precision,
    typer.Option(
        rich_help_panel=COMPUTING,
        help="Precision of the network; auto is bfloat16 if the hardware and the model support it.",
    ),
]
Tile = Annotated[
    int | None,
    typer.Option(
        rich_help_panel=COMPUTING,
        min=1,
        help="Side of the network's tiles, in input pixels (default: what fits in memory).",
    ),
]
Memory = Annotated[
    str | None,
    typer.Option(
        rich_help_panel=COMPUTING,
        metavar="SIZE",
        help="Memory that gsr may use in all, such as 600M or 2G (default: what the computer, its container and ulimit "
        "leave).",
    ),
]
Threads = Annotated[
    int | None,
    typer.Option(
        rich_help_panel=COMPUTING,
        min=1,
        help="Number of CPU threads (default: the processors that the computer and its container allow).",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object to standard output.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show tracebacks of errors.")]
