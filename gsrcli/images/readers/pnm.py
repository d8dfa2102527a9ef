"""Read the formats of Netpbm: PBM, PGM, PPM, PAM and PFM."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gsrcli.errors import PictureError
from gsrcli.images.content import Content
from gsrcli.images.description import Origin, Raster
from gsrcli.images.ledger import PIXELS, Entry, Fate
from gsrcli.images.metadata import COMMENT, Metadata, Text
from gsrcli.images.picture import Picture, levels, white
from gsrcli.images.readers.signatures import begins_like_pnm
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
)
from gsrcli.images.strips import Strips
from gsrcli.size import Size

__all__ = ["PnmSource"]

_FIELD = re.compile(rb"(?:\s|#[^\n\r]*[\n\r])*([^\s#]+)")
_LINE = re.compile(rb"[^\n]*\n")
_COMMENTS = re.compile(rb"#([^\n\r]*)")
_TOO_MUCH = 1 << 32  # for a sample
_MAX_HEADER = 1 << 16  # bytes
_PLAIN_BITS, _PLAIN_GREY, _PLAIN_RGB, _BITS, _GREY, _RGB = (b"P%d" % number for number in range(1, 7))
_PAM, _FLOAT_GREY, _FLOAT_RGB = b"P7", b"Pf", b"PF"
_CHANNELS = {_PLAIN_RGB: 3, _RGB: 3, _FLOAT_RGB: 3}
_TUPLES = {"BLACKANDWHITE": 1, "GRAYSCALE": 1, "RGB": 3}
_ALPHA = "_ALPHA"

Samples = NDArray[Any]


class _Header(NamedTuple):
    kind: bytes
    size: Size
    channels: int
    most: float  # the value of white; the scale of PFM
    pixels_at: int

    @property
    def floats(self) -> bool:
        return self.kind in (_FLOAT_GREY, _FLOAT_RGB)

    @property
    def plain(self) -> bool:
        """Whether samples are written as text."""
        return self.kind in (_PLAIN_BITS, _PLAIN_GREY, _PLAIN_RGB)

    @property
    def alpha(self) -> bool:
        return self.channels in (2, 4)

    @property
    def stored(self) -> np.dtype[Any]:
        """Type of the samples in the file, or of the bytes of samples of one bit."""
        if self.floats:
            return np.dtype("<f4" if self.most < 0 else ">f4")
        return np.dtype("u1" if self.most < 256 else ">u2")

    @property
    def raster(self) -> Raster:
        dtype = np.dtype(np.float32 if self.floats else np.uint8 if self.most < 256 else np.uint16)
        return Raster(self.size, self.channels - self.alpha, dtype, self.alpha)

    @property
    def row_bytes(self) -> int:
        """Bytes of a row that is not written as text."""
        width = self.size.width
        return (width + 7) // 8 if self.kind == _BITS else width * self.channels * self.stored.itemsize


class PnmSource(Source):
    """A file of Netpbm. A stream of several pictures gives its first."""

    format = "PPM"
    by_parts = True

    def __init__(self, data: Content, limits: Limits) -> None:
        self._data, self._header = data, _pam_header(data) if data.startswith(_PAM) else _header(data)
        self.size = self._header.size
        if 0 in self.size:
            raise PictureError(DAMAGED)
        limits.check(self.size)
        self._end = self._header.pixels_at + self.size.height * self._header.row_bytes

    def picture(self, index: int = 0) -> Picture:
        if self._header.plain:
            samples, whole, rest = self._written()
            decoded, follows = self._scaled(samples), _following(rest)
        else:
            rows, whole = self._stored()
            decoded, follows = self._decoded(rows), _following(self._data, self._end)
        entries = [*decoded.entries, *follows, *([] if whole else [CUT])]
        alpha = None if decoded.alpha is None else np.ascontiguousarray(decoded.alpha)
        return Picture(np.ascontiguousarray(decoded.pixels), alpha, **self._described(entries))

    def strips(self, index: int = 0) -> Strips:
        header = self._header
        if not large(header.raster) or header.plain or self._end > len(self._data):
            return super().strips(index)
        survey = Survey()
        if header.floats or header.alpha or header.most != white(header.raster.dtype):
            for decoded in self._decoded_strips():
                survey.add(decoded)
        if survey.damaged:
            return super().strips(index)
        entries = [*survey.entries, *_following(self._data, self._end)]
        return streamed(header.raster, self._decoded_strips, survey, self._described(entries))

    def _described(self, entries: list[Entry]) -> dict[str, Any]:
        comments = _comments(self._data[: self._header.pixels_at])
        return {
            "metadata": Metadata(texts=comments),
            "ledger": tuple(entries),
            "origin": Origin(self.format),
        }

    def _written(self) -> tuple[Samples, bool, bytes]:
        """Return samples that are written as text, ``(H, W, C)``, whether all are there, and what follows them."""
        at, count = self._header.pixels_at, self.size.area * self._header.channels
        if self._header.kind == _PLAIN_BITS:
            digits = b"".join(_COMMENTS.sub(b"", self._data[at:]).split())
            bits, whole = as_far_as_it_goes(np.frombuffer(digits, np.uint8) - ord("0"), count)
            if bits.max() > 1:
                raise PictureError(DAMAGED)
            return 1 - bits.reshape(*self.size, 1), whole, digits[count:]
        fields = _COMMENTS.sub(b"", self._data[at:]).split(None, count)
        values = [int(field) for field in fields[:count]]
        if values and not 0 <= min(values) <= max(values) < _TOO_MUCH:
            raise PictureError(DAMAGED)
        numbers, whole = as_far_as_it_goes(np.array(values, np.int64), count)
        return numbers.reshape(*self.size, self._header.channels), whole, b"".join(fields[len(values) :])

    def _stored(self) -> tuple[NDArray[np.uint8], bool]:
        """Return the rows as they are stored, ``(H, bytes)``, top first, and whether all are there."""
        header = self._header
        stored = np.frombuffer(self._data[header.pixels_at : self._end], np.uint8)
        stored = stored[: stored.size // header.stored.itemsize * header.stored.itemsize]
        values, whole = as_far_as_it_goes(stored, self.size.height * header.row_bytes)
        rows = values.reshape(self.size.height, -1)
        return rows[::-1] if header.floats else rows, whole

    def _decoded_strips(self) -> Iterator[Decoded]:
        header = self._header
        rows = stored_rows(self._data, header.pixels_at, self.size.height, header.row_bytes, upwards=header.floats)
        return map(self._decoded, rows)

    def _decoded(self, rows: NDArray[np.uint8]) -> Decoded:
        """Decode rows ``(rows, bytes)``."""
        header = self._header
        if header.kind == _BITS:
            return self._scaled(1 - np.unpackbits(rows, axis=1, count=self.size.width)[..., None])
        samples = np.ascontiguousarray(rows).view(header.stored).reshape(len(rows), -1, header.channels)
        return _finite(samples) if header.floats else self._scaled(samples)

    def _scaled(self, samples: Samples) -> Decoded:
        """Scale integers ``(rows, W, C)`` from 0 to the value of white to all of 8 or 16 bits, rounded."""
        most, dtype = int(self._header.most), self._header.raster.dtype
        excess = Entry(PIXELS, Fate.DAMAGED, "(some are brighter than white)")
        entries = [excess] if samples.max() > most else []
        samples = np.minimum(samples, most)
        values = samples.astype(dtype) if most == white(dtype) else levels(most, dtype)[samples]
        if self._header.alpha:
            return Decoded(values[..., :-1], values[..., -1], entries)
        return Decoded(values, None, entries)


def _finite(samples: Samples) -> Decoded:
    """Return floating point ``(rows, W, C)`` with 0 for what is not finite."""
    values = np.array(samples, np.float32)
    if np.isfinite(values).all():
        return Decoded(values, None)
    values = np.nan_to_num(values, nan=0, posinf=0, neginf=0)
    return Decoded(values, None, [Entry("values that are not finite", Fate.LOST, "(0 is written)")])


def _following(data: Content, start: int = 0) -> list[Entry]:
    """Return an entry for what follows the picture, which may be more pictures."""
    follow = begins_like_pnm(data[start : start + _MAX_HEADER].lstrip())
    return [Entry("pictures after the first", Fate.LOST)] if follow else appended(data, start)


def _header(data: Content) -> _Header:
    """Read the header of all formats but PAM: numbers between spaces and comments, and one space."""
    kind, at, head = data[:2], 2, data[:_MAX_HEADER]
    numbers = []
    for _ in range(2 if kind in (_PLAIN_BITS, _BITS) else 3):
        match = _FIELD.match(head, at)
        if match is None:
            raise PictureError(DAMAGED)
        numbers.append(float(match[1]) if kind in (_FLOAT_GREY, _FLOAT_RGB) else int(match[1]))
        at = match.end()
    width, height, most = (*numbers, 1)[:3]
    sound = most != 0 if kind in (_FLOAT_GREY, _FLOAT_RGB) else 0 < most < 65536
    if width < 0 or height < 0 or not sound:
        raise PictureError(DAMAGED)
    at += 2 if data[at : at + 2] == b"\r\n" and kind in (_FLOAT_GREY, _FLOAT_RGB) else 1
    return _Header(kind, Size(int(height), int(width)), _CHANNELS.get(kind, 1), most, at)


def _pam_header(data: Content) -> _Header:
    """Read the header of PAM: lines of a name and a value.

    Raises:
        PictureError: it is damaged, or the channels are neither grey nor RGB, with or without alpha.
    """
    fields, kinds, at, head = dict[bytes, int](), list[str](), 0, data[:_MAX_HEADER]
    while True:
        line = _LINE.match(head, at)
        if line is None:
            raise PictureError(DAMAGED)
        at = line.end()
        name, _, value = line[0].partition(b"#")[0].strip().partition(b" ")
        if name == b"ENDHDR":
            break
        if name == b"TUPLTYPE":
            kinds.append(value.strip().decode("latin-1"))
        elif name in (b"WIDTH", b"HEIGHT", b"DEPTH", b"MAXVAL"):
            fields[name] = int(value)
    kind, channels = " ".join(kinds), fields[b"DEPTH"]
    expected = _TUPLES.get(kind.removesuffix(_ALPHA), 0) + kind.endswith(_ALPHA) if kind else channels
    if channels not in (1, 2, 3, 4) or channels != expected:
        raise PictureError(f"PAM of {channels} channels of type {kind or 'unknown'} is not supported")
    size, most = Size(fields[b"HEIGHT"], fields[b"WIDTH"]), fields[b"MAXVAL"]
    if min(size) < 0 or not 0 < most < 65536:
        raise PictureError(DAMAGED)
    return _Header(_PAM, size, channels, most, at)


def _comments(header: bytes) -> tuple[Text, ...]:
    lines = (line.decode("utf-8", "replace").strip() for line in _COMMENTS.findall(header))
    text = "\n".join(line for line in lines if line)
    return (Text(COMMENT, text),) if text else ()
