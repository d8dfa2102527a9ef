"""Read BMP files."""

from __future__ import annotations

from gsrcli.images.readers.pillow import PillowSource

__all__ = ["BmpSource"]


class BmpSource(PillowSource):
    """A BMP file."""

    format = "BMP"
    formats = ("BMP",)
