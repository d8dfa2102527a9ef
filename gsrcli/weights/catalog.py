"""weights.toml: the known weights, where they come from, and facts about them."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Literal

from gsrcli.download.digest import Digest
from gsrcli.runtime.files import shipped

__all__ = [
    "Bundled",
    "ModelWeights",
    "Released",
    "Scores",
    "Weights",
    "is_name",
    "metric_weights",
    "model_weights",
    "published",
]

_PACKAGE = Path(__file__).parents[1]
_METRICS = "metric"


@dataclass(frozen=True)
class Bundled:
    """A checkpoint that comes with the package."""

    path: Path
    digest: Digest


@dataclass(frozen=True)
class Released:
    """A file that the authors of weights released.

    Attributes:
        name: name under which the authors released it.
        urls: alternative addresses.
        digest: digest of the file, or None if it is unknown; it is then recorded at the first download.
    """

    name: str
    urls: tuple[str, ...]
    digest: Digest | None = None


@dataclass(frozen=True)
class Scores:
    """Published PSNR.

    Attributes:
        protocol: channels, border, degradation, and who measured.
        psnr: dB by dataset and scale.
    """

    protocol: str
    psnr: dict[str, dict[float, float]]


@dataclass(frozen=True, kw_only=True)
class Weights:
    """An entry of weights.toml: trained weights, bundled with the package or released by their authors.

    Attributes:
        name: name in ``gsr weights``.
        description: one line of text.
        license: SPDX identifier of the weights' licence.
        parameters: number of learned parameters; a released file has about four bytes for each.
        training: training data.
        paper: URL of the paper.
        code: URL of the authors' program.
        bundled: the checkpoint in the package, or None.
        released: the released files that the checkpoint is made from, by name; empty if it is in the package.
    """

    name: str
    description: str
    license: str
    parameters: int
    training: str
    paper: str | None = None
    code: str | None = None
    bundled: Bundled | None = None
    released: Mapping[str, Released] = field(default_factory=dict)

    @property
    def pinned(self) -> bool:
        """Whether the digest of every released file is known before it is downloaded."""
        return all(file.digest for file in self.released.values())


@dataclass(frozen=True, kw_only=True)
class ModelWeights(Weights):
    """Weights of a model, which ``--model`` accepts by name.

    Attributes:
        model: name of the architecture; several weights may share one.
        rendering: ``released`` if the picture is drawn as the authors' program draws it, which differs from their
            paper; ``field`` if the Gaussians are drawn.
        scores: published scores of exactly these weights.
    """

    model: str
    rendering: Literal["field", "released"] = "field"
    scores: Scores = field(default_factory=lambda: Scores("", {}))


def published() -> dict[str, Weights]:
    """Return all weights that weights.toml lists, by name: models' weights, then metrics' weights."""
    return {**model_weights(), **metric_weights()}


@cache
def model_weights() -> dict[str, ModelWeights]:
    """Return the models' weights that weights.toml lists, by name."""
    entries = {name: _fields(**entry) for name, entry in _tables().items() if name != _METRICS}
    return {name: ModelWeights(name=name, **entry) for name, entry in entries.items()}


@cache
def metric_weights() -> dict[str, Weights]:
    """Return the weights of perceptual metrics that weights.toml lists, by name. No model's weights share a name."""
    return {name: Weights(name=name, **_fields(**entry)) for name, entry in _tables()[_METRICS].items()}


def is_name(text: str) -> bool:
    """Return whether a text can be the name of weights, which is part of file names and must not look like a path."""
    return re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", text) is not None


def _tables() -> dict[str, Any]:
    return tomllib.loads(shipped("weights.toml").read_text(encoding="utf-8"))


def _fields(
    *,
    bundled: str | None = None,
    digest: str = "",
    released: Mapping[str, Any] | None = None,
    scores: Mapping[str, Any] | None = None,
    **entry: Any,
) -> dict[str, Any]:
    """Turn a table of weights.toml into arguments of :class:`Weights` or :class:`ModelWeights`."""
    if bundled:
        entry["bundled"] = Bundled(_PACKAGE / bundled, Digest.parse(digest))
    if released:
        entry["released"] = {name: _file(name, **file) for name, file in released.items()}
    if scores:
        entry["scores"] = _scores(**scores)
    return entry


def _file(name: str, *, urls: list[str], digest: str | None = None) -> Released:
    return Released(name, tuple(urls), Digest.parse(digest) if digest else None)


def _scores(*, protocol: str, psnr: Mapping[str, Mapping[str, float]]) -> Scores:
    by_dataset = {dataset: {float(scale): db for scale, db in by_scale.items()} for dataset, by_scale in psnr.items()}
    return Scores(protocol, by_dataset)
