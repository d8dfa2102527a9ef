"""What AVIF and HEIC files share: items that make up the picture, its colour, metadata and turning."""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from gsrcli.errors import PictureError
from gsrcli.images.colour import HLG, PQ, SRGB_TRANSFER, Cicp, Colour
from gsrcli.images.isobmff import Heif, Item, boxes, children, exif_content, file_boxes
from gsrcli.images.ledger import Entry, Fate
from gsrcli.images.metadata import Metadata, sound_aspect
from gsrcli.images.picture import Pixels
from gsrcli.images.readers.boxes import box_name, entries_of_boxes
from gsrcli.images.readers.metadata import checked_metadata, checked_profile
from gsrcli.images.readers.orientation import stated_orientation, upright
from gsrcli.images.readers.source import DAMAGED
from gsrcli.size import Size

__all__ = ["HeifPicture", "aspect", "boxes_left_out", "item_size", "tagged_colour"]

_XMP_TYPE = b"application/rdf+xml"
_ALPHA = (b"urn:mpeg:mpegb:cicp:systems:auxiliary:alpha", b"urn:mpeg:hevc:2015:auxid:1")  # in lower case
_TRANSFORMS = (b"clap", b"irot", b"imir")
_READ = (b"ftyp", b"meta")
_STRUCTURE = (b"mdat", b"imda", b"styp", b"free", b"skip", b"wide")
_STRUCTURE_OF_ITEMS = (
    *(b"hdlr", b"dinf", b"pitm", b"iinf", b"iloc", b"iref", b"iprp", b"ipro", b"idat", b"grpl", b"free", b"skip"),
)
_UNSPECIFIED, _BT709 = 2, 1
_IDENTITY = 0  # of matrices


