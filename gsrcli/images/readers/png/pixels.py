"""Decode the pixels of a PNG file: check the compressed stream, mend it if it is damaged, and let Pillow decode it.

Strips of a sound picture that is not interlaced are inflated here, and Pillow decodes each as a picture of its own, in
front of whose rows stands the decoded row before them, as one that needs no filter.

Pillow's decoder of the stream, which removes the filters and the interlacing, keeps all 16 bits only of grey. Other
samples of 16 bits are decoded as pairs of bytes, which filters take them for anyway, or, where Pillow has no mode of
as many bytes, in two runs: one for the upper bytes and one for the lower.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from gsrcli.errors import LimitError, PictureError
from gsrcli.images.content import Part
from gsrcli.images.ledger import PIXELS, Entry, Fate
from gsrcli.images.picture import Pixels, levels, unmultiplied
from gsrcli.images.readers.inflation import BLOCK_BYTES, inflated
from gsrcli.images.readers.source import DAMAGED, Decoded, rows_of_strip, unpacked
from gsrcli.size import Size

__all__ = ["Header", "check_capacity", "check_proportion", "decode", "decode_strips", "examined"]

_GREY, _RGB, _PALETTE, _GREY_ALPHA, _RGB_ALPHA = 0, 2, 3, 4, 6
_SAMPLES = {_GREY: 1, _RGB: 3, _PALETTE: 1, _GREY_ALPHA: 2, _RGB_ALPHA: 4}
_BITS = {_GREY: (1, 2, 4, 8, 16), _RGB: (8, 16), _PALETTE: (1, 2, 4, 8), _GREY_ALPHA: (8, 16), _RGB_ALPHA: (8, 16)}

_WHOLE = ((0, 0, 1, 1),)
_ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
"""Of each pass: its first column and row, and its steps between columns and between rows."""

_MAX_FILTER = 4
_DEFLATE_RATIO = 1032  # deflate makes at most this many bytes of one
_BELIEVED_BYTES, _BYTES_PER_BYTE = 1 << 28, _DEFLATE_RATIO // 4
_MAX_SIDE = 1 << 24  # millions of rows take long, of however few pixels
_LEAST_SHARE = 16  # a picture of which less than this fraction is sound is refused
_MAX_STREAM = 2**32 - 1  # Pillow's decoder counts in 32 bits
_ZLIB_HEADER = b"\x78\x01"


@dataclass(frozen=True)
class Header:
    """How the pixels of a PNG file are stored.

    Attributes:
        size: size of the picture.
        bits: bits per sample: 1, 2, 4, 8 or 16.
        kind: colour type: 0 for grey, 2 for RGB, 3 for a palette, 4 for grey and alpha, 6 for RGB and alpha.
        interlaced: whether rows are stored in the seven passes of Adam7.
        apple: whether this is Apple's variant for iPhones, with a CgBI chunk: without the zlib wrapper, blue first, and
            premultiplied by alpha.

    Raises:
        ValueError: there is no such kind.
    """

    size: Size
    bits: int
    kind: int
    interlaced: bool = False
    apple: bool = False

    def __post_init__(self) -> None:
        if not all(0 < side < 2**31 for side in self.size) or self.bits not in _BITS.get(self.kind, ()):
            raise ValueError("no such kind of PNG")

    @property
    def grey(self) -> bool:
        return self.kind in (_GREY, _GREY_ALPHA)

    @property
    def palette(self) -> bool:
        """Whether pixels are indices into a palette."""
        return self.kind == _PALETTE

    @property
    def alpha(self) -> bool:
        """Whether each pixel has its own alpha."""
        return self.kind in (_GREY_ALPHA, _RGB_ALPHA)

    @property
    def colours(self) -> int:
        """Number of colour channels of a decoded pixel."""
        return 1 if self.grey else 3

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of decoded pixels."""
        return np.dtype(np.uint16 if self.bits == 16 else np.uint8)

    def takes_transparency(self, length: int) -> bool:
        """Return whether a tRNS chunk of so many bytes fits: opacities of the palette, or a transparent colour."""
        return 1 <= length <= 256 if self.palette else length == 2 * self.colours and not self.alpha

    def passes(self, size: Size) -> list[_Pass]:
        """Return how the rows of a picture or frame of this kind follow each other in the stream."""
        found, start = [], 0
        for x, y, step_x, step_y in _ADAM7 if self.interlaced else _WHOLE:
            width, rows = -(-(size.width - x) // step_x), -(-(size.height - y) // step_y)
            if width <= 0 or rows <= 0:
                continue  # a pass without pixels has no rows
            row_bytes = 1 + (width * self.bits * _SAMPLES[self.kind] + 7) // 8
            found.append(_Pass(x, y, step_x, step_y, start, rows, row_bytes))
            start = found[-1].stop
        return found


@dataclass(frozen=True)
class _Pass:
    """The rows of one pass: its pixels in the picture, and its bytes in the stream, each row after its filter type."""

    x: int
    y: int
    step_x: int
    step_y: int
    start: int
    rows: int
    row_bytes: int

    @property
    def stop(self) -> int:
        return self.start + self.rows * self.row_bytes

    def sound_rows(self, sound: int) -> int:
        """Return the number of rows that end within the first ``sound`` bytes of the stream."""
        return min(self.rows, max(0, sound - self.start) // self.row_bytes)


def check_capacity(header: Header, size: Size, stream_bytes: int) -> None:
    """Check that a compressed stream of so many bytes can hold a picture.

    Raises:
        PictureError: it cannot.
    """
    if not stream_bytes:
        raise PictureError(f"{DAMAGED}: it has no pixels")
    if header.passes(size)[-1].stop > stream_bytes * _DEFLATE_RATIO:
        raise PictureError(
            f"{DAMAGED}: it claims {size} pixels, and {stream_bytes} bytes of compressed pixels cannot hold so many"
        )


def check_proportion(header: Header, size: Size, stream_bytes: int) -> None:
    """Check that the pixels of a large picture are not out of proportion to its bytes: no photograph is so blank.

    Raises:
        LimitError: they are.
    """
    channels = header.colours + header.alpha
    taken = size.area * channels * (2 if header.bits == 16 else 1)
    if taken > max(_BELIEVED_BYTES, _BYTES_PER_BYTE * stream_bytes):
        raise LimitError(
            f"{size} is too large to be believed of {stream_bytes} bytes",
            hint="if the picture is really that blank, convert it to an uncompressed format with another program",
        )


def decode(
    header: Header,
    size: Size,
    parts: Sequence[Part],
    palette: bytes | None = None,
    transparency: bytes | None = None,
    *,
    sound: bool = True,
) -> Decoded:
    """Decode a picture or frame as it is stored, as far as it is sound; missing parts are black, or transparent.

    Args:
        header: how pixels are stored.
        size: size of the picture or frame.
        parts: the compressed pixels: the bodies of the IDAT or fdAT chunks.
        palette: body of PLTE; needed by kinds with a palette.
        transparency: body of tRNS, of a length that fits the header.
        sound: whether the checksums of the chunks were right.

    Raises:
        LimitError: the picture is too large to be decoded at once.
        PictureError: too little of it is sound.
    """
    stream_bytes = sum(map(len, parts))
    check_capacity(header, size, stream_bytes)
    if max(size) > _MAX_SIDE:
        raise LimitError(f"a PNG file of {size} pixels, with a side of more than {_MAX_SIDE}, is not supported")
    if stream_bytes > _MAX_STREAM:
        raise LimitError("its compressed pixels take more than 4 GiB", hint="save it as .tif first")
    passes = header.passes(size)
    good, flaws = examined(header, size, parts, sound=sound)
    inflation = _Inflation(_deflate(header, parts))
    stream = _deflated(inflation, good, passes[-1].stop) if flaws else inflation.as_zlib()
    samples = _samples(header, size, stream)
    if good < passes[-1].stop and header.interlaced:
        _fill_from_earlier_passes(samples, passes, good)
    pixels, alpha, of_colours = _coloured(header, samples, palette, transparency)
    return Decoded(pixels, alpha, flaws + of_colours)


def decode_strips(
    header: Header, size: Size, parts: Sequence[Part], palette: bytes | None = None, transparency: bytes | None = None
) -> Iterator[Decoded]:
    """Decode a picture that is sound and not interlaced strip by strip. Arguments are those of `decode`."""
    (rows,) = header.passes(size)
    deep = header.bits >= 8
    # Rows of fewer bits are decoded as bytes, because the next row depends on the unused bits at their end, too.
    stored = header if deep else Header(size, 8, _GREY)
    width = size.width if deep else rows.row_bytes - 1
    above = bytes(rows.row_bytes)  # no filter, and zeros
    for filtered in _pieces(_Inflation(_deflate(header, parts)), rows.row_bytes * rows_of_strip(rows.row_bytes), rows):
        stream = zlib.compress(above + filtered, 0)
        samples = _samples(stored, Size(1 + len(filtered) // rows.row_bytes, width), stream)[1:]
        above = b"\0" + samples[-1].astype(samples.dtype.newbyteorder(">")).tobytes()
        if not deep:
            samples = unpacked(samples[..., 0], header.bits, size.width)[..., None]
        yield Decoded(*_coloured(header, samples, palette, transparency))


def _pieces(inflation: _Inflation, length: int, rows: _Pass) -> Iterator[bytes]:
    """Yield the bytes of some rows, in pieces of ``length``; the last may be shorter.

    Raises:
        PictureError: there are not so many.
    """
    waiting, left = bytearray(), rows.stop
    for block in inflation:
        waiting += block
        while left and len(waiting) >= min(length, left):
            piece = bytes(waiting[: min(length, left)])
            del waiting[: len(piece)]
            left -= len(piece)
            yield piece
        if not left:
            return
    raise PictureError(DAMAGED)


def examined(header: Header, size: Size, parts: Sequence[Part], *, sound: bool) -> tuple[int, list[Entry]]:
    """Examine the compressed stream of a picture or frame; see `decode` for the arguments.

    Returns:
        up to which inflated byte the stream can be decoded, and what is wrong with it.

    Raises:
        PictureError: too little of it is sound.
    """
    passes = header.passes(size)
    inflation = _Inflation(_deflate(header, parts))
    good, more = _sound_bytes(passes, inflation)
    sound = sound and (header.apple or (_is_zlib(parts) and (inflation.checked or more)))
    expected = passes[-1].stop
    if good == expected and sound and not more:
        return good, []
    if good * _LEAST_SHARE < expected:
        raise PictureError(f"{DAMAGED}: too little of its pixels is left")
    if good < expected:
        return good, [_missing(header, size, passes, good)]
    if not sound:
        return good, [Entry(PIXELS, Fate.DAMAGED, "whose checksum is wrong")]
    return good, [Entry("pixels beyond the last row", Fate.LOST)]


def _is_zlib(parts: Sequence[Part]) -> bool:
    """Return whether a stream starts with a zlib header without a preset dictionary."""
    start = bytes(islice(chain.from_iterable(block for part in parts for block in part.blocks()), len(_ZLIB_HEADER)))
    head = int.from_bytes(start, "big")
    return head >> 8 & 15 == zlib.DEFLATED and head % 31 == 0 and not head & 32


def _deflate(header: Header, parts: Sequence[Part]) -> list[Part]:
    """Return a stream without the zlib header, which Apple's has not, and which may state too small a window."""
    found, left = [], 0 if header.apple else len(_ZLIB_HEADER)
    for part in parts:
        found.append(part.cut(left))
        left -= min(left, len(part))
    return found


class _Inflation:
    """The inflated bytes of a deflate stream, in blocks of about a megabyte, up to where it is damaged.

    Args:
        parts: the stream, which Adler-32 may follow.

    Attributes:
        checked: after the last block, whether the stream is complete and Adler-32 after it is right.
    """

    def __init__(self, parts: list[Part]) -> None:
        self.checked = False
        self._parts = parts

    def __iter__(self) -> Iterator[bytes]:
        inflater, adler = zlib.decompressobj(-zlib.MAX_WBITS), 1
        for block in inflated(inflater, chain.from_iterable(part.blocks() for part in self._parts)):
            adler = zlib.adler32(block, adler)
            yield block
        self.checked = inflater.eof and int.from_bytes(inflater.unused_data[:4], "big") == adler

    def as_zlib(self) -> bytes:
        """Return the stream as one of zlib, whose header states the largest window."""
        return b"".join([_ZLIB_HEADER, *map(bytes, self._parts)])


def _sound_bytes(passes: list[_Pass], inflation: _Inflation) -> tuple[int, bool]:
    """Return up to which byte the inflated stream consists of whole rows with valid filters, and whether more follow.

    Blocks are looked at one after the other, so that memory does not grow with the picture.
    """
    at, expected = 0, passes[-1].stop
    for block in inflation:
        values = np.frombuffer(block, np.uint8)
        for rows in passes:
            first = max(0, -(-(at - rows.start) // rows.row_bytes))  # the first row that starts in this block
            offset = rows.start + first * rows.row_bytes - at
            if first >= rows.rows or offset >= len(block):
                continue
            filters = values[offset : rows.stop - at : rows.row_bytes]
            wrong = np.flatnonzero(filters > _MAX_FILTER)
            if wrong.size:
                return rows.start + (first + int(wrong[0])) * rows.row_bytes, False
        at += len(block)
        if at > expected + BLOCK_BYTES:  # whatever follows, it is no picture
            break
    good = max(rows.start + rows.sound_rows(at) * rows.row_bytes for rows in passes if rows.start <= at)
    return good, at > expected


def _deflated(inflation: _Inflation, good: int, expected: int) -> bytes:
    """Return a zlib stream of the first ``good`` inflated bytes of another, and zeros for the others."""
    deflater, left = zlib.compressobj(1), good
    parts = []
    for block in inflation:
        parts.append(deflater.compress(block[:left]))
        left -= min(left, len(block))
        if not left:
            break
    zeros = (bytes(min(BLOCK_BYTES, expected - at)) for at in range(good, expected, BLOCK_BYTES))
    parts.extend(map(deflater.compress, zeros))
    return b"".join([*parts, deflater.flush()])


def _missing(header: Header, size: Size, passes: list[_Pass], good: int) -> Entry:
    """Return the entry of a picture that is sound up to a byte of its stream."""
    first, rows = passes[0], passes[0].sound_rows(good)
    if header.interlaced and rows == first.rows:
        return Entry(PIXELS, Fate.DAMAGED, "of which only a coarser picture is left")
    row = first.y + rows * first.step_y
    return Entry(PIXELS, Fate.DAMAGED, f"from row {row + 1} of {size.height} on")


def _fill_from_earlier_passes(samples: Pixels, passes: list[_Pass], good: int) -> None:
    """Give the missing pixels of each pass but the first those to their left, or above, of the passes before it."""
    for rows in passes[1:]:
        row = rows.y + rows.sound_rows(good) * rows.step_y
        missing = samples[row :: rows.step_y, rows.x :: rows.step_x]
        height, width = missing.shape[:2]
        missing[:] = samples[row - rows.y :: rows.step_y, :: rows.step_x][:height, :width]


def _samples(header: Header, size: Size, stream: bytes) -> Pixels:
    """Return the samples of a sound stream, ``(H, W, samples)`` of uint8 or uint16, as they are stored."""
    samples = _SAMPLES[header.kind]

    def decoded(mode: str, raw_mode: str) -> NDArray[np.uint8]:
        image = Image.frombytes(mode, size.for_pillow, stream, "zip", raw_mode, int(header.interlaced))
        values = np.empty((*size, len(image.getbands())), np.uint8)
        step = max(1, BLOCK_BYTES // values[0].size)
        for top in range(0, size.height, step):  # Pillow converts a whole picture in two copies
            rows = image.crop((0, top, size.width, min(top + step, size.height)))
            values[top : top + step] = np.asarray(rows).reshape(rows.height, size.width, -1)
        return values

    if header.bits < 8:
        return decoded("P", f"P;{header.bits}")
    mode = ("L", "LA", "RGB", "RGBA")[samples - 1]
    if header.bits == 8:
        return decoded(mode, mode)
    if samples <= 2:
        mode = ("LA", "RGBA")[samples - 1]
        return decoded(mode, mode).view(">u2").astype(np.uint16)
    values = decoded(mode, f"{mode};16B").astype(np.uint16)  # the upper byte of each sample
    values <<= 8
    values |= decoded(mode, f"{mode};16L")  # the lower byte
    return values


def _coloured(
    header: Header, samples: Pixels, palette: bytes | None, transparency: bytes | None
) -> tuple[Pixels, Pixels | None, list[Entry]]:
    """Return pixels and alpha of samples: palettes are resolved, and few bits scaled to 8."""
    if header.palette:
        return _from_palette(samples[..., 0], palette or b"", transparency)
    if header.apple:
        return _from_apple(samples)
    top = 65535 if header.bits == 16 else 255
    alpha = None
    if header.alpha:
        samples, alpha = samples[..., :-1], samples[..., -1]
    elif transparency is not None:
        key = np.frombuffer(transparency, ">u2") & ((1 << header.bits) - 1)
        alpha = np.where((samples == key.astype(samples.dtype)).all(axis=2), 0, top).astype(samples.dtype)
    if header.bits < 8:
        samples = levels((1 << header.bits) - 1, np.uint8)[samples]
    return samples, alpha, []


def _from_palette(
    indices: NDArray[np.uint8], palette: bytes, transparency: bytes | None
) -> tuple[Pixels, Pixels | None, list[Entry]]:
    count = len(palette) // 3
    colours = np.zeros((256, 3), np.uint8)
    colours[:count] = np.frombuffer(palette[: count * 3], np.uint8).reshape(-1, 3)
    entries = []
    if int(indices.max()) >= count:
        entries.append(Entry(PIXELS, Fate.DAMAGED, "whose colours are not in the palette"))
    if transparency is None:
        return colours[indices], None, entries
    opacities = np.full(256, 255, np.uint8)
    opacities[: len(transparency)] = np.frombuffer(transparency, np.uint8)
    return colours[indices], opacities[indices], entries


def _from_apple(samples: NDArray[np.uint8]) -> tuple[Pixels, Pixels | None, list[Entry]]:
    """Return pixels and alpha of Apple's variant of PNG: BGR, premultiplied by alpha, to straight RGB."""
    pixels = samples[..., 2::-1]
    if samples.shape[2] == 3:
        return pixels, None, []
    alpha = samples[..., 3]
    if alpha.min() == 255:
        return pixels, alpha, []
    return unmultiplied(pixels, alpha), alpha, [Entry("premultiplied alpha", Fate.CONVERTED, "to straight alpha")]
