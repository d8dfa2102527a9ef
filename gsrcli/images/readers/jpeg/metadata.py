"""What the segments of a JPEG file say about its picture, and what follows the picture."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from gsrcli.images import exif, xmp
from gsrcli.images.directories import MalformedError, Tiff
from gsrcli.images.ledger import Entry, Fate, Feature
from gsrcli.images.metadata import CENTIMETRES_PER_INCH, COMMENT, Metadata, Text, decoded_text, sound_aspect
from gsrcli.images.readers.jpeg.markers import ADOBE, APP0, COM, JFIF, Codestream, Frame, Segment, read_codestream
from gsrcli.images.readers.metadata import checked_iptc
from gsrcli.images.readers.photoshop import read_photoshop, with_rights
from gsrcli.images.readers.source import appended

__all__ = ["Said", "estimated_quality", "read_said"]

_APP1, _APP2, _APP3, _APP4, _APP5 = range(0xE1, 0xE6)
_APP10, _APP11, _APP12, _APP13, _APP14 = range(0xEA, 0xEF)
_EXIF = b"Exif\0"
_XMP, _EXTENSION = b"http://ns.adobe.com/xap/1.0/\0", b"http://ns.adobe.com/xmp/extension/\0"
_ICC, _MPF, _GAIN_MAP = b"ICC_PROFILE\0", b"MPF\0", b"urn:iso:std:iso:ts:21496:-1\0"
_PHOTOSHOP, _JUMBF = b"Photoshop 3.0\0", b"JP"

# What tells of the file, the camera's working or the program's, not of the picture: smaller copies, numbers.
_SILENT = (
    *((APP0, label) for label in (JFIF, b"JFXX\0", b"AVI1")),
    *((_APP4, label) for label in (b"Qualcomm", b"SCALADO\0")),
    (_APP5, b"ssuniqueid"),  # of Samsung
    (_APP10, b"AROT"),  # levels of an HDR photo of Apple
    (_APP12, b"Ducky"),
    (_APP13, b"Adobe_CM"),
    (_APP14, ADOBE),
)
# What older cameras say of the picture: its date, exposure and owner.
_NOTES = (
    *((APP0, label) for label in (b"II\x1a\0\0\0HEAPJPGM", b"MM\0\0\0\x1aHEAPJPGM")),
    *((_APP3, label) for label in (b"Meta\0", b"META\0", b"Exif\0")),  # of Kodak
    *((_APP12, label) for label in (b"OLYMPUS", b"[picture info]", b"Picture Info")),
)
_READ = ((_APP1, _EXIF), (_APP1, _XMP), (_APP1, _EXTENSION), (_APP2, _ICC), (_APP2, _MPF), (_APP2, _GAIN_MAP))
_FLASHPIX = ((_APP2, b"FPXR\0"), (_APP2, b"\0FPXR\0"))  # smaller copies, and sometimes sound
_SOUND = "Audio Stream".encode("utf-16-le")
_MOST_UNKNOWN = 4

_MPF_ENTRIES, _MPF_PREVIEW = 0xB002, 1
_MOST_PICTURES = 1000
_BEGINS, _FILLING = b"\xff\xd8\xff", b"\0\xff\r\n\t "
_HEAD, _LEAST_DATA = 1 << 17, 16  # bytes
_SAMSUNG_DIRECTORY, _SAMSUNG_END, _HUAWEI_MARK = b"SEFH", b"SEFT", b"LaiDong"
_SAMSUNG_PARTS = {b"DepthMap": "depth map", b"SoundShot": "sound"}

_GAIN_MAP_SIGNS = (b"hdr-gain-map/1.0", b"HDRGainMap", b"hdrgainmap", _GAIN_MAP)
_DEPTH_MAP_SIGNS = (b"aux:depth", b"aux:disparity", b"DepthMap", b'Semantic="Depth"')

# Annex K.1 of T.81, in zigzag order, which libjpeg scales.
_LUMINANCE = np.array(
    (
        *(16, 11, 12, 14, 12, 10, 16, 14, 13, 14, 18, 17, 16, 19, 24, 40, 26, 24, 22, 22, 24, 49, 35, 37, 29, 40, 58),
        *(51, 61, 60, 57, 51, 56, 55, 64, 72, 92, 78, 64, 68, 87, 69, 55, 56, 80, 109, 81, 87, 95, 98, 103, 104, 103),
        *(62, 77, 113, 121, 112, 100, 120, 92, 101, 103, 99),
    )
)


@dataclass(frozen=True)
class Said:
    """What the segments say, as stored: nothing is turned upright.

    Attributes:
        metadata: the metadata; XMP with its extension, and without what refers to other parts of the file.
        icc: colour profile.
        ledger: what is lost or damaged.
    """

    metadata: Metadata
    icc: bytes | None
    ledger: tuple[Entry, ...]


def read_said(data: bytes, stream: Codestream, frame: Frame) -> Said:
    """Read the segments of a picture, which starts a file, and look at what follows it."""
    ledger: list[Entry] = []
    block = _exif(stream, ledger)
    icc = _profile(stream, len(frame.components), ledger)
    photoshop = read_photoshop(b"".join(stream.find(_APP13, _PHOTOSHOP)))
    ledger += photoshop.ledger
    dpi, aspect = _density(stream)
    if dpi is None:
        dpi = exif.exif_resolution(block or b"") or photoshop.dpi
    packet = _xmp(stream, ledger) or b""
    alone: bytes | None = xmp.xmp_alone(packet)
    _name_others(data, stream, packet if alone != packet else b"", ledger)
    alone, of_rights = with_rights(alone or None, photoshop)
    ledger += of_rights
    _name_unknown(stream.segments, ledger)
    if stream.misplaced:
        ledger.append(Entry("marker segment", Fate.DAMAGED))
    datasets, of_iptc = checked_iptc(photoshop.iptc)
    ledger += of_iptc
    metadata = Metadata(
        exif=block,
        xmp=alone,
        iptc=datasets,
        texts=tuple(_comments(stream.segments)),
        dpi=dpi,
        aspect=None if dpi else aspect,
    )
    return Said(metadata, icc, tuple(dict.fromkeys(ledger)))


def estimated_quality(stream: Codestream, frame: Frame) -> int | None:
    """Return the quality, 1 to 100, at which libjpeg would quantize brightness about like this picture."""
    table = stream.tables.get(frame.components[0].table)
    if table is None:
        return None
    quality = np.arange(1, 101)[:, None]
    scale = np.where(quality < 50, 5000 // quality, 200 - 2 * quality)
    tables = np.clip((_LUMINANCE * scale + 50) // 100, 1, 255)
    return 1 + int(np.abs(tables - np.array(table)).sum(axis=1).argmin())


def _exif(stream: Codestream, ledger: list[Entry]) -> bytes | None:
    """Return the EXIF block. One longer than a segment goes on in the next, as ExifTool writes it."""
    bodies = [body[1:] for body in stream.find(_APP1, _EXIF)]
    if not bodies:
        return None
    block, *others = bodies
    for other in others:
        if other.startswith((b"II*\0", b"MM\0*")):
            ledger.append(Entry("second EXIF block", Fate.LOST))
            break
        block += other
    if exif.exif_upright(block) is None:
        ledger.append(Entry(Feature.EXIF, Fate.DAMAGED))
        return None
    return block


def _xmp(stream: Codestream, ledger: list[Entry]) -> bytes | None:
    """Return the XMP packet with its extension (XMP specification, part 3, 1.1.3.1)."""
    packets = stream.find(_APP1, _XMP)
    parts = stream.find(_APP1, _EXTENSION)
    if not packets:
        if parts:
            ledger.append(Entry("extended XMP", Fate.DAMAGED))
        return None
    packet, digest = packets[0], xmp.extension_digest(packets[0])
    if digest is None and not parts:
        return packet
    extension = _extension([part for part in parts if part[:32].decode("latin-1").upper() == digest])
    merged = xmp.merge_xmp(packet, extension) if extension and xmp.xmp_digest(extension) == digest else None
    if merged is None:
        ledger.append(Entry("extended XMP", Fate.DAMAGED))
    return merged or packet


def _extension(parts: list[bytes]) -> bytes | None:
    """Put an extension together: each part starts with digest, whole length and offset; None if anything is missing."""
    if not parts or any(len(part) < 40 for part in parts):
        return None
    pieces = sorted({(*struct.unpack(">II", part[32:40]), part[40:]) for part in parts}, key=lambda piece: piece[1])
    extension = b"".join(text for _, _, text in pieces)
    at = 0
    for length, offset, text in pieces:
        if length != len(extension) or offset != at:
            return None
        at += len(text)
    return extension


def _profile(stream: Codestream, components: int, ledger: list[Entry]) -> bytes | None:
    """Return the colour profile, whose parts are numbered from 1 on (ICC.1, annex B.4)."""
    parts = stream.find(_APP2, _ICC)
    if not parts:
        return None
    numbered = {part[0]: part[2:] for part in parts if len(part) > 2}
    counts = {part[1] for part in parts if len(part) > 2}
    whole = len(parts) == 1 or (len(counts) == 1 and sorted(numbered) == list(range(1, counts.pop() + 1)))
    icc = b"".join(numbered[number] for number in sorted(numbered))
    if whole and len(icc) >= 132 and icc[36:40] == b"acsp" and int.from_bytes(icc[:4], "big") <= len(icc):
        spaces = {1: (b"GRAY", b"RGB "), 3: (b"RGB ",), 4: (b"CMYK",)}[components]
        if icc[16:20] in spaces:
            return icc
        space = icc[16:20].decode("latin-1").strip()
        if space.isalnum():
            ledger.append(Entry(Feature.PROFILE, Fate.LOST, f"({space}, which the picture is not)"))
            return None
    ledger.append(Entry(Feature.PROFILE, Fate.DAMAGED))
    return None


def _density(stream: Codestream) -> tuple[tuple[float, float] | None, float | None]:
    """Return pixels per inch, and the aspect of a pixel, as JFIF has them (ITU-T T.871)."""
    for body in stream.find(APP0, JFIF):
        if len(body) >= 7:
            unit, x, y = struct.unpack(">BHH", body[2:7])
            if x and y and unit in (1, 2):
                factor = CENTIMETRES_PER_INCH if unit == 2 else 1
                return (x * factor, y * factor), None
            return None, sound_aspect(y, x) if unit == 0 else None
    return None, None


def _comments(segments: Iterable[Segment]) -> Iterator[Text]:
    for marker, body, _ in segments:
        if marker == COM and (text := decoded_text(body.rstrip(b"\0"))).strip():
            yield Text(COMMENT, text)


def _name_others(data: bytes, stream: Codestream, referring: bytes, ledger: list[Entry]) -> None:
    """Name what follows the picture: gain and depth maps, other pictures, videos.

    Args:
        data: the file.
        stream: the picture.
        referring: XMP packet that refers to other parts of the file.
        ledger: gets the entries.
    """
    kinds = _mpf_kinds(stream)
    others = 0
    gain_map = bool(stream.find(_APP2, _GAIN_MAP)) or any(sign in referring for sign in _GAIN_MAP_SIGNS)
    at = _next_picture(data, stream.end)
    for _ in range(_MOST_PICTURES):
        if not data.startswith(_BEGINS, at):
            break
        end = read_codestream(data, at).end
        head = data[at : min(end, at + _HEAD)]
        if any(sign in head for sign in _GAIN_MAP_SIGNS):
            gain_map = True
        elif any(sign in head for sign in _DEPTH_MAP_SIGNS):
            ledger.append(Entry("depth map", Fate.LOST))
        elif kinds.get(at, 0) >> 16 != _MPF_PREVIEW:  # previews show nothing that the picture does not
            others += 1
        at = _next_picture(data, end)
    if gain_map:
        ledger.append(Entry("gain map", Fate.LOST))
    if others:
        ledger.append(Entry(f"{others} other picture{'s' * (others > 1)}", Fate.LOST))
    rest = data[at:].strip(_FILLING)
    if b"ftyp" in rest[:_HEAD] or b"MotionPhoto_Data" in rest:
        ledger.append(Entry("video of the motion photo", Fate.LOST))
    elif _is_notes(rest):
        ledger += [Entry(what, Fate.LOST) for name, what in _SAMSUNG_PARTS.items() if name in rest]
    elif len(rest) > _LEAST_DATA:
        ledger += appended(rest)


def _is_notes(trailer: bytes) -> bool:
    """Return whether what ends a file are notes of the camera: a directory of Samsung, or a repeated mark of Huawei."""
    samsung = trailer.endswith(_SAMSUNG_END) and _SAMSUNG_DIRECTORY in trailer
    return samsung or not trailer.replace(_HUAWEI_MARK, b"").strip(_FILLING)


def _next_picture(data: bytes, end: int) -> int:
    """Return where the picture after the end of one begins, behind filling; the end if none does."""
    start = data.find(_BEGINS, end, end + _HEAD)
    return start if start >= 0 and not data[end:start].strip(_FILLING) else end


def _mpf_kinds(stream: Codestream) -> dict[int, int]:
    """Return the kinds of the pictures in a multi-picture file, by offset in the file (CIPA DC-007, 5.2.3)."""
    kinds: dict[int, int] = {}
    for segment in stream.segments:
        if segment.marker == _APP2 and segment.body.startswith(_MPF):
            for attribute, _, offset, _ in _mpf_entries(segment.body[len(_MPF) :]):
                kinds[segment.at + len(_MPF) + offset] = attribute & 0xFFFFFF
    return kinds


def _mpf_entries(index: bytes) -> Iterator[tuple[int, ...]]:
    """Return attribute, size, offset and dependent pictures of each picture in a multi-picture index."""
    try:
        tiff = Tiff(index)
        entry = tiff.directory(tiff.first)[0].get(_MPF_ENTRIES)
        entries = tiff.raw(entry) if entry else b""
    except MalformedError:
        return iter(())
    return struct.iter_unpack(f"{tiff.order}IIII", entries[: len(entries) // 16 * 16])


def _name_unknown(segments: Iterable[Segment], ledger: list[Entry]) -> None:
    """Name what the other segments hold."""
    unknown: dict[str, None] = {}
    boxes: list[bytes] = []
    for marker, body, _ in segments:
        if marker == COM or _is_among((*_SILENT, *_READ), marker, body):
            continue
        if marker == _APP13 and body.startswith(_PHOTOSHOP):
            continue
        if marker == _APP11 and body.startswith(_JUMBF):
            boxes.append(body)
        elif marker == _APP1 and body.startswith(b"FLIR\0"):
            ledger.append(Entry("thermal data (FLIR)", Fate.LOST))
        elif _is_among(_FLASHPIX, marker, body):
            ledger += [Entry("sound", Fate.LOST)] if _SOUND in body else []
        elif _is_among(_NOTES, marker, body):
            ledger.append(Entry("notes of the camera", Fate.LOST))
        elif body.strip(b"\0"):
            unknown[_label(marker, body)] = None
    if boxes:
        ledger.append(Entry(_held(boxes), Fate.LOST))
    labels = list(unknown)
    if labels:
        more = f" and {len(labels) - _MOST_UNKNOWN} more" if len(labels) > _MOST_UNKNOWN else ""
        ledger.append(Entry(", ".join(labels[:_MOST_UNKNOWN]) + more, Fate.LOST))


def _is_among(kinds: Iterable[tuple[int, bytes]], marker: int, body: bytes) -> bool:
    """Return whether a segment has the marker and the beginning of one of some kinds."""
    return any(marker == m and body.startswith(beginning) for m, beginning in kinds)


def _held(boxes: list[bytes]) -> str:
    """Return what the boxes in APP11 segments hold. Their types come after identifier, instance, number and length."""
    if any(b"c2pa" in box for box in boxes):
        return "content credentials (C2PA)"
    return "JUMBF metadata" if any(box[12:16] == b"jumb" for box in boxes) else "JPEG XT extension"


def _label(marker: int, body: bytes) -> str:
    """Return the name of an unknown segment, with the identifier at its start if there is one."""
    identifier = body[:16].partition(b"\0")[0]
    readable = identifier.isascii() and identifier.decode("latin-1").isprintable() and len(identifier) > 2
    return f"APP{marker - APP0} segment" + (f" ({identifier.decode()})" if readable else "")