@dataclass(frozen=True)
class HeifPicture:
    """The picture in a HEIF file, among its other items."""

    file: Heif

    @property
    def item(self) -> Item:
        return self.file.items[self.file.primary]

    @property
    def stored_size(self) -> Size:
        """Size before cropping and turning."""
        return item_size(self.item)

    @property
    def size(self) -> Size:
        """Size of the upright picture."""
        return Size.of(self.upright(np.broadcast_to(np.uint8(0), self.stored_size)))

    @cached_property
    def numbers(self) -> list[int]:
        """The items that the picture is decoded from: itself or its tiles, and their alpha."""
        found = _with_tiles(self.file, self.file.primary)
        for number in list(found):
            for other in self.file.referring(b"auxl", number):
                if _auxiliary_type(self.file.items[other]) in _ALPHA:
                    found.update(dict.fromkeys(_with_tiles(self.file, other)))
        return list(found)

    @cached_property
    def parts(self) -> Heif:
        """The items that the picture is decoded from, without what crops and turns it, which `upright` does."""
        file = self.file.only(self.numbers)
        plain = {
            number: replace(item, properties=tuple(p for p in item.properties if p.kind not in _TRANSFORMS))
            for number, item in file.items.items()
        }
        return Heif(plain, file.primary)

    @property
    def alpha(self) -> int | None:
        """The item with the alpha of the whole picture."""
        others = self.file.referring(b"auxl", self.file.primary)
        return next((n for n in others if _auxiliary_type(self.file.items[n]) in _ALPHA), None)

    def coded(self, number: int | None = None) -> list[Item]:
        """Return the coded pictures of the picture, or of another item: itself or its tiles."""
        number = self.file.primary if number is None else number
        return [item for n in _with_tiles(self.file, number) if b"dimg" not in (item := self.file.items[n]).references]

    def upright(self, array: Pixels) -> Pixels:
        """Crop and turn ``(H, W, ...)`` as the file says, which neither EXIF nor XMP can."""
        for p in self.item.properties:
            if p.kind == b"clap" and (crop := _clean_aperture(p.body, Size.of(array))):
                array = array[crop]
            elif p.kind == b"irot" and p.body:
                array = np.rot90(array, p.body[0] & 3)
            elif p.kind == b"imir" and p.body:
                array = np.flip(array, p.body[0] & 1)
        return array

    @property
    def turned(self) -> bool:
        """Whether width and height change places."""
        return sum(p.body[0] for p in self.item.properties if p.kind == b"irot" and p.body) % 2 == 1

    @property
    def _orientation(self) -> int | None:
        """The orientation, 1 to 8, that EXIF would have for this turning; None if the picture is cropped, too."""
        if any(p.kind == b"clap" for p in self.item.properties):
            return None
        corners = np.arange(4, dtype=np.uint8).reshape(2, 2)
        turned = self.upright(corners)
        return next(o for o in range(1, 9) if np.array_equal(upright(corners, o), turned))

    def colour(self) -> tuple[Colour, list[Entry]]:
        """Return the colour tags, of the first tile if a grid has none, and entries for what could not be kept."""
        profiles = [p.body for p in self._tagged.properties if p.kind == b"colr"]
        icc = next((body[4:] for body in profiles if body[:4] in (b"prof", b"rICC")), None)
        icc, entries = checked_profile(icc)
        clli, mdcv = (self._tagged.property(kind) or b"" for kind in (b"clli", b"mdcv"))
        return tagged_colour(self._nclx, icc, clli, mdcv), entries

    def unconverted(self, *, grey: bool) -> bool:
        """Return whether colour tags say, if there are any, that coded values are grey or RGB over the whole range."""
        if len(self._nclx) < 11:
            return not self._nclx
        matrix, flags = struct.unpack_from(">HB", self._nclx, 8)
        return bool(flags & 0x80) and (grey or matrix == _IDENTITY)

    @property
    def _tagged(self) -> Item:
        """The item with the colour tags: the picture, or the first tile if a grid has none."""
        if self.item.kind == b"grid" and self.item.property(b"colr") is None and self.item.references.get(b"dimg"):
            return self.file.items.get(self.item.references[b"dimg"][0], self.item)
        return self.item

    @property
    def _nclx(self) -> bytes:
        """The body of the box with code points, or nothing."""
        bodies = (p.body for p in self._tagged.properties if p.kind == b"colr")
        return next((body for body in bodies if body[:4] == b"nclx"), b"")

    def metadata(self) -> tuple[Metadata, list[Entry]]:
        """Return the metadata, with orientation 1, and entries for what of them could not be kept."""
        found = {item.kind: item.content for item in reversed(list(self._descriptions()))}
        block = exif_content(found[b"Exif"]) if b"Exif" in found else None
        packet = found[b"mime"].rstrip(b"\0") if b"mime" in found else None
        agreed = self._orientation in (1, stated_orientation(block, packet))
        metadata, entries = checked_metadata(block, packet, self._orientation if agreed else None)
        return replace(metadata, aspect=self._aspect()), entries

    def _descriptions(self) -> Iterator[Item]:
        """Yield the items of EXIF and XMP that describe the picture."""
        for item in self.file.items.values():
            described = item.references.get(b"cdsc", (self.file.primary,))
            known = item.kind == b"Exif" or (item.kind == b"mime" and item.media_type == _XMP_TYPE)
            if known and self.file.primary in described:
                yield item

    def _aspect(self) -> float | None:
        stored = aspect(self.item.property(b"pasp") or b"")
        return 1 / stored if stored and self.turned else stored

    def left_out(self) -> list[Entry]:
        """Return entries for the items that are not part of the picture."""
        part = set(self.numbers)
        tiles = {n for item in self.file.items.values() for n in item.references.get(b"dimg", ())}
        counts: Counter[str] = Counter()
        for number, item in self.file.items.items():
            if number not in part and number not in tiles and (name := _name(item)):
                counts[name] += 1
        names = (f"{count} {name}s" if count > 1 else name for name, count in counts.items())
        return [Entry(name, Fate.LOST) for name in names]


def boxes_left_out(data: bytes, *read: bytes) -> list[Entry]:
    """Return entries for what the readers of a file do not look into.

    These are boxes of the file, and of its list of items, and what follows the last box.

    Args:
        data: the file.
        read: kinds of boxes that are read beside the items.
    """
    found, end = file_boxes(data)
    once = {box.kind: box for box in reversed(found) if box.kind in (*_READ, *read)}
    others = [box for box in found if box.kind not in _STRUCTURE and once.get(box.kind) is not box]
    if meta := once.get(b"meta"):
        inside = boxes(data, children(meta), meta.stop, strict=False)
        others += [box for box in inside if box.kind not in _STRUCTURE_OF_ITEMS]
    return entries_of_boxes((box_name(box.kind, data[box.start : box.stop]) for box in others), data[end:])


def item_size(item: Item) -> Size:
    """Return the size that an item claims."""
    ispe = item.property(b"ispe")
    if ispe is None or len(ispe) < 12:
        raise PictureError(DAMAGED)
    width, height = struct.unpack_from(">II", ispe, 4)
    if not width or not height:
        raise PictureError(DAMAGED)
    return Size(height, width)


