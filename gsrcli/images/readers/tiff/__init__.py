"""Read TIFF files: classic and BigTIFF, of any depth and kind of colours that photographs and maps have."""

from __future__ import annotations

from gsrcli.images.readers.tiff.source import TiffSource

__all__ = ["TiffSource"]
