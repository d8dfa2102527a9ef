"""Read PNG files and animations (https://www.w3.org/TR/png-3/).

The chunks are walked through here, and Pillow decodes nothing but the compressed pixels: whatever is wrong with the
metadata, or appended to the file, cannot keep a picture from being read.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from gsrcli.errors import PictureError
from gsrcli.images.content import Content
from gsrcli.images.description import Origin, Raster
from gsrcli.images.ledger import PIXELS, Entry, Fate
from gsrcli.images.picture import Picture
from gsrcli.images.readers.orientation import UPRIGHT_ROWS, upright
from gsrcli.images.readers.png.ancillary import Ancillary
from gsrcli.images.readers.png.animation import Animation, Canvas, Stored
from gsrcli.images.readers.png.chunks import Chunk, chunks_of
from gsrcli.images.readers.png.pixels import Header, check_capacity, check_proportion, decode, decode_strips, examined
from gsrcli.images.readers.source import DAMAGED, Decoded, Limits, Source, Survey, large, streamed
from gsrcli.images.strips import Strips
from gsrcli.size import Size

__all__ = ["PngSource"]

_APPLE = "CgBI"
_MAX_PALETTE_BYTES = 3 * 256


class PngSource(Source):
    """A PNG file."""

    format = "PNG"
    by_parts = True

    def __init__(self, data: Content, limits: Limits) -> None:
        chunks, self._ledger = chunks_of(data)
        self._header, chunks = _header(chunks)
        size = self._header.size
        limits.check(size)
        self._palette: bytes | None = None
        self._transparency: bytes | None = None
        self._default = Stored(size)
        self._ancillary = Ancillary()
        animation = Animation(self._default)
        for chunk in chunks:
            self._read(chunk, animation)
        self._ancillary.finish(transparent=self._transparent)
        stream_bytes = sum(map(len, self._default.parts))
        check_capacity(self._header, size, stream_bytes)
        if limits.max_pixels is not None:
            check_proportion(self._header, size, stream_bytes)
        if self._header.palette and not self._palette:
            raise PictureError(f"{DAMAGED}: its palette is missing")
        self._colour, entries = self._ancillary.colour(grey=self._header.grey)
        self._ledger += [*self._ancillary.ledger, *entries, *animation.finish()]
        self._frames = animation.frames
        self.size = size.transposed if self._ancillary.orientation > 4 else size
        self.count = len(self._frames) or 1
        self.animated = self.count > 1
        self.loops = animation.loops if self.animated else None
        self._drawn = 0  # number of frames on the canvas
        self._flaws: dict[int, list[Entry]] = {}

    def picture(self, index: int = 0) -> Picture:
        decoded = self._frame(index) if self._frames else self._decoded(self._default)
        orientation, alpha = self._ancillary.orientation, decoded.alpha
        return Picture(
            pixels=upright(decoded.pixels, orientation),
            alpha=None if alpha is None else upright(alpha, orientation),
            **self._described(index, decoded.entries),
        )

    def strips(self, index: int = 0) -> Strips:
        header, orientation = self._header, self._ancillary.orientation
        raster = Raster(header.size, header.colours, header.dtype, self._transparent)
        if not large(raster) or self._frames or header.interlaced or orientation not in UPRIGHT_ROWS:
            return super().strips(index)
        try:
            survey = self._survey()
        except PictureError:  # so damaged that nothing is left
            return super().strips(index)
        if survey.damaged:
            return super().strips(index)
        return streamed(raster, self._upright_strips, survey, self._described(index, survey.entries))

    @property
    def _transparent(self) -> bool:
        """Whether pixels have alpha."""
        return self._header.alpha or self._transparency is not None

    def _survey(self) -> Survey:
        """Look at all that tells whether the picture is sound and opaque.

        Raises:
            PictureError: too little of it is sound.
        """
        header = self._header
        _, flaws = examined(header, header.size, self._default.parts, sound=self._default.sound)
        survey = Survey(flaws)
        lacks_colours = header.palette and len(self._palette or b"") < 3 << header.bits
        if not survey.damaged and (self._transparent or lacks_colours):
            for decoded in self._upright_strips():
                survey.add(decoded)
                if survey.alpha_known and not lacks_colours:
                    break
        return survey

    def _upright_strips(self) -> Iterator[Decoded]:
        """Decode the picture by strips."""
        parts, orientation = self._default.parts, self._ancillary.orientation
        for decoded in decode_strips(self._header, self._header.size, parts, self._palette, self._transparency):
            alpha = None if decoded.alpha is None else upright(decoded.alpha, orientation)
            yield replace(decoded, pixels=upright(decoded.pixels, orientation), alpha=alpha)

    def _described(self, index: int, found: list[Entry]) -> dict[str, Any]:
        """Return what is known of a picture besides its pixels, given what was found in them."""
        metadata, of_turning = self._ancillary.metadata()
        ledger = [*(self._ledger if index == 0 else ()), *found, *of_turning]
        return {
            "colour": self._colour,
            "metadata": metadata,
            "ledger": tuple(dict.fromkeys(ledger)),
            "origin": Origin(self.format),
            "duration": self._frames[index].duration if self.animated else None,
        }

    def _read(self, chunk: Chunk, animation: Animation) -> None:
        """Take in a chunk after the header."""
        match chunk.name:
            case "PLTE" if self._header.palette and self._palette is None:
                self._palette = bytes(chunk.body.cut(0, _MAX_PALETTE_BYTES))
                if not chunk.sound or len(chunk.body) % 3 or len(chunk.body) > _MAX_PALETTE_BYTES:
                    self._ledger.append(Entry(PIXELS, Fate.DAMAGED, "(the palette is damaged)"))
            case "tRNS" if self._transparency is None:
                if chunk.sound and self._header.takes_transparency(len(chunk.body)):
                    self._transparency = bytes(chunk.body)
                else:
                    self._ledger.append(Entry("tRNS chunk", Fate.DAMAGED))
            case "IDAT":
                self._default.add(chunk.body, chunk.sound)
            case "acTL" | "fcTL" | "fdAT":
                animation.read(chunk)
            case "IEND":
                pass
            case name if chunk.critical and chunk.sound and name not in ("IHDR", "PLTE"):
                raise PictureError(f"it needs a decoder that knows {name} chunks, which are not supported")
            case _:
                self._ancillary.read(chunk)

    def _decoded(self, stored: Stored) -> Decoded:
        """Decode the picture or a frame, as it is stored."""
        header, sound = self._header, stored.sound
        return decode(header, stored.size, stored.parts, self._palette, self._transparency, sound=sound)

    def _frame(self, index: int) -> Decoded:
        """Draw a frame of the animation over those before it."""
        if index < self._drawn - 1 or not self._drawn:
            self._canvas = Canvas(
                self._header.size,
                self._header.colours,
                self._header.dtype,
                transparent=self._transparent or Canvas.may_be_transparent(self._frames, self._header.size),
            )
            self._drawn = 0
        for number in range(self._drawn, index + 1):
            self._flaws[number] = self._draw(number)
        self._drawn = index + 1
        alpha = self._canvas.alpha
        return Decoded(self._canvas.pixels.copy(), None if alpha is None else alpha.copy(), self._flaws[index])

    def _draw(self, number: int) -> list[Entry]:
        """Draw a frame on the canvas, and return what is wrong with it. One that is too damaged is left out."""
        frame = self._frames[number]
        try:
            decoded = self._decoded(frame)
        except PictureError:
            if number == 0:
                raise
            self._canvas.draw(frame, None, None)
            return [Entry(f"frame {number + 1}", Fate.DAMAGED, "which is left out")]
        self._canvas.draw(frame, decoded.pixels, decoded.alpha)
        return [Entry(f"{entry.what} of frame {number + 1}", entry.fate, entry.detail) for entry in decoded.entries]


def _header(chunks: list[Chunk]) -> tuple[Header, list[Chunk]]:
    """Return the header, and the chunks after it.

    Raises:
        PictureError: there is none, or it is damaged.
    """
    apple = bool(chunks) and chunks[0].name == _APPLE
    head, rest = chunks[apple : apple + 1], chunks[apple + 1 :]
    if not head or head[0].name != "IHDR" or not head[0].sound:
        raise PictureError(DAMAGED)
    try:
        width, height, bits, kind, *methods, interlacing = struct.unpack(">II5B", bytes(head[0].body))
        header = Header(Size(height, width), bits, kind, bool(interlacing), apple)
    except (ValueError, struct.error):
        raise PictureError(DAMAGED) from None
    if any(methods) or interlacing > 1:
        raise PictureError("it needs a decoder that knows other ways of compression, which are not supported")
    return header, rest
