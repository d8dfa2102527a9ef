"""The file formats: their names, what they can hold, and how large a picture may be."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from PIL import features

from gsrcli.errors import LimitError, PictureError, UsageError
from gsrcli.size import Size

__all__ = [
    "INPUT_SUFFIXES",
    "OUTPUT_SUFFIXES",
    "Format",
    "check_limits",
    "check_output",
    "output_format",
    "output_formats",
]


@dataclass(frozen=True)
class Format:
    """What a picture file format can hold, as written here.

    Attributes:
        name: as Pillow calls it.
        suffixes: lower case, with the dot; the first is the usual one.
        max_side: the largest width and height, in pixels.
        max_bytes: the largest picture, as uncompressed bytes, or None.
        max_pixels: the largest picture, in pixels, or None.
        sixteen_bit: whether 16 bits a channel are kept (otherwise 8).
        grey: whether grey is kept as one channel (otherwise it becomes RGB).
        alpha: whether transparency is kept.
        profile: whether colour profile, EXIF and XMP are kept.
        quality: the default quality of a lossy format, 1 to 100; None where the format is lossless.
    """

    name: str
    suffixes: tuple[str, ...]
    max_side: int
    max_bytes: int | None = None
    max_pixels: int | None = None
    sixteen_bit: bool = False
    grey: bool = True
    alpha: bool = True
    profile: bool = True
    quality: int | None = None


_FOUR_GIB = 2**32 - 2**24  # less room for headers, metadata and what incompressible data grows by
_FORMATS = (
    Format("PNG", (".png",), max_side=2**31 - 1, sixteen_bit=True),
    # The file format allows 65535; libjpeg stops at 65500.
    Format("JPEG", (".jpg", ".jpeg"), max_side=65500, alpha=False, quality=95),
    Format("WEBP", (".webp",), max_side=16383, grey=False, quality=95),
    Format("TIFF", (".tif", ".tiff"), max_side=2**31 - 1, max_bytes=_FOUR_GIB, sixteen_bit=True),
    Format("BMP", (".bmp",), max_side=2**31 - 1, max_bytes=_FOUR_GIB, alpha=False, profile=False),
    # libavif writes 65536 a side, but by default refuses to read beyond these.
    Format("AVIF", (".avif",), max_side=32768, max_pixels=2**28, quality=90),
)
_OPTIONAL = {"WEBP": "webp", "AVIF": "avif"}  # Pillow may have been built without


def output_formats() -> tuple[Format, ...]:
    """The formats that can be written on this machine."""
    return tuple(f for f in _FORMATS if f.name not in _OPTIONAL or features.check(_OPTIONAL[f.name]))


OUTPUT_SUFFIXES: tuple[str, ...] = tuple(suffix for f in output_formats() for suffix in f.suffixes)
"""Lower case, with the dot."""

INPUT_SUFFIXES: tuple[str, ...] = (*OUTPUT_SUFFIXES, ".jpe", ".jfif", ".gif")
"""Lower case, with the dot: what to look for in a folder. Files are told apart by content, not by name."""


def output_format(path: str | os.PathLike[str]) -> Format:
    """The format that a file name asks for.

    Raises:
        UsageError: the suffix is missing or unknown.
    """
    suffix = Path(path).suffix.lower()
    for candidate in output_formats():
        if suffix in candidate.suffixes:
            return candidate
    what = f"{suffix} files cannot be written" if suffix else "the name has no suffix to tell the format by"
    raise UsageError(f"cannot write {path}: {what}", hint=f"use one of {' '.join(OUTPUT_SUFFIXES)}")


def check_limits(size: Size, path: str | os.PathLike[str], *, bytes_per_pixel: int = 3) -> None:
    """Refuse, before any computation, a picture that its format could not hold.

    Args:
        size: of the output.
        path: the output file; its suffix decides the format.
        bytes_per_pixel: of the output before compression, for the formats that stop at 4 GiB.

    Raises:
        LimitError: the picture is too large.
        UsageError: the suffix is missing or unknown.
    """
    form = output_format(path)
    hint = "choose a smaller size, or a .png file"
    if max(size) > form.max_side:
        reason = f"{form.name} ends at {form.max_side} pixels a side"
    elif form.max_pixels is not None and size.area > form.max_pixels:
        reason = f"{form.name} ends at {form.max_pixels / 1e6:.0f} megapixels"
    elif form.max_bytes is not None and size.area * bytes_per_pixel > form.max_bytes:
        reason = f"{form.name} ends at 4 GiB"
    else:
        return
    raise LimitError(f"cannot write {path}: {size} is too large, {reason}", hint=hint)


def check_output(path: str | os.PathLike[str], size: Size, *, alpha: bool = False, bytes_per_pixel: int = 3) -> None:
    """All that can be known beforehand about writing a picture: its format, size, transparency and folder.

    Args:
        path: the output file.
        size: of the output.
        alpha: whether it has transparency to keep (``not picture.opaque``).
        bytes_per_pixel: of the output before compression.

    Raises:
        LimitError: the picture is too large for the format.
        PictureError: the format has no transparency, or the folder is missing.
        UsageError: the suffix is missing or unknown.
    """
    check_limits(size, path, bytes_per_pixel=bytes_per_pixel)
    form = output_format(path)
    if alpha and not form.alpha:
        raise PictureError(
            f"cannot write {path}: {form.name} has no transparency, which this picture has",
            hint="choose a .png or .webp file",
        )
    if not Path(path).absolute().parent.is_dir():
        raise PictureError(f"cannot write {path}: the folder does not exist")
