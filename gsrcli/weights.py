"""Weight files: which there are, where they lie, and that they are what they claim to be."""

from __future__ import annotations

import hashlib
import json
import os
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gsrcli.errors import GsrError, ModelError, nearest
from gsrcli.files import write_whole

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

if TYPE_CHECKING:
    import torch

    from gsrcli.models import Model

__all__ = ["DEFAULT_MODEL", "Weights", "load_model", "registry", "save_model", "write_checkpoint"]

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
    from gsrcli.devices import channels_last

    return channels_last(_read(_locate(name)).to(device)).eval().requires_grad_(False)


def save_model(model: Model, name: str, path: Path, notes: dict[str, Any]) -> None:
    """Write a model's weights, its name and config, and ``notes`` on how it came to be, in one rename.

    Raises:
        GsrError: the file cannot be written.
    """
    from safetensors.torch import save

    from gsrcli.models import config_of

    metadata = {"format": "gsrcli", "model": name, "config": json.dumps(config_of(model))}
    metadata |= {key: json.dumps(value) for key, value in notes.items()}
    tensors = {key: value.detach().cpu().contiguous() for key, value in model.state_dict().items()}
    write_checkpoint(path, save(tensors, metadata))


def write_checkpoint(path: Path, content: bytes | memoryview) -> None:
    """Write a file of a run, whole.

    Raises:
        GsrError: the file cannot be written. The old one stays, and nothing besides.
    """
    try:
        write_whole(path, content)
    except OSError as error:
        hint = "see that there is space left, and that its folder may be written to"
        raise GsrError(f"cannot write {path}: {error.strerror or error}", hint=hint) from error


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


def _read(path: Path) -> Model:
    """A model from a checkpoint of ours: its metadata name the model and its config."""
    from safetensors import SafetensorError, safe_open

    from gsrcli.models import MODEL_NAMES, build

    if path.suffix in (".pth", ".pt", ".ckpt"):
        raise ModelError(f"{path} is a pickle, which could run anything", hint="give a .safetensors checkpoint")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a dict)
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{path} is damaged, or no safetensors file: {error}") from error
    if metadata.get("format") != "gsrcli" or metadata.get("model") not in MODEL_NAMES:
        raise ModelError(f"{path} is not a checkpoint of gsrcli")
    try:
        model = build(metadata["model"], json.loads(metadata["config"]))
        model.load_state_dict(state)
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise ModelError(f"{path} does not fit {metadata['model']}: {error}") from error
    if not all(bool(tensor.isfinite().all()) for tensor in state.values() if tensor.is_floating_point()):
        raise ModelError(f"{path} holds weights that are not finite")
    return model
