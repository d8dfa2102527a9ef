"""What the readers built on Pillow share."""

from __future__ import annotations

import io
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import ClassVar

import numpy as np
from PIL import Image, UnidentifiedImageError

from gsrcli.errors import PictureError
from gsrcli.images import exif, xmp
from gsrcli.images.colour import Colour
from gsrcli.images.icc import to_srgb
from gsrcli.images.ledger import Entry, Fate
from gsrcli.images.metadata import Metadata
from gsrcli.images.picture import Origin, Picture, Pixels
from gsrcli.images.readers.source import DAMAGED, Limits, Source
from gsrcli.size import Size

__all__ = ["PillowSource", "colour_and_alpha", "exif_block", "resolution", "unlimited_pillow", "upright", "xmp_packet"]

_lifting = threading.Lock()
_lifted_by = 0
_pillow_limit: int | None = None


@contextmanager
def unlimited_pillow() -> Iterator[None]:
    """Disable Pillow's own limit while any thread decodes; `Limits` replaces it.

    Pillow's limit is one number for the whole process, and is also checked during decoding.
    """
    global _lifted_by, _pillow_limit
    with _lifting:
        if not _lifted_by:
            _pillow_limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        _lifted_by += 1
    try:
        yield
    finally:
        with _lifting:
            _lifted_by -= 1
            if not _lifted_by:
                Image.MAX_IMAGE_PIXELS = _pillow_limit


class PillowSource(Source):
    """A file that Pillow decodes, 8 bits per channel. Readers of single formats override what differs."""

    formats: ClassVar[tuple[str, ...]]
    """Pillow's names of the formats to try."""

    def __init__(self, data: bytes, limits: Limits) -> None:
        self.data, self.limits = data, limits
        try:
            self.image: Image.Image = Image.open(io.BytesIO(data), formats=self.formats)
        except UnidentifiedImageError:
            raise PictureError(self.why_unidentified()) from None
        limits.check(self.stored_size())
        size = self.stored_size()
        self.size = size.transposed if self.orientation() > 4 else size
        self.count, self.animated = self.frames()

    def picture(self, index: int = 0) -> Picture:
        if self.count > 1:
            self.image.seek(index)
        orientation = self.orientation()
        colour, metadata = self.colour(), self.metadata()
        pixels, alpha, entries = self.decode()
        if any(entry.fate == Fate.CONVERTED for entry in entries):
            colour = replace(colour, icc=None)
        return Picture(
            pixels=upright(pixels, orientation),
            alpha=None if alpha is None else upright(alpha, orientation),
            colour=colour,
            metadata=metadata,
            ledger=tuple(entries),
            origin=self.origin(),
        )

    def why_unidentified(self) -> str:
        """Return why Pillow does not recognize a file that begins like one of this format."""
        return DAMAGED

    def stored_size(self) -> Size:
        """Return the size of the picture as stored, before it is turned upright."""
        return Size.from_pillow(self.image.size)

    def frames(self) -> tuple[int, bool]:
        """Return the number of pictures, and whether they are an animation."""
        if not getattr(self.image, "is_animated", False):
            return 1, False
        return int(getattr(self.image, "n_frames", 1)), True

    def orientation(self) -> int:
        """Return the orientation in EXIF, otherwise in XMP, 1 to 8; 1 if neither has one."""
        return (
            exif.exif_orientation(exif_block(self.image) or b"")
            or xmp.xmp_orientation(xmp_packet(self.image) or b"")
            or 1
        )

    def colour(self) -> Colour:
        """Return the colour tags."""
        icc = self.image.info.get("icc_profile")
        return Colour(icc=icc if isinstance(icc, bytes) and icc else None)

    def metadata(self) -> Metadata:
        """Return the metadata, with orientation 1."""
        block, packet = exif_block(self.image), xmp_packet(self.image)
        return Metadata(
            exif=block and exif.exif_upright(block),
            xmp=packet and xmp.xmp_upright(packet),
            dpi=resolution(self.image, self.orientation()),
        )

    def origin(self) -> Origin:
        """Return how the file was encoded."""
        return Origin(self.format)

    def decode(self) -> tuple[Pixels, Pixels | None, list[Entry]]:
        """Return pixels and alpha as stored, and what could not be kept."""
        self.image.load()
        if self.image.mode in ("CMYK", "LAB"):
            icc = self.colour().icc
            entry = Entry(self.image.mode, Fate.CONVERTED, "to sRGB through its profile" if icc else "to sRGB")
            return *colour_and_alpha(to_srgb(self.image, icc)), [entry]
        return *colour_and_alpha(self.image), []


def exif_block(image: Image.Image) -> bytes | None:
    """Return the EXIF block of any format but TIFF, as stored."""
    block = image.info.get("exif")
    # Old versions of ImageMagick wrote EXIF to PNG files like this.
    if block is None and "Raw profile type exif" in image.info:
        block = bytes.fromhex("".join(str(image.info["Raw profile type exif"]).split("\n")[3:]))
    return block.removeprefix(b"Exif\0\0") if isinstance(block, bytes) else None


def xmp_packet(image: Image.Image) -> bytes | None:
    """Return the XMP packet, as stored."""
    packet = image.info.get("xmp") or image.info.get("XML:com.adobe.xmp")
    return packet.encode() if isinstance(packet, str) else packet if isinstance(packet, bytes) else None


def resolution(image: Image.Image, orientation: int) -> tuple[float, float] | None:
    """Return the pixels per inch of the upright picture, horizontal and vertical."""
    dpi = image.info.get("dpi")
    if not isinstance(dpi, tuple) or len(dpi) != 2:
        return None
    x, y = (float(value) for value in (dpi if orientation <= 4 else dpi[::-1]))
    return (x, y) if 0 < x < 65536 and 0 < y < 65536 else None  # some files contain nan and inf


def colour_and_alpha(image: Image.Image) -> tuple[Pixels, Pixels | None]:
    """Return pixels and alpha of a loaded Pillow image of 8 bits in any mode but CMYK and Lab."""
    if image.mode in ("1", "L", "LA", "La"):
        mode, channels = "L", 1
    elif image.mode in ("P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "YCbCr"):
        mode, channels = "RGB", 3
    else:  # "I" and "F"
        raise PictureError("signed, 32-bit and floating-point pixels are not supported")
    if not image.has_transparency_data:
        values = np.asarray(image.convert(mode))
        return values.reshape(*values.shape[:2], channels), None
    values = np.asarray(image.convert(mode + "A"))
    return values[..., :channels], values[..., channels]


def upright(array: Pixels, orientation: int) -> Pixels:
    """Turn stored pixels upright; return them contiguous and writable."""
    if orientation > 4:
        array = array.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        array = array[:, ::-1]
    if orientation in (3, 4, 7, 8):
        array = array[::-1]
    return np.require(array, requirements=["C", "W"])  # Pillow's own memory is read-only
