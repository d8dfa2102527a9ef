"""Convert released files, which are pickles, into our checkpoints."""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from gsrcli.errors import ModelError
from gsrcli.models import Model, build
from gsrcli.models.feature_extractors import ARCHITECTURES
from gsrcli.models.gsasr import GSASR_CONFIGS
from gsrcli.weights.catalog import ModelWeights, Weights
from gsrcli.weights.checkpoint import backbone_bytes, model_bytes, require_finite
from gsrcli.weights.released import convert, convert_gaussiansr

__all__ = ["checkpoint_of_released", "model_of_released"]

_GSASR_FILES = {"encoder.pth", "decoder.pth"}
_GAUSSIANSR_FILES = {"epoch-last.pth"}


def checkpoint_of_released(weights: Weights, files: Mapping[str, Path]) -> bytes:
    """Make the checkpoint of a model or a backbone from its released files.

    Args:
        weights: entry in weights.toml.
        files: paths of the files, by the names under which they were released.

    Raises:
        ModelError: a file is damaged, contains anything but tensors, or does not fit.
        OSError: a file cannot be read.
    """
    if isinstance(weights, ModelWeights):
        return model_bytes(model_of_released(weights.model, files), weights.model, {})
    return backbone_bytes(_backbone_of_released(weights.name, files), weights.name)


def model_of_released(model: str, files: Mapping[str, Path]) -> Model:
    """Build a model with the weights in released files.

    Args:
        model: name of the architecture.
        files: paths of the files, by the names under which they were released.

    Raises:
        ModelError: a file is damaged, contains anything but tensors, or does not fit the model.
        OSError: a file cannot be read.
    """
    converted = _converter(model, files)
    contents = {name: _read_pickle(name, path) for name, path in files.items()}
    ours = build(model)
    _fill(ours, lambda: converted(contents), " and ".join(files), model)
    return ours


def _backbone_of_released(name: str, files: Mapping[str, Path]) -> nn.Sequential:
    """Build a metric's backbone with the weights of its one released file."""
    ((file, path),) = files.items()
    content = _read_pickle(file, path)
    backbone = ARCHITECTURES[name].build()
    _fill(backbone, lambda: _features(content), file, name)
    return backbone


def _features(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Keep the ``features.*`` tensors of a classifier's state dict, and drop the classification head."""
    prefix = "features."
    return {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}


def _fill(network: nn.Module, state: Callable[[], dict[str, Tensor]], files: str, name: str) -> None:
    """Load a state dict into a network; making the state dict may fail too."""
    try:
        network.load_state_dict(state())
    except (ValueError, RuntimeError, AttributeError, TypeError) as error:
        raise ModelError(f"{files} do not fit {name}: {_first_lines(str(error))}") from error
    require_finite(network, files)


def _converter(model: str, files: Collection[str]) -> Callable[[dict[str, Any]], dict[str, Tensor]]:
    """Return the function that turns the files' contents into our state dict, one branch for each kind of release."""
    if model in GSASR_CONFIGS and set(files) == _GSASR_FILES:
        return lambda contents: convert(model, contents["encoder.pth"], contents["decoder.pth"])
    if model == "gaussiansr-edsr-released" and set(files) == _GAUSSIANSR_FILES:
        return lambda contents: convert_gaussiansr(contents["epoch-last.pth"])
    raise ModelError(f"this version of gsrcli cannot run {model}", hint="install a newer gsrcli")


def _read_pickle(name: str, path: Path) -> dict[str, Any]:
    """Read dictionaries of tensors from a pickle, without running any other code in it."""
    try:
        _require_checksums(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except OSError:
        raise
    except Exception as error:  # on a damaged file, torch and pickle may raise anything
        if isinstance(error, pickle.UnpicklingError) and "GLOBAL" in str(error):
            raise ModelError(
                f"{name} contains more than tensors, which could run arbitrary code; it was not loaded",
                hint="get the original file from its authors: a checkpoint needs no code",
            ) from error
        raise ModelError(f"{name} is damaged or not a torch checkpoint: {_first_lines(str(error))}") from error
    if not isinstance(content, dict):
        raise ModelError(f"{name} contains no state dict")
    return content


def _require_checksums(path: Path) -> None:
    """Check the members of a zip archive against their checksums, which torch does not do."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            if (member := archive.testzip()) is not None:
                raise ValueError(f"{member} does not match its checksum")


def _first_lines(text: str, count: int = 8) -> str:
    lines = text.splitlines() or ["it is incomplete"]
    more = [f"and {len(lines) - count} more"] if len(lines) > count else []
    return "\n".join(lines[:count] + more)
