"""Read JPEG 2000: JP2 files, which are boxes around a codestream, and codestreams alone (ISO/IEC 15444-1)."""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from typing import NamedTuple

import numpy as np
from PIL import Image

from gsrcli.errors import PictureError
from gsrcli.images.cmyk import cmyk_to_srgb
from gsrcli.images.colour import Colour
from gsrcli.images.isobmff import Box, boxes
from gsrcli.images.ledger import Entry, Fate
from gsrcli.images.metadata import MAX_METADATA, METRES_PER_INCH, sound_dpi
from gsrcli.images.picture import Origin, Picture, Pixels, levels, unmultiplied
from gsrcli.images.readers.metadata import checked_metadata
from gsrcli.images.readers.opencv import decode_sixteen_bits
from gsrcli.images.readers.orientation import stated_orientation, upright
from gsrcli.images.readers.pillow import colour_and_alpha
from gsrcli.images.readers.signatures import JP2, JPEG2000_CODESTREAM
from gsrcli.images.readers.source import DAMAGED, Limits, Source, appended
from gsrcli.size import Size

__all__ = ["Jpeg2000Source"]

_MAX_BOXES = 10_000
_XMP = bytes.fromhex("BE7ACFCB97A942E89C71999491E3AFAC")
_IPTC = bytes.fromhex("33C7A4D2B81D4723A0BAF1A3E097AD38")
_GEO = bytes.fromhex("B14BF8BD083D4B43A5AE8CD7D5A6CE03")
_EXIF = b"JpgTiffExif->JP2"
_UUIDS, _LOST = (_XMP, _IPTC, _GEO, _EXIF), {b"jp2i": "intellectual property rights", b"jumb": "JUMBF metadata"}
_KNOWN = (b"jP  ", b"ftyp", b"rreq", b"jp2h", b"uuid", b"xml ", b"asoc", b"free")
_PART_OF_TILE, _END = b"\xff\x90", b"\xff\xd9"  # markers of a codestream
_MULTIPLIED = 2  # type of a channel
_TILE_BYTES = 14  # the least, of its two markers
_BLANK, _PER_BYTE = 10_000_000, 32  # pixels: of a blank picture, and of every byte


class _Siz(NamedTuple):
    """What the SIZ marker of a codestream says."""

    size: Size
    tiles: int
    depths: tuple[int, ...]

    @property
    def bits(self) -> int:
        return max(self.depths)

    @property
    def channels(self) -> int:
        return len(self.depths)


