"""Recognize camera raw files, most of which are TIFF files: a preview in front, and the sensor's values behind it."""

from __future__ import annotations

import re
from contextlib import suppress

from gsrcli.errors import PictureError
from gsrcli.images.directories import Entry, MalformedError, Tiff
from gsrcli.images.readers.tiff.layout import Photometric

__all__ = ["camera_raw", "raw_error"]

_MAKE, _PHOTOMETRIC, _COMPRESSION, _SUBDIRECTORIES, _DNG_VERSION = 271, 262, 259, 330, 50706
_FORMATS = {"NIKON": "NEF", "SONY": "ARW", "PENTAX": "PEF", "SAMSUNG": "SRW", "CANON": "CR2", "HASSELBLAD": "3FR"}
_COMPRESSIONS = (32767, 32769, 32770, 34713, 65000, 65535)  # of Sony, Samsung, Nikon, Kodak and Pentax
_PHASE_ONE = re.compile(rb"II\*\0.{4}IIII.waR|MM\0\*.{4}MMMMRaw.", re.DOTALL)  # also of Leaf and Mamiya
_MOST_SUBDIRECTORIES = 32


def raw_error(name: str) -> PictureError:
    """Return the error for a camera raw file of a format."""
    return PictureError(
        f"it is a camera raw file ({name})",
        hint="develop it first, and use the TIFF file that the raw converter writes",
    )


def camera_raw(tiff: Tiff, pages: list[dict[int, Entry]]) -> str | None:
    """Return the name of the format of a camera raw file; None for other TIFF files."""
    if any(_DNG_VERSION in page for page in pages):
        return "DNG"
    if tiff.data[8:10] == b"CR":
        return "CR2"
    if _PHASE_ONE.match(tiff.data[:16]):  # no directory refers to the sensor's values
        return "IIQ"
    directories = [*pages, *_subdirectories(tiff, pages)]
    if not any(_holds_sensor_values(tiff, directory) for directory in directories):
        return None
    make = _make(tiff, pages)
    return next((name for maker, name in _FORMATS.items() if make.startswith(maker)), "of an unknown camera")


def _make(tiff: Tiff, pages: list[dict[int, Entry]]) -> str:
    """Return the maker of the camera, in capitals; nothing if it is not stated."""
    with suppress(MalformedError):
        return next((tiff.raw(page[_MAKE]) for page in pages if _MAKE in page), b"").decode("latin-1").upper()
    return ""


def _subdirectories(tiff: Tiff, pages: list[dict[int, Entry]]) -> list[dict[int, Entry]]:
    found = list[dict[int, Entry]]()
    for page in pages:
        for at in tiff.numbers(page.get(_SUBDIRECTORIES)).tolist()[:_MOST_SUBDIRECTORIES]:
            if len(found) >= _MOST_SUBDIRECTORIES:
                return found
            try:
                found.append(tiff.directory(at)[0])
            except MalformedError:
                continue
    return found


def _holds_sensor_values(tiff: Tiff, directory: dict[int, Entry]) -> bool:
    return (
        tiff.first_number(directory.get(_PHOTOMETRIC)) in (Photometric.CFA, Photometric.LINEAR_RAW)
        or tiff.first_number(directory.get(_COMPRESSION)) in _COMPRESSIONS
    )
