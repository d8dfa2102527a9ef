"""TIFF files."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
import tifffile

from support.carriers.parts import DPI_CM, HEIGHT, IPTC, PROFILE, RESOURCES, XMP, pixels

__all__ = ["MAKERS"]


def _tiff(values: np.ndarray, photometric: str, big: bool = False, tags: Sequence[Any] = (), **options: Any) -> bytes:
    file = io.BytesIO()
    with tifffile.TiffWriter(file, bigtiff=big, byteorder=">") as writer:
        writer.write(values, photometric=photometric, metadata=None, extratags=tags, **options)
    return file.getvalue()


_ASCII, _SHORT, _UNDEFINED, _BYTE, _DOUBLE, _RATIONAL = 2, 3, 7, 1, 12, 5
_WORDS = {
    269: "Tiff-Document",
    270: "Tiff-Description",
    271: "Tiff-Make",
    272: "Tiff-Model",
    285: "Tiff-Page",
    306: "2026:01:02 03:04:05",
    315: "Tiff-Artist",
    316: "Tiff-Host",
    333: "Tiff-Inks",
    337: "Tiff-Target",
    33432: "Tiff-Copyright",
}
_GEO = (
    (33550, _DOUBLE, 3, (10.0, 10.0, 0.0), True),
    (33922, _DOUBLE, 6, (0.0, 0.0, 0.0, 500_000.0, 4_000_000.0, 0.0), True),
    (34735, _SHORT, 8, (1, 1, 0, 1, 1024, 0, 1, 1), True),
    (34737, _ASCII, 10, "Geo-Words|", True),
)

_TRANSFER = (301, _SHORT, 3 * 256, tuple(range(256)) * 3, True)


def tiff() -> bytes:
    tags = [(tag, _ASCII, len(word) + 1, word, True) for tag, word in _WORDS.items()]
    tags += [
        (700, _BYTE, len(XMP), XMP, True),
        (33723, _UNDEFINED, len(IPTC), IPTC, True),
        (34377, _BYTE, len(RESOURCES), RESOURCES, True),
        _TRANSFER,
        (37724, _UNDEFINED, 4, b"8BIM", True),
        (65000, _ASCII, 13, "Private-Word", True),
        *_GEO,
    ]
    return _tiff(
        pixels(5, np.uint16),
        "rgb",
        extrasamples=["unassalpha", "unspecified"],
        iccprofile=PROFILE,
        resolution=(DPI_CM, DPI_CM),
        resolutionunit="CENTIMETER",
        software="Tiff-Software",
        tags=tags,
    )


def tiff_premultiplied() -> bytes:
    values = pixels(4)
    values[..., :3] = values[..., :3].astype(int) * values[..., 3:] // 255
    return _tiff(values, "rgb", extrasamples=["assocalpha"], resolution=(1, 2), resolutionunit="NONE", tags=[_TRANSFER])


def tiff_of_numbers() -> bytes:
    return _tiff(pixels(1, np.float32)[..., 0] * 900 - 100, "minisblack", big=True, tags=_GEO)


def tiff_cmyk() -> bytes:
    return _tiff(pixels(4, np.uint16), "separated")


def tiff_ome() -> bytes:
    file = io.BytesIO()
    with tifffile.TiffWriter(file, ome=True) as writer:
        writer.write(pixels(1)[..., 0], metadata={"axes": "YX", "Name": "Ome-Words"})
    return file.getvalue()


def tiff_imagej() -> bytes:
    file = io.BytesIO()
    tifffile.imwrite(file, pixels(1, np.uint16)[..., 0], imagej=True, metadata={"Info": "ImageJ-Words"})
    return file.getvalue()


def tiff_pages() -> bytes:
    file = io.BytesIO()
    with tifffile.TiffWriter(file) as writer:
        for number in range(3):
            word = f"Page-Artist-{number}"
            writer.write(
                pixels(3, seed=number)[: HEIGHT - number],
                photometric="rgb",
                metadata=None,
                resolution=(100 + number, 100 + number),
                resolutionunit="INCH",
                extratags=[(315, _ASCII, len(word) + 1, word, True)],
            )
    return file.getvalue()


MAKERS = (
    tiff,
    tiff_premultiplied,
    tiff_of_numbers,
    tiff_cmyk,
    tiff_ome,
    tiff_imagej,
    tiff_pages,
)
