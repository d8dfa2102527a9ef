"""Read JPEG XL files with pillow-jxl-plugin, which brings libjxl and decodes most kinds to 8 bits."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from gsrcli.errors import PictureError
from gsrcli.images.colour import HLG, PQ, SRGB_TRANSFER, Cicp, Colour
from gsrcli.images.extras import load_extra
from gsrcli.images.isobmff import exif_content, file_boxes
from gsrcli.images.ledger import Entry, Fate, Feature
from gsrcli.images.picture import Origin, Picture, Pixels
from gsrcli.images.readers.boxes import box_name, entries_of_boxes
from gsrcli.images.readers.jpeg import JpegSource
from gsrcli.images.readers.metadata import checked_metadata, checked_profile
from gsrcli.images.readers.source import DAMAGED, Limits, Source, owned
from gsrcli.size import Size

__all__ = ["JxlSource"]

_RATIOS = ((1, 1), (12, 10), (4, 3), (3, 2), (16, 9), (5, 4), (2, 1))
_ALPHA, _SPOT, _COLOUR_FILTER = 0, 2, 5
_GREY = 1
_D65 = 1
_PRIMARIES = {1: 1, 9: 9, 11: 12}  # to those of CICP

_STRUCTURE = (b"JXL ", b"ftyp", b"jxll", b"jxli", b"free", b"skip")
_BLOCKS = {b"Exif": Feature.EXIF, b"xml ": Feature.XMP}
_END_OF_IMAGE, _MOST_SEGMENTS = 0xD9, 1000


@dataclass
class _Parts:
    """The boxes of a file.

    Attributes:
        stream: the codestream.
        blocks: EXIF and XMP, by the name of their box.
        compressed: those that only a decoder of Brotli can read.
        jpeg: what makes a JPEG file of the codestream again that it was made from.
        lost: what else there is.
    """

    stream: bytes = b""
    blocks: dict[bytes, bytes] = field(default_factory=dict)
    compressed: dict[Feature, None] = field(default_factory=dict)
    jpeg: bytes = b""
    lost: list[Entry] = field(default_factory=list)


@dataclass(frozen=True)
class _Header:
    """What a codestream's header says; colour is None where only an ICC profile says it."""

    size: Size
    orientation: int = 1
    bits: int = 8
    floating: bool = False
    animated: bool = False
    further_channels: int = 0
    lossless: bool = False
    colour: Colour | None = None


