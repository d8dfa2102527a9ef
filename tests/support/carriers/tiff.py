"""TIFF files."""

from __future__ import annotations

import io
import struct
from collections.abc import Sequence
from typing import Any

import numpy as np
import tifffile
from PIL import Image

from support.carriers.parts import DPI_CM, HEIGHT, IPTC, PROFILE, RESOURCES, XMP, pixels, saved
from support.profiles import cmyk_profile

__all__ = ["MAKERS"]


def _tiff(values: np.ndarray, photometric: str, big: bool = False, tags: Sequence[Any] = (), **options: Any) -> bytes:
    file = io.BytesIO()
    with tifffile.TiffWriter(file, bigtiff=big, byteorder=">") as writer:
        writer.write(values, photometric=photometric, metadata=None, extratags=tags, **options)
    return file.getvalue()


_BYTE, _ASCII, _SHORT, _LONG, _UNDEFINED, _DOUBLE = 1, 2, 3, 4, 7, 12
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
        (290, _SHORT, 2, (0, 2000), True),
        (321, _SHORT, 2, (0, 255), True),
        (343, _BYTE, 4, b"path", True),
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


def tiff_photo() -> bytes:
    """Directories of EXIF and GPS, on its side, with a thumbnail and a mask of what is transparent."""
    file = io.BytesIO()
    turned = (274, _SHORT, 1, 6, True)
    places = [(tag, _LONG, 1, tag, True) for tag in (65001, 65002)]  # tifffile does not write directories
    with tifffile.TiffWriter(file, byteorder=">") as writer:
        writer.write(pixels(), photometric="rgb", metadata=None, extratags=[turned, *places], software="Tiff-Software")
        writer.write(pixels()[::4, ::4], photometric="rgb", metadata=None, subfiletype=1)
        mask = pixels(1)[..., 0] > 127
        writer.write(mask, photometric=4, metadata=None, subfiletype=4)
    data = file.getvalue()
    for place, name, tag, text in ((65001, 34665, 0xA434, b"Exif-Lens\0"), (65002, 34853, 0x1D, b"2026:01:02\0")):
        data += bytes(len(data) % 2)
        entry = struct.pack(">HHII", name, _LONG, 1, len(data))
        data = data.replace(struct.pack(">HHII", place, _LONG, 1, place), entry)
        data += struct.pack(">HHHIII", 1, tag, _ASCII, len(text), len(data) + 18, 0) + text
    return data


def tiff_premultiplied() -> bytes:
    values = pixels(4)
    values[..., :3] = values[..., :3].astype(int) * values[..., 3:] // 255
    return _tiff(values, "rgb", extrasamples=["assocalpha"], resolution=(1, 2), resolutionunit="NONE", tags=[_TRANSFER])


def tiff_tiles() -> bytes:
    """BigTIFF of planes of tiles, premultiplied, with a smaller copy in a directory below."""
    values = pixels(4, np.uint16)
    values[..., :3] = values[..., :3].astype(int) * values[..., 3:] // 65535
    file = io.BytesIO()
    options = {"photometric": "rgb", "planarconfig": "separate", "extrasamples": ["assocalpha"], "metadata": None}
    options |= {"tile": (16, 16), "compression": "zlib", "predictor": True}
    with tifffile.TiffWriter(file, bigtiff=True) as writer:
        planes = np.moveaxis(values, 2, 0)
        writer.write(planes.copy(), subifds=1, iccprofile=PROFILE, **options)
        writer.write(planes[:, ::2, ::2].copy(), subfiletype=1, **options)
    return file.getvalue()


def tiff_palette() -> bytes:
    """Indices of 16-bit colours, one of which stands for no data."""
    colours = np.moveaxis(pixels(3, np.uint16).reshape(-1, 3)[:256], 1, 0).copy()
    return _tiff(pixels(1)[..., 0], "palette", colormap=colours, tags=(*_GEO, (42113, _ASCII, 2, "7", True)))


def tiff_of_numbers() -> bytes:
    return _tiff(pixels(1, np.float32)[..., 0] * 900 - 100, "minisblack", big=True, tags=_GEO)


def tiff_elevation() -> bytes:
    """Signed numbers, one of which stands for no data."""
    heights = pixels(1, np.uint16)[..., 0].view(np.int16)
    nodata = str(heights[3, 4])
    tags = [
        *_GEO,
        (42112, _ASCII, 14, "<Gdal-Words />", True),
        (42113, _ASCII, len(nodata) + 1, nodata, True),
        (50844, _DOUBLE, 92, (1.0,) * 92, True),
    ]
    return _tiff(heights, "minisblack", tags=tags, tile=(16, 16))


def tiff_cmyk() -> bytes:
    return _tiff(pixels(4, np.uint16), "separated")


def tiff_inks() -> bytes:
    """16 bits of CMYK, a spot colour and alpha."""
    options = {"extrasamples": ["unspecified", "unassalpha"], "iccprofile": cmyk_profile()}
    return _tiff(pixels(6, np.uint16), "separated", tags=[(333, _ASCII, 10, "Tiff-Inks", True)], **options)


def tiff_lab() -> bytes:
    return _tiff(pixels(4, np.uint16), "cielab", extrasamples=["unassalpha"])


def tiff_icclab() -> bytes:
    """Planes of tiles of 8 bits, whose a* and b* start at 128."""
    return _tiff(np.moveaxis(pixels(), 2, 0).copy(), "icclab", planarconfig="separate", tile=(16, 16))


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


def tiff_fax() -> bytes:
    """One bit, white as zero, coded by T.6; scans of faxes have more dots across than down."""
    image = Image.fromarray(pixels(1)[..., 0] > 127)
    tags = {262: 0, 269: "Tiff-Document", 282: 204.0, 283: 196.0, 296: 2, 34909: "Fax-Number"}
    return saved(image, "TIFF", compression="group4", tiffinfo=tags)


MAKERS = (
    tiff,
    tiff_photo,
    tiff_premultiplied,
    tiff_tiles,
    tiff_palette,
    tiff_of_numbers,
    tiff_elevation,
    tiff_cmyk,
    tiff_inks,
    tiff_lab,
    tiff_icclab,
    tiff_ome,
    tiff_imagej,
    tiff_pages,
    tiff_fax,
)
