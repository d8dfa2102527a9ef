"""Draw plots with matplotlib, which is imported only when a plot is drawn."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import TYPE_CHECKING

from gsrcli.runtime.files import encoded

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["SUFFIXES", "encode", "label_scales", "literal", "panels"]

SUFFIXES = (".png", ".svg")
"""Suffixes of the files that a plot can be written to."""


def panels(count: int, width: float, height: float) -> tuple[Figure, list[Axes]]:
    """Return a figure, ``width`` by ``height`` inches, and its panels from left to right."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, list(figure.subplots(1, count, squeeze=False)[0])


def label_scales(axes: Axes, labels: Mapping[float, str]) -> None:
    """Label the scale factors on the horizontal axis, without minor ticks."""
    axes.set_xticks(list(labels), [f"×{text}" for text in labels.values()])
    axes.set_xticks([], minor=True)


def literal(text: str) -> str:
    """Escape the dollar signs of a text, which matplotlib would read as mathematics."""
    return encoded(text).decode().replace("$", r"\$")


def encode(figure: Figure, suffix: str) -> bytes:
    """Encode a figure in the file format of a suffix, one of SUFFIXES."""
    content = io.BytesIO()
    figure.savefig(content, format=suffix.removeprefix("."), dpi=150)
    return content.getvalue()
