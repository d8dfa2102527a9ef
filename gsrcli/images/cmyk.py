"""Convert CMYK of 8 or 16 bits to sRGB."""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms

from gsrcli.images.picture import Pixels, white

__all__ = ["cmyk_to_srgb"]

_STEP = 15
"""Distance of the nodes of the table for 16 bits, in 8-bit values; a divisor of 255."""

_BLOCK_PIXELS = 1 << 18


def cmyk_to_srgb(inks: Pixels, icc: bytes | None) -> Pixels:
    """Convert ``(H, W, 4)`` to sRGB of the same type through a colour profile, or by a formula if that is unusable.

    LittleCMS, as it comes with Pillow, converts 8 bits. For 16 bits it fills a table, in which colours are interpolated
    linearly: they differ from those of LittleCMS in 16 bits by the rounding of the table to 8 bits, half of 1 / 255,
    and where a profile is very uneven by a little more, but keep the gradation.
    """
    transform = _transform(icc)
    if transform is None:
        return _by_formula(inks)
    if inks.dtype == np.uint8:
        return np.asarray(transform.apply(Image.fromarray(np.ascontiguousarray(inks), "CMYK")))
    return _interpolated(inks, _table(transform))


def _transform(icc: bytes | None) -> ImageCms.ImageCmsTransform | None:
    try:
        return ImageCms.buildTransform(
            ImageCms.ImageCmsProfile(io.BytesIO(icc or b"")),
            ImageCms.createProfile("sRGB"),
            "CMYK",
            "RGB",
            ImageCms.Intent.RELATIVE_COLORIMETRIC,
            ImageCms.Flags.BLACKPOINTCOMPENSATION,
        )
    except (OSError, ImageCms.PyCMSError):
        return None  # no profile, or a broken one


def _by_formula(inks: Pixels) -> Pixels:
    """Convert as if inks were ideal: what neither the ink nor black takes away. Rounded down, as Pillow does it."""
    top = white(inks.dtype)
    left = top - inks.astype(np.uint32)
    rgb: Pixels = (left[..., :3] * left[..., 3:] // top).astype(inks.dtype)
    return rgb


def _table(transform: ImageCms.ImageCmsTransform) -> NDArray[np.uint8]:
    """Return sRGB by amounts of cyan, magenta, yellow and black, in steps of _STEP: ``(n, n, n, n, 3)``."""
    nodes = np.arange(0, 256, _STEP, dtype=np.uint8)
    count = len(nodes)
    grid = np.stack(np.meshgrid(nodes, nodes, nodes, nodes, indexing="ij"), axis=-1)
    image = transform.apply(Image.fromarray(grid.reshape(count**2, count**2, 4), "CMYK"))
    return np.asarray(image).reshape(count, count, count, count, 3)


def _interpolated(inks: Pixels, table: NDArray[np.uint8]) -> Pixels:
    """Look up 16-bit inks in a table: linearly between the nodes of the simplex that each colour lies in."""
    count = len(table)
    flat_table = table.reshape(-1, 3).astype(np.float32)
    strides = count ** np.arange(3, -1, -1)
    flat = inks.reshape(-1, 4)
    rgb = np.empty((len(flat), 3), np.uint16)
    for start in range(0, len(flat), _BLOCK_PIXELS):
        positions = flat[start : start + _BLOCK_PIXELS] * np.float32((count - 1) / 65535)
        cells = np.minimum(positions.astype(np.int64), count - 2)
        fractions = positions - cells
        # Walk from the lowest corner of the cell to the highest, along the ink with the largest fraction first.
        order = np.argsort(-fractions, axis=1)
        falling = np.take_along_axis(fractions, order, axis=1)
        nodes = cells @ strides
        values = flat_table[nodes] * (1 - falling[:, :1])
        for step in range(4):
            nodes = nodes + strides[order[:, step]]
            weight = falling[:, step : step + 1] - (falling[:, step + 1 : step + 2] if step < 3 else 0)
            values += flat_table[nodes] * weight
        rgb[start : start + _BLOCK_PIXELS] = np.rint(values * 257)
    return rgb.reshape(*inks.shape[:2], 3)
