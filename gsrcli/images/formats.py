"""The output file formats: their names, what they keep, and their limits."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from gsrcli.errors import LimitError, PictureError, UsageError
from gsrcli.images.description import Raster
from gsrcli.images.extras import EXTRAS, has_extra, pillow_has
from gsrcli.images.ledger import Feature
from gsrcli.size import Size

__all__ = [
    "INPUT_SUFFIXES",
    "OPTIONAL_SUFFIXES",
    "OUTPUT_SUFFIXES",
    "Format",
    "check_limits",
    "check_output",
    "default_quality",
    "install_hint",
    "memory_to_write",
    "output_format",
    "output_formats",
]


@dataclass(frozen=True)
class Format:
    """A picture file format, and what is kept in it as written here.

    Attributes:
        name: as Pillow calls it.
        suffixes: file name suffixes in lower case, with the dot; the usual one first.
        max_side: the largest width and height, in pixels.
        max_bytes: the largest picture, in uncompressed bytes, or None.
        max_pixels: the largest picture, in pixels, or None.
        keeps: what it keeps as it is; `gsrcli.images.fit` converts or drops the rest.
        most: how many bytes it holds of a feature, where that is limited.
        grey: whether grey is kept as one channel; otherwise it becomes RGB, or has a profile for RGB.
        quality: the default quality of a lossy format, 1 to 100; None for a lossless format.
        lossless: whether it can be written without loss.
        cicp_rules: whether CICP colour tags rule over a profile that is there too.
        palette: whether it has at most 256 colours, and pixels that are opaque or transparent, but nothing between.
        deep: what 16 bits per channel become where they are not kept, if it is more than 8; a phrase.
        still: what the frames of an animation do not keep of all that; they have 8 bits whatever ``deep`` says.
        lossless_frames: whether an animation too can be written without loss.
        one_density: whether it has one place for the resolution or the aspect of pixels.
        languages: whether texts have a language, and a keyword in it.
        held: how many bytes the encoder takes for each pixel beside the pixels themselves, because it wants all of them
            at once; 0 where rows are written as they come. Measured with 12 megapixels of noise, the most for any type
            of pixels and any way to write them.
        held_frames: the same for the frames of an animation, where it is more.
    """

    name: str
    suffixes: tuple[str, ...]
    max_side: int
    max_bytes: int | None = None
    max_pixels: int | None = None
    keeps: frozenset[Feature] = frozenset()
    most: Mapping[Feature, int] = field(default_factory=dict, hash=False)
    grey: bool = True
    quality: int | None = None
    lossless: bool = True
    cicp_rules: bool = False
    deep: str = ""
    palette: bool = False
    still: frozenset[Feature] = frozenset()
    lossless_frames: bool = True
    one_density: bool = False
    languages: bool = False
    held: int = 0
    held_frames: int = 0

    @property
    def streamed(self) -> bool:
        """Whether rows are written as they come, so that memory need not hold the picture."""
        return not self.held

    @property
    def of_frames(self) -> Format:
        """What is kept in the frames of an animation."""
        return replace(
            self,
            keeps=self.keeps - self.still,
            deep="",
            lossless=self.lossless and self.lossless_frames,
            held=max(self.held, self.held_frames),
        )


_FOUR_GIB = 2**32 - 2**24  # minus room for headers, metadata, and the growth of incompressible data
_EMBEDDED = frozenset({Feature.PROFILE, Feature.EXIF, Feature.XMP})  # blocks that most formats take as they are
_FORMATS = (
    Format(
        "PNG",
        (".png",),
        max_side=2**31 - 1,
        keeps=frozenset(Feature) - {Feature.FLOAT, Feature.GEO},
        cicp_rules=True,
        one_density=True,
        languages=True,
        held_frames=40,
    ),
    # The file format allows 65535; libjpeg stops at 65500.
    Format(
        "JPEG",
        (".jpg", ".jpeg"),
        max_side=65500,
        keeps=_EMBEDDED | {Feature.IPTC, Feature.COMMENT, Feature.RESOLUTION, Feature.ASPECT},
        # A segment holds 65533 bytes, with the name of what it holds, and a profile is at most 255 segments.
        most={Feature.EXIF: 65533 - 6, Feature.PROFILE: 255 * (65533 - 14)},
        quality=95,
        lossless=False,
        one_density=True,
    ),
    Format(
        "WEBP",
        (".webp",),
        max_side=16383,
        keeps=_EMBEDDED | {Feature.TRANSPARENCY, Feature.RESOLUTION},
        grey=False,
        quality=95,
        held=42,
        held_frames=50,
    ),
    Format(
        "TIFF",
        (".tif", ".tiff"),
        max_side=2**31 - 1,
        keeps=_EMBEDDED
        | {Feature.SIXTEEN_BITS, Feature.FLOAT, Feature.TRANSPARENCY, Feature.IPTC, Feature.TEXT, Feature.COMMENT}
        | {Feature.RESOLUTION, Feature.ASPECT, Feature.GEO},
        one_density=True,
    ),
    Format(
        "BMP",
        (".bmp",),
        max_side=2**31 - 1,
        max_bytes=_FOUR_GIB,
        keeps=frozenset({Feature.TRANSPARENCY, Feature.PROFILE, Feature.RESOLUTION}),
        grey=False,  # palettes are of RGB
    ),
    # libavif writes up to 65536 per side, but by default refuses to read more than these limits.
    Format(
        "AVIF",
        (".avif",),
        max_side=32768,
        max_pixels=2**28,
        keeps=_EMBEDDED | {Feature.TRANSPARENCY, Feature.CICP, Feature.HDR, Feature.RESOLUTION, Feature.ASPECT},
        quality=90,
        deep="to 10 bits (colour at half resolution, unless lossless)",
        # Pillow, which writes animations, has 8 bits and no such boxes, and does not write them without loss.
        still=frozenset({Feature.HDR, Feature.ASPECT}),
        lossless_frames=False,
        held=58,
        held_frames=90,
    ),
    Format(
        "GIF",
        (".gif",),
        max_side=65535,
        keeps=frozenset({Feature.TRANSPARENCY, Feature.XMP, Feature.COMMENT}),
        lossless=False,
        palette=True,
        held=45,
    ),
    Format(
        "HEIF",
        (".heic", ".heif"),
        max_side=16384,
        max_pixels=142_606_336,  # of HEVC's level 7.2
        keeps=_EMBEDDED | {Feature.TRANSPARENCY, Feature.CICP, Feature.HDR, Feature.RESOLUTION, Feature.ASPECT},
        quality=90,
        deep="to 10 bits",
        held=46,
    ),
    Format(
        "JXL",
        (".jxl",),
        max_side=2**18,  # of level 5, which all decoders read
        max_pixels=2**28,
        keeps=frozenset({Feature.EXIF, Feature.XMP, Feature.TRANSPARENCY, Feature.RESOLUTION}),
        quality=90,
        held=42,
    ),
)
_MODULES = {"HEIF": "pillow_heif", "JXL": "pillow_jxl"}


def output_formats() -> tuple[Format, ...]:
    """Return the formats that can be written on this machine."""
    return tuple(form for form in _FORMATS if _available(form.name))


def _available(name: str) -> bool:
    return has_extra(_MODULES[name]) if name in _MODULES else pillow_has(name)


OUTPUT_SUFFIXES: tuple[str, ...] = tuple(suffix for f in output_formats() for suffix in f.suffixes)
"""File name suffixes that can be written, in lower case, with the dot."""

OPTIONAL_SUFFIXES: Mapping[str, str] = {
    **dict.fromkeys((".heic", ".heif", ".hif"), EXTRAS["pillow_heif"].install),
    ".jxl": EXTRAS["pillow_jxl"].install,
}
"""What to install for the formats of file name suffixes in lower case, with the dot, that need more."""

_READ_TOO = {"JPEG": (".jpe", ".jfif"), "AVIF": (".avifs",), "HEIF": (".hif",)}
_ONLY_READ = (
    *(".dib", ".tga", ".ico", ".cur", ".pbm", ".pgm", ".ppm", ".pnm", ".pam", ".pfm"),
    *(".jp2", ".j2k", ".j2c", ".jpc", ".jpf", ".jpx"),
)

INPUT_SUFFIXES: tuple[str, ...] = (
    *OUTPUT_SUFFIXES,
    *(suffix for name, suffixes in _READ_TOO.items() if _available(name) for suffix in suffixes),
    *_ONLY_READ,
)
"""Suffixes to look for in a folder, in lower case, with the dot. Formats are recognized by content, not by name."""


def output_format(path: str | os.PathLike[str]) -> Format:
    """Return the format for the suffix of a file name.

    Raises:
        UsageError: the suffix is missing or unknown.
    """
    suffix = Path(path).suffix.lower()
    for candidate in output_formats():
        if suffix in candidate.suffixes:
            return candidate
    what = f"unsupported format {suffix}" if suffix else "its name has no suffix to choose the format by"
    hint = install_hint(suffix) or f"use one of {' '.join(OUTPUT_SUFFIXES)}"
    raise UsageError(f"cannot write {path}: {what}", hint=hint)


def install_hint(suffix: str) -> str | None:
    """Return how to install what writing files of a suffix needs; None if nothing is missing, or nothing helps."""
    for form in _FORMATS:
        if suffix in form.suffixes and form.name in _MODULES and not _available(form.name):
            return f"pip install '{OPTIONAL_SUFFIXES[suffix]}'"
    return None


def default_quality(name: str) -> int:
    """Return the default quality of a lossy format."""
    quality = next(form.quality for form in _FORMATS if form.name == name)
    assert quality is not None
    return quality


def memory_to_write(form: Format, raster: Raster) -> int:
    """Return about how many bytes writing a picture takes, the picture included; 0 where rows are written as they come.

    Args:
        form: the format; that ``of_frames`` for an animation.
        raster: size and type of the picture.
    """
    if form.streamed:
        return 0
    return raster.size.area * (raster.layers * raster.dtype.itemsize + form.held)


def check_limits(size: Size, path: str | os.PathLike[str], *, bytes_per_pixel: int = 3) -> None:
    """Check, before anything is computed, that a picture is not too large for its format.

    Args:
        size: size of the output.
        path: the output file; its suffix decides the format.
        bytes_per_pixel: bytes of the output before compression, for the formats limited to 4 GiB.

    Raises:
        LimitError: the picture is too large.
        UsageError: the suffix is missing or unknown.
    """
    form = output_format(path)
    hint = "choose a smaller size" if form.name in ("PNG", "TIFF") else "choose a smaller size, or write a .png file"
    if max(size) > form.max_side:
        reason = f"{form.name} allows at most {form.max_side} pixels per side"
    elif form.max_pixels is not None and size.area > form.max_pixels:
        reason = f"{form.name} allows at most {form.max_pixels / 1e6:.0f} megapixels"
    elif form.max_bytes is not None and size.area * bytes_per_pixel > form.max_bytes:
        reason = f"{form.name} allows at most 4 GiB"
    else:
        return
    raise LimitError(f"cannot write {path}: {size} is too large; {reason}", hint=hint)


def check_output(path: str | os.PathLike[str], size: Size, *, bytes_per_pixel: int = 3) -> None:
    """Check, before anything is computed, the format, size and folder of an output file.

    Args:
        path: the output file.
        size: size of the output.
        bytes_per_pixel: bytes of the output before compression.

    Raises:
        LimitError: the picture is too large for the format.
        PictureError: the folder does not exist.
        UsageError: the suffix is missing or unknown.
    """
    check_limits(size, path, bytes_per_pixel=bytes_per_pixel)
    if not Path(path).absolute().parent.is_dir():
        raise PictureError(f"cannot write {path}: the folder does not exist")
