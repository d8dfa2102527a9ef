"""Readers, one for each input format."""

from __future__ import annotations

from collections.abc import Callable

from PIL import features

from gsrcli.errors import PictureError
from gsrcli.images.readers.avif import AvifSource
from gsrcli.images.readers.bmp import BmpSource
from gsrcli.images.readers.gif import GifSource
from gsrcli.images.readers.jpeg import JpegSource
from gsrcli.images.readers.pillow import unlimited_pillow
from gsrcli.images.readers.png import PngSource
from gsrcli.images.readers.source import DAMAGED, Limits, Source
from gsrcli.images.readers.tiff import RAW_MAGIC, TiffSource
from gsrcli.images.readers.webp import WebpSource

__all__ = ["DAMAGED", "Limits", "Source", "open_source", "unlimited_pillow"]

_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+", *RAW_MAGIC)
_AVIF = (b"avif", b"avis", b"mif1", b"msf1")

_READERS: tuple[tuple[type[Source], Callable[[bytes], bool]], ...] = (
    (PngSource, lambda data: data.startswith(b"\x89PNG\r\n\x1a\n")),
    (JpegSource, lambda data: data.startswith(b"\xff\xd8\xff")),
    (TiffSource, lambda data: data.startswith(_TIFF)),
    (BmpSource, lambda data: data.startswith(b"BM")),
    (GifSource, lambda data: data.startswith(b"GIF8")),
    (WebpSource, lambda data: data.startswith(b"RIFF") and data[8:12] == b"WEBP"),
    (AvifSource, lambda data: data[4:8] == b"ftyp" and data[8:12] in _AVIF),
)
_NEEDS = {"WEBP": "webp", "AVIF": "avif"}  # Pillow may have been built without them


def open_source(data: bytes, limits: Limits) -> Source:
    """Open the content of a picture file with the reader of its format, which its first bytes tell.

    Raises whatever the readers raise; see `Source`.
    """
    if not data:
        raise PictureError("the file is empty")
    readers = [(r, begins) for r, begins in _READERS if r.format not in _NEEDS or features.check(_NEEDS[r.format])]
    for reader, begins_like in readers:
        if begins_like(data):
            return reader(data, limits)
    supported = ", ".join(reader.format for reader, _ in readers)
    raise PictureError(f"it is not a picture in a supported format ({supported})")
