"""Read the frames of an animated PNG file and draw them over each other (https://www.w3.org/TR/png-3/#apng-frame-based)."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import DTypeLike

from gsrcli.images.content import Part
from gsrcli.images.ledger import Entry, Fate
from gsrcli.images.picture import Pixels, from_unit, to_unit, white
from gsrcli.images.readers.png.chunks import Chunk
from gsrcli.images.readers.source import shown_for
from gsrcli.size import Size

__all__ = ["Animation", "Canvas", "Stored"]

_KEEP, _CLEAR, _RESTORE = 0, 1, 2  # what becomes of a frame's place before the next frame is drawn
_REPLACE, _OVER = 0, 1  # how a frame is drawn


@dataclass(eq=False)
class Stored:
    """Compressed pixels: of the picture, or of a frame and its place in the animation.

    Attributes:
        size: its size.
        left: its first column.
        top: its first row.
        duration: how long it is shown, in seconds; None for a picture that is no frame.
        disposal: what becomes of its place before the next frame is drawn.
        blending: how it is drawn.
        parts: the bodies of its chunks.
        sound: whether their checksums are right.
    """

    size: Size
    left: int = 0
    top: int = 0
    duration: float | None = None
    disposal: int = _KEEP
    blending: int = _REPLACE
    parts: list[Part] = field(default_factory=list)
    sound: bool = True

    @property
    def place(self) -> tuple[slice, slice]:
        """The part of the animation that it covers, as an index of arrays."""
        return slice(self.top, self.top + self.size.height), slice(self.left, self.left + self.size.width)

    def add(self, part: Part, sound: bool) -> None:
        """Add the body of a chunk."""
        self.parts.append(part)
        self.sound = self.sound and sound


class Animation:
    """The frames that the chunks of a PNG file describe.

    Args:
        default: the picture in the IDAT chunks, which is the first frame if a frame is announced before it.

    Attributes:
        frames: the frames; empty if there is no animation.
        loops: how often it is shown; 0 for ever.
    """

    def __init__(self, default: Stored) -> None:
        self.frames: list[Stored] = []
        self.loops = 0
        self._default = default
        self._claimed: int | None = None
        self._damaged = False
        self._sequence = 0

    def read(self, chunk: Chunk) -> None:
        """Take in an acTL, fcTL or fdAT chunk."""
        if chunk.name != "acTL":
            self._damaged |= bytes(chunk.body.cut(0, 4)) != struct.pack(">I", self._sequence)
            self._sequence += 1
        try:
            if chunk.name == "fdAT":
                self._read_pixels(chunk)
            elif not chunk.sound:
                raise ValueError("it is cut short, or its checksum is wrong")
            elif chunk.name == "fcTL":
                self._read_frame(chunk)
            elif self._default.parts:
                raise ValueError("it follows the pixels")
            else:
                self._claimed, self.loops = struct.unpack(">II", bytes(chunk.body))
        except (ValueError, struct.error):
            self._damaged = True

    def finish(self) -> list[Entry]:
        """Drop what is no frame, and return what was damaged or lost."""
        found = len(self.frames)
        self.frames = [frame for frame in self.frames if frame.parts and self._claimed]
        entries = []
        if self._damaged or len(self.frames) < found or len(self.frames) != (self._claimed or 0):
            left = {0: "no frame is", 1: "1 frame is"}.get(len(self.frames), f"{len(self.frames)} frames are")
            entries.append(Entry("animation", Fate.DAMAGED, f"of which {left} left"))
        if self.frames and self._default not in self.frames:
            entries.append(Entry("picture that is not part of the animation", Fate.LOST))
        return entries

    def _read_frame(self, chunk: Chunk) -> None:
        _, width, height, left, top, delay, unit, disposal, blending = struct.unpack(">5I2H2B", bytes(chunk.body))
        whole, size = self._default.size, Size(height, width)
        fits = 0 < width <= whole.width - left and 0 < height <= whole.height - top
        first = not self._default.parts
        if not fits or disposal > _RESTORE or blending > _OVER or (first and (size != whole or self.frames)):
            raise ValueError("impossible frame")
        frame = self._default if first else Stored(size, left, top)
        frame.duration, frame.disposal, frame.blending = shown_for(delay / (unit or 100)), disposal, blending
        self.frames.append(frame)

    def _read_pixels(self, chunk: Chunk) -> None:
        if not self.frames or self.frames[-1] is self._default:
            raise ValueError("pixels of no frame")
        self.frames[-1].add(chunk.body.cut(4), chunk.sound)  # after its sequence number


class Canvas:
    """What an animation shows: frames drawn over each other.

    Args:
        size: size of the animation.
        channels: number of colour channels of its frames.
        dtype: type of its pixels.
        transparent: whether parts of it may be transparent.

    Attributes:
        pixels: ``(H, W, C)``.
        alpha: ``(H, W)``, or None.
    """

    def __init__(self, size: Size, channels: int, dtype: DTypeLike, *, transparent: bool) -> None:
        self.pixels: Pixels = np.zeros((*size, channels), dtype)
        self.alpha: Pixels | None = np.zeros(size, dtype) if transparent else None
        self._last: Stored | None = None
        self._under: tuple[Pixels, Pixels | None] | None = None

    @staticmethod
    def may_be_transparent(frames: list[Stored], size: Size) -> bool:
        """Return whether frames without transparency leave parts of an animation empty."""
        return frames[0].size != size or any(
            frame.disposal == _CLEAR or (frame.disposal == _RESTORE and frame is frames[0]) for frame in frames[:-1]
        )

    def draw(self, frame: Stored, pixels: Pixels | None, alpha: Pixels | None) -> None:
        """Draw a frame, after the place of the last one was cleared or restored; without pixels, nothing but that."""
        self._dispose()
        place = frame.place
        self._last = frame
        self._under = None
        if frame.disposal == _RESTORE:
            self._under = self.pixels[place].copy(), None if self.alpha is None else self.alpha[place].copy()
        if pixels is None:
            return
        if self.alpha is not None and alpha is not None and frame.blending == _OVER:
            pixels, alpha = _over(pixels, alpha, self.pixels[place], self.alpha[place])
        self.pixels[place] = pixels
        if self.alpha is not None:
            self.alpha[place] = white(self.alpha.dtype) if alpha is None else alpha

    def _dispose(self) -> None:
        if self._last is None or self._last.disposal == _KEEP:
            return
        pixels, alpha = self._under or (None, None)
        place = self._last.place
        self.pixels[place] = 0 if pixels is None else pixels
        if self.alpha is not None:
            self.alpha[place] = 0 if alpha is None else alpha


def _over(pixels: Pixels, alpha: Pixels, under: Pixels, under_alpha: Pixels) -> tuple[Pixels, Pixels]:
    """Return straight pixels and alpha of a picture laid over another (Porter and Duff's "over")."""
    top, below = to_unit(alpha)[..., None], to_unit(under_alpha)[..., None]
    below = below * (1 - top)
    total = top + below
    mixed = (to_unit(pixels) * top + to_unit(under) * below) / np.where(total > 0, total, 1)
    return from_unit(mixed, pixels.dtype), from_unit(total[..., 0], alpha.dtype)
