"""Checkpoint files: safetensors whose metadata name the model and its config, or the backbone of metrics."""

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
    """Write a checkpoint, in one rename.

    Raises:
        GsrError: the file cannot be written.
    """
    write_checkpoint(path, model_bytes(model, name, notes))


def model_bytes(model: Model, name: str, notes: dict[str, Any]) -> bytes:
    """Make a checkpoint of a model: its weights, its name and config, and ``notes`` on how it came to be."""
    from safetensors.torch import save

    from gsrcli.models import config_of

    metadata = {"format": "gsrcli", "model": name, "config": json.dumps(config_of(model))}
    metadata |= {key: json.dumps(value) for key, value in notes.items()}
    tensors = {key: value.detach().cpu().contiguous() for key, value in model.state_dict().items()}
    return save(tensors, metadata)


def write_checkpoint(path: Path, content: bytes | memoryview) -> None:
    """Write a file of a run, whole.

    Raises:
        GsrError: the file cannot be written. The old one stays, and nothing besides.
    """
    with writing(path):
        write_whole(path, content)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Tell of failures to write a file of a run.

    Raises:
        GsrError: in place of an OSError.
    """
    try:
        yield
    except OSError as error:
        hint = "see that there is space left, and that its folder may be written to"
        raise GsrError(f"cannot write {path}: {error.strerror or error}", hint=hint) from error


def read_model(path: Path) -> Model:
    """Read the model that a checkpoint holds. For what is raised see :func:`read_named_model`."""
    return read_named_model(path)[1]


def read_named_model(path: Path) -> tuple[str, Model]:
    """Read a checkpoint: the name of its architecture, and the model.

    Raises:
        ModelError: it is damaged, another program's, or does not fit the model that it names.
    """
    from safetensors import SafetensorError, safe_open

    from gsrcli.models import MODEL_NAMES, build

    if path.suffix in (".pth", ".pt", ".ckpt"):
        hint = "give a .safetensors checkpoint; gsr weights import makes one of a released .pth"
        raise ModelError(f"{path} is a pickle, which could run anything", hint=hint)
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a dict)
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{path} is damaged, or no safetensors file: {error}") from error
    if metadata.get("format") != "gsrcli" or metadata.get("model") not in MODEL_NAMES:
        kind = "it is a backbone of metrics: gsr weights fetch brings those" if "backbone" in metadata else None
        raise ModelError(f"{path} is not a checkpoint of gsrcli", hint=kind)
    try:
        model = build(metadata["model"], json.loads(metadata["config"]))
        model.load_state_dict(state)
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise ModelError(f"{path} does not fit {metadata['model']}: {error}") from error
    require_finite(model, str(path))
    return metadata["model"], model


def backbone_bytes(backbone: nn.Sequential, name: str) -> bytes:
    """Make a checkpoint of a backbone: its weights and its name."""
    from safetensors.torch import save

    return save(backbone.state_dict(), {"format": "gsrcli", "backbone": name})


def read_backbone(name: str, path: Path) -> nn.Sequential:
    """Read the checkpoint of a backbone, ready to use.

    Args:
        name: of :data:`gsrcli.models.feature_extractors.ARCHITECTURES`.
        path: the checkpoint.

    Raises:
        ModelError: it is damaged, or another backbone's.
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
    """Check that no weight is infinite or NaN.

    Raises:
        ModelError: one is.
    """
    if not all(bool(tensor.isfinite().all()) for tensor in model.state_dict().values() if tensor.is_floating_point()):
        raise ModelError(f"{what} holds weights that are not finite")
