"""Encode JPEG files."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from gsrcli.errors import PictureError
from gsrcli.images.picture import Picture
from gsrcli.images.writers.encoding import Encoding
from gsrcli.images.writers.pillow import encoded, metadata_options, pillow_image

__all__ = ["encode_jpeg"]

_QUALITY = 95
_SEGMENT = 65533  # bytes


def encode_jpeg(picture: Picture, encoding: Encoding) -> bytes:
    """Encode a picture as a JPEG file, with colour at full resolution, its profile, EXIF, XMP and dpi.

    Raises:
        PictureError: a block of metadata is too long.
    """
    image, icc = pillow_image(replace(picture, alpha=None), grey=True)
    options: dict[str, Any] = metadata_options(picture, icc)
    for name, value, most in (
        ("EXIF", options.get("exif"), _SEGMENT),
        ("XMP", options.get("xmp"), _SEGMENT - 29),
    ):
        if value and len(value) > most:
            raise PictureError(
                f"JPEG cannot hold {len(value)} bytes of {name}", hint="add --strip-metadata, or write a .png file"
            )
    if picture.metadata.dpi:
        options["dpi"] = picture.metadata.dpi
    return encoded(image, "JPEG", quality=encoding.quality or _QUALITY, subsampling="4:4:4", **options)