def tagged_colour(colr: bytes, icc: bytes | None, clli: bytes, mdcv: bytes) -> Colour:
    """Return the colour tags in the bodies of boxes, and a profile. An empty body stands for none."""
    return replace(_code_points(colr, icc), light=_light_level(clli), mastering=_mastering(mdcv))


def _code_points(body: bytes, icc: bytes | None) -> Colour:
    """Return the colour that an nclx box and a profile mean together.

    sRGB code points say what untagged values are anyway. With a profile, code points are needed for PQ and HLG alone;
    many files carry arbitrary ones beside the profile that counts.
    """
    if len(body) < 10 or body[:4] != b"nclx":
        return Colour(icc=icc)
    codes = struct.unpack_from(">HH", body, 4)
    primaries, transfer = (code if code < 256 else _UNSPECIFIED for code in codes)  # ITU-T H.273 has no others
    plain = primaries in (_UNSPECIFIED, _BT709) and transfer in (_UNSPECIFIED, SRGB_TRANSFER)
    if plain or (icc and transfer not in (PQ, HLG)):
        return Colour(icc=icc)
    return Colour(icc=icc, cicp=Cicp(primaries, transfer))


def _with_tiles(file: Heif, number: int) -> dict[int, None]:
    """Return an item and those that it is derived from, and those in turn, in order."""
    found: dict[int, None] = {}
    waiting = [number]
    while waiting:
        number = waiting.pop()
        if number not in found and number in file.items:
            found[number] = None
            waiting += reversed(file.items[number].references.get(b"dimg", ()))
    return found


def _auxiliary_type(item: Item) -> bytes:
    auxc = item.property(b"auxC")
    return auxc[4:].split(b"\0")[0].lower() if auxc else b""


def _name(item: Item) -> str | None:
    """Return what an item is that is no part of the picture; None for thumbnails and what is read otherwise."""
    if item.kind == b"tmap":
        return "gain map"
    if item.kind == b"mime" and item.media_type != _XMP_TYPE:
        return f"{item.media_type.decode('latin-1')} metadata"
    if item.kind in (b"Exif", b"mime", b"uri ") or b"thmb" in item.references:
        return None
    if b"auxl" in item.references:
        kind = _auxiliary_type(item)
        if kind in _ALPHA:  # of a thumbnail
            return None
        names = {b"depth": "depth map", b"auxid:2": "depth map", b"gainmap": "gain map", b"matte": "matte"}
        return next((name for part, name in names.items() if part in kind), "auxiliary picture")
    return "further picture"


def _light_level(clli: bytes) -> tuple[int, int] | None:
    """Return the light level in the body of a box, in units of 0.0001 cd/m²; None without one."""
    if len(clli) < 4:
        return None
    most, average = struct.unpack_from(">HH", clli)
    return most * 10_000, average * 10_000


def _mastering(mdcv: bytes) -> bytes | None:
    """Return the volume as PNG has it: red, green and blue, where the box has green, blue and red; None without one."""
    return mdcv[8:12] + mdcv[:8] + mdcv[12:24] if len(mdcv) >= 24 else None


def aspect(pasp: bytes) -> float | None:
    """Return the width of a pixel divided by its height, None where they are equal or unknown."""
    if len(pasp) < 8:
        return None
    return sound_aspect(*struct.unpack_from(">II", pasp))


def _clean_aperture(body: bytes, size: Size) -> tuple[slice, slice] | None:
    """Return the rows and columns to keep; None if they are not whole or lie outside, as other readers do."""
    if len(body) < 32:
        return None
    width_n, width_d, height_n, height_d, x_n, x_d, y_n, y_d = struct.unpack_from(">IIIIiIiI", body)
    slices = []
    for length, top, bottom, offset_top, offset_bottom in (
        (size.height, height_n, height_d, y_n, y_d),
        (size.width, width_n, width_d, x_n, x_d),
    ):
        if not bottom or not offset_bottom or top % bottom:
            return None
        kept = top // bottom
        doubled = (length - kept) * offset_bottom + 2 * offset_top  # twice the start, times the divisor
        if doubled % (2 * offset_bottom):
            return None
        start = doubled // (2 * offset_bottom)
        if kept < 1 or not 0 <= start <= length - kept:
            return None
        slices.append(slice(start, start + kept))
    return slices[0], slices[1]
