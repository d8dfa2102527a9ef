"""Read GIF files: frames are decoded one by one and drawn over each other as browsers do."""

from __future__ import annotations

import io
import struct
from contextlib import suppress
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile

from gsrcli.errors import PictureError
from gsrcli.images.colour import Colour
from gsrcli.images.gif import GifFrame, parse_gif
from gsrcli.images.ledger import PIXELS, Entry, Fate
from gsrcli.images.metadata import COMMENT, Text, decoded_text
from gsrcli.images.picture import Origin, Picture
from gsrcli.images.readers.metadata import checked_metadata, checked_profile
from gsrcli.images.readers.source import DAMAGED, LEAST_PART, Limits, Source, appended, shown_for
from gsrcli.size import Size

__all__ = ["GifSource"]

_CLEAR, _RESTORE = 2, 3
_MAX_COMMENTS = 100


class GifSource(Source):
    """A GIF file."""

    format = "GIF"

    def __init__(self, data: bytes, limits: Limits) -> None:
        self._gif = parse_gif(data)
        self._appended = appended(data[self._gif.end :])
        frames = self._gif.frames
        if not self._gif.size.area:
            self._gif.size = frames[0].size  # as browsers do
        self.size = self._gif.size
        if not self.size.area:
            raise PictureError(DAMAGED)
        limits.check_compressed(self.size, len(data))
        for frame in frames:
            limits.check_compressed(frame.size, len(data))
        self.count, self.animated = len(frames), len(frames) > 1
        if self.animated:
            repeats = self._gif.loops
            self.loops = 1 if repeats is None else 0 if repeats == 0 else repeats + 1
        self._grey = all(_is_grey(palette) for palette in {frame.palette for frame in frames})
        self._transparent = any(frame.transparent is not None for frame in frames) or not _covers(frames[0], self.size)
        self._transparent = self._transparent or (self.animated and any(f.disposal == _CLEAR for f in frames))
        self._restart()

    def _restart(self) -> None:
        self._canvas = np.zeros(self.size, np.uint32)  # red, green, blue and alpha in a word; transparent
        self._below = self._canvas  # what is there when the next frame is drawn
        self._drawn = 0
        self._damaged: set[int] = set()  # frames whose pixels end early

    def picture(self, index: int = 0) -> Picture:
        if index < self._drawn - 1:
            self._restart()
        while self._drawn <= index:
            self._draw(self._gif.frames[self._drawn])
            self._drawn += 1
        gif, frame = self._gif, self._gif.frames[index]
        icc, of_profile = checked_profile(gif.icc)
        metadata, of_metadata = checked_metadata(None, gif.xmp)
        comments = tuple(Text(COMMENT, decoded_text(comment)) for comment in gif.comments[:_MAX_COMMENTS])
        lost = [Entry(name, Fate.LOST) for name in gif.others]
        if len(gif.comments) > _MAX_COMMENTS:
            lost.append(Entry(f"{len(gif.comments) - _MAX_COMMENTS} comments", Fate.LOST))
        of_end = [Entry("end of the file", Fate.DAMAGED)] if gif.cut else []
        if index in self._damaged:
            where = "in places" if frame.interlaced else "in the lower part"
            of_end.insert(0, Entry(PIXELS, Fate.DAMAGED, where))
        canvas = self._canvas.view(np.uint8).reshape(*self.size, 4)
        return Picture(
            pixels=canvas[..., : 1 if self._grey else 3].copy(),
            alpha=canvas[..., 3].copy() if self._transparent else None,
            colour=Colour(icc=icc),
            metadata=replace(metadata, texts=comments, aspect=gif.aspect),
            ledger=(*of_profile, *of_metadata, *lost, *of_end, *self._appended),
            origin=Origin(self.format),
            duration=shown_for(frame.delay / 100) if self.animated else None,
        )

    def _draw(self, frame: GifFrame) -> None:
        """Draw a frame over what the one before it left."""
        last = self._drawn == self.count - 1
        self._canvas = self._below if last or not self._drawn else self._below.copy()
        rows = slice(frame.top, min(frame.top + frame.size.height, self.size.height))
        columns = slice(frame.left, min(frame.left + frame.size.width, self.size.width))
        area = self._canvas[rows, columns]
        if frame.size.area and area.size:
            indices, whole = _indices(frame)
            indices = indices[: area.shape[0], : area.shape[1]]
            if not whole:
                self._damaged.add(self._drawn)
            visible = True if frame.transparent is None else indices != frame.transparent
            np.copyto(area, _words(frame.palette)[indices], where=visible)
        if last:
            return
        if frame.disposal == _CLEAR:
            self._below = self._canvas.copy()
            self._below[rows, columns] = 0
        elif frame.disposal != _RESTORE:
            self._below = self._canvas


def _indices(frame: GifFrame) -> tuple[NDArray[np.uint8], bool]:
    """Return the palette indices of a frame, ``(H, W)``, decoded as the only one of a file, and whether all are there.

    Raises:
        PictureError: nearly none are.
    """
    height, width = frame.size
    palette = _ramp().tobytes()  # with which Pillow's grey values are indices
    head = b"GIF89a" + struct.pack("<HHBBB", width, height, 0xF7, 0, 0) + palette
    head += b"\x2c" + struct.pack("<HHHHB", 0, 0, width, height, 0x40 * frame.interlaced)
    image = Image.open(io.BytesIO(head + frame.pixels + b"\x3b"), formats=("GIF",))
    try:
        image.load()
    except OSError:
        return _first_indices(head, frame), False
    return np.asarray(image), True


def _first_indices(head: bytes, frame: GifFrame) -> NDArray[np.uint8]:
    """Return the indices of a frame whose pixels end early; those that are missing are 0.

    Raises:
        PictureError: nearly all of them are missing.
    """
    over_black, over_white = (_decoded_over(fill, head, frame) for fill in (0, 255))
    there = (over_black == over_white).all(axis=1)
    if np.count_nonzero(there) < frame.size.height / LEAST_PART:
        raise PictureError(DAMAGED)
    return over_black


def _decoded_over(fill: int, head: bytes, frame: GifFrame) -> NDArray[np.uint8]:
    """Return the indices of a frame, and a value where they are missing."""
    parser = ImageFile.Parser()
    parser.feed(head + frame.pixels[:1])
    image = parser.image
    if image is None:
        raise PictureError(DAMAGED)
    image.im.paste(fill, (0, 0, *image.size))  # in place, where the parser goes on
    with suppress(OSError):
        parser.feed(frame.pixels[1:])
    return np.asarray(image)


def _words(palette: bytes) -> NDArray[np.uint32]:
    """Return the 256 opaque colours of a palette as words; those that it lacks are black, and a grey ramp for none."""
    colours = np.zeros((256, 4), np.uint8)
    found = np.frombuffer(palette, np.uint8).reshape(-1, 3) if palette else _ramp()
    colours[: len(found), :3], colours[:, 3] = found, 255
    return colours.view(np.uint32)[:, 0]


def _ramp() -> NDArray[np.uint8]:
    return np.repeat(np.arange(256, dtype=np.uint8)[:, None], 3, axis=1)


def _is_grey(palette: bytes) -> bool:
    return palette[::3] == palette[1::3] == palette[2::3]


def _covers(frame: GifFrame, size: Size) -> bool:
    return not frame.left and not frame.top and frame.size.height >= size.height and frame.size.width >= size.width
