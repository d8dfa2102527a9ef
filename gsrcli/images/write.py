"""Write picture files."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO, TypeVar

from gsrcli.errors import LimitError, PictureError, UsageError
from gsrcli.images.description import Description
from gsrcli.images.exif import exif_resized
from gsrcli.images.fit import Background, fit
from gsrcli.images.formats import Format, check_output, output_format, output_formats
from gsrcli.images.strips import Strips, in_strips
from gsrcli.images.writers import ANIMATIONS, ENCODERS, PAGES, Encoding
from gsrcli.images.xmp import xmp_resized
from gsrcli.runtime.files import replacing

Made = TypeVar("Made")

__all__ = ["make_folder", "parse_colour", "require_several", "write_picture", "write_pictures"]


def write_picture(
    picture: Description,
    path: str | os.PathLike[str],
    *,
    quality: int | None = None,
    lossless: bool = False,
    background: Background | str | None = None,
    overwrite: bool = True,
) -> None:
    """Write a picture in the format given by the file's suffix; the file appears complete or not at all.

    See :func:`gsrcli.images.fit` for what a format does not keep.

    Args:
        picture: the picture, of any size that the format allows: a `Picture`, or `Strips`, which are written as they
            come to the formats that are ``streamed``, and held in memory for the others.
        path: the file; if it is a link, the file that it points to is replaced.
        quality: quality of a lossy format, 1 to 100, or None for its default, which for JPEG is at least the quality of
            the JPEG file that the picture is from. Lossless formats ignore it. JPEG, JPEG XL and AVIF of 8 bits keep
            the full resolution of colour; WebP, HEIC and AVIF of 10 bits keep half of it, unless lossless.
        lossless: whether to write without loss a format that can be either; unless there is a ``quality``, WebP,
            JPEG XL and AVIF also are for a picture from a lossless file of the same format.
        background: what lies under a picture with transparency in a format without, as red, green and blue or as a
            colour that :func:`parse_colour` knows; None refuses such pictures.
        overwrite: whether to replace an existing file.

    Raises:
        LimitError: the picture is too large for the format.
        PictureError: the file exists and may not be replaced, the file cannot be written, or the picture has
            transparency that the format cannot keep.
        UsageError: the suffix or the colour is unknown, or ``quality`` is out of range.
        Exception: whatever computing the strips raises.
    """
    form, encoding = output_format(path), Encoding(quality, lossless)
    under = _background(background)
    with _unmarked():
        prepared = _prepared(replace(_with_marks(picture), duration=None), path, form, under)
        _save(path, lambda file: ENCODERS[form.name](file, prepared, encoding), overwrite)


def write_pictures(
    pictures: Iterable[Description],
    path: str | os.PathLike[str],
    *,
    loops: int | None = None,
    quality: int | None = None,
    lossless: bool = False,
    background: Background | str | None = None,
    overwrite: bool = True,
) -> None:
    """Write the frames of an animation, or pages, as one file; it appears complete or not at all.

    Args:
        pictures: at least one. They are consumed one by one, so that a generator can make them meanwhile. Frames have
            one size and a ``duration`` each.
        path: the file, whose format has animations or pages.
        loops: how often the animation is shown; 0 or None for ever.
        quality: see :func:`write_picture`, as for the arguments below.
        lossless: whether to write without loss.
        background: what lies under transparency that the format cannot keep.
        overwrite: whether to replace an existing file.

    Raises:
        LimitError: a picture is too large for the format.
        PictureError: see :func:`write_picture`.
        UsageError: see :func:`write_picture`, or the format holds one picture only.
        Exception: whatever ``pictures``, or computing their strips, raises.
    """
    require_several(path, lossless=lossless)
    form, encoding = output_format(path).of_frames, Encoding(quality, lossless)
    under = _background(background)
    prepared = _marked(_prepared(_with_marks(picture), path, form, under) for picture in pictures)

    def encode(file: BinaryIO) -> None:
        if form.name in PAGES:
            PAGES[form.name](file, prepared, encoding)
        else:
            ANIMATIONS[form.name](file, prepared, loops or 0, encoding)

    with _unmarked():
        _save(path, encode, overwrite)


def require_several(path: str | os.PathLike[str], *, frames: bool | None = None, lossless: bool = False) -> None:
    """Check that the format given by a file's suffix holds several pictures.

    Args:
        path: the file.
        frames: whether they are frames of an animation, or pages; None for either.
        lossless: whether they are to be written without loss, where a format can be written either way.

    Raises:
        UsageError: it does not.
    """
    what = "several pictures" if frames is None else "an animation" if frames else "pages"
    kinds = (*(ANIMATIONS if frames is not False else ()), *(PAGES if not frames else ()))
    holding = [form.of_frames for form in output_formats() if form.name in kinds]
    form = output_format(path)
    if form.name in kinds:
        if not lossless or not form.lossless or form.of_frames.lossless:
            return
        what += " without loss"
        holding = [other for other in holding if other.lossless]
    hint = f"write a file ending in {' '.join(other.suffixes[0] for other in holding)}" if holding else None
    raise UsageError(f"cannot write {path}: {form.name} does not hold {what}", hint=hint)


def parse_colour(text: str) -> Background:
    """Return a colour from its name, such as white, or from its hexadecimal digits, such as #ff8800.

    Raises:
        UsageError: there is no such colour.
    """
    from PIL import ImageColor

    unknown = UsageError(f"unknown colour: {text}", hint="use a name such as white, or #rrggbb")
    try:
        red, green, blue, *transparency = ImageColor.getrgb(text)
    except ValueError:
        raise unknown from None
    if transparency:
        raise unknown
    return red, green, blue


def _background(given: Background | str | None) -> Background | None:
    return parse_colour(given) if isinstance(given, str) else given


def _prepared(picture: Description, path: str | os.PathLike[str], form: Format, under: Background | None) -> Strips:
    """Return a picture as an encoder takes it; raise if the format cannot hold it."""
    try:
        picture, _ = fit(picture, form, under)
    except PictureError as error:
        raise PictureError(f"cannot write {path}: {error}", hint=error.hint) from error
    check_output(path, picture.size, bytes_per_pixel=picture.bytes_per_pixel)
    return in_strips(_with_stated_size(picture))


def _with_stated_size(picture: Description) -> Description:
    """Return the picture with its own size in its metadata."""
    metadata = picture.metadata
    resized = replace(
        metadata,
        exif=metadata.exif and exif_resized(metadata.exif, picture.size),
        xmp=metadata.xmp and xmp_resized(metadata.xmp, picture.size),
    )
    return replace(picture, metadata=resized)


class _MakingError(Exception):
    """An exception of what makes pictures or strips, on its way through the encoder that consumes them."""

    def __init__(self, cause: Exception) -> None:
        super().__init__(cause)
        self.cause = cause


def _marked(made: Iterable[Made]) -> Iterator[Made]:
    """Yield pictures or strips; raise what their making raises as `_MakingError`, so that it is known as such."""
    try:
        yield from made
    except _MakingError:
        raise
    except Exception as error:
        raise _MakingError(error) from error


def _with_marks(picture: Description) -> Description:
    """Return the picture, whose strips, if it comes in such, raise `_MakingError`."""
    return replace(picture, source=lambda: _marked(picture)) if isinstance(picture, Strips) else picture


@contextmanager
def _unmarked() -> Iterator[None]:
    """Raise the cause of a `_MakingError`."""
    try:
        yield
    except _MakingError as error:
        raise error.cause from None


def _save(path: str | os.PathLike[str], encode: Callable[[BinaryIO], None], overwrite: bool) -> None:
    """Let an encoder write a file."""
    exists = PictureError(f"cannot write {path}: the file exists", hint="add --overwrite to replace it")
    if not overwrite and os.path.lexists(path):
        raise exists
    try:
        with _writing(path), replacing(path, overwrite=overwrite) as file:
            encode(file)
    except FileExistsError:  # it was created while the picture was encoded
        raise exists from None


@contextmanager
def _writing(path: str | os.PathLike[str]) -> Iterator[None]:
    """Turn the failure of an encoder, or of the file system, into a `PictureError` that names the file."""
    try:
        yield
    except LimitError as error:
        raise LimitError(f"cannot write {path}: {error}", hint=error.hint) from error
    except PictureError as error:
        raise PictureError(f"cannot write {path}: {error}", hint=error.hint) from error
    except FileExistsError:
        raise
    except OSError as error:
        reason = error.strerror.lower() if error.strerror else error  # Pillow's encoders raise it with a text alone
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        hint = "free some space, or choose another folder with --output" if full else None
        raise PictureError(f"cannot write {path}: {reason}", hint=hint) from error
    except (ValueError, TypeError, RuntimeError) as error:  # what encoders raise
        raise PictureError(f"cannot write {path}: {error}") from error


def make_folder(folder: Path) -> None:
    """Create a folder for pictures, unless it exists.

    Raises:
        PictureError: the folder cannot be created.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        in_the_way = next(place for place in (folder, *folder.parents) if os.path.lexists(place))
        raise PictureError(
            f"cannot create the folder {folder}: {in_the_way} is a file", hint="choose another folder with --output"
        ) from error
    except OSError as error:
        raise PictureError(f"cannot create the folder {folder}: {(error.strerror or str(error)).lower()}") from error
