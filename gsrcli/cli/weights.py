"""``gsr weights``: what there is, where it is, and that it is what it should be."""

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
    from gsrcli.weights.catalog import Backbone, Weights

__all__ = ["weights"]

weights = typer.Typer(
    name="weights",
    help="List, fetch and check trained weights.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Names = Annotated[list[str], typer.Argument(metavar="NAME", help="As gsr weights list shows them.")]
SomeNames = Annotated[
    list[str] | None, typer.Argument(metavar="NAME", help="As gsr weights list shows them. Default: all here.")
]


@weights.command("list")
def list_weights(
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Show all weights that there are. The size of those that are not here is about what would be downloaded."""
    console = Console(json)
    with reporting(console, debug):
        from gsrcli.weights import store

        facts = [*(_facts(entry) for entry in store.listed().values()), *map(_facts_of_imported, store.imported())]
        protocols = list(dict.fromkeys(fact["scores"]["protocol"] for fact in facts if "scores" in fact))
        console.table(
            ("name", "where", "size", "licence", "PSNR ×4 in dB"),
            [_row(fact, protocols) for fact in facts],
            ["", *(f"({i}) {protocol}" for i, protocol in enumerate(protocols, 1))],
            {"weights": facts, "folder": str(store.folder())},
        )


@weights.command()
def fetch(
    names: Annotated[list[str] | None, typer.Argument(metavar="NAME", help="As gsr weights list shows them.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="All that there are.")] = False,
    debug: Debug = False,
) -> None:
    """Download weights. What is here is checked, and not downloaded again; what broke off is gone on with."""
    console = Console()
    with reporting(console, debug, "run the same command again to go on"), console.transfers() as report:
        from gsrcli.errors import UsageError
        from gsrcli.weights import store

        if bool(names) == everything:
            raise UsageError("say which weights: NAME... or --all", hint="gsr weights list shows them")
        _each(names or store.listed(), lambda name: console.result(str(store.fetch(name, report)), {}), console, debug)


@weights.command()
def path(
    name: Annotated[str | None, typer.Argument(help="As gsr weights list shows it.")] = None, debug: Debug = False
) -> None:
    """Print where weights are kept, or the checkpoint of NAME."""
    console = Console()
    with reporting(console, debug):
        from gsrcli.weights import store

        console.result(str(store.verified(name) if name else store.folder()), {})


@weights.command()
def verify(names: SomeNames = None, debug: Debug = False) -> None:
    """Read weights through, and tell whether they are what they should be."""
    console = Console()
    with reporting(console, debug):
        from gsrcli.weights import store

        here = [name for name in (*store.listed(), *store.imported()) if store.is_present(name)]
        _each(names or here, lambda name: console.result(f"{store.verified(name)}: intact", {}), console, debug)


@weights.command("import")
def import_weights(
    files: Annotated[
        list[Path],
        typer.Argument(metavar="FILE", help="As their authors released them, or a .safetensors checkpoint."),
    ],
    name: Annotated[str | None, typer.Option(help="Whose weights these are, or what to call your own.")] = None,
    debug: Debug = False,
) -> None:
    """Take in weights by hand: files that a model's authors released, or a checkpoint."""
    console = Console()
    with reporting(console, debug):
        from gsrcli.errors import UsageError
        from gsrcli.weights import store

        for file in files:
            if not file.is_file():
                raise UsageError(f"no such file: {file}")
        if [file.suffix for file in files] == [".safetensors"]:
            console.result(str(store.path_of(store.import_checkpoint(files[0], name))), {})
        elif name:
            console.result(str(store.import_released(name, files)), {})
        else:
            raise UsageError("say whose weights these are: --name NAME", hint="gsr weights list shows the names")


@weights.command()
def remove(names: Names, debug: Debug = False) -> None:
    """Delete weights from this machine, and forget which files they were made of."""
    console = Console()
    with reporting(console, debug):
        from gsrcli.weights import store

        _each(names, store.remove, console, debug)


def _each(names: Iterable[str], action: Callable[[str], None], console: Console, debug: bool) -> None:
    """Do this with every name; failures are told, and the rest go on."""
    from gsrcli.errors import GsrError

    failed = False
    for name in names:
        try:
            action(name)
        except GsrError as error:
            if debug:
                raise
            console.error(str(error), error.hint)
            failed = True
    if failed:
        raise SystemExit(1)


def _facts(entry: Weights | Backbone) -> dict[str, Any]:
    """What is known of released or bundled weights, and whether they are here."""
    from gsrcli.weights import store
    from gsrcli.weights.catalog import Backbone, Bundled

    where = "bundled" if isinstance(entry.source, Bundled) else "cached" if store.is_present(entry.name) else None
    facts = {key: value for key, value in asdict(entry).items() if key not in ("source", "scores")}
    urls = {} if isinstance(entry.source, Bundled) else {file.name: file.urls for file in entry.source.values()}
    facts |= {"where": where, "bytes": _size(entry.name), "files": urls}
    if isinstance(entry, Backbone):
        return facts
    psnr = {
        dataset: {f"{scale:g}": value for scale, value in by_scale.items()}
        for dataset, by_scale in entry.scores.psnr.items()
    }
    return {**facts, "scores": {"protocol": entry.scores.protocol, "psnr": psnr}}


def _facts_of_imported(name: str) -> dict[str, Any]:
    return {"name": name, "where": "imported", "bytes": _size(name)}


def _size(name: str) -> int | None:
    from gsrcli.weights import store

    return store.path_of(name).stat().st_size if store.is_present(name) else None


def _row(facts: dict[str, Any], protocols: list[str]) -> list[str]:
    return [
        facts["name"],
        facts["where"] or "—",
        f"≈ {facts['parameters'] * 4 / 1e6:.0f} MB" if facts["bytes"] is None else f"{facts['bytes'] / 1e6:.0f} MB",
        facts.get("license", ""),
        _shown(facts["scores"], protocols) if "scores" in facts else "for metrics" if "license" in facts else "",
    ]


def _shown(scores: dict[str, Any], protocols: list[str]) -> str:
    """The scores at ×4, with the number of the note that says how they were measured."""
    at_4 = {dataset: by_scale["4"] for dataset, by_scale in scores["psnr"].items() if "4" in by_scale}
    listed = ", ".join(f"{dataset} {psnr:.2f}" for dataset, psnr in at_4.items())
    return f"{listed} ({protocols.index(scores['protocol']) + 1})" if listed else ""
