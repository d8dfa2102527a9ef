"""``gsr weights``: list, download, verify, import and remove weights."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gsrcli.cli.console import Console
from gsrcli.cli.failures import reporting
from gsrcli.cli.options import Debug, Json

if TYPE_CHECKING:
    from gsrcli.weights.store import Entry

__all__ = ["weights"]

weights = typer.Typer(
    name="weights",
    help="List, download, verify, import and remove trained weights.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Names = Annotated[list[str], typer.Argument(metavar="NAME", help="Names of weights (see gsr weights list).")]
SomeNames = Annotated[
    list[str] | None,
    typer.Argument(metavar="NAME", help="Names of weights (default: all that are on this machine)."),
]


@weights.command("list")
def list_weights(
    json: Json = False,
    debug: Debug = False,
) -> None:
    """List all weights. For weights not on this machine, the size is the approximate size of the download."""
    console = Console(json)
    with reporting(console, debug):
        from gsrcli.weights.store import Store

        store = Store()
        facts = [_facts(entry) for entry in store.entries()]
        protocols = list(dict.fromkeys(fact["scores"]["protocol"] for fact in facts if "scores" in fact))
        console.table(
            ("name", "where", "size", "licence", "digest", "PSNR ×4 in dB"),
            [_row(fact, protocols) for fact in facts],
            ["", *(f"({i}) {protocol}" for i, protocol in enumerate(protocols, 1))],
            {"weights": facts, "folder": str(store.folder)},
        )


@weights.command()
def fetch(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="NAME", help="Names of weights (see gsr weights list).")
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="Download all weights that gsr knows.")] = False,
    debug: Debug = False,
) -> None:
    """Download weights. Those already present are verified, not downloaded again; interrupted downloads resume."""
    console = Console()
    with reporting(console, debug, "run the same command again to resume"), console.downloads() as report:
        from gsrcli.errors import UsageError
        from gsrcli.weights.catalog import published

        if bool(names) == everything:
            raise UsageError("give either names of weights or --all", hint="gsr weights list shows the names")
        _each(names or published(), lambda entry: console.result(str(entry.fetch(report)), {}), console, debug)


@weights.command()
def path(
    name: Annotated[str | None, typer.Argument(help="Name of weights (see gsr weights list).")] = None,
    debug: Debug = False,
) -> None:
    """Print the folder of weights, or the path of the checkpoint called NAME."""
    console = Console()
    with reporting(console, debug):
        from gsrcli.weights.store import Store

        store = Store()
        console.result(str(store.entry(name).verify() if name else store.folder), {})


@weights.command()
def verify(names: SomeNames = None, debug: Debug = False) -> None:
    """Verify weights: read them in full and compare their digests."""
    console = Console()
    with reporting(console, debug):
        from gsrcli.weights.store import Store

        here = [entry.name for entry in Store().entries() if entry.is_present]
        _each(names or here, lambda entry: console.result(f"{entry.verify()}: intact", {}), console, debug)


@weights.command("import")
def import_weights(
    files: Annotated[
        list[Path],
        typer.Argument(metavar="FILE", help="Files that a model's authors released, or one .safetensors checkpoint."),
    ],
    name: Annotated[
        str | None, typer.Option(help="Name of the released weights, or a name for your checkpoint.")
    ] = None,
    debug: Debug = False,
) -> None:
    """Import weights from the files that a model's authors released, or from a checkpoint."""
    console = Console()
    with reporting(console, debug):
        from gsrcli.errors import UsageError
        from gsrcli.weights.store import Store

        store = Store()
        for file in files:
            if not file.is_file():
                raise UsageError(f"no such file: {file}")
        if [file.suffix for file in files] == [".safetensors"]:
            console.result(str(store.import_checkpoint(files[0], name).path), {})
        elif name:
            console.result(str(store.entry(name).import_released(files)), {})
        else:
            raise UsageError(
                "the name of these weights is missing: add --name NAME", hint="gsr weights list shows the names"
            )


@weights.command()
def remove(names: Names, debug: Debug = False) -> None:
    """Delete weights from this machine, with the record of the files they were made from."""
    console = Console()
    with reporting(console, debug):
        _each(names, lambda entry: entry.remove(), console, debug)


def _each(names: Iterable[str], action: Callable[[Entry], None], console: Console, debug: bool) -> None:
    """Apply an action to the weights of each name; report failures and continue with the rest."""
    from gsrcli.errors import GsrError
    from gsrcli.weights.store import Store

    store = Store()
    failed = False
    for name in names:
        try:
            action(store.entry(name))
        except GsrError as error:
            if debug:
                raise
            console.error(str(error), error.hint, lines=True)
            failed = True
    if failed:
        raise SystemExit(1)


def _facts(entry: Entry) -> dict[str, Any]:
    """Return what is known about weights, and whether they are on this machine, as plain data."""
    size = entry.path.stat().st_size if entry.is_present else None
    if entry.published is None:
        return {"name": entry.name, "where": "imported", "bytes": size}
    facts = {key: value for key, value in asdict(entry.published).items() if key not in ("bundled", "released")}
    released = entry.published.released.values()
    facts["where"] = "bundled" if entry.bundled else "cached" if entry.is_present else None
    facts["bytes"] = size
    facts["pinned"] = entry.published.pinned
    facts["files"] = {file.name: {"urls": file.urls, "digest": file.digest and str(file.digest)} for file in released}
    if "scores" in facts:
        psnr = facts["scores"]["psnr"].items()
        facts["scores"]["psnr"] = {name: {f"{scale:g}": db for scale, db in at.items()} for name, at in psnr}
    return facts


def _row(facts: dict[str, Any], protocols: list[str]) -> list[str]:
    size = facts["bytes"]
    is_listed = "license" in facts
    return [
        facts["name"],
        facts["where"] or "—",
        _size(size) if size is not None else f"≈ {_size(facts['parameters'] * 4)}",
        facts.get("license", ""),
        "" if not is_listed else "known" if facts["pinned"] else "recorded at first fetch",
        _shown(facts["scores"], protocols) if "scores" in facts else "for metrics" if is_listed else "",
    ]


def _size(count: int) -> str:
    return f"{count / 1e6:.0f} MB" if count >= 1e6 else f"{count / 1e3:.0f} kB"


def _shown(scores: dict[str, Any], protocols: list[str]) -> str:
    """Return the scores at ×4 with the number of the note that says how they were measured."""
    at_4 = {dataset: by_scale["4"] for dataset, by_scale in scores["psnr"].items() if "4" in by_scale}
    listed = ", ".join(f"{dataset} {psnr:.2f}" for dataset, psnr in at_4.items())
    return f"{listed} ({protocols.index(scores['protocol']) + 1})" if listed else ""
