"""Encode BMP files."""

from __future__ import annotations

from dataclasses import replace

from gsrcli.images.picture import Picture
from gsrcli.images.writers.encoding import Encoding
from gsrcli.images.writers.pillow import encoded, pillow_image

__all__ = ["encode_bmp"]


def encode_bmp(picture: Picture, encoding: Encoding) -> bytes:
    """Encode a picture as a BMP file, with its dpi."""
    del encoding  # BMP is never lossy
    image, _ = pillow_image(replace(picture, alpha=None), grey=True)
    options = {"dpi": picture.metadata.dpi} if picture.metadata.dpi else {}
    return encoded(image, "BMP", **options)
