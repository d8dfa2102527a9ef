"""Read AVIF files: 8 bits with Pillow, 10 and 12 with OpenCV, which both use libavif."""

from __future__ import annotations

import io
import struct
from dataclasses import replace

import numpy as np
from PIL import Image

from gsrcli.errors import LimitError, PictureError
from gsrcli.images.colour import Colour
from gsrcli.images.isobmff import Heif, Item, find_box, pack_heif, parse_heif
from gsrcli.images.ledger import Entry, Fate, Feature
from gsrcli.images.opencv import load_cv2, opencv_has_avif, quiet_opencv
from gsrcli.images.picture import Origin, Picture, Pixels
from gsrcli.images.readers.blocks import checked_metadata, checked_profile
from gsrcli.images.readers.heif import HeifPicture, item_size, nclx_colour, unmultiplied
from gsrcli.images.readers.pillow import colour_and_alpha
from gsrcli.images.readers.source import DAMAGED, Limits, Source, shown_for
from gsrcli.size import Size

__all__ = ["AvifSource"]

_BRANDS = (b"avif", b"mif1", b"miaf")
_MAX_SIDE, _MAX_PIXELS = 32768, 2**28  # libavif's
_CODED, _GRID = b"av01", b"grid"
_SEQUENCE_HEADER = 1


class AvifSource(Source):
    """An AVIF file."""

    format = "AVIF"

    def __init__(self, data: bytes, limits: Limits) -> None:
        if find_box(data, b"moov") and data[8:12] == b"avis":
            self._reader: _Still | _Sequence = _Sequence(data, limits)
        else:
            self._reader = _Still(data, limits)
        self.size, self.count = self._reader.size, self._reader.count
        self.animated, self.loops = self._reader.animated, self._reader.loops

    def picture(self, index: int = 0) -> Picture:
        return self._reader.picture(index)


class _Still:
    """The picture of an AVIF file, among its items."""

    count, animated, loops = 1, False, None

    def __init__(self, data: bytes, limits: Limits) -> None:
        self._whole = HeifPicture(parse_heif(data))
        self.size = self._whole.size
        self._parts = self._whole.parts
        _check_sizes(self._parts, limits)

    def picture(self, index: int = 0) -> Picture:
        del index
        whole = self._whole
        colour, of_colour = whole.colour()
        metadata, of_metadata = whole.metadata()
        entries = [*of_colour, *of_metadata]
        deep, cut = self._bits > 8, Entry(Feature.SIXTEEN_BITS, Fate.LOST, "(this OpenCV reads no AVIF)")
        if deep and not opencv_has_avif():
            deep, entries = False, [*entries, cut]
        pixels, alpha = self._decode_deep() if deep else _decode(self._packed(self._parts))
        if self._grey:
            pixels = pixels[..., :1]  # libavif spreads grey with alpha over four channels
        return Picture(
            pixels=_whole_array(whole.upright(pixels)),
            alpha=None if alpha is None else _whole_array(whole.upright(alpha)),
            colour=colour,
            metadata=metadata,
            ledger=(*entries, *whole.left_out()),
            origin=Origin(AvifSource.format, lossless=False),
        )

    @property
    def _bits(self) -> int:
        return _bits(next(item for item in self._parts.items.values() if item.kind == _CODED))

    @property
    def _grey(self) -> bool:
        return all(_monochrome(item) for item in self._whole.coded())

    def _packed(self, parts: Heif) -> bytes:
        return pack_heif(parts, *_BRANDS)

    def _decode_deep(self) -> tuple[Pixels, Pixels | None]:
        """Return pixels and alpha in 16 bits."""
        alpha_number = self._whole.alpha
        item = self._parts.items[self._parts.primary]
        if alpha_number is None or not self._grey:
            decoded = _decode_with_opencv(self._packed(self._parts), self._bits)
            return (decoded[..., :3], decoded[..., 3]) if decoded.shape[2] == 4 else (decoded, None)
        # OpenCV does not read grey with alpha, but each alone.
        alone = [self._alone(number) for number in (self._parts.primary, alpha_number)]
        pixels, alpha = (_decode_with_opencv(self._packed(file), self._bits) for file in alone)
        if alpha_number in item.references.get(b"prem", ()):
            pixels = unmultiplied(pixels, alpha[..., 0])
        return pixels, alpha[..., 0]

    def _alone(self, number: int) -> Heif:
        """Return the file with one picture and its tiles alone."""
        tiles = self._parts.items[number].references.get(b"dimg", ())
        file = self._parts.only([number, *tiles])
        plain = {n: replace(item, references=_derivation(item)) for n, item in file.items.items()}
        return Heif(plain, number)


