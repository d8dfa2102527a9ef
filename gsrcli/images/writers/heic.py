"""Encode HEIC files with pillow-heif, which brings libheif and x265."""

from __future__ import annotations

import io
from typing import BinaryIO

from gsrcli.images.extras import load_extra
from gsrcli.images.isobmff import Item, pack_heif, parse_heif
from gsrcli.images.picture import Pixels
from gsrcli.images.strips import Strips, in_memory
from gsrcli.images.writers.encoding import Encoding
from gsrcli.images.writers.heif import described, to_ten_bits

__all__ = ["encode_heic"]

_LOSSLESS = -1
_PRESET = "medium"  # half the time of pillow-heif's default, slow, and files a fortieth larger
_IDENTITY, _BT601 = 0, 6  # matrices


def encode_heic(file: BinaryIO, strips: Strips, encoding: Encoding) -> None:
    """Write a picture as a HEIC file of 8 or 10 bits, with its colour tags, EXIF and XMP.

    Colour has half its resolution, as nearly all programs expect it; all of it without loss.

    Raises:
        PictureError: pillow-heif is not installed.
    """
    picture = in_memory(strips)
    colours = picture.pixels[..., 0] if picture.grey else picture.pixels
    alpha = None if picture.alpha is None else _coded(picture.alpha, encoding)
    heif = described(_coded(colours, encoding), alpha, picture.colour, picture.metadata)
    file.write(pack_heif(heif, b"heix" if picture.bits > 8 or encoding.lossless else b"heic", b"mif1"))


def _coded(values: Pixels, encoding: Encoding) -> Item:
    """Return ``(H, W)`` or ``(H, W, 3)`` as a coded picture."""
    height, width = values.shape[:2]
    mode = ("L" if values.ndim == 2 else "RGB") + (";16" if values.itemsize == 2 else "")
    if values.itemsize == 2:
        values = to_ten_bits(values) << 6  # of which the encoder takes the upper 10 bits
    file = io.BytesIO()
    load_extra("pillow_heif").encode(
        mode,
        (width, height),
        values.tobytes(),
        file,
        quality=_LOSSLESS if encoding.lossless else encoding.quality_in("HEIF"),
        chroma=444 if encoding.lossless else 420,
        matrix_coefficients=_IDENTITY if encoding.lossless and values.ndim == 3 else _BT601,
        color_primaries=1,
        transfer_characteristics=13,
        full_range_flag=1,
        enc_params={"preset": _PRESET},
    )
    heif = parse_heif(file.getvalue())
    return heif.items[heif.primary]
