"""Encode WebP files."""

from __future__ import annotations

from gsrcli.images.picture import Picture
from gsrcli.images.writers.encoding import Encoding
from gsrcli.images.writers.pillow import encoded, metadata_options, pillow_image

__all__ = ["encode_webp"]

_QUALITY = 95


def encode_webp(picture: Picture, encoding: Encoding) -> bytes:
    """Encode a picture as a WebP file, with its profile, EXIF and XMP."""
    image, icc = pillow_image(picture, grey=False)
    return encoded(image, "WEBP", quality=encoding.quality or _QUALITY, **metadata_options(picture, icc))