class JxlSource(Source):
    """A JPEG XL file. The decoder sees the codestream alone, and turns the picture upright itself.

    One made from a JPEG file without loss is read as that file, whose segments hold more than the boxes.
    """

    format = "JXL"

    def __init__(self, data: bytes, limits: Limits) -> None:
        self._jxl = load_extra("pillow_jxl")
        self._data, self._limits, self._parts = data, limits, _parse(data)
        self._header = _parse_header(self._parts.stream)
        stored = self._header.size
        limits.check_compressed(stored, len(self._parts.stream))
        self.size = stored.transposed if self._header.orientation > 4 else stored

    def picture(self, index: int = 0) -> Picture:
        lost = list(self._parts.lost)
        if jpeg := self._jpeg():
            picture = jpeg.picture()
            assert picture.origin is not None
            origin = replace(picture.origin, format=self.format)
            return replace(picture, ledger=(*lost, *picture.ledger), origin=origin)
        if self._parts.jpeg:
            lost.append(Entry("segments of the JPEG file", Fate.DAMAGED))
        lost += [Entry(name, Fate.LOST, "(it is compressed with Brotli)") for name in self._parts.compressed]
        header = self._header
        pixels, alpha, icc = self._decode()
        colour, of_profile = header.colour, list[Entry]()
        if colour is None:
            icc, of_profile = checked_profile(icc)
            colour = Colour(icc=icc)
        metadata, of_metadata = checked_metadata(
            self._parts.blocks.get(b"Exif"), self._parts.blocks.get(b"xml "), header.orientation
        )
        return Picture(
            pixels=pixels,
            alpha=alpha,
            colour=colour,
            metadata=metadata,
            ledger=(*lost, *of_profile, *of_metadata, *self._lost(pixels)),
            origin=Origin(self.format, lossless=header.lossless),
        )

    def _jpeg(self) -> JpegSource | None:
        """Return the JPEG file that the picture was made from, if there is one and the decoder can make it again."""
        try:
            if not self._parts.jpeg or not _few_segments(self._parts.jpeg):
                return None
            made, _, data, _, _ = self._jxl.Decoder(num_threads=-1)(self._data)
            jpeg = JpegSource(data, self._limits) if made else None
        except (PictureError, RuntimeError, ValueError):
            return None
        return jpeg if jpeg and jpeg.size == self.size else None

    def _decode(self) -> tuple[Pixels, Pixels | None, bytes | None]:
        """Return pixels, alpha and the profile of a decoded picture."""
        _, info, data, icc, _ = self._jxl.Decoder(num_threads=-1)(self._parts.stream)
        if Size(info.height, info.width) != self.size:
            raise PictureError(DAMAGED)
        dtype = {"I;16": np.uint16, "F": np.float32, "F;16": np.float16}.get(info.mode, np.uint8)
        values = np.frombuffer(data, dtype).reshape(info.height, info.width, -1)
        if dtype == np.float16:
            values = values.astype(np.float32)
        values = values if np.issubdtype(values.dtype, np.integer) else np.nan_to_num(values, posinf=1, neginf=0)
        channels = values.shape[2]
        if channels in (1, 3):
            return owned(values), None, icc or None
        parts = values[..., : channels - 1], values[..., channels - 1]
        pixels, alpha = (owned(part) for part in parts)
        return pixels, alpha, icc or None

    def _lost(self, pixels: Pixels) -> list[Entry]:
        """Return entries for what the decoder does not give."""
        header, entries = self._header, []
        if pixels.dtype == np.uint8 and header.floating:
            entries.append(Entry(Feature.FLOAT, Fate.LOST, "(8 bits are read)"))
        elif pixels.dtype == np.uint8 and header.bits > 8:
            entries.append(Entry(f"{header.bits} bits per channel", Fate.LOST, "(8 are read)"))
        if header.animated:
            entries.append(Entry("animation", Fate.LOST, "(one frame is read)"))
        if header.further_channels:
            count = header.further_channels
            entries.append(Entry(f"{count} extra channel{'s' if count > 1 else ''}", Fate.LOST))
        return entries


def _parse(data: bytes) -> _Parts:
    if data[:2] == b"\xff\x0a":
        return _Parts(data)
    parts, pieces, names = _Parts(), list[bytes](), list[str]()
    found, end = file_boxes(data)
    for box in found:
        body = data[box.start : box.stop]
        kind = body[:4] if box.kind == b"brob" else box.kind
        if kind == b"jxlc":
            pieces = [body]
        elif kind == b"jxlp":
            pieces.append(body[4:])
        elif kind == b"jbrd":
            parts.jpeg = body
        elif kind in _BLOCKS and box.kind == b"brob":
            parts.compressed[_BLOCKS[kind]] = None
        elif kind in _BLOCKS:
            parts.blocks.setdefault(kind, exif_content(body) if kind == b"Exif" else body)
        elif kind not in _STRUCTURE:
            names.append(box_name(kind, body))
    parts.stream, parts.lost = b"".join(pieces), entries_of_boxes(names, data[end:])
    return parts


class _Bits:
    """Reads bits, the least significant first."""

    def __init__(self, data: bytes) -> None:
        self._value, self._left = int.from_bytes(data[:4096], "little"), 8 * len(data[:4096])

    def __call__(self, count: int) -> int:
        if count > self._left:
            raise ValueError("the header is cut short")
        value = self._value & (1 << count) - 1
        self._value >>= count
        self._left -= count
        return value

    def choice(self, *options: tuple[int, int]) -> int:
        """Return a number of one of four kinds: an offset and the number of bits added to it."""
        offset, count = options[self(2)]
        return offset + self(count)

    def enum(self) -> int:
        return self.choice((0, 0), (1, 0), (2, 4), (18, 6))


