"""Read WebP files."""

from __future__ import annotations

import io
from dataclasses import dataclass

from PIL import Image

from gsrcli.errors import PictureError
from gsrcli.images.colour import Colour
from gsrcli.images.ledger import Entry, Fate, Feature
from gsrcli.images.picture import Origin, Picture
from gsrcli.images.readers.metadata import checked_metadata, checked_profile
from gsrcli.images.readers.orientation import stated_orientation, upright
from gsrcli.images.readers.pillow import colour_and_alpha
from gsrcli.images.readers.source import DAMAGED, Limits, Source, appended, shown_for
from gsrcli.images.riff import Chunk, chunks, pack_chunk, pack_riff, webp_header
from gsrcli.size import Size

__all__ = ["WebpSource"]

_EXTENDED, _ANIMATION, _FRAME, _ALPHA = b"VP8X", b"ANIM", b"ANMF", b"ALPH"
_LOSSY, _LOSSLESS = b"VP8 ", b"VP8L"
_ANCILLARY = {b"ICCP": Feature.PROFILE, b"EXIF": Feature.EXIF, b"XMP ": Feature.XMP}
_OTHERS = {b"C2PA": "content credentials (C2PA)"}
_FRAME_HEADER = 16  # bytes


@dataclass(frozen=True)
class _Parts:
    """The chunks of a file that are needed.

    Attributes:
        coded: those that make up the picture, in order.
        ancillary: the first of each kind of metadata.
        entries: what is damaged or missing.
    """

    coded: tuple[Chunk, ...]
    ancillary: dict[bytes, bytes]
    entries: tuple[Entry, ...]

    def first(self, kind: bytes) -> Chunk | None:
        return next((chunk for chunk in self.coded if chunk.kind == kind), None)


class WebpSource(Source):
    """A WebP file. The decoder sees the chunks of pixels alone."""

    format = "WEBP"

    def __init__(self, data: bytes, limits: Limits) -> None:
        self._parts = _parse(data)
        frames = [chunk for chunk in self._parts.coded if chunk.kind == _FRAME]
        animation = self._parts.first(_ANIMATION)
        stored = _canvas(self._parts) if frames else _coded_size(self._parts.coded)
        limits.check_compressed(stored, len(data))
        self.count, self.animated = max(len(frames), 1), len(frames) > 1
        if self.animated and animation:
            self.loops = int.from_bytes(animation.body[4:6], "little")
        self._durations = [int.from_bytes(frame.body[12:15], "little") / 1000 for frame in frames]
        self._lossless = all(_is_lossless(frame.body[_FRAME_HEADER:]) for frame in frames)
        if not frames:
            self._lossless = self._parts.first(_LOSSLESS) is not None
        self._orientation = self._stored_orientation()
        self.size = stored.transposed if self._orientation > 4 else stored
        self._image: Image.Image | None = None

    def picture(self, index: int = 0) -> Picture:
        if self._image is None:
            self._image = Image.open(io.BytesIO(_stripped(self._parts)), formats=("WEBP",))
        self._image.seek(index)
        self._image.load()
        pixels, alpha = colour_and_alpha(self._image)
        blocks = self._parts.ancillary
        icc, of_profile = checked_profile(blocks.get(b"ICCP"))
        metadata, of_metadata = checked_metadata(blocks.get(b"EXIF"), blocks.get(b"XMP "), self._orientation)
        return Picture(
            pixels=upright(pixels, self._orientation),
            alpha=None if alpha is None else upright(alpha, self._orientation),
            colour=Colour(icc=icc),
            metadata=metadata,
            ledger=(*self._parts.entries, *of_profile, *of_metadata),
            origin=Origin(self.format, lossless=self._lossless),
            duration=shown_for(self._durations[index]) if self.animated else None,
        )

    def _stored_orientation(self) -> int:
        block = self._parts.ancillary.get(b"EXIF", b"").removeprefix(b"Exif\0\0")
        return stated_orientation(block, self._parts.ancillary.get(b"XMP "))


def _parse(data: bytes) -> _Parts:
    coded: list[Chunk] = []
    ancillary: dict[bytes, bytes] = {}
    end = 8 + int.from_bytes(data[4:8], "little")
    entries = appended(data[end:])
    for chunk in chunks(data[:end]):
        if chunk.kind in _ANCILLARY:
            if chunk.whole:
                ancillary.setdefault(chunk.kind, chunk.body)
            else:
                entries.append(Entry(_ANCILLARY[chunk.kind], Fate.DAMAGED))
        elif chunk.kind in (_EXTENDED, _ANIMATION, _FRAME, _ALPHA, _LOSSY, _LOSSLESS):
            if not chunk.whole:
                raise PictureError(DAMAGED)
            coded.append(chunk)
        elif chunk.body.strip(b"\0"):
            kind = chunk.kind.decode("latin-1").strip()
            entries.append(
                Entry(_OTHERS.get(chunk.kind) or f"{kind if kind.isalnum() else 'unknown'} chunk", Fate.LOST)
            )
    return _Parts(tuple(coded), ancillary, tuple(dict.fromkeys(entries)))


def _canvas(parts: _Parts) -> Size:
    """Return the size of the canvas that frames are drawn on."""
    header = parts.first(_EXTENDED)
    if header is None or len(header.body) < 10:
        raise PictureError(DAMAGED)
    width, height = (1 + int.from_bytes(header.body[at : at + 3], "little") for at in (4, 7))
    return Size(height, width)


def _coded_size(coded: tuple[Chunk, ...]) -> Size:
    """Return the size of a still picture, from the header of its pixels."""
    chunk = next((chunk for chunk in coded if chunk.kind in (_LOSSY, _LOSSLESS)), None)
    body = chunk.body if chunk else b""
    if chunk and chunk.kind == _LOSSY and body[3:6] == b"\x9d\x01\x2a" and len(body) >= 10:
        width, height = (int.from_bytes(body[at : at + 2], "little") & 0x3FFF for at in (6, 8))
    elif chunk and chunk.kind == _LOSSLESS and body[:1] == b"\x2f" and len(body) >= 5:
        bits = int.from_bytes(body[1:5], "little")
        width, height = (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    else:
        raise PictureError(DAMAGED)
    if not width or not height:
        raise PictureError(DAMAGED)
    return Size(height, width)


def _is_lossless(frame: bytes) -> bool:
    return any(chunk.kind == _LOSSLESS for chunk in chunks(frame, 0))


def _stripped(parts: _Parts) -> bytes:
    """Return a file of the pixels alone."""
    packed = {chunk.kind: pack_chunk(chunk.kind, chunk.body) for chunk in reversed(parts.coded)}
    frames = [chunk for chunk in parts.coded if chunk.kind == _FRAME]
    if frames:
        size = _canvas(parts)
        animation = packed.get(_ANIMATION, pack_chunk(_ANIMATION, bytes(6)))
        return pack_riff(b"WEBP", webp_header(size, 0x12), animation, *(pack_chunk(_FRAME, f.body) for f in frames))
    pixels = packed[_LOSSLESS] if _LOSSLESS in packed else packed[_LOSSY]
    if _ALPHA not in packed or _LOSSLESS in packed:
        return pack_riff(b"WEBP", pixels)
    return pack_riff(b"WEBP", webp_header(_coded_size(parts.coded), 0x10), packed[_ALPHA], pixels)