def _derivation(item: Item) -> dict[bytes, tuple[int, ...]]:
    return {kind: targets for kind, targets in item.references.items() if kind == b"dimg"}


class _Sequence:
    """The frames of an animated AVIF file, in 8 bits."""

    animated = True

    def __init__(self, data: bytes, limits: Limits) -> None:
        entry = find_box(data, b"moov", b"trak", b"mdia", b"minf", b"stbl", b"stsd", _CODED)
        if entry is None:
            raise PictureError("an AVIF sequence of this kind is not supported")
        height_at = entry.start + 24
        width, height = struct.unpack_from(">HH", data, height_at)
        size = Size(height, width)
        limits.check_compressed(size, len(data))
        offsets = find_box(data, b"moov", b"trak", b"mdia", b"minf", b"stbl", b"stco")
        if offsets is not None and offsets.stop - offsets.start >= 12:
            (first,) = struct.unpack_from(">I", data, offsets.start + 8)
            _check_sequence_header(data[first : first + 4096], size)
        self._image = Image.open(io.BytesIO(data), formats=("AVIF",))
        limits.check(Size.from_pillow(self._image.size))
        self._data, self.size = data, Size.from_pillow(self._image.size)
        self.count, self.loops = int(getattr(self._image, "n_frames", 1)), _loops(data)
        self._deep = _deep(data)

    def picture(self, index: int = 0) -> Picture:
        self._image.seek(index)
        self._image.load()
        pixels, alpha = colour_and_alpha(self._image)
        info = self._image.info
        icc, of_profile = checked_profile(info.get("icc_profile"))
        metadata, of_metadata = checked_metadata(info.get("exif"), info.get("xmp"))
        of_depth = [Entry(Feature.SIXTEEN_BITS, Fate.LOST, "(frames are read in 8)")] if self._deep else []
        return Picture(
            pixels=_whole_array(pixels),
            alpha=None if alpha is None else _whole_array(alpha),
            colour=self._colour(icc),
            metadata=metadata,
            ledger=(*of_profile, *of_metadata, *of_depth),
            origin=Origin(AvifSource.format, lossless=False),
            duration=shown_for(info["duration"] / 1000),
        )

    def _colour(self, icc: bytes | None) -> Colour:
        colr = find_box(self._data, b"moov", b"trak", b"mdia", b"minf", b"stbl", b"stsd", _CODED, b"colr")
        body = self._data[colr.start : colr.stop] if colr else b""
        return nclx_colour(body, icc) if body[:4] == b"nclx" else Colour(icc=icc)


def _check_sizes(file: Heif, limits: Limits) -> None:
    """Check the sizes that coded pictures and grids claim, before anything is decoded.

    Raises:
        LimitError: one is too large.
        PictureError: one is larger than what is coded in it, or of an unsupported kind.
    """
    total = sum(len(item.content) for item in file.items.values())
    depth = 2 if any(_bits(item) > 8 for item in file.items.values()) else 1
    for item in file.items.values():
        size = item_size(item)
        limits.check(size)
        if max(size) > _MAX_SIDE or size.area > _MAX_PIXELS:
            raise LimitError(
                f"{size} is too large: AVIF is decoded up to {_MAX_SIDE} pixels per side and 268 megapixels"
            )
        if item.kind == _CODED:
            _check_sequence_header(item.content, size)
        elif item.kind == _GRID:
            tiles = [item_size(file.items[n]) for n in item.references.get(b"dimg", ()) if n in file.items]
            limits.check_compressed(Size(sum(tile.area for tile in tiles), 1), total, bytes_per_channel=depth)
            if size.area > sum(tile.area for tile in tiles):
                raise PictureError(DAMAGED)
        else:
            kind = item.kind.decode("latin-1")
            raise PictureError(f"an AVIF file with a picture of kind {kind} is not supported")
        limits.check_compressed(size, total, bytes_per_channel=depth)


def _check_sequence_header(units: bytes, size: Size) -> None:
    """Check that a claimed size is not larger than that in the sequence header of AV1 data."""
    coded = _coded_size(units)
    if coded is None or size.width > coded.width or size.height > coded.height:
        raise PictureError(DAMAGED)


def _coded_size(units: bytes) -> Size | None:
    """Return the size in the first sequence header of AV1 data (AV1 specification, 5.5.1); None if there is none."""
    at = 0
    while at < len(units):
        header = units[at]
        at += 2 if header & 4 else 1
        length = len(units) - at
        if header & 2:
            length, at = _leb128(units, at)
        if header >> 3 & 15 == _SEQUENCE_HEADER:
            return _size_in_sequence_header(_Bits(units[at : at + length]))
        at += length
    return None


