"""An opened picture file, whatever its format."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from gsrcli.errors import LimitError, PictureError
from gsrcli.images.content import Content, trimmed
from gsrcli.images.description import Raster
from gsrcli.images.ledger import PIXELS, Entry, Fate, damage_of_pixels
from gsrcli.images.picture import Picture, Pixels, white
from gsrcli.images.strips import Strip, Strips, in_strips
from gsrcli.size import Size

__all__ = [
    "CUT",
    "DAMAGED",
    "LEAST_PART",
    "Decoded",
    "Limits",
    "Source",
    "Survey",
    "appended",
    "as_far_as_it_goes",
    "large",
    "owned",
    "rows_of_strip",
    "shown_for",
    "stored_rows",
    "streamed",
    "unpacked",
]

DAMAGED = "the file is damaged or cut short"

CUT = Entry(PIXELS, Fate.DAMAGED, "(some are missing)")
"""What to say of a picture of which a part is missing."""

LEAST_PART = 10
"""Of so many rows or pixels of a damaged picture, one must be there."""

_BELIEVED_PIXELS, _PIXELS_PER_BYTE = 1 << 25, 256
_LARGE_BYTES, _STRIP_BYTES = 1 << 26, 1 << 22  # decoded
_PADDING = b"\0\xff\t\n\r\x1a "


@dataclass(frozen=True)
class Limits:
    """How much a file may ask for.

    Attributes:
        max_pixels: largest picture to decode, in pixels; None for no limit.
    """

    max_pixels: int | None

    def check(self, size: Size) -> None:
        """Check the size that a file claims, before memory is allocated for it.

        Raises:
            LimitError: the picture is too large.
        """
        if self.max_pixels is not None and size.area > self.max_pixels:
            raise LimitError(
                f"{size} is more than {_amount(self.max_pixels)}",
                hint=f"if you trust the file, add --max-pixels {size.area}",
            )

    def check_compressed(self, size: Size, compressed: int, *, bytes_per_channel: int = 1) -> None:
        """Check the size that a compressed picture claims against its number of bytes, where a few can mean any size.

        Photographs have well below 100 pixels a byte. Blank pictures may have millions.

        Raises:
            LimitError: the picture is too large, by itself or for its bytes.
        """
        self.check(size)
        believed = max(_BELIEVED_PIXELS, _PIXELS_PER_BYTE * compressed)
        if self.max_pixels is not None and size.area * bytes_per_channel > believed:
            raise LimitError(
                f"{size} is too large to be believed of {compressed} bytes",
                hint="if the picture is really that blank, convert it to PNG with another program",
            )


def _amount(pixels: int) -> str:
    return f"{pixels / 1e6:g} megapixels" if pixels >= 1e5 else f"{pixels} pixels"


def owned(array: Pixels) -> Pixels:
    """Return an array contiguous and writable, which the memory of decoders is not."""
    return np.require(array, requirements=["C", "W"])


def as_far_as_it_goes(stored: NDArray[Any], count: int) -> tuple[NDArray[Any], bool]:
    """Return ``count`` values of an uncompressed picture, 0 where the file is cut short, and whether all are there.

    Args:
        stored: one-dimensional.
        count: how many values make up the picture.

    Raises:
        PictureError: nearly all are missing.
    """
    if stored.size >= count:
        return stored[:count], True
    if stored.size * LEAST_PART < count:
        raise PictureError(DAMAGED)
    whole = np.zeros(count, stored.dtype)
    whole[: stored.size] = stored
    return whole, False


def shown_for(duration: float) -> float:
    """Return how long browsers show a frame of a stated duration, in seconds: up to 10 ms mean 100."""
    return 0.1 if duration <= 0.01 else duration


def appended(data: Content, start: int = 0) -> list[Entry]:
    """Return an entry for what follows the picture in its file, unless that is padding, as transfers leave it.

    Args:
        data: the file, or what follows the picture.
        start: where the picture ends.
    """
    first, stop = trimmed(data, start, _PADDING)
    count = stop - first
    return [Entry(f"{count} byte{'s' * (count > 1)} after the picture", Fate.LOST)] if count else []


def unpacked(rows: NDArray[np.uint8], bits: int, width: int) -> NDArray[np.uint8]:
    """Return the numbers of 1, 2, 4 or 8 bits in rows of bytes, the first in the highest bits: ``(rows, width)``."""
    if bits < 8:
        shifts = np.arange(8 - bits, -1, -bits, dtype=np.uint8)
        rows = np.bitwise_and(rows[..., None] >> shifts, np.uint8((1 << bits) - 1)).reshape(len(rows), -1)
    return rows[:, :width]


def large(raster: Raster) -> bool:
    """Return whether a picture is to be decoded by strips, where its format allows, so that memory need not hold it."""
    return raster.size.area * raster.layers * raster.dtype.itemsize >= _LARGE_BYTES


def rows_of_strip(row_bytes: int) -> int:
    """Return how many rows of so many bytes a strip has."""
    return max(1, _STRIP_BYTES // row_bytes)


def stored_rows(
    data: Content, at: int, rows: int, row_bytes: int, *, upwards: bool = False
) -> Iterator[NDArray[np.uint8]]:
    """Read uncompressed rows of a complete picture by strips, the upper ones first: ``(rows, row_bytes)``.

    Args:
        data: the file.
        at: where the rows start.
        rows: their number.
        row_bytes: bytes of each, with padding.
        upwards: whether they are stored from the last to the first.
    """
    step = rows_of_strip(row_bytes)
    for top in range(0, rows, step):
        bottom = min(top + step, rows)
        first, last = (rows - bottom, rows - top) if upwards else (top, bottom)
        stored = np.frombuffer(data[at + first * row_bytes : at + last * row_bytes], np.uint8)
        block = stored.reshape(-1, row_bytes)
        yield block[::-1] if upwards else block


@dataclass(frozen=True)
class Decoded:
    """Decoded pixels: of a picture, or of some of its rows.

    Attributes:
        pixels: ``(H, W, 1 or 3)``, as in `gsrcli.images.Picture`.
        alpha: ``(H, W)``, or None.
        entries: what decoding converted, lost or found damaged.
    """

    pixels: Pixels
    alpha: Pixels | None
    entries: list[Entry] = field(default_factory=list)


class _Range:
    """The smallest and the largest of numbers.

    Attributes:
        ends: these, or None without any number.
    """

    def __init__(self) -> None:
        self.ends: tuple[float, float] | None = None

    def widen(self, numbers: NDArray[np.float32]) -> None:
        if numbers.size:
            low, high = self.ends or (np.inf, -np.inf)
            self.ends = min(low, float(numbers.min())), max(high, float(numbers.max()))


class Survey:
    """What is known of a large picture once all of it that tells has been seen.

    Attributes:
        entries: what was found in it.
        opaque: whether all pixels are opaque.
        visible: whether some pixel is not fully transparent.
    """

    def __init__(self, entries: Iterable[Entry] = ()) -> None:
        self.entries = list(entries)
        self.opaque, self.visible = True, False
        self._seen, self._all = _Range(), _Range()

    def add(self, decoded: Decoded) -> None:
        """Take in some rows."""
        alpha = decoded.alpha
        self.entries += [entry for entry in decoded.entries if entry not in self.entries]
        self.opaque = self.opaque and (alpha is None or bool(alpha.min() >= white(alpha.dtype)))
        self.visible = self.visible or alpha is None or bool(alpha.any())
        if decoded.pixels.dtype == np.float32:
            self._all.widen(decoded.pixels)
            self._seen.widen(decoded.pixels if alpha is None else decoded.pixels[alpha > 0])

    @property
    def extremes(self) -> tuple[float, float] | None:
        """The smallest and the largest colour that counts, as in `gsrcli.images.Picture`."""
        return self._seen.ends or self._all.ends

    @property
    def damaged(self) -> bool:
        """Whether some of the picture is missing or wrong."""
        return bool(damage_of_pixels(self.entries))

    @property
    def alpha_known(self) -> bool:
        """Whether all that there is to know of alpha is known before the end."""
        return self.visible and not self.opaque


def streamed(
    raster: Raster, decode: Callable[[], Iterator[Decoded]], survey: Survey, described: Mapping[str, Any]
) -> Strips:
    """Return a picture in strips.

    Args:
        raster: size and type of its pixels. Rows without alpha are opaque if it has some, otherwise theirs is dropped.
        decode: starts to decode it by strips.
        survey: what is known of it.
        described: the attributes of its description.
    """

    def source() -> Iterator[Strip]:
        for decoded in decode():
            alpha = decoded.alpha if raster.alpha else None
            if raster.alpha and alpha is None:
                alpha = np.full(decoded.pixels.shape[:2], white(raster.dtype), raster.dtype)
            yield Strip(owned(decoded.pixels), None if alpha is None else owned(alpha))

    return Strips(raster, source, survey.opaque or not raster.alpha, survey.extremes, **described)


class Source(ABC):
    """The pictures of one file. Opening reads headers alone.

    Attributes:
        format: name of the file format, as Pillow calls it.
        by_parts: whether files may be opened that are not in memory (`Content` instead of `bytes`).
        size: size of the first picture, upright.
        count: number of pictures: frames of an animation, or pages.
        animated: whether they are the frames of an animation.
        loops: how often the animation is shown; 0 for ever. None if there is none.

    Raises:
        LimitError: a picture is too large.
        PictureError: the file is unsupported or damaged. Messages do not name the file; decoders may raise anything
            else, which means damage.
    """

    format: ClassVar[str]
    by_parts: ClassVar[bool] = False
    size: Size
    count: int = 1
    animated: bool = False
    loops: int | None = None

    @abstractmethod
    def __init__(self, data: Any, limits: Limits) -> None: ...

    @abstractmethod
    def picture(self, index: int = 0) -> Picture:
        """Decode one of the pictures, from 0 on. A frame of an animation is drawn over those before it."""

    def strips(self, index: int = 0) -> Strips:
        """Return one of the pictures, whose strips are decoded when they are asked for, if it is large and sound.

        Otherwise, and where the format does not allow it, there is one strip, decoded as by `picture`.
        """
        return in_strips(self.picture(index))
