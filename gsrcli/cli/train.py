"""``gsr train``: every setting of a run is an option, made from TrainConfig's fields."""

from __future__ import annotations

import dataclasses
import inspect
import typing
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gsrcli.cli.console import Console
from gsrcli.cli.failures import INTERRUPTED, reporting
from gsrcli.cli.options import Debug
from gsrcli.train_config import TrainConfig

if TYPE_CHECKING:
    from gsrcli.training import Progress

__all__ = ["train"]


def _options_from(config: type) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Decorate a command that takes ``**settings``: each field of the dataclass becomes an option of it."""
    hints = typing.get_type_hints(config)

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        own = [p for p in inspect.signature(command).parameters.values() if p.kind is not p.VAR_KEYWORD]
        settings = [
            inspect.Parameter(
                field.name,
                inspect.Parameter.KEYWORD_ONLY,
                default=field.default,
                annotation=Annotated[hints[field.name], typer.Option(help=field.metadata["help"])],
            )
            for field in dataclasses.fields(config)
        ]
        hints_of_own = typing.get_type_hints(command, include_extras=True)
        own = [p.replace(annotation=hints_of_own[p.name]) for p in own]
        command.__signature__ = inspect.Signature([*own, *settings])  # type: ignore[attr-defined]
        command.__annotations__ = {p.name: p.annotation for p in (*own, *settings)}
        return command

    return decorate


@_options_from(TrainConfig)
def train(
    data: Annotated[Path, typer.Argument(metavar="FOLDER", help="Pictures to train on, searched to its depths.")],
    run: Annotated[Path, typer.Option(help="Folder for weights, checkpoints and the log.")] = Path("runs/lite"),
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in that folder.")] = False,
    debug: Debug = False,
    **settings: Any,
) -> None:
    """Train a model on a folder of pictures. Ctrl-C saves; --resume goes on."""
    console = Console()
    with reporting(console, debug):
        from gsrcli.training import train as run_training

        config = TrainConfig(**settings)
        with console.progress(config.steps, "training", "step") as bar:

            def report(progress: Progress) -> None:
                bar.set_postfix_str(f"loss {progress.loss:.5f}", refresh=False)
                bar.update(progress.step - bar.n)
                if progress.psnr:
                    scores = ", ".join(f"×{scale} {psnr:.2f} dB" for scale, psnr in progress.psnr.items())
                    console.note(f"step {progress.step}: loss {progress.loss:.5f}, held-out PSNR {scores}")

            try:
                weights = run_training(config, data, run, report, resume)
            except KeyboardInterrupt:
                if not (run / "state.pt").exists():  # it came before the first step, and nothing is there to resume
                    raise
                console.error(f"interrupted; the run is saved in {run}", "go on with the same command and --resume")
                raise SystemExit(INTERRUPTED) from None
        console.result(f"{weights}", {})
