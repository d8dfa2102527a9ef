"""weights.toml: which weights there are, where they come from, and what is known of them."""

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
        name: what it is called where it was released.
        urls: where it is; any will do.
        digest: what it must be; None where that is not known, and is recorded when the file is first fetched.
    """

    name: str
    urls: tuple[str, ...]
    digest: Digest | None = None


@dataclass(frozen=True)
class Scores:
    """Published PSNR.

    Attributes:
        protocol: on which channels, with which border, who measured.
        psnr: dB by dataset and scale.
    """

    protocol: str
    psnr: dict[str, dict[float, float]]


@dataclass(frozen=True, kw_only=True)
class Weights:
    """An entry of weights.toml: trained weights, in the package or as their authors released them.

    Attributes:
        name: what ``gsr weights`` calls them.
        description: one line.
        license: SPDX identifier of the weights' licence.
        parameters: how many numbers were learned; a released file has about four bytes for each.
        training: what they were learned from.
        paper: URL.
        code: URL of the authors' program.
        bundled: the checkpoint in the package, or None.
        released: the files that make one, by name; none where it is in the package.
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
        """Whether the digest of every file is known before it is fetched."""
        return all(file.digest for file in self.released.values())


@dataclass(frozen=True, kw_only=True)
class ModelWeights(Weights):
    """Weights of a model, which ``--model`` takes by their name.

    Attributes:
        model: the architecture that they are weights of; several may share one.
        rendering: ``released`` where the picture is drawn as the authors' program draws it, against its paper;
            ``field`` where the Gaussians are.
        scores: what was published of exactly these weights.
    """

    model: str
    rendering: Literal["field", "released"] = "field"
    scores: Scores = field(default_factory=lambda: Scores("", {}))


def published() -> dict[str, Weights]:
    """Return all that weights.toml lists, by name: weights of models, then those that metrics use."""
    return {**model_weights(), **metric_weights()}


@cache
def model_weights() -> dict[str, ModelWeights]:
    """Return the weights of models that weights.toml lists, by name."""
    entries = {name: _fields(**entry) for name, entry in _tables().items() if name != _METRICS}
    return {name: ModelWeights(name=name, **entry) for name, entry in entries.items()}


@cache
def metric_weights() -> dict[str, Weights]:
    """Return what perceptual metrics use of weights.toml, by name. No weights of a model share these names."""
    return {name: Weights(name=name, **_fields(**entry)) for name, entry in _tables()[_METRICS].items()}


def is_name(text: str) -> bool:
    """Whether this can be the name of weights: it is part of file names, and never looks like a path."""
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