class Jpeg2000Source(Source):
    """A JPEG 2000 file."""

    format = "JPEG2000"

    def __init__(self, data: bytes, limits: Limits) -> None:
        self._data = data
        self._boxes = _header_boxes(data) if data.startswith(JP2) else {}
        places = (box.start for box in _boxes(data) if box.kind == b"jp2c")
        codestream_at = next(places, len(data)) if data.startswith(JP2) else 0
        self._siz = _siz(data, codestream_at)
        limits.check(self._siz.size)
        _check_plausible(self._siz, len(data))
        self._others = _others(data) if data.startswith(JP2) else appended(data[_codestream_end(data, 0) :])
        self._image = Image.open(io.BytesIO(data), formats=("JPEG2000",))
        if Size.from_pillow(self._image.size) != self._siz.size:  # the boxes may contradict the codestream
            raise PictureError(DAMAGED)
        self._orientation = stated_orientation(self._boxes.get(_EXIF), self._boxes.get(_XMP))
        self.size = self._siz.size.transposed if self._orientation > 4 else self._siz.size

    def picture(self, index: int = 0) -> Picture:
        metadata, of_metadata = checked_metadata(self._boxes.get(_EXIF), self._boxes.get(_XMP), self._orientation)
        dpi = self._dpi()
        if dpi and self._orientation > 4:
            dpi = dpi[::-1]
        pixels, alpha, entries = self._decode()
        converted = any(entry.fate == Fate.CONVERTED for entry in entries)
        return Picture(
            pixels=upright(pixels, self._orientation),
            alpha=None if alpha is None else upright(alpha, self._orientation),
            colour=Colour(icc=None if converted else self._boxes.get(b"icc")),
            metadata=replace(metadata, iptc=self._boxes.get(_IPTC), dpi=dpi or metadata.dpi),
            ledger=(*entries, *of_metadata, *self._others),
            origin=Origin(self.format, lossless=False),
        )

    def _decode(self) -> tuple[Pixels, Pixels | None, list[Entry]]:
        siz, entries = self._siz, list[Entry]()
        if _GEO in self._boxes:
            entries.append(Entry("GeoJP2 tags", Fate.LOST))
        if any(self._boxes.get(name, b"").strip() for name in (b"xml ", b"asoc")):
            entries.append(Entry("XML box", Fate.LOST))
        if any(len(name) == len(_XMP) and name not in _UUIDS for name in self._boxes):
            entries.append(Entry("unknown UUID box", Fate.LOST))
        entries += [Entry(what, Fate.LOST) for name, what in _LOST.items() if name in self._boxes]
        if siz.channels > 4:
            raise PictureError(f"JPEG 2000 of {siz.channels} channels is not supported", hint="save it as RGB")
        if siz.bits > 16:
            raise PictureError(f"JPEG 2000 of {siz.bits} bits per channel is not supported", hint="save it with 16")
        if siz.bits > 8 and siz.channels > 2:
            values = decode_sixteen_bits(self._data)
            if values.shape[2] != siz.channels:
                raise PictureError(DAMAGED)
            values = _scaled(values, siz.depths, shifted=False)
            pixels, alpha = values[..., :3], values[..., 3] if siz.channels == 4 else None
        elif siz.bits > 8 and siz.channels == 1:
            self._image.load()
            pixels = _scaled(np.asarray(self._image).astype(np.uint16)[..., None], siz.depths, shifted=True)
            alpha = None
        elif self._image.mode == "CMYK":
            self._image.load()
            pixels, entry = cmyk_to_srgb(np.asarray(self._image), self._boxes.get(b"icc"))
            return pixels, None, [*entries, entry]
        else:
            self._image.load()
            pixels, alpha = colour_and_alpha(self._image)
            if siz.bits > 8:
                entries.append(Entry(f"{siz.bits} bits per channel", Fate.LOST, "(8 are read)"))
            elif len(self._image.getbands()) == siz.channels and self._image.mode != "P":
                pixels = _scaled(pixels, siz.depths, shifted=True)
                alpha = None if alpha is None else _scaled(alpha[..., None], siz.depths[-1:], shifted=True)[..., 0]
        if alpha is not None and self._multiplied():
            pixels = unmultiplied(pixels, alpha)
        return pixels, alpha, entries

    def _multiplied(self) -> bool:
        """Return whether colours are multiplied by alpha."""
        definitions = self._boxes.get(b"cdef", b"")[2:]
        whole = definitions[: len(definitions) // 6 * 6]
        return any(kind == _MULTIPLIED for _, kind, _ in struct.iter_unpack(">3H", whole))

    def _dpi(self) -> tuple[float, float] | None:
        box = self._boxes.get(b"resc") or self._boxes.get(b"resd") or b""
        if len(box) < 10:
            return None
        down, below, across, under, power, power_across = struct.unpack_from(">4H2b", box)
        if not (below and under):
            return None
        x, y = across / under * 10.0**power_across, down / below * 10.0**power
        return sound_dpi(x * METRES_PER_INCH, y * METRES_PER_INCH)


def _boxes(data: bytes, inside: Box | None = None) -> Iterator[Box]:
    """Yield the first boxes in the file or inside a box. Decoders take a malformed one to reach to the end."""
    outer = inside or Box(b"", 0, len(data))
    return islice(boxes(data, outer.start, outer.stop, strict=False), _MAX_BOXES)


def _header_boxes(data: bytes) -> dict[bytes, bytes]:
    """Return the content of the boxes that describe the picture: by name, by UUID, and a profile as "icc"."""
    found = dict[bytes, bytes]()

    def keep(name: bytes, start: int, stop: int) -> None:
        if stop - start <= MAX_METADATA:
            found.setdefault(name, data[start:stop])

    for box in _boxes(data):
        if box.kind == b"uuid":
            keep(data[box.start : box.start + 16], box.start + 16, box.stop)
        elif box.kind in (b"xml ", b"asoc", *_LOST):
            keep(box.kind, box.start, box.stop)
        if box.kind != b"jp2h":
            continue
        for inner in _boxes(data, inside=box):
            if inner.kind == b"colr" and data[inner.start : inner.start + 1] in (b"\2", b"\3"):
                keep(b"icc", inner.start + 3, inner.stop)
            elif inner.kind == b"cdef":
                keep(inner.kind, inner.start, inner.stop)
            elif inner.kind == b"res ":
                for resolution in _boxes(data, inside=inner):
                    keep(resolution.kind, resolution.start, resolution.stop)
    return found


def _others(data: bytes) -> list[Entry]:
    """Name the other boxes, the codestreams after the first, and what follows the last box."""
    names, rest, codestreams = dict[str, None](), b"", 0
    for box in _boxes(data):
        stated = int.from_bytes(data[box.start - 8 : box.start - 4], "big")
        if box.kind == b"jp2c":
            codestreams += 1
            rest = data[_codestream_end(data, box.start) :] if box.stop == len(data) else b""
        elif box.kind not in (*_KNOWN, *_LOST):
            if stated > box.stop - box.start + 8 or not box.kind.strip().isalnum():
                rest = data[box.start - 8 :]
                break
            names[f"{box.kind.decode().strip()} box"] = None
    if codestreams > 1:
        names[f"{codestreams - 1} other codestream{'s' * (codestreams > 2)}"] = None
    return [*(Entry(what, Fate.LOST) for what in names), *appended(rest)]


def _codestream_end(data: bytes, at: int) -> int:
    """Return where the codestream at an offset ends: behind its segments and the parts of its tiles (annex A)."""
    at += 2
    while not data.startswith(_END, at):
        if not data.startswith(b"\xff", at):
            return len(data)  # it is cut short, or damaged
        part = int.from_bytes(data[at + 6 : at + 10], "big")
        if not data.startswith(_PART_OF_TILE, at):
            at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        elif part:
            at += part
        else:  # it extends to the end
            return data.find(_END, at) + 2 if _END in data[at:] else len(data)
    return at + 2


def _siz(data: bytes, at: int) -> _Siz:
    """Read the SIZ marker of the codestream at an offset.

    Raises:
        PictureError: there is none, or it makes no sense.
    """
    if data[at : at + 4] != JPEG2000_CODESTREAM or len(data) < at + 42:
        raise PictureError(DAMAGED)
    right, bottom, left, top, width, height, tiles_left, tiles_top, channels = struct.unpack_from(">8IH", data, at + 8)
    depths = data[at + 42 : at + 42 + 3 * channels : 3]
    sound = tiles_left <= left < right and tiles_top <= top < bottom and width and height
    if not sound or not 0 < channels == len(depths):
        raise PictureError(DAMAGED)
    tiles = -(-(right - tiles_left) // width) * -(-(bottom - tiles_top) // height)
    return _Siz(Size(bottom - top, right - left), tiles, tuple((depth & 127) + 1 for depth in depths))


def _check_plausible(siz: _Siz, file_bytes: int) -> None:
    """Refuse what no file of this length holds, before a decoder allocates memory for it."""
    if siz.tiles > file_bytes / _TILE_BYTES:
        raise PictureError(DAMAGED)
    if siz.size.area > _BLANK + _PER_BYTE * file_bytes:
        raise PictureError(f"{siz.size} is far more than a file of {file_bytes} bytes holds")


def _scaled(values: Pixels, depths: tuple[int, ...], *, shifted: bool) -> Pixels:
    """Scale ``(H, W, C)`` of so many bits to all of their type, rounded.

    Args:
        values: integers as the decoder returns them.
        depths: bits of each channel.
        shifted: whether the decoder has shifted them to the highest bits.
    """
    whole = 8 * values.itemsize
    if all(depth == whole for depth in depths):
        return values
    scaled = values.copy()
    for channel in range(values.shape[2]):
        depth = min(depths[channel], whole)
        most = (1 << depth) - 1
        raw = values[..., channel] >> (whole - depth if shifted else 0)
        scaled[..., channel] = levels(most, values.dtype)[np.minimum(raw, most)]
    return scaled
