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
    lossless = encoding.lossless or (encoding.quality is None and _read_without_loss(picture))
    options = metadata_options(picture, icc)
    return encoded(image, "WEBP", quality=encoding.quality or _QUALITY, lossless=lossless, **options)


def _read_without_loss(picture: Picture) -> bool:
    return picture.origin is not None and picture.origin.format == "WEBP" and picture.origin.lossless
