"""Read the metadata of a page of a TIFF file."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace

from gsrcli.images.colour import Chromaticities, Colour
from gsrcli.images.directories import Entry, MalformedError, Tags, Tiff
from gsrcli.images.exif import DESCRIPTIVE_TAGS, exif_block, exif_from_directory
from gsrcli.images.geo import GEO_TAGS, without_nodata
from gsrcli.images.ledger import Entry as LedgerEntry
from gsrcli.images.ledger import Fate, Feature
from gsrcli.images.metadata import CENTIMETRES_PER_INCH, MAX_METADATA, Metadata, sound_aspect
from gsrcli.images.readers.metadata import checked_iptc
from gsrcli.images.readers.orientation import upright_packet
from gsrcli.images.readers.photoshop import Photoshop, read_photoshop, with_rights
from gsrcli.images.xmp import xmp_orientation

__all__ = ["PageMetadata", "read_metadata"]

_DESCRIPTION, _ORIENTATION, _X_RESOLUTION, _Y_RESOLUTION, _RESOLUTION_UNIT = 270, 274, 282, 283, 296
_XMP, _IPTC, _PHOTOSHOP, _ICC, _LAYERS, _RPC = 700, 33723, 34377, 34675, 37724, 50844
_WHITE, _PRIMARIES = 318, 319
_GDAL_NODATA = 42113
_NO_UNIT, _CENTIMETRE = 1, 3

_FOREIGN_DESCRIPTIONS = (  # which state sizes, and how pages belong together
    ("OME-XML description", re.compile(rb"\s*(<\?xml.*?\?>\s*)?(<!--.*?-->\s*)?<OME\b", re.DOTALL)),
    ("ImageJ description", re.compile(rb"ImageJ=")),
    ("MetaMorph description", re.compile(rb"\s*<MetaData>")),
    ("tifffile's description", re.compile(rb'\{"shape": \[')),
)
_LOST = {
    290: "grey response curve",
    321: "halftone hints",
    333: "names of inks",
    337: "target printer",
    343: "clipping path",
    34909: "fax address",
    _LAYERS: "Photoshop layers",
    50839: "ImageJ metadata",
    _RPC: "rational polynomial coefficients",
}
"""What is lost with tags that a `Picture` has no place for."""
_TRANSFER, _POSITION = 301, (286, 287)
_FIRST_PRIVATE, _MOST_NAMED, _FEW = 32768, 4, 100
_SILENT_PRIVATE = frozenset(
    (
        *(32995, 32996, 32997, 32998),  # matteing, kind of data, and depths, of which the pixels tell
        *(34908, 34910),  # how and when it was faxed
        *(50838, 59932),  # counts of ImageJ's metadata, padding
    )
)


@dataclass(frozen=True)
class PageMetadata:
    """What a page says apart from its pixels.

    Attributes:
        metadata: as in `gsrcli.images.Picture`, for the upright page.
        colour: the colour tags, those of RGB pages included.
        orientation: 1 to 8.
        nodata: the number that stands for no data, or None.
        entries: what was lost or found damaged.
    """

    metadata: Metadata
    colour: Colour
    orientation: int
    nodata: float | None
    entries: list[LedgerEntry] = field(default_factory=list)

    def for_other_numbers(self) -> PageMetadata:
        """Return the metadata for a page whose numbers were converted: a number cannot stand for no data any more."""
        geo = self.metadata.geo
        return replace(self, metadata=replace(self.metadata, geo=(without_nodata(geo) or None) if geo else None))


def read_metadata(tiff: Tiff, directory: dict[int, Entry]) -> PageMetadata:
    """Read the metadata of a page. A part that is malformed is left out, and named in the ledger."""
    return _Reading(tiff, directory).result()


class _Reading:
    """Collects the metadata of a page."""

    def __init__(self, tiff: Tiff, directory: dict[int, Entry]) -> None:
        self._tiff, self._directory = tiff, directory
        self._entries = list[LedgerEntry]()

    def result(self) -> PageMetadata:
        xmp = self._block(_XMP, Feature.XMP)
        icc = self._block(_ICC, Feature.PROFILE)
        stated = self._tiff.first_number(self._directory.get(_ORIENTATION))
        orientation = stated if 1 <= stated <= 8 else xmp_orientation(xmp or b"") or 1
        dpi, aspect = self._resolution(orientation)
        photoshop = read_photoshop(self._block(_PHOTOSHOP, "Photoshop image resources") or b"")
        xmp, of_rights = with_rights(xmp, photoshop)
        xmp, of_turning = upright_packet(xmp, orientation)
        self._entries += [*photoshop.ledger, *of_rights, *of_turning]
        metadata = Metadata(
            exif=self._exif(),
            xmp=xmp,
            iptc=self._iptc(photoshop),
            dpi=dpi,
            aspect=aspect,
            geo=self._geo(orientation),
        )
        self._name_others(profile=icc is not None)
        colour = Colour(icc=icc, chromaticities=None if icc else self._chromaticities())
        return PageMetadata(metadata, colour, orientation, self._nodata(), self._entries)

    def _name_others(self, *, profile: bool) -> None:
        """Name what other tags say; a profile rules over a transfer function."""
        for tag, what in _LOST.items():
            if tag in self._directory:
                self._lose(what)
        if any(self._number(tag) for tag in _POSITION):
            self._lose("offset on the page")
        if _TRANSFER in self._directory and not profile:
            self._lose("transfer function")
        known = {*_LOST, *_SILENT_PRIVATE, *GEO_TAGS, *DESCRIPTIVE_TAGS, _XMP, _IPTC, _PHOTOSHOP, _ICC}
        others = [str(tag) for tag in self._directory if tag >= _FIRST_PRIVATE and tag not in known]
        if others:
            more = f" and {len(others) - _MOST_NAMED} more" if len(others) > _MOST_NAMED else ""
            self._lose(f"TIFF tag{'s' * (len(others) > 1)} {', '.join(others[:_MOST_NAMED])}{more}")

    def _number(self, tag: int) -> float:
        """Return the first number of a tag of a few, 0 if there is none."""
        entry = self._directory.get(tag)
        try:
            return next(iter(self._tiff.floats(entry)), 0.0) if entry and entry.count < _FEW else 0.0
        except MalformedError:
            return 0.0

    def _lose(self, what: str) -> None:
        self._entries.append(LedgerEntry(what, Fate.LOST))

    def _block(self, tag: int, name: str) -> bytes | None:
        """Return the bytes of a tag; None without one."""
        if tag not in self._directory:
            return None
        try:
            value = self._tiff.raw(self._directory[tag])
            if len(value) > MAX_METADATA:
                raise MalformedError("too long")
        except MalformedError:
            self._entries.append(LedgerEntry(name, Fate.DAMAGED))
            return None
        return value or None

    def _exif(self) -> bytes | None:
        tags, malformed = exif_from_directory(self._tiff, self._directory)
        if malformed:
            self._entries.append(LedgerEntry(f"EXIF ({malformed} tags)", Fate.DAMAGED))
        description = tags.get(_DESCRIPTION)
        if isinstance(description, tuple):
            for what, pattern in _FOREIGN_DESCRIPTIONS:
                if pattern.match(description[2]):
                    self._lose(what)
                    del tags[_DESCRIPTION]
                    break
        return exif_block(tags)

    def _resolution(self, orientation: int) -> tuple[tuple[float, float] | None, float | None]:
        """Return pixels per inch and, where there is no unit, the aspect of pixels, both of the upright page."""
        try:
            x, y = (self._tiff.floats(self._directory.get(tag))[0] for tag in (_X_RESOLUTION, _Y_RESOLUTION))
        except (IndexError, MalformedError):
            return None, None
        if orientation > 4:
            x, y = y, x
        unit = self._tiff.first_number(self._directory.get(_RESOLUTION_UNIT), 2)
        if unit == _CENTIMETRE:
            x, y = x * CENTIMETRES_PER_INCH, y * CENTIMETRES_PER_INCH
        if not (0 < x < 1e6 and 0 < y < 1e6):  # some files contain nan and inf
            return None, None
        if unit != _NO_UNIT:
            return (x, y), None
        return None, sound_aspect(y, x)

    def _chromaticities(self) -> Chromaticities | None:
        """Return the white point and primaries, unless they are those of sRGB, which pages without are taken for."""
        try:
            numbers = [
                *self._tiff.floats(self._directory.get(_WHITE)),
                *self._tiff.floats(self._directory.get(_PRIMARIES)),
            ]
        except MalformedError:
            return None
        if len(numbers) != 8 or not all(0 < number < 1 for number in numbers):
            return None
        stated = Chromaticities(*zip(numbers[::2], numbers[1::2], strict=True))
        return None if Colour(chromaticities=stated).srgb_gamma else stated

    def _iptc(self, photoshop: Photoshop) -> bytes | None:
        """Return the IPTC datasets, of their own tag or in Photoshop's resources."""
        datasets = self._block(_IPTC, Feature.IPTC)
        if datasets and datasets[:1] != b"\x1c" and datasets[3:4] == b"\x1c":  # 4-byte words in the other byte order
            datasets = b"".join(datasets[at : at + 4][::-1] for at in range(0, len(datasets), 4))
        if not datasets or datasets[:1] != b"\x1c":
            datasets = photoshop.iptc
        checked, entries = checked_iptc(datasets)
        self._entries += entries
        return checked

    def _geo(self, orientation: int) -> Tags | None:
        tags: Tags = {}
        for tag in GEO_TAGS:
            value = self._block(tag, Feature.GEO)
            if value:
                entry = self._directory[tag]
                tags[tag] = entry.kind, entry.count, self._tiff.little_endian(entry)
        if tags and orientation != 1:
            self._lose(Feature.GEO)
            return None
        return tags or None

    def _nodata(self) -> float | None:
        try:
            return float((self._block(_GDAL_NODATA, Feature.GEO) or b"").strip(b"\0 ").decode("latin-1"))
        except ValueError:
            return None
