"""Read picture files."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial

from gsrcli.errors import GsrError, LimitError, PictureError
from gsrcli.images.content import content_of
from gsrcli.images.ledger import damage_of_pixels
from gsrcli.images.picture import Picture
from gsrcli.images.readers import DAMAGED, Limits, Source, open_source, unlimited_pillow
from gsrcli.images.readers.adobe_rgb import with_adobe_rgb
from gsrcli.images.strips import Strips
from gsrcli.size import Size

__all__ = ["DEFAULT_MAX_PIXELS", "PictureFile", "probe", "read_picture"]

DEFAULT_MAX_PIXELS = 500_000_000
"""Default limit on the size of inputs, because a file of a few bytes can claim any size."""


class PictureFile:
    """An opened picture file, recognized by its content: its pictures, decoded when they are asked for.

    Args:
        path: the file; its name may contain any characters.
        max_pixels: largest picture to decode, in pixels; None for no limit.

    Raises:
        LimitError: a picture has more than ``max_pixels``.
        PictureError: the file is missing, unreadable, damaged or of an unsupported format.
    """

    def __init__(self, path: str | os.PathLike[str], *, max_pixels: int | None = DEFAULT_MAX_PIXELS) -> None:
        self.path = path
        with _reading(path):
            self._source: Source = open_source(content_of(path), Limits(max_pixels))

    @property
    def format(self) -> str:
        """Name of the file format, as Pillow calls it."""
        return self._source.format

    @property
    def size(self) -> Size:
        """Size of the first picture, upright."""
        return self._source.size

    @property
    def count(self) -> int:
        """Number of pictures: frames of an animation, or pages."""
        return self._source.count

    @property
    def animated(self) -> bool:
        """Whether the pictures are the frames of an animation."""
        return self._source.animated

    @property
    def loops(self) -> int | None:
        """How often the animation is shown; 0 for ever. None if there is none."""
        return self._source.loops

    @property
    def noun(self) -> str:
        """What one of the pictures is called: frame or page."""
        return "frame" if self.animated else "page"

    def picture(self, index: int = 0) -> Picture:
        """Decode one of the pictures, from 0 on.

        The picture is turned upright and converted to grey or RGB: palettes are resolved, and CMYK and Lab are
        converted to sRGB through their colour profile. 16 bits per channel are kept.

        Raises:
            LimitError: it is too large.
            PictureError: it is damaged, of an unsupported kind, or there is none of that index.
            GsrError: OpenCV, which decodes 16-bit colour, cannot be loaded.
        """
        with self._decoding(index):
            return with_adobe_rgb(self._source.picture(index))

    def strips(self, index: int = 0, *, alpha_is_data: bool = False) -> Strips:
        """Return one of the pictures, from 0 on, in strips that are decoded when they are asked for.

        So memory need not hold a large PNG, TIFF, PNM, BMP or TGA file, nor its picture. First, all of it is looked at
        that tells whether it is sound. Pictures that are damaged, interlaced or turned, and those of other formats, are
        decoded at once instead, as by :meth:`picture`, into one strip.

        Args:
            index: which of the pictures.
            alpha_is_data: whether alpha is a channel of its own; see `Picture`.

        Raises:
            LimitError, PictureError, GsrError: as :meth:`picture` does. Iterating raises `PictureError` too, if the
                file was changed meanwhile.
        """
        with self._decoding(index):
            decoded = with_adobe_rgb(self._source.strips(index))
        strips = replace(decoded.asked_within(partial(self._decoding, index)), alpha_is_data=alpha_is_data)
        if not alpha_is_data or strips.opaque or strips.extremes is None:
            return strips
        ends = [(float(strip.pixels.min()), float(strip.pixels.max())) for strip in strips]
        return replace(strips, extremes=(min(low for low, _ in ends), max(high for _, high in ends)))

    @contextmanager
    def _decoding(self, index: int) -> Iterator[None]:
        """Check that there is such a picture, and name it in exceptions that are raised in decoding it."""
        with _reading(self.path, f"{self.noun} {index + 1}: " if self.count > 1 else ""):
            if not 0 <= index < self.count:
                several = f"{self.count} {self.noun}s"
                raise PictureError(f"the file has {several if self.count > 1 else 'one picture'}")
            try:
                yield
            except MemoryError as error:
                raise LimitError(
                    f"there is no memory for a picture of {self.size} pixels",
                    hint="close other programs, or cut the picture into parts",
                ) from error

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[Picture]:
        """Decode the pictures one by one."""
        return (self.picture(index) for index in range(self.count))


def read_picture(path: str | os.PathLike[str], *, max_pixels: int | None = DEFAULT_MAX_PIXELS) -> Picture:
    """Decode the only picture in a file, all of it.

    :class:`PictureFile` reads files of several pictures, and what is left of damaged ones.

    Args:
        path: the file.
        max_pixels: largest picture to decode, in pixels; None for no limit.

    Raises:
        LimitError: the picture has more than ``max_pixels``.
        PictureError: the file is missing, unreadable, of an unsupported kind, animated or has several pages, or some
            of its pixels are damaged.
        GsrError: OpenCV, which decodes 16-bit colour, cannot be loaded.
    """
    file = PictureFile(path, max_pixels=max_pixels)
    _refuse_several(file)
    picture = file.picture()
    if damage := damage_of_pixels(picture.ledger):
        raise PictureError(
            f"cannot read {path}: damaged {damage[0]}",
            hint="gsr upscale enlarges what is left; in Python, gsrcli.images.PictureFile reads it",
        )
    return picture


def probe(path: str | os.PathLike[str], *, max_pixels: int | None = DEFAULT_MAX_PIXELS) -> Size:
    """Return the size of the only picture, upright, without decoding it. Raises like `read_picture`."""
    file = PictureFile(path, max_pixels=max_pixels)
    _refuse_several(file)
    return file.size


def _refuse_several(file: PictureFile) -> None:
    if file.count > 1:
        several = f"{file.count} {file.noun}s"
        raise PictureError(
            f"cannot read {file.path}: it {f'is animated ({several})' if file.animated else f'has {several}'}",
            hint="save them as files of one picture each; in Python, gsrcli.images.PictureFile reads them one by one",
        )


@contextmanager
def _reading(path: str | os.PathLike[str], part: str = "") -> Iterator[None]:
    """Turn exceptions of the operating system and of decoders into a `PictureError` that names the file."""
    try:
        with unlimited_pillow():
            yield
    except LimitError as error:
        raise LimitError(f"cannot read {path}: {part}{error}", hint=error.hint) from error
    except PictureError as error:
        raise PictureError(f"cannot read {path}: {part}{error}", hint=error.hint) from error
    except (GsrError, MemoryError, ImportError, AttributeError, NameError):  # the last two are bugs in this package
        raise
    except OSError as error:
        reason = error.strerror.lower() if error.strerror else part + DAMAGED
        if isinstance(error, FileNotFoundError) and os.path.islink(path):  # noqa: PTH114 (bytes)
            reason = "it is a link to a file that does not exist"
        raise PictureError(f"cannot read {path}: {reason}") from error
    except Exception as error:  # decoders raise nearly anything on malformed files
        raise PictureError(f"cannot read {path}: {part}{DAMAGED}") from error
