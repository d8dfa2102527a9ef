"""Readers, one for each input format, imported when the first file needs it: all of them together take long."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module

from gsrcli.errors import PictureError
from gsrcli.images.content import Content
from gsrcli.images.extras import pillow_has
from gsrcli.images.readers.pillow import unlimited_pillow
from gsrcli.images.readers.signatures import (
    JP2,
    JPEG2000_CODESTREAM,
    JXL,
    PNG,
    TIFF,
    begins_like_avif,
    begins_like_heif,
    begins_like_ico,
    begins_like_pnm,
)
from gsrcli.images.readers.source import DAMAGED, Limits, Source

__all__ = ["DAMAGED", "Limits", "Source", "open_source", "unlimited_pillow"]


def _begins_like_tga(data: Content) -> bool:
    from gsrcli.images.readers.tga import begins_like_tga

    return begins_like_tga(data)


_READERS: Mapping[str, tuple[Callable[[Content], bool], str]] = {
    "PNG": (lambda data: data.startswith(PNG), "png.PngSource"),
    "JPEG": (lambda data: data.startswith(b"\xff\xd8\xff"), "jpeg.JpegSource"),
    "TIFF": (lambda data: data.startswith(TIFF), "tiff.TiffSource"),
    "BMP": (lambda data: data.startswith(b"BM"), "bmp.BmpSource"),
    "GIF": (lambda data: data.startswith(b"GIF8"), "gif.GifSource"),
    "WEBP": (lambda data: data.startswith(b"RIFF") and data[8:12] == b"WEBP", "webp.WebpSource"),
    "AVIF": (begins_like_avif, "avif.AvifSource"),
    "HEIF": (begins_like_heif, "heic.HeicSource"),
    "JXL": (lambda data: data.startswith(JXL), "jxl.JxlSource"),
    "PPM": (begins_like_pnm, "pnm.PnmSource"),
    "ICO": (begins_like_ico, "ico.IcoSource"),
    "JPEG2000": (lambda data: data.startswith((JP2, JPEG2000_CODESTREAM)), "jpeg2000.Jpeg2000Source"),
    "TGA": (_begins_like_tga, "tga.TgaSource"),  # last, as it has no signature
}
"""By format: whether a file begins like it, and the module and class of its reader."""


def open_source(data: Content, limits: Limits) -> Source:
    """Open the content of a picture file with the reader of its format, which its first bytes tell.

    Raises whatever the readers raise; see `Source`.
    """
    if not data:
        raise PictureError("the file is empty")
    supported = [form for form in _READERS if pillow_has(form)]
    for form in supported:
        begins_like, reader = _READERS[form]
        if begins_like(data):
            source = _imported(reader)
            return source(data if source.by_parts else data[:], limits)
    raise PictureError(f"it is not a picture in a supported format ({', '.join(supported)})")


def _imported(reader: str) -> type[Source]:
    module, _, name = reader.partition(".")
    return getattr(import_module(f"{__name__}.{module}"), name)
