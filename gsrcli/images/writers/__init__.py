"""Encoders, one for each output format."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import BinaryIO

from gsrcli.images.strips import Strips
from gsrcli.images.writers.avif import encode_avif, encode_avif_animation
from gsrcli.images.writers.bmp import encode_bmp
from gsrcli.images.writers.encoding import Encoding
from gsrcli.images.writers.gif import encode_gif, encode_gif_animation
from gsrcli.images.writers.heic import encode_heic
from gsrcli.images.writers.jpeg import encode_jpeg
from gsrcli.images.writers.jxl import encode_jxl
from gsrcli.images.writers.png import encode_png, encode_png_animation
from gsrcli.images.writers.tiff import encode_tiff, encode_tiff_pages
from gsrcli.images.writers.webp import encode_webp, encode_webp_animation

__all__ = ["ANIMATIONS", "ENCODERS", "PAGES", "Encoding"]

ENCODERS: Mapping[str, Callable[[BinaryIO, Strips, Encoding], None]] = {
    "PNG": encode_png,
    "JPEG": encode_jpeg,
    "WEBP": encode_webp,
    "TIFF": encode_tiff,
    "BMP": encode_bmp,
    "AVIF": encode_avif,
    "GIF": encode_gif,
    "HEIF": encode_heic,
    "JXL": encode_jxl,
}
"""They write a picture, fitted to the format, to a file from its start on, in which they may seek.

They raise `PictureError` without the file's name. Those of formats that are never lossy take no notice of the encoding.
"""

ANIMATIONS: Mapping[str, Callable[[BinaryIO, Iterable[Strips], int, Encoding], None]] = {
    "PNG": encode_png_animation,
    "WEBP": encode_webp_animation,
    "AVIF": encode_avif_animation,
    "GIF": encode_gif_animation,
}
"""They write the frames of an animation, which are consumed one by one, and its number of loops (0 for ever)."""

PAGES: Mapping[str, Callable[[BinaryIO, Iterable[Strips], Encoding], None]] = {"TIFF": encode_tiff_pages}
"""They write pages, each with its own size and metadata, which are consumed one by one."""
