"""Read AVIF files: 8 bits with Pillow, 10 and 12 with OpenCV, which both use libavif."""

from __future__ import annotations

import io
import struct
from dataclasses import replace

from PIL import Image

from gsrcli.errors import LimitError, PictureError
from gsrcli.images.isobmff import Box, Heif, Item, boxes, find_box, pack_heif, parse_heif
from gsrcli.images.ledger import Entry, Fate, Feature
from gsrcli.images.opencv import opencv_has_avif
from gsrcli.images.picture import Origin, Picture, Pixels, unmultiplied
from gsrcli.images.readers.av1 import coded_size, coded_without_loss
from gsrcli.images.readers.heif import HeifPicture, aspect, boxes_left_out, item_size, tagged_colour
from gsrcli.images.readers.metadata import checked_metadata, checked_profile
from gsrcli.images.readers.opencv import decode_sixteen_bits
from gsrcli.images.readers.pillow import colour_and_alpha
from gsrcli.images.readers.source import DAMAGED, Limits, Source, owned, shown_for
from gsrcli.size import Size

__all__ = ["AvifSource"]

_BRANDS = (b"avif", b"mif1", b"miaf")
_MAX_SIDE, _MAX_PIXELS = 32768, 2**28  # libavif's
_CODED, _GRID = b"av01", b"grid"
_SAMPLES = (b"mdia", b"minf", b"stbl")
_DESCRIPTION = (*_SAMPLES, b"stsd", _CODED)


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
        self._whole, self._beside = HeifPicture(parse_heif(data)), boxes_left_out(data)
        self.size = self._whole.size
        self._parts = self._whole.parts
        _check_sizes(self._parts, limits)

    def picture(self, index: int = 0) -> Picture:
        whole = self._whole
        colour, of_colour = whole.colour()
        metadata, of_metadata = whole.metadata()
        entries = [*of_colour, *of_metadata]
        deep = self._bits > 8
        if deep and not opencv_has_avif():
            deep = False
            entries.append(Entry(Feature.SIXTEEN_BITS, Fate.LOST, "(this OpenCV reads no AVIF)"))
        bits = self._bits if deep else 8
        pixels, alpha = self._decode_deep() if deep else _decode(self._packed(self._parts))
        if self._grey:
            pixels = pixels[..., :1]  # libavif spreads grey with alpha over four channels
        return Picture(
            pixels=owned(whole.upright(pixels)),
            alpha=None if alpha is None else owned(whole.upright(alpha)),
            colour=colour,
            metadata=metadata,
            ledger=(*entries, *whole.left_out(), *self._beside),
            origin=Origin(AvifSource.format, lossless=self._exact(bits), bits=bits if deep else None),
        )

    @property
    def _bits(self) -> int:
        return _bits(next(item for item in self._parts.items.values() if item.kind == _CODED))

    @property
    def _grey(self) -> bool:
        return all(_monochrome(item.property(b"av1C")) for item in self._whole.coded())

    def _exact(self, bits: int) -> bool:
        """Return whether the file is known to hold the pixels, and alpha, exactly as they are read in some bits."""
        items = self._parts.items.values()
        converted = not self._whole.unconverted(grey=self._grey) or any(b"prem" in item.references for item in items)
        coded = [item for item in items if item.kind == _CODED]
        return not converted and all(_bits(item) == bits and coded_without_loss(item.content) for item in coded)

    def _packed(self, parts: Heif) -> bytes:
        return pack_heif(parts, *_BRANDS)

    def _decode_deep(self) -> tuple[Pixels, Pixels | None]:
        """Return pixels and alpha in 16 bits."""
        alpha_number = self._whole.alpha
        item = self._parts.items[self._parts.primary]
        if alpha_number is None or not self._grey:
            decoded = _decode_scaled(self._packed(self._parts), self._bits)
            return (decoded[..., :3], decoded[..., 3]) if decoded.shape[2] == 4 else (decoded, None)
        # OpenCV does not read grey with alpha, but each alone.
        alone = [self._alone(number) for number in (self._parts.primary, alpha_number)]
        pixels, alpha = (_decode_scaled(self._packed(file), self._bits) for file in alone)
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

    def __init__(self, data: bytes, limits: Limits) -> None:
        tracks = [track for track in _tracks(data) if find_box(data, *_DESCRIPTION, inside=track)]
        if not tracks:
            raise PictureError("an AVIF sequence of this kind is not supported")
        for track in tracks:
            _check_track(data, track, limits)
        of_colour = (track for track in tracks if not find_box(data, b"tref", b"auxl", inside=track))
        self._data, self._track = data, next(of_colour, tracks[0])
        self._image = Image.open(io.BytesIO(data), formats=("AVIF",))
        self.size = Size.from_pillow(self._image.size)
        limits.check(self.size)
        self.count = int(getattr(self._image, "n_frames", 1))
        self.animated = self.count > 1
        self.loops = _loops(data, self._track) if self.animated else None

    def picture(self, index: int = 0) -> Picture:
        self._image.seek(index)
        self._image.load()
        pixels, alpha = colour_and_alpha(self._image)
        if _monochrome(self._described(b"av1C")):
            pixels = pixels[..., :1]  # Pillow spreads grey with alpha over four channels
        info = self._image.info
        icc, of_profile = checked_profile(info.get("icc_profile"))
        metadata, of_metadata = checked_metadata(info.get("exif"), info.get("xmp"))
        bits = _depth(self._described(b"av1C"))
        of_depth = [Entry(f"{bits} bits per channel", Fate.LOST, "(8 are read)")] if bits > 8 else []
        return Picture(
            pixels=owned(pixels),
            alpha=None if alpha is None else owned(alpha),
            colour=tagged_colour(self._described(b"colr"), icc, *map(self._described, (b"clli", b"mdcv"))),
            metadata=replace(metadata, aspect=aspect(self._described(b"pasp"))),
            ledger=(
                *(*of_profile, *of_metadata, *of_depth),
                *_tracks_left_out(self._data, self._track),
                *boxes_left_out(self._data, b"moov"),
            ),
            origin=Origin(AvifSource.format, lossless=False),
            duration=shown_for(info["duration"] / 1000) if self.animated else None,
        )

    def _described(self, kind: bytes) -> bytes:
        """Return the body of a box in the description of the frames, or nothing."""
        found = find_box(self._data, *_DESCRIPTION, kind, inside=self._track)
        return self._data[found.start : found.stop] if found else b""


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


