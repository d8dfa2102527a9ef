"""``gsr train``, with an option for each field of TrainConfig."""

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
from gsrcli.cli.options import Debug, Json
from gsrcli.errors import UsageError
from gsrcli.training.config import TrainConfig

if TYPE_CHECKING:
    from gsrcli.models import Model
    from gsrcli.training.trainer import Profile, Progress

__all__ = ["train"]

EXAMPLES = """
[bold]Examples[/bold]

  gsr train pictures/ --run runs/a                      Ctrl-C saves

  gsr train pictures/ --run runs/a --resume             same settings

  gsr train pictures/ --run runs/a --resume --steps 80000   make it longer

  gsr train mine/ --run runs/b --from gsasr-lite        fine-tune

  gsr train pictures/ --profile                         time of each stage
"""


def _options_from(config: type) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Return a decorator that adds an option for each field of a dataclass to a command with ``**settings``."""
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
    context: typer.Context,
    data: Annotated[
        Path, typer.Argument(metavar="FOLDER", help="Folder of pictures to train on, including subfolders.")
    ],
    run: Annotated[Path, typer.Option(help="Folder of the run, for its weights, checkpoints and log.")] = Path(
        "runs/lite"
    ),
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue the run in that folder; options given replace its settings.")
    ] = False,
    start: Annotated[
        str | None,
        typer.Option("--from", metavar="WEIGHTS", help="Weights to start from: a name, or the path of a checkpoint."),
    ] = None,
    partial: Annotated[
        bool,
        typer.Option("--partial", help="With --from: load the weights that fit the model and initialise the rest."),
    ] = False,
    validate_on: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Folder of pictures to validate on, instead of holding some out."),
    ] = None,
    profile: Annotated[
        bool, typer.Option("--profile", help="Take some steps, report the time of each stage, and save nothing.")
    ] = False,
    json: Json = False,
    debug: Debug = False,
    **settings: Any,
) -> None:
    """Train a model on a folder of pictures. Ctrl-C saves the run; --resume continues it."""
    given = {name: value for name, value in settings.items() if _is_given(context, name)}
    console = Console(json)
    with reporting(console, debug):
        if resume and (start or profile):
            raise UsageError("--resume cannot be combined with --from or --profile", hint="leave these out")
        if profile and start:
            raise UsageError("--profile cannot be combined with --from", hint="choose the model with --model")
        if partial and not start:
            raise UsageError("--partial needs --from", hint="add --from WEIGHTS")
        from gsrcli.training import trainer

        if profile:
            told = trainer.profile(TrainConfig(**settings), data)
            console.result(_table(told), dataclasses.asdict(told))
            return
        config = trainer.resumed(run, given) if resume else TrainConfig(**settings)
        weights = None
        if start:
            config, weights = _start(config, start, partial, given)
        with console.progress(None if config.minutes else config.steps, "training", "step") as bar:

            def report(progress: Progress) -> None:
                bar.total = progress.steps
                bar.set_postfix_str(f"loss {progress.loss:.5f}, {progress.samples_per_second:.0f}/s", refresh=False)
                bar.update(progress.step - bar.n)
                if progress.psnr:
                    scores = ", ".join(f"×{scale} {psnr:.2f} dB" for scale, psnr in progress.psnr.items())
                    console.note(f"step {progress.step}: loss {progress.loss:.5f}, validation PSNR {scores}")

            def begun(pictures: dict[str, int]) -> None:
                count, megapixels = pictures["trained_on"], pictures["pixels"] / 1e6
                console.note(
                    f"training set: {count} pictures ({megapixels:.3g} MP), validation set: {pictures['validated_on']}"
                )

            try:
                path = trainer.train(
                    config, data, run, report, resume, validate_on=validate_on, start=weights, begun=begun
                )
            except trainer.StoppedAtOnce:
                console.error(f"stopped without saving; the last checkpoint is in {run}", "continue it with --resume")
                raise SystemExit(INTERRUPTED) from None
            except KeyboardInterrupt:
                if not trainer.holds_run(run):  # interrupted before the first step, so there is nothing to resume
                    raise
                console.error(f"interrupted; the run is saved in {run}", "continue it with --resume")
                raise SystemExit(INTERRUPTED) from None
        console.result(f"{path}", {"weights": str(path)})


def _is_given(context: typer.Context, name: str) -> bool:
    """Return whether an option was given on the command line or in the environment."""
    source = context.get_parameter_source(name)
    return source is not None and not source.name.startswith("DEFAULT")


def _start(config: TrainConfig, start: str, partial: bool, given: dict[str, Any]) -> tuple[TrainConfig, Model]:
    """Return the config and the model to start from; without --model, it is that of the weights."""
    from gsrcli.training.trainer import start_from
    from gsrcli.weights.load import load_named_model

    name, weights = load_named_model(start)
    if "model" not in given:
        config = dataclasses.replace(config, model=name)
    return config, start_from(config, weights, name, partial)


def _table(profile: Profile) -> str:
    total = sum(profile.stages.values())
    lines = [f"{name:<8} {1e3 * s:9.2f} ms  {100 * s / total:3.0f} %" for name, s in profile.stages.items()]
    rates = f"{profile.steps_per_second:.3g} steps/s, {profile.samples_per_second:.4g} pairs/s on {profile.device}"
    return "\n".join([*lines, rates])


train.__doc__ = f"{train.__doc__}\n{EXAMPLES}"
