"""Encoders, one for each output format."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from gsrcli.images.picture import Picture
from gsrcli.images.writers.avif import encode_avif
from gsrcli.images.writers.bmp import encode_bmp
from gsrcli.images.writers.encoding import Encoding
from gsrcli.images.writers.gif import encode_gif
from gsrcli.images.writers.heic import encode_heic
from gsrcli.images.writers.jpeg import encode_jpeg
from gsrcli.images.writers.jxl import encode_jxl
from gsrcli.images.writers.png import encode_png
from gsrcli.images.writers.tiff import encode_tiff
from gsrcli.images.writers.webp import encode_webp

__all__ = ["ENCODERS", "Encoding"]

ENCODERS: Mapping[str, Callable[[Picture, Encoding], bytes]] = {
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
"""From a picture fitted to the format to its file's content. They raise `PictureError` without the file's name."""