def _tracks(data: bytes) -> list[Box]:
    movie = find_box(data, b"moov")
    return [box for box in boxes(data, movie.start, movie.stop) if box.kind == b"trak"] if movie else []


def _tracks_left_out(data: bytes, shown: Box) -> list[Entry]:
    """Return entries for the tracks beside the one that is shown, except for its alpha."""
    names = dict[str, None]()
    for track in _tracks(data):
        if track == shown:
            continue
        handler = find_box(data, b"mdia", b"hdlr", inside=track)
        auxiliary = find_box(data, *_DESCRIPTION, b"auxi", inside=track)
        if handler and data[handler.start + 8 : handler.start + 12] == b"soun":
            names["sound"] = None
        elif auxiliary and b":depth" in data[auxiliary.start : auxiliary.stop]:
            names["depth map"] = None
        elif not find_box(data, b"tref", b"auxl", inside=track):
            names["further track"] = None
    return [Entry(name, Fate.LOST) for name in names]


def _check_track(data: bytes, track: Box, limits: Limits) -> None:
    """Check the size that a track of AV1 claims, against that in its first frame.

    Raises:
        LimitError: it is too large.
        PictureError: it is larger than what is coded.
    """
    description = find_box(data, *_DESCRIPTION, inside=track)
    assert description is not None
    width, height = struct.unpack_from(">HH", data, description.start + 24)
    limits.check_compressed(Size(height, width), len(data))
    for kind, code in ((b"stco", ">I"), (b"co64", ">Q")):
        offsets = find_box(data, *_SAMPLES, kind, inside=track)
        if offsets is not None:
            (first,) = struct.unpack_from(code, data, offsets.start + 8)
            _check_sequence_header(data[first : first + 4096], Size(height, width))


def _check_sequence_header(units: bytes, size: Size) -> None:
    """Check that a claimed size is not larger than that in the sequence header of AV1 data."""
    coded = coded_size(units)
    if coded is None or size.width > coded.width or size.height > coded.height:
        raise PictureError(DAMAGED)


def _flags(configuration: bytes) -> int:
    """Return the flags of depth and colour in the configuration of a codec."""
    return configuration[2:3].ljust(1, b"\0")[0]


def _depth(configuration: bytes) -> int:
    flags = _flags(configuration)
    return 8 if not flags & 0x40 else 12 if flags & 0x20 else 10


def _bits(item: Item) -> int:
    return _depth(item.property(b"av1C") or b"")


def _monochrome(configuration: bytes | None) -> bool:
    return bool(_flags(configuration or b"") & 0x10)


def _decode(data: bytes) -> tuple[Pixels, Pixels | None]:
    try:
        image = Image.open(io.BytesIO(data), formats=("AVIF",))
        image.load()
    except RuntimeError as error:
        if "Not implemented" in str(error):
            raise PictureError("an AVIF file of this kind is not supported") from error
        raise
    return colour_and_alpha(image)


def _decode_scaled(data: bytes, bits: int) -> Pixels:
    """Decode 10 or 12 bits as ``(H, W, 1, 3 or 4)`` in 16, so that white stays white."""
    decoded = decode_sixteen_bits(data)
    for row in decoded:  # one by one, to need no second picture
        row[:] = row << (16 - bits) | row >> (2 * bits - 16)
    return decoded


def _loops(data: bytes, track: Box) -> int:
    """Return how often a sequence is shown, 0 for ever: the duration of its track over that of its edit."""
    header, edits = find_box(data, b"tkhd", inside=track), find_box(data, b"edts", b"elst", inside=track)
    if header is None or edits is None or not data[edits.start + 3] & 1:  # the flag that it repeats
        return 1
    wide = data[header.start] == 1
    code, at = (">Q", header.start + 28) if wide else (">I", header.start + 20)
    (total,) = struct.unpack_from(code, data, at)
    (once,) = struct.unpack_from(">Q" if data[edits.start] == 1 else ">I", data, edits.start + 8)
    endless = total == (2**64 - 1 if wide else 2**32 - 1)
    return 0 if endless or not once else max(1, -(-total // once))
