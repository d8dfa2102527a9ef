"""``gsr doctor``: examine the installation, and suggest repairs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any

import typer

from gsrcli.cli.console import Console
from gsrcli.cli.failures import reporting
from gsrcli.cli.options import Json

__all__ = ["doctor"]


def doctor(
    json: Json = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of the first failed check.")] = False,
) -> None:
    """Check the installation, test upscaling, and suggest repairs. Put the output into bug reports.

    The exit code is 0 if upscaling works, 1 if it does not.
    """
    console = Console(json)
    with reporting(console, debug):
        from gsrcli.doctor import diagnose

        findings = diagnose(debug)
        console.result("\n".join(_lines(findings)), findings)
        if not findings["works"]:
            raise SystemExit(1)


def _lines(findings: dict[str, Any]) -> Iterator[str]:
    for section, facts in findings.items():
        if isinstance(facts, dict):
            yield section if facts else f"{section}: nothing found"
            yield from (f"  {_label(name)}: {_plain(name, value)}" for name, value in facts.items())
    yield "problems" if findings["problems"] else "problems: none"
    for problem in findings["problems"]:
        yield f"  {'error' if problem['fatal'] else 'warning'}: {problem['what']}"
        if problem["hint"]:
            yield f"    {problem['hint']}"
    yield "upscaling works" if findings["works"] else "upscaling does not work"


def _label(name: str) -> str:
    """Return a key as words; names of environment variables stay as they are."""
    return name.removesuffix("_bytes").replace("_", " ") if name.islower() else name


def _plain(name: str, value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{_label(key)} {_plain(key, entry)}" for key, entry in value.items())
    if isinstance(value, list):
        return " ".join(value)
    if value is None:
        return "none"
    if name.endswith("_bytes"):
        return f"{value / 2**30:.1f} GiB" if value >= 2**30 else f"{value / 2**20:.1f} MiB"
    return f"{value:.2g}" if isinstance(value, float) else " ".join(str(value).split())
