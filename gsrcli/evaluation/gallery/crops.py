"""Choose the parts of a picture that show differences best."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gsrcli.evaluation.methods import INTERPOLATIONS
from gsrcli.images.picture import Pixels

__all__ = ["SIDE", "Window", "choose_windows"]

SIDE = 48
"""Side of a window in pixels, in pictures that are as large."""

_BY_DIFFERENCE, _BY_ERROR = 2, 1  # number of windows in a picture

_Heights = NDArray[np.float32]
"""A value for each window of a picture, at its top left: ``(H - height + 1, W - width + 1)``."""


@dataclass(frozen=True)
class Window:
    """A part of a picture, in pixels from its top left, and the reason for choosing it."""

    left: int
    top: int
    width: int
    height: int
    reason: str

    def cut(self, picture: Pixels) -> Pixels:
        """Return a view of this part of a picture."""
        return picture[self.top : self.top + self.height, self.left : self.left + self.width]


def choose_windows(models: Mapping[str, Pixels], original: Pixels) -> list[Window]:
    """Choose windows that do not overlap: where two models differ most, then where the best has the largest error.

    Interpolations are ignored if there are two other models, because every model differs from them at every edge.

    Args:
        models: by name, ``(H, W, 3)`` uint8 as the original.
        original: ``(H, W, 3)`` uint8.

    Returns:
        At most three; fewer where the pictures are equal or small.
    """
    others = [name for name in models if name not in INTERPOLATIONS]
    compared = others if len(others) > 1 else list(models)
    pairs = list(itertools.combinations(compared, 2))
    size = (min(SIDE, original.shape[0]), min(SIDE, original.shape[1]))
    windows: list[Window] = []
    if pairs:
        largest = _envelope((_distance(models[a], models[b], size) for a, b in pairs), np.greater)
        windows = _peaks(*largest, [f"{a} and {b} differ by" for a, b in pairs], size, _BY_DIFFERENCE, [])
    least = _envelope((_distance(models[name], original, size) for name in compared), np.less)
    count = _BY_DIFFERENCE + _BY_ERROR - len(windows)
    even = "even " if len(compared) > 1 else ""
    return windows + _peaks(*least, [f"{even}{name} is off by" for name in compared], size, count, windows)


def _distance(first: Pixels, second: Pixels, size: tuple[int, int]) -> _Heights:
    """Return the mean absolute difference in every window of a size, from an integral image."""
    difference = np.abs(first.astype(np.int16) - second).sum(2, dtype=np.int32)
    integral = np.zeros((difference.shape[0] + 1, difference.shape[1] + 1), np.int64)
    difference.cumsum(0, out=integral[1:, 1:]).cumsum(1, out=integral[1:, 1:])
    height, width = size
    sums = (
        integral[height:, width:]
        - integral[:-height, width:]
        - integral[height:, :-width]
        + integral[:-height, :-width]
    )
    return (sums / (3 * height * width)).astype(np.float32)


def _envelope(maps: Iterable[_Heights], beats: np.ufunc) -> tuple[_Heights, NDArray[np.intp]]:
    """Return the best value of all maps at each place, and the index of its map."""
    remaining = iter(maps)
    best = next(remaining)
    which = np.zeros(best.shape, np.intp)
    for index, challenger in enumerate(remaining, 1):
        wins = beats(challenger, best)
        best[wins], which[wins] = challenger[wins], index
    return best, which


def _peaks(
    heights: _Heights,
    which: NDArray[np.intp],
    reasons: Sequence[str],
    size: tuple[int, int],
    count: int,
    taken: Iterable[Window],
) -> list[Window]:
    """Return the highest windows that overlap neither each other nor those taken, without windows of height 0.

    Args:
        heights: by top left of the window.
        which: index of the reason, by top left of the window.
        reasons: beginnings of the reasons, to which heights are added.
        size: (height, width) of a window.
        count: largest number of windows.
        taken: windows chosen before.
    """
    height, width = size
    heights = heights.copy()

    def clear(left: int, top: int) -> None:
        heights[max(0, top - height + 1) : top + height, max(0, left - width + 1) : left + width] = 0

    for window in taken:
        clear(window.left, window.top)
    peaks: list[Window] = []
    while len(peaks) < count and heights.any():
        top, left = map(int, np.unravel_index(heights.argmax(), heights.shape))
        reason = f"{reasons[which[top, left]]} {heights[top, left]:.1f} of 255 on average"
        peaks.append(Window(left, top, width, height, reason))
        clear(left, top)
    return peaks
