"""Read AVIF files."""

from __future__ import annotations

from gsrcli.images.picture import Origin
from gsrcli.images.readers.pillow import PillowSource

__all__ = ["AvifSource"]


class AvifSource(PillowSource):
    """An AVIF file."""

    format = "AVIF"
    formats = ("AVIF",)

    def origin(self) -> Origin:
        return Origin(self.format, lossless=False)
