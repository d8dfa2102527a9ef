"""What the encoders of animations share."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from gsrcli.errors import PictureError
from gsrcli.images.icc import profile_for
from gsrcli.images.picture import Picture, Pixels, white

__all__ = ["changed_box", "check_colours", "check_size", "like_first"]


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


def check_size(first: Picture, frame: Picture, number: int) -> None:
    """Check that a frame, counted from 1 on, has the size of the first one.

    Raises:
        PictureError: it has not.
    """
    if frame.size != first.size:
        raise PictureError(f"frame {number} of the animation has {frame.size} pixels, and the first one {first.size}")


def check_colours(first: Picture, frame: Picture, number: int) -> None:
    """Check that a frame, counted from 1 on, has the colour tags of the first one, which are those of the file.

    Raises:
        PictureError: it has not.
    """
    of_file, own = (replace(picture.colour, intent=None) for picture in (first, frame))
    for_grey = replace(of_file, icc=of_file.icc and profile_for(of_file.icc, grey=True))
    if own != of_file and not (frame.grey and own == for_grey):
        raise PictureError(
            f"frame {number} of the animation has other colour tags than the first one, and the file has them once",
            hint="convert the frames to the same colour space first",
        )


def like_first(first: Picture, frame: Picture, number: int) -> Picture:
    """Return a frame, counted from 1 on, with the channels of the first one.

    Raises:
        PictureError: it has another size, other colour tags, or colours or transparency that the first one has not.
    """
    check_size(first, frame, number)
    check_colours(first, frame, number)
    if frame.grey and not first.grey:
        frame = replace(frame, pixels=np.repeat(frame.pixels, 3, axis=2))
    if first.alpha is not None and frame.alpha is None:
        frame = replace(frame, alpha=np.full(frame.size, white(frame.pixels.dtype), frame.pixels.dtype))
    elif first.alpha is None and frame.opaque:
        frame = replace(frame, alpha=None)
    if frame.channels != first.channels or (frame.alpha is None) != (first.alpha is None):
        raise PictureError(
            f"frame {number} of the animation has colours or transparency, and the first one has none",
            hint="give all frames the same channels, or write a .webp file",
        )
    return frame
