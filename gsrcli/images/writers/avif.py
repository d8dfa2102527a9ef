"""Encode AVIF files: 8 bits with Pillow; 10 bits, and without loss, with OpenCV. Both use libavif."""

from __future__ import annotations

import io
import struct
from collections.abc import Iterable
from typing import BinaryIO

import numpy as np
from PIL import Image

from gsrcli.errors import PictureError
from gsrcli.images.isobmff import Box, Item, boxes, children, find_box, pack_heif, parse_heif
from gsrcli.images.opencv import load_cv2, opencv_has_avif, quiet_opencv
from gsrcli.images.picture import Picture, Pixels
from gsrcli.images.strips import Strips, in_memory
from gsrcli.images.writers.encoding import Encoding
from gsrcli.images.writers.frames import like_first
from gsrcli.images.writers.heif import code_points, described, to_ten_bits
from gsrcli.images.writers.pillow import encoded, metadata_options, pillow_image, with_resolution_in_exif

__all__ = ["encode_avif", "encode_avif_animation"]

_LOSSLESS = 100
_SPEED = 8  # of 10: half the time of the default, 6, and files a sixth larger


def encode_avif(file: BinaryIO, strips: Strips, encoding: Encoding) -> None:
    """Write a picture as an AVIF file of 8 or 10 bits, with its colour tags, EXIF and XMP.

    Colour has its full resolution in 8 bits and without loss; in 10 bits, OpenCV halves it.

    Raises:
        GsrError: OpenCV is needed and cannot be loaded.
    """
    picture = in_memory(strips)
    lossless = encoding.without_loss(picture, "AVIF")
    quality = _LOSSLESS if lossless else encoding.quality_in("AVIF")
    colours = picture.pixels[..., 0] if picture.grey else picture.pixels
    alpha = None if picture.alpha is None else _coded(picture.alpha, quality, lossless)
    heif = described(_coded(colours, quality, lossless), alpha, picture.colour, picture.metadata)
    file.write(pack_heif(heif, b"avif", b"mif1", b"miaf"))


def encode_avif_animation(file: BinaryIO, frames: Iterable[Strips], loops: int, encoding: Encoding) -> None:
    """Write the frames of an animation as an AVIF file of 8 bits, with the first one's colour tags, EXIF and XMP.

    Args:
        file: where to write.
        frames: pictures of one size with their durations; each is asked for when the one before it is encoded.
        loops: how often the animation is shown; 0 for ever.
        encoding: how to encode.

    Raises:
        PictureError: it is to be lossless, or a frame has more channels than the first one, or another size or colour
            tags.
    """
    if encoding.lossless:
        raise PictureError("AVIF animations cannot be written without loss", hint="write a .webp or .png file")
    images = _Frames(map(in_memory, frames))
    first = images.first
    options = metadata_options(with_resolution_in_exif(first))
    written = io.BytesIO()
    images.save(
        written,
        "AVIF",
        save_all=True,
        duration=images.durations,
        quality=encoding.quality_in("AVIF"),
        subsampling="4:0:0" if first.grey else "4:4:4",
        speed=_SPEED,
        **options,
    )
    data = bytearray(written.getvalue())
    if first.colour.cicp:
        _put_code_points(data, Box(b"", 0, len(data)), code_points(first.colour))
    if loops:
        _put_loops(data, loops)
    file.write(data)


class _Frames(Image.Image):
    """An animation as Pillow asks for it, frame by frame, made from pictures as they come."""

    is_animated = True

    def __init__(self, pictures: Iterable[Picture]) -> None:
        super().__init__()
        self._pictures, self._at = iter(pictures), 0
        self.durations: list[int] = []
        first = next(self._pictures, None)
        if first is None:
            raise PictureError("an animation needs at least one frame")
        self.first = first
        self._show(first)

    def _show(self, picture: Picture) -> None:
        image = pillow_image(like_first(self.first, picture, len(self.durations) + 1))
        # Pillow looks for colour in all frames before it asks for the first one to encode, until it finds some.
        image = image.convert("RGB" if self.first.alpha is None else "RGBA")
        self.im, self._mode, self._size = image.im, image.mode, image.size
        self.durations.append(round(1000 * (picture.duration or 0)))

    def seek(self, frame: int) -> None:
        if frame == self._at + 1:
            try:
                self._show(next(self._pictures))
            except StopIteration:
                raise EOFError from None
            self._at = frame

    def tell(self) -> int:
        return self._at


def _put_code_points(data: bytearray, parent: Box, points: bytes) -> None:
    """Set primaries and transfer in all nclx boxes."""
    inside = {b"meta", b"iprp", b"ipco", b"moov", b"trak", b"mdia", b"minf", b"stbl", b"stsd", b"av01"}
    for box in boxes(data, children(parent), parent.stop):
        if box.kind == b"colr" and data[box.start : box.start + 4] == b"nclx":
            data[box.start + 4 : box.start + 8] = points
        elif box.kind in inside:
            _put_code_points(data, box, points)


def _put_loops(data: bytearray, loops: int) -> None:
    """Set how often a sequence is shown: the durations of its tracks become that many times the duration of an edit."""
    movie = find_box(data, b"moov")
    edit = find_box(data, b"moov", b"trak", b"edts", b"elst")
    assert movie is not None
    assert edit is not None
    (once,) = struct.unpack_from(">Q", data, edit.start + 8)
    whole = struct.pack(">Q", loops * once)
    for box in boxes(data, movie.start, movie.stop):
        if box.kind == b"mvhd":
            data[box.start + 24 : box.start + 32] = whole
        elif box.kind == b"trak":
            header = next(boxes(data, box.start, box.stop))
            data[header.start + 28 : header.start + 36] = whole


def _coded(values: Pixels, quality: int, lossless: bool) -> Item:
    """Return ``(H, W)`` or ``(H, W, 3)`` as a coded picture."""
    if values.dtype == np.uint8 and not lossless:
        image = Image.fromarray(values)
        subsampling = "4:0:0" if values.ndim == 2 else "4:4:4"
        file = encoded(image, "AVIF", quality=quality, subsampling=subsampling, speed=_SPEED)
    else:
        file = _encoded_with_opencv(values, quality)
    heif = parse_heif(file)
    return heif.items[heif.primary]


def _encoded_with_opencv(values: Pixels, quality: int) -> bytes:
    """Encode 8 bits as they are, or 16 bits as 10; quality 100 is lossless."""
    cv2 = load_cv2()
    bits = 8
    if values.dtype == np.uint16:
        bits, values = 10, to_ten_bits(values)  # 12 are read by few programs
    if values.ndim == 3:
        values = np.ascontiguousarray(values[..., ::-1])
    options = [cv2.IMWRITE_AVIF_DEPTH, bits, cv2.IMWRITE_AVIF_QUALITY, quality, cv2.IMWRITE_AVIF_SPEED, _SPEED]
    if not opencv_has_avif():
        raise PictureError("this OpenCV writes no AVIF", hint="pip install --upgrade opencv-python-headless")
    try:
        with quiet_opencv():
            _, data = cv2.imencode(".avif", values, options)
    except cv2.error as error:
        raise PictureError(f"OpenCV cannot encode it: {error.err}") from error
    file: bytes = data.tobytes()
    return file
