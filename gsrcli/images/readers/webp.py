"""Read WebP files."""

from __future__ import annotations

from gsrcli.images.picture import Origin
from gsrcli.images.readers.pillow import PillowSource
from gsrcli.images.readers.source import Limits
from gsrcli.size import Size

__all__ = ["WebpSource"]


class WebpSource(PillowSource):
    """A WebP file."""

    format = "WEBP"
    formats = ("WEBP",)

    def __init__(self, data: bytes, limits: Limits) -> None:
        limits.check(_canvas(data))  # Pillow allocates the canvas on opening
        super().__init__(data, limits)

    def origin(self) -> Origin:
        return Origin(self.format, lossless=self.data[12:16] == b"VP8L")


def _canvas(data: bytes) -> Size:
    """Return the canvas size in the extended header of a WebP file; (0, 0) without one, as sides then end at 16383."""
    if data[12:16] != b"VP8X" or len(data) < 30:
        return Size(0, 0)
    width, height = (1 + int.from_bytes(data[at : at + 3], "little") for at in (24, 27))
    return Size(height, width)
