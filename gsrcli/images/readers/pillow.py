"""What the readers built on Pillow share."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from PIL import Image

from gsrcli.errors import PictureError
from gsrcli.images.picture import Pixels

__all__ = ["colour_and_alpha", "unlimited_pillow"]

_UNLIMITED = 1 << 62  # pixels; not None, which a program may set meanwhile

_lifting = threading.Lock()
_lifted_by = 0
_pillow_limit: int | None = None


@contextmanager
def unlimited_pillow() -> Iterator[None]:
    """Disable Pillow's own limit while any thread decodes; `Limits` replaces it.

    Pillow's limit is one number for the whole process, and is also checked during decoding. One that the program sets
    meanwhile stays.
    """
    global _lifted_by, _pillow_limit
    with _lifting:
        if not _lifted_by:
            _pillow_limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, _UNLIMITED
        _lifted_by += 1
    try:
        yield
    finally:
        with _lifting:
            _lifted_by -= 1
            if not _lifted_by and Image.MAX_IMAGE_PIXELS == _UNLIMITED:
                Image.MAX_IMAGE_PIXELS = _pillow_limit


def colour_and_alpha(image: Image.Image) -> tuple[Pixels, Pixels | None]:
    """Return pixels and alpha of a loaded Pillow image of 8 bits in any mode but CMYK and Lab."""
    if image.mode in ("1", "L", "LA", "La"):
        mode, channels = "L", 1
    elif image.mode in ("P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "YCbCr"):
        mode, channels = "RGB", 3
    else:  # "I" and "F"
        raise PictureError("signed, 32-bit and floating-point pixels are not supported")
    if not image.has_transparency_data:
        values = np.asarray(image.convert(mode))
        return values.reshape(*values.shape[:2], channels), None
    values = np.asarray(image.convert(mode + "A"))
    return values[..., :channels], values[..., channels]
