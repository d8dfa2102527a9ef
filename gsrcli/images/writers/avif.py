"""Encode AVIF files."""

from __future__ import annotations

from gsrcli.images.picture import Picture
from gsrcli.images.writers.encoding import Encoding
from gsrcli.images.writers.pillow import encoded, metadata_options, pillow_image

__all__ = ["encode_avif"]

_QUALITY = 90
_SPEED = 8  # of 10: half the time of the default, 6, and files a sixth larger


def encode_avif(picture: Picture, encoding: Encoding) -> bytes:
    """Encode a picture as an AVIF file, with colour at full resolution, its profile, EXIF and XMP."""
    image, icc = pillow_image(picture, grey=True)
    return encoded(
        image,
        "AVIF",
        quality=encoding.quality or _QUALITY,
        subsampling="4:0:0" if image.mode == "L" else "4:4:4",
        speed=_SPEED,
        **metadata_options(picture, icc),
    )
