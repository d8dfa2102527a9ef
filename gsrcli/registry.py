"""weights.toml: which weights there are, where they come from, and what is known of them."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Literal, TypeVar
from urllib.parse import urlsplit

from gsrcli import toml
from gsrcli.digests import Digest
from gsrcli.errors import ModelError
from gsrcli.files import shipped

__all__ = [
    "Backbone",
    "Bundled",
    "Released",
    "Scores",
    "Weights",
    "backbones",
    "is_name",
    "parse",
    "parse_backbones",
    "registry",
]

T = TypeVar("T")
D = TypeVar("D")
Rendering = Literal["field", "released"]

_PACKAGE = Path(__file__).parent
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
        parameters: how many numbers were learned.
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
    rendering: Rendering = "field"
    paper: str | None = None
    code: str | None = None
    scores: Scores = field(default_factory=lambda: Scores("", {}))


@dataclass(frozen=True)
class Backbone:
    """An entry below ``backbone`` in weights.toml: a network that recognises pictures, through which metrics compare.

    Attributes:
        name: what it is called; no weights of a model share it.
        description: one line.
        source: the released file, by name.
    """

    name: str
    description: str
    source: dict[str, Released]


@cache
def registry() -> dict[str, Weights]:
    """The weights of models that weights.toml lists, by name.

    Raises:
        ModelError: weights.toml is not as it should be.
    """
    return parse(_shipped_text())


@cache
def backbones() -> dict[str, Backbone]:
    """The backbones of metrics that weights.toml lists, by name. They enlarge nothing.

    Raises:
        ModelError: weights.toml is not as it should be.
    """
    return parse_backbones(_shipped_text())


def parse(text: str) -> dict[str, Weights]:
    """The weights of models in a weights.toml, by name.

    Raises:
        ModelError: a key is missing, unknown or of another type, a digest is none, or a URL is not https; the message
            says where.
    """
    return {name: _weights(name, _Table(name, entry)) for name, entry in _tables(text).items() if name != _BACKBONES}


def parse_backbones(text: str) -> dict[str, Backbone]:
    """The backbones in a weights.toml, by name; raises as :func:`parse` does."""
    table = _Table(_BACKBONES, _tables(text).get(_BACKBONES, {}))
    return {name: _backbone(name, table.table(name)) for name in table.keys()}  # noqa: SIM118 (not a dict)


def _shipped_text() -> str:
    return shipped("weights.toml").read_text(encoding="utf-8")


def _tables(text: str) -> dict[str, object]:
    try:
        return toml.loads(text)
    except toml.TOMLDecodeError as error:
        raise _fault("it", f"is no TOML: {error}") from error


def is_name(text: str) -> bool:
    """Whether this can be the name of weights: it is part of file names, and never looks like a path."""
    return re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", text) is not None


def _require_name(name: str) -> None:
    if not is_name(name):
        raise _fault(repr(name), "is no name: letters, digits, - and _")


def _weights(name: str, table: _Table) -> Weights:
    _require_name(name)
    weights = Weights(
        name=name,
        model=table.take("model", _text),
        description=table.take("description", _text),
        license=table.take("license", _text),
        parameters=table.take("parameters", _count),
        training=table.take("training", _text),
        source=_source(table),
        rendering=table.take_or("field", "rendering", _rendering),
        paper=table.take_or(None, "paper", _url),
        code=table.take_or(None, "code", _url),
        scores=_scores(table.table("scores")),
    )
    table.close()
    return weights


def _source(table: _Table) -> Bundled | dict[str, Released]:
    if table.has("bundled") == table.has("released"):
        raise _fault(table.place, "must have one of bundled and released")
    if table.has("bundled"):
        return Bundled(_PACKAGE / table.take("bundled", _text), table.take("digest", _digest))
    return _all_released(table.table("released"))


def _backbone(name: str, table: _Table) -> Backbone:
    _require_name(name)
    backbone = Backbone(
        name=name,
        description=table.take("description", _text),
        source=_all_released(table.table("released")),
    )
    table.close()
    return backbone


def _all_released(table: _Table) -> dict[str, Released]:
    return {name: _released(name, table.table(name)) for name in table.keys()}  # noqa: SIM118 (not a dict)


def _released(name: str, table: _Table) -> Released:
    if Path(name).name != name:
        raise _fault(table.place, "is no file name")
    released = Released(name, table.take("urls", _urls), table.take_or(None, "digest", _digest))
    table.close()
    return released


def _scores(table: _Table) -> Scores:
    datasets = table.table("psnr")
    psnr = {name: datasets.take(name, _by_scale) for name in datasets.keys()}  # noqa: SIM118 (not a dict)
    scores = Scores(table.take("protocol", _text), psnr)
    table.close()
    return scores


class _Table:
    """A table that is read key by key, and must then be used up."""

    def __init__(self, place: str, content: object) -> None:
        if not isinstance(content, dict):
            raise _fault(place, "is no table")
        self.place = place
        self._content = dict(content)

    def keys(self) -> list[str]:
        return list(self._content)

    def has(self, key: str) -> bool:
        return key in self._content

    def take(self, key: str, read: Callable[[object], T]) -> T:
        """The value of a key, through a function that raises ValueError where it is not as it should be."""
        if not self.has(key):
            raise _fault(self.place, f"lacks {key}")
        try:
            return read(self._content.pop(key))
        except ValueError as error:
            raise _fault(f"{self.place}.{key}", str(error)) from error

    def take_or(self, default: D, key: str, read: Callable[[object], T]) -> T | D:
        return self.take(key, read) if self.has(key) else default

    def table(self, key: str) -> _Table:
        return self.take(key, lambda content: _Table(f"{self.place}.{key}", content))

    def close(self) -> None:
        if self._content:
            raise _fault(self.place, f"has unknown keys: {', '.join(self._content)}")


def _fault(place: str, what: str) -> ModelError:
    return ModelError(f"weights.toml: {place} {what}", hint="reinstall gsrcli")


def _text(value: object) -> str:
    if not isinstance(value, str) or not value or "\n" in value:
        raise ValueError(f"should be a line of text, not {value!r}")
    return value


def _count(value: object) -> int:
    if type(value) is not int or value < 1:
        raise ValueError(f"should be a number from 1, not {value!r}")
    return value


def _rendering(value: object) -> Rendering:
    if value == "field":
        return "field"
    if value == "released":
        return "released"
    raise ValueError(f"should be field or released, not {value!r}")


def _url(value: object) -> str:
    if not urlsplit(url := _text(value)).hostname or not url.startswith("https://"):
        raise ValueError(f"should be an https URL, not {url!r}")
    return url


def _urls(value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or not value:
        raise ValueError(f"should be a list of URLs, not {value!r}")
    return tuple(map(_url, value))


def _digest(value: object) -> Digest:
    return Digest.parse(_text(value))


def _by_scale(value: object) -> dict[float, float]:
    if not isinstance(value, dict) or not all(type(psnr) in (int, float) for psnr in value.values()):
        raise ValueError(f"should be dB by scale, not {value!r}")
    return {float(scale): float(psnr) for scale, psnr in value.items()}
