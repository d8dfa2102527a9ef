"""Read GIF files."""

from __future__ import annotations

from gsrcli.images.readers.pillow import PillowSource

__all__ = ["GifSource"]


class GifSource(PillowSource):
    """A GIF file."""

    format = "GIF"
    formats = ("GIF",)
