"""Models with their trained weights, by name or path."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from gsrcli.errors import ModelError, nearest
from gsrcli.weights.checkpoint import read_named_model
from gsrcli.weights.store import Entry, Store

if TYPE_CHECKING:
    import torch

    from gsrcli.download.http import Progress
    from gsrcli.models import Model

__all__ = ["DEFAULT_MODEL", "load_model", "load_named_model", "require_weights"]

DEFAULT_MODEL = "gsasr-lite"


def load_model(
    name: str | os.PathLike[str] = DEFAULT_MODEL,
    device: str | torch.device = "cpu",
    report: Progress | None = None,
) -> Model:
    """Load a model with its trained weights, ready to use.

    Weights that are not on this machine yet are downloaded once.

    Args:
        name: a name that ``gsr weights list`` shows, or the path of a checkpoint that ``gsr train`` wrote.
        device: device to load the model on.
        report: called with the progress of a download: the file's name, bytes so far, and total bytes or None.

    Raises:
        ModelError: the model is unknown, or its weights are missing, damaged or do not fit.
        DownloadError: its weights cannot be downloaded.
    """
    from gsrcli.runtime.devices import channels_last

    return channels_last(load_named_model(name, report)[1].to(device)).eval().requires_grad_(False)


def load_named_model(name: str | os.PathLike[str] = DEFAULT_MODEL, report: Progress | None = None) -> tuple[str, Model]:
    """Return the name of a model's architecture and the model, on the CPU; otherwise as :func:`load_model`."""
    return read_named_model(_locate(name, report))


def require_weights(name: str | os.PathLike[str]) -> None:
    """Check that weights of this name, or a file at this path, exist, without opening them. Does not need torch.

    Raises:
        ModelError: they do not exist.
    """
    _find(name)


def _locate(name: str | os.PathLike[str], report: Progress | None) -> Path:
    """Return the path of the verified checkpoint of a name, or the path itself."""
    found = _find(name)
    return found if isinstance(found, Path) else found.locate(report)


def _find(name: str | os.PathLike[str]) -> Entry | Path:
    """Return the weights of a name, or the path of a checkpoint. Names take precedence over files."""
    store, path = Store(), Path(name)
    known = store.model_names()
    if name in known:
        return store.entry(str(name))
    if path.is_file():
        return path
    if path.suffix or len(path.parts) > 1:
        raise ModelError(f"no such checkpoint: {path}")
    raise _unknown(str(name), known)


def _unknown(name: str, known: list[str]) -> ModelError:
    from gsrcli.models import MODEL_NAMES

    if name in MODEL_NAMES:
        return ModelError(
            f"gsrcli has no weights for {name}",
            hint="give the path of a checkpoint: --model PATH.safetensors",
        )
    hint = f"try {nearest(name, known)}, or the path of a checkpoint"
    return ModelError(f"there is no model called {name!r}", hint=hint)