def _leb128(data: bytes, at: int) -> tuple[int, int]:
    """Return the little-endian base-128 number at an offset, and the offset after it."""
    value = 0
    for i, byte in enumerate(data[at : at + 8]):
        value |= (byte & 127) << 7 * i
        if not byte & 128:
            return value, at + i + 1
    raise ValueError("a number without an end")


class _Bits:
    """Reads bits, the most significant first."""

    def __init__(self, data: bytes) -> None:
        self._value, self._left = int.from_bytes(data[:256], "big"), 8 * len(data[:256])

    def __call__(self, count: int) -> int:
        self._left -= count
        if self._left < 0:
            raise ValueError("the header is cut short")
        return self._value >> self._left & (1 << count) - 1


def _size_in_sequence_header(bits: _Bits) -> Size:
    bits(4)  # profile, still picture
    reduced = bits(1)
    if reduced:
        bits(5)  # level
    else:
        _skip_operating_points(bits)
    width_bits, height_bits = bits(4) + 1, bits(4) + 1
    width, height = bits(width_bits) + 1, bits(height_bits) + 1
    return Size(height, width)


def _skip_operating_points(bits: _Bits) -> None:
    """Skip timing and operating points."""
    delay_bits = 0
    if bits(1):  # timing
        bits(64)
        if bits(1):
            zeros = 0
            while not bits(1):
                zeros += 1
            bits(zeros)
        if bits(1):  # decoder model
            delay_bits = bits(5) + 1
            bits(42)
    initial_delay = bits(1)
    for _ in range(bits(5) + 1):
        bits(12)
        if bits(5) > 7:
            bits(1)
        if delay_bits and bits(1):
            bits(2 * delay_bits + 1)
        if initial_delay and bits(1):
            bits(4)


def _configuration(item: Item) -> int:
    """Return the flags of depth and colour of a coded picture."""
    return (item.property(b"av1C") or b"")[2:3].ljust(1, b"\0")[0]


def _bits(item: Item) -> int:
    flags = _configuration(item)
    return 8 if not flags & 0x40 else 12 if flags & 0x20 else 10


def _monochrome(item: Item) -> bool:
    return bool(_configuration(item) & 0x10)


def _decode(data: bytes) -> tuple[Pixels, Pixels | None]:
    image = Image.open(io.BytesIO(data), formats=("AVIF",))
    image.load()
    return colour_and_alpha(image)


def _decode_with_opencv(data: bytes, bits: int) -> Pixels:
    """Decode 10 or 12 bits as ``(H, W, 1, 3 or 4)`` in 16, so that white stays white."""
    cv2 = load_cv2()
    with quiet_opencv():
        decoded = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if decoded is None or decoded.dtype != np.uint16:
        raise PictureError(DAMAGED)
    if decoded.ndim == 3:
        code = cv2.COLOR_BGRA2RGBA if decoded.shape[2] == 4 else cv2.COLOR_BGR2RGB
        cv2.cvtColor(decoded, code, decoded)
    for row in decoded:  # one by one, to need no second picture
        row[:] = row << (16 - bits) | row >> (2 * bits - 16)
    whole: Pixels = decoded.reshape(*decoded.shape[:2], -1)
    return whole


def _whole_array(array: Pixels) -> Pixels:
    """Return an array contiguous and writable."""
    return np.require(array, requirements=["C", "W"])


def _deep(data: bytes) -> bool:
    """Return whether the frames of a sequence have more than 8 bits."""
    box = find_box(data, b"moov", b"trak", b"mdia", b"minf", b"stbl", b"stsd", _CODED, b"av1C")
    return box is not None and box.stop - box.start > 2 and bool(data[box.start + 2] & 0x40)


def _loops(data: bytes) -> int:
    """Return how often a sequence is shown, 0 for ever: the duration of its track over that of its edit."""
    header, edits = find_box(data, b"moov", b"trak", b"tkhd"), find_box(data, b"moov", b"trak", b"edts", b"elst")
    if header is None or edits is None or not data[edits.start + 3] & 1:  # the flag that it repeats
        return 1
    wide = data[header.start] == 1
    code, at = (">Q", header.start + 28) if wide else (">I", header.start + 20)
    (total,) = struct.unpack_from(code, data, at)
    (once,) = struct.unpack_from(">Q" if data[edits.start] == 1 else ">I", data, edits.start + 8)
    endless = total == (2**64 - 1 if wide else 2**32 - 1)
    return 0 if endless or not once else max(1, -(-total // once))
