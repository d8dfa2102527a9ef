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

__all__ = ["Backbone", "Bundled", "Released", "Scores", "Weights", "backbones", "is_name", "registry"]

_PACKAGE = Path(__file__).parents[1]
_BACKBONES = "backbone"


@dataclass(frozen=True)
class Bundled:
    """A checkpoint that comes with the package."""

    path: Path
    digest: Digest


@dataclass(frozen=True)
class Released:
    """A file that a model's authors released.

    Attributes:
        name: what it is called where it was released.
        urls: where it is; any will do.
        digest: what its authors, or their host, say that it is; None where they do not say.
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


@dataclass(frozen=True)
class Weights:
    """An entry of weights.toml: trained weights, in the package or as their authors released them.

    Attributes:
        name: what ``--model`` calls it.
        model: the architecture that they are weights of; several may share one.
        description: one line.
        license: SPDX identifier of the weights' licence.
        parameters: how many numbers were learned; a released file has about four bytes for each.
        training: the pictures that they were learned from.
        rendering: ``released`` where the picture is drawn as the authors' program draws it, against its paper;
            ``field`` where the Gaussians are.
        source: the checkpoint in the package, or the released files that make one, by name.
        paper: URL.
        code: URL of the authors' program.
        scores: what was published of exactly these weights.
    """

    name: str
    model: str
    description: str
    license: str
    parameters: int
    training: str
    source: Bundled | dict[str, Released]
    rendering: Literal["field", "released"] = "field"
    paper: str | None = None
    code: str | None = None
    scores: Scores = field(default_factory=lambda: Scores("", {}))


@dataclass(frozen=True)
class Backbone:
    """An entry below ``backbone`` in weights.toml: a network that recognises pictures, through which metrics compare.

    Attributes:
        name: what it is called; no weights of a model share it.
        description: one line.
        license: SPDX identifier of the licence of the program that the weights were released with.
        parameters: how many numbers were learned, of all layers; those that find features are kept.
        training: the pictures that they were learned from.
        source: the released file, by name.
    """

    name: str
    description: str
    license: str
    parameters: int
    training: str
    source: dict[str, Released]


@cache
def registry() -> dict[str, Weights]:
    """The weights of models that weights.toml lists, by name."""
    return {name: _weights(name, **entry) for name, entry in _tables().items() if name != _BACKBONES}


@cache
def backbones() -> dict[str, Backbone]:
    """The backbones of metrics that weights.toml lists, by name. They enlarge nothing."""
    return {name: _backbone(name, **entry) for name, entry in _tables()[_BACKBONES].items()}


def is_name(text: str) -> bool:
    """Whether this can be the name of weights: it is part of file names, and never looks like a path."""
    return re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", text) is not None


def _tables() -> dict[str, Any]:
    return tomllib.loads(shipped("weights.toml").read_text(encoding="utf-8"))


def _weights(
    name: str,
    *,
    bundled: str | None = None,
    digest: str = "",
    released: Mapping[str, Any] | None = None,
    scores: Mapping[str, Any],
    **entry: Any,
) -> Weights:
    source = Bundled(_PACKAGE / bundled, Digest.parse(digest)) if bundled else _released(released or {})
    return Weights(name, source=source, scores=_scores(**scores), **entry)


def _backbone(name: str, *, released: Mapping[str, Any], **entry: Any) -> Backbone:
    return Backbone(name, source=_released(released), **entry)


def _released(files: Mapping[str, Any]) -> dict[str, Released]:
    return {name: _file(name, **entry) for name, entry in files.items()}


def _file(name: str, *, urls: list[str], digest: str | None = None) -> Released:
    return Released(name, tuple(urls), Digest.parse(digest) if digest else None)


def _scores(*, protocol: str, psnr: Mapping[str, Mapping[str, float]]) -> Scores:
    by_dataset = {dataset: {float(scale): db for scale, db in by_scale.items()} for dataset, by_scale in psnr.items()}
    return Scores(protocol, by_dataset)
