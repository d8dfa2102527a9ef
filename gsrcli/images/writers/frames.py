"""What the encoders of animations share."""

from __future__ import annotations

import numpy as np

from gsrcli.images.picture import Pixels

__all__ = ["changed_box"]


def changed_box(before: Pixels, after: Pixels, even: bool = False) -> tuple[slice, slice]:
    """Return the rows and columns in which two frames ``(H, W, C)`` differ, at least one of each.

    Args:
        before: the frame that is shown.
        after: the frame that follows.
        even: whether to start at even ones.
    """
    differing = (before != after).any(axis=2)
    slices = []
    for axis in (1, 0):
        found = np.flatnonzero(differing.any(axis=axis))
        start, stop = (int(found[0]), int(found[-1]) + 1) if found.size else (0, 1)
        slices.append(slice(start - start % 2 if even else start, stop))
    return slices[0], slices[1]
