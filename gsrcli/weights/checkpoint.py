"""Checkpoint files: safetensors whose metadata name a model and its config, or the backbone of a metric."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gsrcli.errors import GsrError, ModelError
from gsrcli.runtime.files import write_whole

if TYPE_CHECKING:
    from torch import nn

    from gsrcli.models import Model

__all__ = [
    "backbone_bytes",
    "model_bytes",
    "read_backbone",
    "read_model",
    "read_named_model",
    "require_finite",
    "save_model",
    "write_checkpoint",
    "writing",
]


def save_model(model: Model, name: str, path: Path, notes: dict[str, Any]) -> None:
    """Write a checkpoint atomically.

    Raises:
        GsrError: the file cannot be written.
    """
    write_checkpoint(path, model_bytes(model, name, notes))


def model_bytes(model: Model, name: str, notes: dict[str, Any]) -> bytes:
    """Return a model's checkpoint: its weights, name and config, and ``notes`` on how it was made."""
    from safetensors.torch import save

    from gsrcli.models import config_of

    metadata = {"format": "gsrcli", "model": name, "config": json.dumps(config_of(model))}
    metadata |= {key: json.dumps(value) for key, value in notes.items()}
    tensors = {key: value.detach().cpu().contiguous() for key, value in model.state_dict().items()}
    return save(tensors, metadata)


def write_checkpoint(path: Path, content: bytes | memoryview) -> None:
    """Write a checkpoint file atomically.

    Raises:
        GsrError: the file cannot be written. An old file is kept, and nothing else is left behind.
    """
    with writing(path):
        write_whole(path, content)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn a failure to write a file into a message.

    Raises:
        GsrError: in place of an OSError.
    """
    try:
        yield
    except OSError as error:
        hint = "check that there is space left and that the folder is writable"
        raise GsrError(f"cannot write {path}: {error.strerror or error}", hint=hint) from error


def read_model(path: Path) -> Model:
    """Read the model from a checkpoint; raises as :func:`read_named_model` does."""
    return read_named_model(path)[1]


def read_named_model(path: Path) -> tuple[str, Model]:
    """Read a checkpoint, and return the name of its architecture and the model.

    Raises:
        ModelError: the file is damaged, not from gsrcli, or does not fit the model that it names.
    """
    from safetensors import SafetensorError, safe_open

    from gsrcli.models import MODEL_NAMES, build

    if path.suffix in (".pth", ".pt", ".ckpt"):
        hint = "use a .safetensors checkpoint; gsr weights import makes one from a released .pth"
        raise ModelError(f"{path} is a pickle, which could run arbitrary code", hint=hint)
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a dict)
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{path} is damaged or not a safetensors file: {error}") from error
    if metadata.get("format") != "gsrcli" or metadata.get("model") not in MODEL_NAMES:
        kind = "it is the backbone of a metric; gsr weights fetch downloads those" if "backbone" in metadata else None
        raise ModelError(f"{path} is not a checkpoint of gsrcli", hint=kind)
    try:
        model = build(metadata["model"], json.loads(metadata["config"]))
        model.load_state_dict(state)
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise ModelError(f"{path} does not fit {metadata['model']}: {error}") from error
    require_finite(model, str(path))
    return metadata["model"], model


def backbone_bytes(backbone: nn.Sequential, name: str) -> bytes:
    """Return a backbone's checkpoint: its weights and its name."""
    from safetensors.torch import save

    return save(backbone.state_dict(), {"format": "gsrcli", "backbone": name})


def read_backbone(name: str, path: Path) -> nn.Sequential:
    """Read the checkpoint of a backbone, ready to use.

    Args:
        name: a name in :data:`gsrcli.models.feature_extractors.ARCHITECTURES`.
        path: the checkpoint.

    Raises:
        ModelError: the checkpoint is damaged, or of another backbone.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    from gsrcli.models.feature_extractors import ARCHITECTURES

    backbone = ARCHITECTURES[name].build()
    try:
        backbone.load_state_dict(load_file(path))
    except (SafetensorError, OSError, RuntimeError) as error:
        raise ModelError(f"{path} does not fit {name}: {error}", hint=f"gsr weights remove {name}") from error
    return backbone.eval().requires_grad_(False)


def require_finite(model: nn.Module, what: str) -> None:
    """Check that every weight is finite.

    Raises:
        ModelError: a weight is infinite or NaN.
    """
    if not all(bool(tensor.isfinite().all()) for tensor in model.state_dict().values() if tensor.is_floating_point()):
        raise ModelError(f"{what} contains infinite or NaN weights")
