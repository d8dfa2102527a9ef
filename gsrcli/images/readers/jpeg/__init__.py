"""Read JPEG files: their markers, what those say, and the picture."""

from __future__ import annotations

from gsrcli.images.readers.jpeg.source import JpegSource

__all__ = ["JpegSource"]
