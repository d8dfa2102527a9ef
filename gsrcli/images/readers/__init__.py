"""Readers, one for each input format."""

from __future__ import annotations

from collections.abc import Callable

from gsrcli.errors import PictureError
from gsrcli.images.extras import pillow_has
from gsrcli.images.readers.avif import AvifSource
from gsrcli.images.readers.bmp import BmpSource
from gsrcli.images.readers.gif import GifSource
from gsrcli.images.readers.heic import HeicSource
from gsrcli.images.readers.ico import IcoSource, begins_like_ico
from gsrcli.images.readers.jpeg import JpegSource
from gsrcli.images.readers.jpeg2000 import Jpeg2000Source, begins_like_jpeg2000
from gsrcli.images.readers.jxl import JxlSource
from gsrcli.images.readers.pillow import unlimited_pillow
from gsrcli.images.readers.png import PngSource
from gsrcli.images.readers.pnm import PnmSource, begins_like_pnm
from gsrcli.images.readers.source import DAMAGED, Limits, Source
from gsrcli.images.readers.tga import TgaSource, begins_like_tga
from gsrcli.images.readers.tiff import RAW_MAGIC, TiffSource
from gsrcli.images.readers.webp import WebpSource

__all__ = ["DAMAGED", "Limits", "Source", "open_source", "unlimited_pillow"]

_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+", *RAW_MAGIC)
_AVIF = (b"avif", b"avis")
_HEIC = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs")
_HEIF = (*_HEIC, b"mif1", b"msf1", b"mif2", b"mif3")
_JXL = (b"\xff\x0a", b"\0\0\0\x0cJXL \r\n\x87\n")


def _brands(data: bytes) -> list[bytes]:
    """Return the brands of an ISO base media file, the major one first."""
    if data[4:8] != b"ftyp":
        return []
    stop = min(int.from_bytes(data[:4], "big"), len(data), 512)
    return [data[8:12], *(data[at : at + 4] for at in range(16, stop, 4))]


def _is_avif(data: bytes) -> bool:
    brands = _brands(data)
    return bool(brands) and brands[0] not in _HEIC and any(brand in _AVIF for brand in brands)


def _is_heif(data: bytes) -> bool:
    return any(brand in _HEIF for brand in _brands(data))


_READERS: tuple[tuple[type[Source], Callable[[bytes], bool]], ...] = (
    (PngSource, lambda data: data.startswith(b"\x89PNG\r\n\x1a\n")),
    (JpegSource, lambda data: data.startswith(b"\xff\xd8\xff")),
    (TiffSource, lambda data: data.startswith(_TIFF)),
    (BmpSource, lambda data: data.startswith(b"BM")),
    (GifSource, lambda data: data.startswith(b"GIF8")),
    (WebpSource, lambda data: data.startswith(b"RIFF") and data[8:12] == b"WEBP"),
    (AvifSource, _is_avif),
    (HeicSource, _is_heif),
    (JxlSource, lambda data: data.startswith(_JXL)),
    (PnmSource, begins_like_pnm),
    (IcoSource, begins_like_ico),
    (Jpeg2000Source, begins_like_jpeg2000),
    (TgaSource, begins_like_tga),  # last, as it has no signature
)


def open_source(data: bytes, limits: Limits) -> Source:
    """Open the content of a picture file with the reader of its format, which its first bytes tell.

    Raises whatever the readers raise; see `Source`.
    """
    if not data:
        raise PictureError("the file is empty")
    readers = [(r, begins) for r, begins in _READERS if pillow_has(r.format)]
    for reader, begins_like in readers:
        if begins_like(data):
            return reader(data, limits)
    supported = ", ".join(reader.format for reader, _ in readers)
    raise PictureError(f"it is not a picture in a supported format ({supported})")
