"""Read JPEG files."""

from __future__ import annotations

from gsrcli.images.picture import Origin
from gsrcli.images.readers.pillow import PillowSource

__all__ = ["JpegSource"]


class JpegSource(PillowSource):
    """A JPEG file."""

    format = "JPEG"
    formats = ("JPEG",)

    def frames(self) -> tuple[int, bool]:
        return 1, False  # a photo may be followed by previews, depth or gain maps, as phones write it

    def origin(self) -> Origin:
        return Origin(self.format, lossless=False)
