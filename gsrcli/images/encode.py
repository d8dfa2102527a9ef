"""Encode and write picture files."""

from __future__ import annotations

import errno
import io
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

from PIL import Image

from gsrcli.errors import PictureError, UsageError
from gsrcli.images.formats import Format, check_output, output_format
from gsrcli.images.metadata import exif_resized, xmp_resized
from gsrcli.images.picture import Picture, to_eight_bits
from gsrcli.images.png import encode_png
from gsrcli.images.profile import to_srgb
from gsrcli.images.tiff import encode_tiff
from gsrcli.runtime.files import write_whole

__all__ = ["losses", "make_folder", "write_picture"]

_JPEG_SEGMENT = 65533  # bytes


def write_picture(
    picture: Picture,
    path: str | os.PathLike[str],
    *,
    quality: int | None = None,
    overwrite: bool = True,
) -> None:
    """Write a picture in the format given by the file's suffix; the file appears complete or not at all.

    See `losses` for what a format does not keep.

    Args:
        picture: the picture, of any size that the format allows.
        path: the file; if it is a link, the file that it points to is replaced.
        quality: JPEG, WebP or AVIF quality, 1 to 100, or None for the default (95, 95 or 90); JPEG and AVIF
            keep full colour resolution. The other formats are lossless and ignore it.
        overwrite: whether to replace an existing file.

    Raises:
        LimitError: the picture is too large for the format.
        PictureError: the file exists and may not be replaced, the file cannot be written, or the picture has
            transparency that the format cannot keep.
        UsageError: the suffix is unknown, or ``quality`` is out of range.
    """
    check_output(path, picture.size, alpha=not picture.opaque, bytes_per_pixel=picture.bytes_per_pixel)
    if quality is not None and not 1 <= quality <= 100:
        raise UsageError(f"invalid quality {quality}: use a number from 1 to 100")
    exists = PictureError(f"cannot write {path}: the file exists", hint="add --overwrite to replace it")
    if not overwrite and os.path.lexists(path):
        raise exists
    try:
        data = _encode(picture, output_format(path), quality)
    except PictureError as error:
        raise PictureError(f"cannot write {path}: {error}", hint=error.hint) from error
    except (OSError, ValueError, TypeError, RuntimeError) as error:  # what Pillow's encoders raise
        raise PictureError(f"cannot write {path}: {error}") from error
    try:
        write_whole(path, data, overwrite=overwrite)
    except FileExistsError:  # it was created while the picture was encoded
        raise exists from None
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        hint = "free some space, or choose another folder with --output" if full else None
        raise PictureError(f"cannot write {path}: {reason}", hint=hint) from error


def make_folder(folder: Path) -> None:
    """Create a folder for pictures, unless it exists.

    Raises:
        PictureError: the folder cannot be created.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise PictureError(f"cannot create the folder {folder}: {(error.strerror or str(error)).lower()}") from error


def losses(picture: Picture, form: Format) -> list[str]:
    """Return what a format does not keep of a picture, in words; empty if it keeps everything."""
    lost = []
    if picture.bits == 16 and not form.sixteen_bit:
        lost.append("16 bits per channel")
    if not picture.opaque and not form.alpha:
        lost.append("transparency")
    if not form.profile:
        for name, value in (("colour profile", picture.icc), ("EXIF", picture.exif), ("XMP", picture.xmp)):
            if value:
                lost.append(name)
    return lost


def _encode(picture: Picture, form: Format, quality: int | None) -> bytes:
    picture = _with_stated_size(picture)
    if form.name == "PNG":
        return encode_png(picture)
    if form.name == "TIFF":
        return encode_tiff(picture)
    return _encode_with_pillow(picture, form, quality or form.quality)


def _with_stated_size(picture: Picture) -> Picture:
    """Return the picture with its own size in its metadata."""
    return replace(
        picture,
        exif=picture.exif and exif_resized(picture.exif, picture.size),
        xmp=picture.xmp and xmp_resized(picture.xmp, picture.size),
    )


def _encode_with_pillow(picture: Picture, form: Format, quality: int | None) -> bytes:
    alpha = picture.alpha if form.alpha else None
    pixels, icc = to_eight_bits(picture.pixels), picture.icc
    image = Image.fromarray(pixels[..., 0] if picture.grey else pixels)
    if picture.grey and (not form.grey or alpha is not None):
        if icc and icc[16:20] == b"GRAY":  # a grey profile is invalid for RGB
            image, icc = to_srgb(image, icc), None
        else:
            image = image.convert("RGB")
    if alpha is not None:
        image.putalpha(Image.fromarray(to_eight_bits(alpha)))
    options: dict[str, Any] = {} if quality is None else {"quality": quality}
    if form.name in ("JPEG", "BMP") and picture.dpi:
        options["dpi"] = picture.dpi
    if form.name == "JPEG":
        options["subsampling"] = "4:4:4"
    elif form.name == "AVIF":
        # Speed 8 of 10 takes half the time of the default, 6, and gives files a sixth larger.
        options |= {"subsampling": "4:0:0" if image.mode == "L" else "4:4:4", "speed": 8}
    if form.profile:
        options |= _metadata_options(picture, form, icc)
    file = io.BytesIO()
    image.save(file, form.name, **options)
    return file.getvalue()


def _metadata_options(picture: Picture, form: Format, icc: bytes | None) -> dict[str, bytes]:
    exif = b"Exif\0\0" + picture.exif if picture.exif else None
    options = {"icc_profile": icc, "exif": exif, "xmp": picture.xmp}
    if form.name == "JPEG":
        for name, value, most in (("EXIF", exif, _JPEG_SEGMENT), ("XMP", picture.xmp, _JPEG_SEGMENT - 29)):
            if value and len(value) > most:
                raise PictureError(
                    f"JPEG cannot hold {len(value)} bytes of {name}",
                    hint="add --strip-metadata, or write a .png file",
                )
    return {name: value for name, value in options.items() if value}