def _parse_header(stream: bytes) -> _Header:
    """Parse the image header of a codestream (ISO/IEC 18181-1, annex D)."""
    if stream[:2] != b"\xff\x0a":
        raise PictureError(DAMAGED)
    bits = _Bits(stream[2:])
    size = _parse_size(bits)
    if bits(1):  # everything is as usual
        return _Header(size, colour=Colour())
    orientation, animated = 1, False
    if bits(1):
        orientation = bits(3) + 1
        if bits(1):  # an intrinsic size
            _parse_size(bits)
        if bits(1):
            _skip_preview(bits)
        animated = bool(bits(1))
        if animated:
            bits.choice((100, 0), (1000, 0), (1, 10), (1, 30))
            bits.choice((1, 0), (1001, 0), (1, 8), (1, 10))
            bits.choice((0, 0), (0, 3), (0, 16), (0, 32))
            bits(1)
    depth, floating = _parse_depth(bits)
    bits(1)  # whether 16-bit buffers do
    channels = [_parse_channel(bits) for _ in range(bits.choice((0, 0), (1, 0), (2, 4), (1, 12)))]
    lossy = bool(bits(1))  # in the XYB colour space
    further = len(channels) - (_ALPHA in channels)
    return _Header(size, orientation, depth, floating, animated, further, not lossy, _parse_colour(bits))


def _few_segments(jpeg: bytes) -> bool:
    """Return whether the list of markers of a JPEG file ends soon, so that the file cannot take much memory."""
    bits = _Bits(jpeg)
    bits(1)  # whether it is grey
    return any(bits(6) == _END_OF_IMAGE - 0xC0 for _ in range(_MOST_SEGMENTS))


def _parse_size(bits: _Bits) -> Size:
    small = bits(1)
    sides = ((1, 9), (1, 13), (1, 18), (1, 30))
    height = 8 * (1 + bits(5)) if small else bits.choice(*sides)
    ratio = bits(3)
    if ratio:
        top, bottom = _RATIOS[ratio - 1]
        return Size(height, height * top // bottom)
    return Size(height, 8 * (1 + bits(5)) if small else bits.choice(*sides))


def _skip_preview(bits: _Bits) -> None:
    sides = ((16, 0), (32, 0), (1, 5), (33, 9)) if bits(1) else ((1, 6), (65, 8), (321, 10), (1345, 12))
    bits.choice(*sides)
    if not bits(3):
        bits.choice(*sides)


def _parse_depth(bits: _Bits) -> tuple[int, bool]:
    """Return bits per sample, and whether they are floating-point."""
    if not bits(1):
        return bits.choice((8, 0), (10, 0), (12, 0), (1, 6)), False
    depth = bits.choice((32, 0), (16, 0), (24, 0), (1, 6))
    bits(4)
    return depth, True


def _parse_channel(bits: _Bits) -> int:
    """Return the kind of an extra channel."""
    if bits(1):
        return _ALPHA
    kind = bits.enum()
    _parse_depth(bits)
    bits.choice((0, 0), (3, 0), (4, 0), (1, 3))
    bits(8 * bits.choice((0, 0), (0, 4), (16, 5), (48, 10)))  # its name
    if kind == _ALPHA:
        bits(1)
    elif kind == _SPOT:
        bits(4 * 16)
    elif kind == _COLOUR_FILTER:
        bits.choice((1, 0), (0, 2), (3, 4), (19, 8))
    return kind


def _parse_colour(bits: _Bits) -> Colour | None:
    """Return what enumerated colours mean; None for other ones, which the decoder gives a profile for."""
    if bits(1):
        return Colour()
    if bits(1):  # a profile
        return None
    space = bits.enum()
    if space not in (0, _GREY):
        return None
    white = bits.enum()
    if white != _D65:
        return None
    primaries = 1 if space == _GREY else _PRIMARIES.get(bits.enum(), 0)
    if not primaries or bits(1):  # others, or a gamma
        return None
    transfer = bits.enum()
    if primaries == 1 and transfer == SRGB_TRANSFER:
        return Colour()
    return Colour(cicp=Cicp(primaries, transfer)) if transfer in (1, 8, SRGB_TRANSFER, PQ, HLG) else None
