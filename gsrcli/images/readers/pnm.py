"""Read the formats of Netpbm: PBM, PGM, PPM, PAM and PFM."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gsrcli.errors import PictureError
from gsrcli.images.ledger import PIXELS, Entry, Fate
from gsrcli.images.metadata import COMMENT, Metadata, Text
from gsrcli.images.picture import Origin, Picture, Pixels, levels, white
from gsrcli.images.readers.signatures import begins_like_pnm
from gsrcli.images.readers.source import CUT, DAMAGED, Limits, Source, appended, as_far_as_it_goes
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


class PnmSource(Source):
    """A file of Netpbm. A stream of several pictures gives its first."""

    format = "PPM"

    def __init__(self, data: bytes, limits: Limits) -> None:
        self._data, self._header = data, _pam_header(data) if data.startswith(_PAM) else _header(data)
        self.size = self._header.size
        self._whole = True
        if 0 in self.size:
            raise PictureError(DAMAGED)
        limits.check(self.size)

    def picture(self, index: int = 0) -> Picture:
        header, entries = self._header, list[Entry]()
        if header.kind in (_FLOAT_GREY, _FLOAT_RGB):
            values, rest = self._floats()
            if not np.isfinite(values).all():
                values = np.nan_to_num(values, nan=0, posinf=0, neginf=0)
                entries.append(Entry("values that are not finite", Fate.LOST, "(0 is written)"))
        else:
            samples, rest = self._samples()
            if samples.max() > header.most:
                entries.append(Entry(PIXELS, Fate.DAMAGED, "(some are brighter than white)"))
            values = _scaled(samples, int(header.most))
        follow = begins_like_pnm(rest.lstrip())
        entries += [Entry("pictures after the first", Fate.LOST)] if follow else appended(rest)
        if not self._whole:
            entries.append(CUT)
        has_alpha = header.channels in (2, 4)
        return Picture(
            np.ascontiguousarray(values[..., : header.channels - has_alpha]),
            np.ascontiguousarray(values[..., -1]) if has_alpha else None,
            metadata=Metadata(texts=_comments(self._data[: header.pixels_at])),
            ledger=tuple(entries),
            origin=Origin(self.format),
        )

    def _samples(self) -> tuple[Samples, bytes]:
        """Return integers ``(H, W, C)``, and what follows them."""
        (height, width), channels, at = self.size, self._header.channels, self._header.pixels_at
        kind = self._header.kind
        if kind == _PLAIN_BITS:
            digits = b"".join(_COMMENTS.sub(b"", self._data[at:]).split())
            bits = self._shaped(np.frombuffer(digits, np.uint8) - ord("0"))
            if bits.max() > 1:
                raise PictureError(DAMAGED)
            return 1 - bits, digits[self.size.area :]
        if kind in (_PLAIN_GREY, _PLAIN_RGB):
            fields = _COMMENTS.sub(b"", self._data[at:]).split(None, height * width * channels)
            values = [int(field) for field in fields[: height * width * channels]]
            if values and not 0 <= min(values) <= max(values) < _TOO_MUCH:
                raise PictureError(DAMAGED)
            numbers = np.array(values, np.int64)
            return self._shaped(numbers), b"".join(fields[len(values) :])
        if kind == _BITS:
            stride = (width + 7) // 8
            stored = np.frombuffer(self._data, np.uint8)[at : at + height * stride]
            packed, self._whole = as_far_as_it_goes(stored, height * stride)
            unpacked = np.unpackbits(packed.reshape(height, stride), axis=1, count=width)
            return 1 - unpacked[..., None], self._data[at + packed.size :]
        dtype = np.dtype("u1" if self._header.most < 256 else ">u2")
        end = at + height * width * channels * dtype.itemsize
        return self._shaped(_array(self._data[at:end], dtype)), self._data[end:]

    def _floats(self) -> tuple[Pixels, bytes]:
        """Return float32 ``(H, W, C)``, and what follows them. They are stored bottom first."""
        dtype = np.dtype("<f4" if self._header.most < 0 else ">f4")
        at = self._header.pixels_at
        end = at + self.size.area * self._header.channels * 4
        values = self._shaped(_array(self._data[at:end], dtype))[::-1]
        return np.array(values, np.float32), self._data[end:]

    def _shaped(self, values: Pixels) -> Pixels:
        values, self._whole = as_far_as_it_goes(values, self.size.area * self._header.channels)
        return values.reshape(*self.size, self._header.channels)


def _header(data: bytes) -> _Header:
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


def _pam_header(data: bytes) -> _Header:
    """Read the header of PAM: lines of a name and a value.

    Raises:
        PictureError: it is damaged, or the channels are neither grey nor RGB, with or without alpha.
    """
    fields, kinds, at = dict[bytes, int](), list[str](), 0
    while True:
        line = _LINE.match(data, at)
        if line is None or at > _MAX_HEADER:
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


def _array(data: bytes, dtype: np.dtype[Any]) -> Pixels:
    return np.frombuffer(data[: len(data) // dtype.itemsize * dtype.itemsize], dtype)


def _scaled(samples: Samples, most: int) -> Pixels:
    """Scale integers from 0 to ``most`` to all of 8 or 16 bits, rounded."""
    dtype = np.uint8 if most < 256 else np.uint16
    if most == white(dtype):
        return np.minimum(samples, most).astype(dtype)
    return levels(most, dtype)[np.minimum(samples, most)]


def _comments(header: bytes) -> tuple[Text, ...]:
    lines = (line.decode("utf-8", "replace").strip() for line in _COMMENTS.findall(header))
    text = "\n".join(line for line in lines if line)
    return (Text(COMMENT, text),) if text else ()
