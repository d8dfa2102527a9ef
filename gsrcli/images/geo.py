"""Scale GeoTIFF tags with their picture (OGC 19-008r4)."""

from __future__ import annotations

import struct
from typing import TypeGuard

from gsrcli.images.directories import Tags, Value

__all__ = ["GEO_TAGS", "geo_resized", "without_nodata"]

_PIXEL_SCALE, _TIE_POINTS, _TRANSFORMATION, _KEYS = 33550, 33922, 34264, 34735
_GDAL_METADATA, _GDAL_NODATA = 42112, 42113
GEO_TAGS = (_PIXEL_SCALE, _TIE_POINTS, _TRANSFORMATION, _KEYS, 34736, 34737, _GDAL_METADATA, _GDAL_NODATA)
"""Where the pixels lie (scale, tie points, transformation), in what coordinates (three tags of keys), GDAL's tags."""

_RASTER_TYPE_KEY, _PIXEL_IS_POINT = 1025, 2
_DOUBLE = 12


def geo_resized(geo: Tags, scale: tuple[float, float]) -> Tags:
    """Return the GeoTIFF tags of a picture for its enlargement, which covers the same area.

    Args:
        geo: the tags for the picture.
        scale: scale factors (y, x).
    """
    y, x = scale
    # Tags count pixels from the outer corner of the first pixel, or from its centre.
    origin = 0.5 if _counts_from_centres(geo) else 0.0
    scaled = dict(geo)
    if pixel := _doubles(geo.get(_PIXEL_SCALE), 3):
        scaled[_PIXEL_SCALE] = _packed([pixel[0] / x, pixel[1] / y, *pixel[2:]])
    if points := _doubles(geo.get(_TIE_POINTS), 6):
        for at in range(0, len(points) - 5, 6):
            points[at] = (points[at] + origin) * x - origin
            points[at + 1] = (points[at + 1] + origin) * y - origin
        scaled[_TIE_POINTS] = _packed(points)
    if matrix := _doubles(geo.get(_TRANSFORMATION), 16):
        for row in range(0, 12, 4):
            across, down = matrix[row] / x, matrix[row + 1] / y
            matrix[row + 3] += origin * (across - matrix[row] + down - matrix[row + 1])
            matrix[row], matrix[row + 1] = across, down
        scaled[_TRANSFORMATION] = _packed(matrix)
    return scaled


def without_nodata(geo: Tags) -> Tags:
    """Return the tags without the value that stands for no data."""
    return {tag: value for tag, value in geo.items() if tag != _GDAL_NODATA}


def _counts_from_centres(geo: Tags) -> bool:
    """Return whether the keys say PixelIsPoint."""
    keys = geo.get(_KEYS)
    if not _is_value(keys):
        return False
    shorts = struct.unpack(f"<{len(keys[2]) // 2}H", keys[2][: len(keys[2]) // 2 * 2])
    # a header of four, then (key, tag that holds its value, count, value)
    found = {shorts[at]: shorts[at + 3] for at in range(4, len(shorts) - 3, 4) if not shorts[at + 1]}
    return found.get(_RASTER_TYPE_KEY) == _PIXEL_IS_POINT


def _doubles(value: Value | Tags | None, least: int) -> list[float]:
    """Return the numbers of a tag; none if there are fewer than ``least``."""
    if not _is_value(value) or value[0] != _DOUBLE or len(value[2]) < 8 * least:
        return []
    return list(struct.unpack(f"<{len(value[2]) // 8}d", value[2]))


def _packed(numbers: list[float]) -> tuple[int, int, bytes]:
    return _DOUBLE, len(numbers), struct.pack(f"<{len(numbers)}d", *numbers)


def _is_value(value: Value | Tags | None) -> TypeGuard[Value]:
    return isinstance(value, tuple)
