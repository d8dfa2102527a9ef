"""Read PNG files."""

from __future__ import annotations

import zlib

import numpy as np

from gsrcli.images.ledger import Entry
from gsrcli.images.picture import Pixels
from gsrcli.images.readers.opencv import decode_sixteen_bits
from gsrcli.images.readers.pillow import PillowSource, colour_and_alpha
from gsrcli.images.readers.source import Limits

__all__ = ["PngSource"]

_MAX_XMP = 1 << 24


class PngSource(PillowSource):
    """A PNG file."""

    format = "PNG"
    formats = ("PNG",)

    def __init__(self, data: bytes, limits: Limits) -> None:
        self._late = _late_metadata(data)
        super().__init__(data, limits)

    def orientation(self) -> int:
        for name, value in self._late.items():
            self.image.info.setdefault(name, value)
        return super().orientation()

    def decode(self) -> tuple[Pixels, Pixels | None, list[Entry]]:
        bits, kind = self.data[24], self.data[25]
        if bits < 16:
            self.image.load()
            if self.image.mode == "L":
                self._scale_transparent_value(bits)
            return *colour_and_alpha(self.image), []
        if self.image.mode.startswith("I"):
            self.image.load()
            values = np.asarray(self.image).astype(np.uint16)[..., None]
            key = self.image.info.get("transparency")
            alpha = None if key is None else np.where(values[..., 0] == key, 0, 65535).astype(np.uint16)
            return values, alpha, []
        self.image.verify()  # damage is reported here, without libpng's own messages on the terminal
        decoded = decode_sixteen_bits(self.data)
        alpha = decoded[..., 3] if decoded.shape[2] == 4 else None
        grey = kind == 4  # grey and alpha, which OpenCV spreads over four channels
        return decoded[..., : 1 if grey else 3], alpha, []

    def _scale_transparent_value(self, bits: int) -> None:
        """Scale the transparent value of grey of 2 or 4 bits to 255, as Pillow does only with the pixels."""
        value = self.image.info.get("transparency")
        if value is not None and value < 2**bits < 256:
            self.image.info["transparency"] = value * 255 // (2**bits - 1)


def _late_metadata(data: bytes) -> dict[str, bytes]:
    """Return EXIF and XMP, which some programs write after the pixels, where Pillow reads them only after decoding."""
    found: dict[str, bytes] = {}
    at = 8
    while len(head := data[at : at + 8]) == 8 and head[4:] != b"IEND":
        length, name = int.from_bytes(head[:4], "big"), head[4:]
        if name == b"eXIf":
            found.setdefault("exif", data[at + 8 : at + 8 + length])
        elif name == b"iTXt" and (packet := _xmp_in_text(data[at + 8 : at + 8 + length])):
            found.setdefault("xmp", packet)
        at += 12 + length  # past the checksum
    return found


def _xmp_in_text(chunk: bytes) -> bytes | None:
    """Return the XMP packet in an iTXt chunk: keyword, compression flag, method, language, translated keyword, text."""
    keyword, _, rest = chunk.partition(b"\0")
    fields = rest[2:].split(b"\0", 2)
    if keyword != b"XML:com.adobe.xmp" or len(fields) < 3:
        return None
    try:
        return zlib.decompressobj().decompress(fields[2], _MAX_XMP) if rest[0] else fields[2]
    except zlib.error:
        return None
