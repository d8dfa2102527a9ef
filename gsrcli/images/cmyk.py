"""Convert CMYK of 8 or 16 bits to sRGB."""

from __future__ import annotations

import numpy as np
from PIL import Image

from gsrcli.images.icc import profile_space
from gsrcli.images.ledger import Entry, Fate
from gsrcli.images.picture import Pixels, white
from gsrcli.images.srgb import to_srgb

__all__ = ["cmyk_to_srgb"]


def cmyk_to_srgb(inks: Pixels, icc: bytes | None) -> tuple[Pixels, Entry]:
    """Convert ``(H, W, 4)`` to sRGB of the same type through a colour profile, or by a formula if that is unusable.

    Returns:
        the pixels, and the entry of the ledger that says how they were converted.
    """
    if icc and profile_space(icc) == "CMYK":
        return to_srgb(inks, icc), Entry("CMYK", Fate.CONVERTED, "to sRGB through its profile")
    return _by_formula(inks), Entry("CMYK", Fate.CONVERTED, "to sRGB")


def _by_formula(inks: Pixels) -> Pixels:
    """Convert as if inks were ideal: what neither the ink nor black takes away."""
    if inks.dtype == np.uint8:
        return np.asarray(Image.fromarray(np.ascontiguousarray(inks), "CMYK").convert("RGB"))
    top = white(inks.dtype)
    left = top - inks.astype(np.uint32)
    rgb: Pixels = (left[..., :3] * left[..., 3:] // top).astype(inks.dtype)
    return rgb
