"""Weight files: which there are, where they lie, and that they are what they claim to be."""

from __future__ import annotations

import hashlib
import os
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from gsrcli.errors import ModelError, nearest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

if TYPE_CHECKING:
    import torch

    from gsrcli.models import Model

__all__ = ["DEFAULT_MODEL", "Weights", "load_model", "registry"]

DEFAULT_MODEL = "gsasr-lite"
_PACKAGE = Path(__file__).parent


@dataclass(frozen=True)
class Weights:
    """An entry of weights.toml.

    Attributes:
        name: what ``--model`` calls it.
        file: where the weights lie inside the package.
        sha256: of that file.
        license: SPDX identifier of the weights' licence.
        description: one line.
    """

    name: str
    file: str
    sha256: str
    license: str
    description: str

    @property
    def path(self) -> Path:
        return _PACKAGE / self.file


@cache
def registry() -> dict[str, Weights]:
    """The weights that weights.toml lists, by name."""
    beside = _PACKAGE / "weights.toml"  # where an installed package has it; a checkout has it one level up
    path = beside if beside.exists() else _PACKAGE.parent / "weights.toml"
    entries = tomllib.loads(path.read_text(encoding="utf-8"))
    return {name: Weights(name=name, **entry) for name, entry in entries.items()}


def load_model(name: str | os.PathLike[str] = DEFAULT_MODEL, device: str | torch.device = "cpu") -> Model:
    """A model with its trained weights, ready to use.

    Args:
        name: a name that weights.toml lists, or the path of a checkpoint that ``gsr train`` wrote.
        device: where to put it.

    Raises:
        ModelError: no such model, or its weights are missing, damaged or do not fit.
    """
    from gsrcli.checkpoints import read_model
    from gsrcli.devices import channels_last

    model, _ = read_model(_locate(name))
    return channels_last(model.to(device)).eval().requires_grad_(False)


def _locate(name: str | os.PathLike[str]) -> Path:
    """The verified file of a registered model, or the path itself."""
    if name in registry():
        return _verified(registry()[str(name)])
    path = Path(name)
    if path.is_file():
        return path
    if path.suffix or len(path.parts) > 1:
        raise ModelError(f"no such checkpoint: {path}")
    raise _unknown(str(name))


def _unknown(name: str) -> ModelError:
    from gsrcli.models import MODEL_NAMES

    if name in MODEL_NAMES:
        return ModelError(
            f"gsrcli has no weights for {name}",
            hint="give a checkpoint of it: --model PATH.safetensors",
        )
    hint = f"try {nearest(name, registry())}, or the path of a checkpoint"
    return ModelError(f"there is no model called {name!r}", hint=hint)


def _verified(weights: Weights) -> Path:
    try:
        digest = hashlib.sha256(weights.path.read_bytes()).hexdigest()
    except OSError as error:
        raise ModelError(f"the weights of {weights.name} are missing", hint="reinstall gsrcli") from error
    if digest != weights.sha256:
        raise ModelError(f"the weights of {weights.name} are damaged: {weights.path}", hint="reinstall gsrcli")
    return weights.path
