"""Read BMP files: every header from OS/2 1.x to version 5, palettes, bit fields of any width, and run lengths.

Decoded here rather than by Pillow, which knows few bit fields and calls the others damaged.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gsrcli.errors import PictureError
from gsrcli.images.colour import PRIMARIES, Chromaticities, Colour
from gsrcli.images.content import Content, after
from gsrcli.images.description import Origin, Raster
from gsrcli.images.ledger import PIXELS, Entry, Fate
from gsrcli.images.metadata import METRES_PER_INCH, Metadata, sound_dpi
from gsrcli.images.picture import Picture, Pixels, levels, white
from gsrcli.images.readers.source import (
    CUT,
    DAMAGED,
    Decoded,
    Limits,
    Source,
    Survey,
    appended,
    as_far_as_it_goes,
    large,
    stored_rows,
    streamed,
    unpacked,
)
from gsrcli.images.strips import Strips
from gsrcli.size import Size

__all__ = ["BmpSource", "Dib"]

_FILE_HEADER = 14
_OS2, _OS2_V2, _V2, _V3, _V4, _V5 = 12, 64, 52, 56, 108, 124  # sizes of headers
_RGB, _RLE8, _RLE4, _BITFIELDS, _JPEG, _PNG, _ALPHA_BITFIELDS = range(7)
_HUFFMAN, _RLE24 = 3, 4  # what OS/2 calls 3 and 4
_BY_LENGTHS = {(_RLE8, 8), (_RLE4, 4)}
_OTHER_KINDS = {_JPEG: "JPEG inside BMP", _PNG: "PNG inside BMP", 11: "CMYK BMP", 12: "CMYK BMP", 13: "CMYK BMP"}
_DEFAULT_MASKS = {16: (0x7C00, 0x3E0, 0x1F, 0), 32: (0xFF0000, 0xFF00, 0xFF, 0)}
_CALIBRATED, _EMBEDDED, _LINKED = 0, 0x4D424544, 0x4C494E4B
_END_OF_LINE, _END_OF_PICTURE = b"\0\0", b"\0\1"
_SLACK = 1 << 20  # pixels that run lengths may skip
_MOST_PER_BYTE = 128  # pixels of run lengths

Bytes = NDArray[np.uint8]


class _Header(NamedTuple):
    size: int
    width: int
    height: int
    bits: int
    compression: int
    per_metre: tuple[int, int]
    colours: int


class Dib:
    """A device-independent bitmap: a BMP file without its first header, as it is in ICO files too.

    Args:
        data: bytes that start at the header.
        pixels_at: where the pixels start, or None if they follow the palette.
        alpha: whether the fourth byte of 32 bits is alpha, as in icons, even without bit fields.

    Raises:
        PictureError: it is damaged or of an unsupported kind.
    """

    def __init__(self, data: Content, pixels_at: int | None = None, *, alpha: bool = False) -> None:
        self.data, self.header, self._alpha = data, _header(data), alpha
        self._lengths_end = len(data)
        header = self.header
        if header.width <= 0 or header.height == 0:
            raise PictureError(DAMAGED)
        self.size = Size(abs(header.height), header.width)
        self._os2 = header.size not in (40, _V2, _V3, _V4, _V5) and header.size <= _OS2_V2
        kind = _kind(header, os2=self._os2)
        if kind:
            raise PictureError(f"{kind} is not supported", hint="save it as .png")
        has_masks = header.compression in (_BITFIELDS, _ALPHA_BITFIELDS)
        self._by_lengths = (self._os2 and header.compression == _RLE24) or header.compression in (_RLE8, _RLE4)
        masks_after = has_masks and header.size == 40
        palette_at = header.size + (masks_after and (16 if header.compression == _ALPHA_BITFIELDS else 12))
        entry = 3 if header.size == _OS2 else 4
        colours = header.colours or (1 << header.bits if header.bits <= 8 else 0)
        self._pixels_at = pixels_at or palette_at + entry * colours
        self._palette = self._read_palette(palette_at, entry, colours) if header.bits <= 8 else None
        self._masks = self._read_masks(has_masks) if header.bits in _DEFAULT_MASKS else None

    @property
    def dpi(self) -> tuple[float, float] | None:
        """Pixels per inch, horizontal and vertical."""
        return sound_dpi(*(value * METRES_PER_INCH for value in self.header.per_metre))

    @property
    def profile(self) -> tuple[int, int]:
        """Where the profile of a version 5 header, or the name of its file, starts and ends; there may be none."""
        space = int.from_bytes(self.data[56:60], "little")
        if self.header.size < _V5 or space not in (_EMBEDDED, _LINKED):
            return len(self.data), 0
        at, size = struct.unpack("<II", self.data[112:120])
        return at, at + size

    @property
    def stride(self) -> int:
        """Bytes of a row that is not coded by run lengths: a multiple of 4."""
        return (self.size.width * self.header.bits + 31) // 32 * 4

    @property
    def pixels_end(self) -> int:
        """Where the pixels end; of run lengths, it is known once they are decoded."""
        return self._lengths_end if self._by_lengths else self._pixels_at + self.size.height * self.stride

    @property
    def raster(self) -> Raster:
        """Size and type of the pixels. Alpha is one of them also where it is 0 everywhere, so that it is dropped."""
        if self._palette is not None:
            return Raster(self.size, self._palette.shape[1], np.dtype(np.uint8), False)
        return Raster(self.size, 3, np.dtype(_depth(self._masks)), bool(self._masks and self._masks[3]))

    def decode(self) -> Decoded:
        """Decode the pixels, top first."""
        if self._by_lengths:
            rows, inside = self._lengths()
            entries = [] if inside else [Entry(PIXELS, Fate.DAMAGED, "(runs reach outside the picture)")]
            decoded = self._of_values(rows)
            return replace(decoded, entries=[*entries, *decoded.entries])
        height, stride = self.size.height, self.stride
        stored = np.frombuffer(self.data[self._pixels_at : self.pixels_end], np.uint8)
        values, _ = as_far_as_it_goes(stored, height * stride)
        rows = values.reshape(height, stride)
        decoded = self._of_rows(rows if self.header.height < 0 else rows[::-1])
        if decoded.alpha is not None and not decoded.alpha.any():  # many programs declare alpha and leave it 0
            decoded = replace(decoded, alpha=None)
        whole = stored.size >= (height - 1) * stride + self._row_bytes  # the last row may be without padding
        return decoded if whole else replace(decoded, entries=[*decoded.entries, CUT])

    @property
    def complete(self) -> bool:
        """Whether all rows are there, and can be decoded by strips."""
        return not self._by_lengths and self.pixels_end <= len(self.data)

    def strips(self) -> Iterator[Decoded]:
        """Decode the rows of a complete picture by strips, with an alpha that may be 0 everywhere."""
        upwards = self.header.height > 0
        rows = stored_rows(self.data, self._pixels_at, self.size.height, self.stride, upwards=upwards)
        return map(self._of_rows, rows)

    def survey(self) -> Survey:
        """Look at all strips that tell more than the header does."""
        survey = Survey()
        if self.raster.alpha or (self._palette is not None and self._colours < 1 << self.header.bits):
            for decoded in self.strips():
                survey.add(decoded)
                if self.raster.alpha and survey.alpha_known:
                    break
        return survey

    def colour(self) -> tuple[Colour, list[Entry]]:
        """Return the colour tags of a version 4 or 5 header, and what cannot be kept."""
        return _colour(self.data, self.header.size)

    @property
    def _row_bytes(self) -> int:
        """Bytes of a row without padding."""
        return (self.size.width * self.header.bits + 7) // 8

    def _of_rows(self, rows: Bytes) -> Decoded:
        """Decode rows of bytes ``(rows, bytes)``."""
        bits, stored = self.header.bits, np.ascontiguousarray(rows[:, : self._row_bytes])
        if self._masks and bits in (16, 32):
            pixels, alpha = self._fields(stored.view(f"<u{bits // 8}"), self._masks)
            return Decoded(pixels, alpha)
        if self._palette is None:
            return self._of_values(stored.reshape(len(rows), -1, 3))
        return self._of_values(unpacked(stored, bits, self.size.width))

    def _of_values(self, values: Bytes) -> Decoded:
        """Return the pixels of indices ``(rows, W)``, or of blue, green and red ``(rows, W, 3)``."""
        if self._palette is None:
            return Decoded(np.ascontiguousarray(values[..., ::-1]), None)
        missing = Entry(PIXELS, Fate.DAMAGED, "(colours that the palette lacks are black)")
        return Decoded(self._palette[values], None, [missing] if values.max() >= self._colours else [])

    def _lengths(self) -> tuple[Bytes, bool]:
        stream = self.data[self._pixels_at :]
        most = _MOST_PER_BYTE // (2 if self.header.bits == 24 else 1) * len(stream)
        if self.size.area > most + _SLACK:
            raise PictureError(DAMAGED)
        rows, inside, used = _decoded_lengths(stream, self.size, self.header.bits)
        self._lengths_end = self._pixels_at + used
        return rows if self.header.height < 0 else rows[::-1], inside

    def _fields(self, values: Pixels, masks: tuple[int, ...]) -> tuple[Pixels, Pixels | None]:
        """Take colours and alpha apart; more than 8 bits become 16."""
        dtype = _depth(masks)
        pixels = np.stack([_component(values, mask, dtype) for mask in masks[:3]], axis=-1)
        return pixels, _component(values, masks[3], dtype) if masks[3] else None

    def _read_palette(self, at: int, entry: int, colours: int) -> Bytes:
        """Return 256 colours, black where the file has none, as ``(256, 1 or 3)``."""
        stored = self.data[at : min(at + entry * min(colours, 256), max(self._pixels_at, at))]
        known = np.frombuffer(stored[: len(stored) // entry * entry], np.uint8).reshape(-1, entry)[:, 2::-1]
        palette = np.zeros((256, 3), np.uint8)
        palette[: len(known)] = known
        self._colours = len(known)
        grey = (known == known[:, :1]).all()
        return palette[:, :1] if grey else palette

    def _read_masks(self, given: bool) -> tuple[int, ...]:
        """Return the masks of red, green, blue and alpha."""
        header = self.header
        if not given:
            masks = _DEFAULT_MASKS[header.bits]
            return (*masks[:3], 0xFF000000) if self._alpha and header.bits == 32 else masks
        has_alpha = header.size >= _V3 or header.compression == _ALPHA_BITFIELDS
        stated = [int.from_bytes(self.data[at : at + 4], "little") for at in range(40, 56 if has_alpha else 52, 4)]
        limit = 1 << header.bits
        if any(mask >= limit or not _contiguous(mask) for mask in stated) or not any(stated[:3]):
            raise PictureError(DAMAGED)
        return tuple(stated if has_alpha else (*stated, 0))


class BmpSource(Source):
    """A BMP file."""

    format = "BMP"
    by_parts = True

    def __init__(self, data: Content, limits: Limits) -> None:
        pixels_at = int.from_bytes(data[10:14], "little")
        self._dib = Dib(after(data, _FILE_HEADER), max(pixels_at - _FILE_HEADER, 0) or None)
        self.size = self._dib.size
        limits.check(self.size)

    def picture(self, index: int = 0) -> Picture:
        decoded = self._dib.decode()
        return Picture(decoded.pixels, decoded.alpha, **self._described(decoded.entries))

    def strips(self, index: int = 0) -> Strips:
        dib = self._dib
        if not large(dib.raster) or not dib.complete:
            return super().strips(index)
        survey = dib.survey()
        if survey.damaged:
            return super().strips(index)
        raster = dib.raster._replace(alpha=dib.raster.alpha and survey.visible)
        return streamed(raster, dib.strips, survey, self._described(survey.entries))

    def _described(self, entries: list[Entry]) -> dict[str, Any]:
        dib = self._dib
        colour, found = dib.colour()
        rest = appended(dib.data, max(dib.pixels_end, dib.profile[1]))
        return {
            "colour": colour,
            "metadata": Metadata(dpi=dib.dpi),
            "ledger": (*entries, *found, *rest),
            "origin": Origin(self.format),
        }


def _header(data: Content) -> _Header:
    """Read a header of any version."""
    size = int.from_bytes(data[:4], "little")
    if size < _OS2 or len(data) < size:
        raise PictureError(DAMAGED)
    if size == _OS2:
        width, height, _, bits = struct.unpack("<4H", data[4:12])
        return _Header(size, width, height, bits, _RGB, (0, 0), 0)
    fields = data[4 : min(size, 40)].ljust(36, b"\0")  # the second version of OS/2 may be cut anywhere
    width, height, _, bits, compression, _, x, y, colours, _ = struct.unpack("<iiHHIIiiII", fields)
    return _Header(size, width, height, bits, compression, (x, y), colours)


def _kind(header: _Header, *, os2: bool) -> str | None:
    """Return the name of a kind of BMP that is not supported; None if it is.

    Raises:
        PictureError: there is no such kind.
    """
    bits, compression = header.bits, header.compression
    if os2 and compression == _HUFFMAN and bits == 1:
        return "Huffman-coded BMP"
    if os2 and (compression, bits) == (_RLE24, 24):
        return None
    if compression in _OTHER_KINDS:
        return _OTHER_KINDS[compression]
    if compression == _RGB and bits == 64:
        return "BMP of 64 bits per pixel"
    sound = (
        (compression == _RGB and bits in (1, 2, 4, 8, 16, 24, 32))
        or (compression, bits) in _BY_LENGTHS
        or (compression in (_BITFIELDS, _ALPHA_BITFIELDS) and bits in _DEFAULT_MASKS and not os2)
    )
    if not sound:
        raise PictureError(DAMAGED)
    return None


def _contiguous(mask: int) -> bool:
    ones = mask // (mask & -mask) if mask else 0
    return ones & ones + 1 == 0


def _depth(masks: tuple[int, ...] | None) -> type:
    """Return the type of pixels with such masks, or of three bytes."""
    return np.uint8 if masks is None or max(mask.bit_count() for mask in masks) <= 8 else np.uint16


def _component(values: Pixels, mask: int, dtype: type) -> Pixels:
    """Return the component under a mask, scaled to the whole range of a type and rounded."""
    if not mask:
        return np.zeros(values.shape, dtype)
    shift, most = (mask & -mask).bit_length() - 1, mask >> ((mask & -mask).bit_length() - 1)
    component = (values & values.dtype.type(mask)) >> values.dtype.type(shift)
    if most == white(dtype):
        return component.astype(dtype)
    if most < 1 << 16:
        return levels(most, dtype)[component]
    return np.rint(component * (white(dtype) / most)).astype(dtype)


def _decoded_lengths(stream: bytes, size: Size, bits: int) -> tuple[Bytes, bool, int]:
    """Decode run lengths of indices, or of 24-bit colours.

    Returns:
        rows in the order they are stored, in which skipped pixels are 0, whether all runs end inside them, and the
        number of bytes used.

    Raises:
        PictureError: the stream ends before the picture.
    """
    height, width = size
    step = 3 if bits == 24 else 1
    out, runs = bytearray(height * width * step), _runs(bits)
    x = y = at = 0
    inside = True
    while y < height and not (y == height - 1 and x >= width):
        if at + 2 > len(stream):
            raise PictureError(DAMAGED)
        count, value = stream[at], stream[at + 1]
        at += 2
        if count and runs:
            run = runs[value]
        elif count:
            run = stream[at - 1 : at + 2] * count
            at += 2
        elif value == 0:  # the end of a line
            x, y = 0, y + 1
            continue
        elif value == 1:  # the end of the picture
            break
        elif value == 2:  # a move
            if at + 2 > len(stream):
                raise PictureError(DAMAGED)
            x, y, at = x + stream[at], y + stream[at + 1], at + 2
            continue
        else:
            run, used = _literal(stream, at, value, bits)
            at, count = at + used, value
        if len(run) < count * step:
            raise PictureError(DAMAGED)
        end = x + count
        if end > width:
            inside &= end == width + 1 and bits == 4 and count % 2 == 1  # some encoders pair the last pixel with none
            count = max(width - x, 0)
        start = (y * width + x) * step
        out[start : start + count * step] = run[: count * step]
        x = end
    rows = np.frombuffer(out, np.uint8)
    rest = stream[at:].removeprefix(_END_OF_LINE).removeprefix(_END_OF_PICTURE)
    return rows.reshape(height, width, 3) if step == 3 else rows.reshape(height, width), inside, len(stream) - len(rest)


def _runs(bits: int) -> list[bytes]:
    """Return the longest run of every value, which has one index of 8 bits, or two of 4 in turn; none for colours."""
    if bits == 24:
        return []
    return [(bytes((value,)) if bits == 8 else bytes((value >> 4, value & 15))) * 255 for value in range(256)]


def _literal(stream: bytes, at: int, count: int, bits: int) -> tuple[bytes, int]:
    """Return ``count`` pixels stored one by one, and the number of bytes used, which is even."""
    length = (count * bits + 7) // 8
    stored = stream[at : at + length]
    if bits == 4:
        stored = bytes(nibble for value in stored for nibble in (value >> 4, value & 15))[:count]
    return stored, length + length % 2


def _colour(data: Content, header_size: int) -> tuple[Colour, list[Entry]]:
    """Return the colour tags of a version 4 or 5 header, and what cannot be kept."""
    if header_size < _V4:
        return Colour(), []
    space = int.from_bytes(data[56:60], "little")
    if space == _CALIBRATED:
        return _calibrated(data)
    if header_size >= _V5 and space == _LINKED:
        return Colour(), [Entry("linked colour profile", Fate.LOST)]
    if header_size >= _V5 and space == _EMBEDDED:
        at, size = struct.unpack("<II", data[112:120])
        icc = data[at : at + size]
        return (
            (Colour(icc=icc), []) if icc and len(icc) == size else (Colour(), [Entry("colour profile", Fate.DAMAGED)])
        )
    return Colour(), []  # sRGB


def _calibrated(data: Content) -> tuple[Colour, list[Entry]]:
    """Return the end points and gamma of a version 4 header; most files leave them 0, and mean sRGB."""
    points = np.array(struct.unpack("<9I", data[60:96])).reshape(3, 3) / 2**30
    exponents = np.array(struct.unpack("<3I", data[96:108])) / 2**16
    sums = points.sum(axis=1)
    if not sums.all() or not exponents.all():
        return Colour(), []
    if np.ptp(exponents) > 0.01:
        return Colour(), [Entry("calibrated colours", Fate.LOST, "(a gamma for each channel)")]
    red, green, blue = ((float(x), float(y)) for x, y in points[:, :2] / sums[:, None])
    total = points.sum(axis=0)
    # Either XYZ, which add up to white, or chromaticities.
    xyz = not np.allclose(sums, 1, atol=0.01)
    known = PRIMARIES[1].white
    white_point = (float(total[0] / total.sum()), float(total[1] / total.sum())) if xyz else known
    exponent = float(exponents[0])
    gamma = 1 / exponent if exponent > 1 else exponent
    return Colour(gamma=gamma, chromaticities=Chromaticities(white_point, red, green, blue)), []
