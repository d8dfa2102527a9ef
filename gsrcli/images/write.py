"""Write picture files."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from gsrcli.errors import PictureError
from gsrcli.images.exif import exif_resized
from gsrcli.images.fit import Background, fit
from gsrcli.images.formats import check_output, output_format
from gsrcli.images.picture import Picture
from gsrcli.images.writers import ENCODERS, Encoding
from gsrcli.images.xmp import xmp_resized
from gsrcli.runtime.files import write_whole

__all__ = ["make_folder", "write_picture"]


def write_picture(
    picture: Picture,
    path: str | os.PathLike[str],
    *,
    quality: int | None = None,
    lossless: bool = False,
    background: Background | None = None,
    overwrite: bool = True,
) -> None:
    """Write a picture in the format given by the file's suffix; the file appears complete or not at all.

    See :func:`gsrcli.images.fit` for what a format does not keep.

    Args:
        picture: the picture, of any size that the format allows.
        path: the file; if it is a link, the file that it points to is replaced.
        quality: JPEG, WebP or AVIF quality, 1 to 100, or None for the default (95, 95 or 90); JPEG and AVIF
            keep full colour resolution. The other formats are lossless and ignore it.
        lossless: whether to write WebP without loss; a picture from a lossless WebP file always is.
        background: what lies under a picture with transparency in a format without; None refuses such pictures.
        overwrite: whether to replace an existing file.

    Raises:
        LimitError: the picture is too large for the format.
        PictureError: the file exists and may not be replaced, the file cannot be written, or the picture has
            transparency that the format cannot keep.
        UsageError: the suffix is unknown, or ``quality`` is out of range.
    """
    form, encoding = output_format(path), Encoding(quality, lossless)
    with _writing(path):
        picture, _ = fit(picture, form, background)
    check_output(path, picture.size, bytes_per_pixel=picture.bytes_per_pixel)
    exists = PictureError(f"cannot write {path}: the file exists", hint="add --overwrite to replace it")
    if not overwrite and os.path.lexists(path):
        raise exists
    with _writing(path):
        data = ENCODERS[form.name](_with_stated_size(picture), encoding)
    try:
        write_whole(path, data, overwrite=overwrite)
    except FileExistsError:  # it was created while the picture was encoded
        raise exists from None
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        hint = "free some space, or choose another folder with --output" if full else None
        raise PictureError(f"cannot write {path}: {reason}", hint=hint) from error


@contextmanager
def _writing(path: str | os.PathLike[str]) -> Iterator[None]:
    """Turn the failure of an encoder into a `PictureError` that names the file."""
    try:
        yield
    except PictureError as error:
        raise PictureError(f"cannot write {path}: {error}", hint=error.hint) from error
    except (OSError, ValueError, TypeError, RuntimeError) as error:  # what Pillow's encoders raise
        raise PictureError(f"cannot write {path}: {error}") from error


def _with_stated_size(picture: Picture) -> Picture:
    """Return the picture with its own size in its metadata."""
    metadata = picture.metadata
    resized = replace(
        metadata,
        exif=metadata.exif and exif_resized(metadata.exif, picture.size),
        xmp=metadata.xmp and xmp_resized(metadata.xmp, picture.size),
    )
    return replace(picture, metadata=resized)


def make_folder(folder: Path) -> None:
    """Create a folder for pictures, unless it exists.

    Raises:
        PictureError: the folder cannot be created.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise PictureError(f"cannot create the folder {folder}: {(error.strerror or str(error)).lower()}") from error
