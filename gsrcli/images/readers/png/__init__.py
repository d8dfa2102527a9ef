"""Read PNG files and animations: their chunks, what those say, and the pixels."""

from __future__ import annotations

from gsrcli.images.readers.png.source import PngSource

__all__ = ["PngSource"]
