"""Read JPEG files."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import suppress

import numpy as np
import simplejpeg
from PIL import Image

from gsrcli.errors import LimitError, PictureError
from gsrcli.images.cmyk import cmyk_to_srgb
from gsrcli.images.colour import Colour
from gsrcli.images.ledger import PIXELS, Entry, Fate
from gsrcli.images.picture import Origin, Picture, Pixels
from gsrcli.images.readers.jpeg.markers import ADOBE, Codestream, Frame, Scan, read_codestream
from gsrcli.images.readers.jpeg.metadata import estimated_quality, read_said
from gsrcli.images.readers.orientation import stated_orientation, upright, upright_metadata
from gsrcli.images.readers.source import DAMAGED, LEAST_PART, Limits, Source

__all__ = ["JpegSource"]

_KINDS = {
    **dict.fromkeys((0xC3, 0xCB), "lossless JPEG"),
    **dict.fromkeys((0xC5, 0xC6, 0xC7, 0xCD, 0xCE, 0xCF, 0xDE), "hierarchical JPEG"),
    0xF7: "JPEG-LS",
}
_REWRITE = "if you trust the file, rewrite it first: jpegtran -copy all FILE"
_CONVERT = "convert it to PNG or TIFF with the program that made it"

_CMYK_BYTES, _PILLOW_BYTES = 14, 20  # per pixel, with all copies
_ARITHMETIC = 200
_LEAST_BYTES, _BYTES_PER_BYTE = 1 << 29, 800
_LEAST_VISITS, _VISITS_PER_BYTE = 500_000_000, 500
_MOST_SIDE = 65500  # of libjpeg; the file format allows 65535
_BLOCK = 8  # pixels
_JUNK = bytes((0x5A, 0xC3, 0x96, 0x3C) * 64)  # neither zeros nor markers


class JpegSource(Source):
    """A JPEG file. Photos may be followed by previews, depth or gain maps, as phones write them: it is one picture."""

    format = "JPEG"

    def __init__(self, data: bytes, limits: Limits) -> None:
        self._stream = read_codestream(data)
        if self._stream.frame is None:
            raise PictureError(DAMAGED)
        self._frame = self._stream.frame
        _check_kind(self._frame)
        limits.check(self._frame.size)
        self._said = read_said(data, self._stream, self._frame)
        self._orientation = stated_orientation(self._said.metadata.exif, self._said.metadata.xmp)
        _check_claims(self._stream, self._frame, len(data), copies=1 if self._orientation == 1 else 2)
        self.size = self._frame.size.transposed if self._orientation > 4 else self._frame.size

    def picture(self, index: int = 0) -> Picture:
        said = self._said
        stored, damage = _decoded(self._stream, self._frame)
        pixels, converted = self._in_rgb(stored) if len(self._frame.components) == 4 else (stored, ())
        metadata, of_turning = upright_metadata(said.metadata, self._orientation)
        return Picture(
            pixels=upright(pixels, self._orientation),
            colour=Colour(icc=None if converted else said.icc),
            metadata=metadata,
            ledger=(*converted, *damage, *said.ledger, *of_turning),
            origin=Origin(self.format, lossless=False, quality=estimated_quality(self._stream, self._frame)),
        )

    def _in_rgb(self, inks: Pixels) -> tuple[Pixels, tuple[Entry, ...]]:
        """Convert cyan, magenta, yellow and black. With an Adobe marker, they are stored as what is left of white."""
        if self._stream.find(0xEE, ADOBE):
            np.subtract(255, inks, out=inks)
        pixels, entry = cmyk_to_srgb(inks, self._said.icc)
        return pixels, (entry,)


def _check_kind(frame: Frame) -> None:
    """Check that the frame is of a kind that can be decoded, and makes sense."""
    if frame.marker in _KINDS:
        raise PictureError(f"{_KINDS[frame.marker]} is not supported", hint=_CONVERT)
    if frame.precision != 8:
        raise PictureError(f"JPEG of {frame.precision} bits per channel is not supported", hint=_CONVERT)
    if len(frame.components) not in (1, 3, 4):
        raise PictureError(f"JPEG of {len(frame.components)} components is not supported", hint=_CONVERT)
    if max(frame.size) > _MOST_SIDE:
        raise PictureError(f"JPEG of more than {_MOST_SIDE} pixels per side is not supported", hint=_CONVERT)
    if 0 in frame.size or not all(1 <= f <= 4 for c in frame.components for f in (c.horizontal, c.vertical)):
        raise PictureError(DAMAGED)


def _check_claims(stream: Codestream, frame: Frame, length: int, copies: int) -> None:
    """Check that the data can hold the size that the frame claims, and are not made to be endless work.

    A block takes at least a bit for its first coefficient and another for the end of the block, which progressive
    files leave out; arithmetic coding spends less than any number of bits on it.

    Args:
        stream: the picture.
        frame: its frame.
        length: bytes of the file.
        copies: how many copies of the pixels there are at a time.

    Raises:
        LimitError: decoding would take memory or time out of proportion to the file.
        PictureError: most of the picture is missing.
    """
    blocks = {component.identifier: frame.blocks(component) for component in frame.components}
    total = sum(frame.blocks(component) for component in frame.components)
    bits = 0 if frame.arithmetic else 1 if frame.progressive else 2
    if not stream.scans:
        raise PictureError(DAMAGED)
    if total * bits > 8 * sum(scan.size for scan in stream.scans):
        raise PictureError(f"it claims {frame.size} pixels, for which {length} bytes are too few: {DAMAGED}")

    channels = len(frame.components)
    per_pixel = _PILLOW_BYTES if not _turbo_can(stream) else _CMYK_BYTES if channels == 4 else copies * channels
    memory = frame.size.area * per_pixel
    if frame.progressive or len(stream.scans) > 1 or len(stream.scans[0].components) < channels:
        memory += 128 * total  # the coefficients of all
    if memory > max(_LEAST_BYTES, _BYTES_PER_BYTE * length):
        taken = f"{memory / 1e6:.0f} MB of memory"
        raise LimitError(f"{length} bytes claim {frame.size} pixels, which would take {taken}", hint=_CONVERT)

    visits = sum(_visits(frame, scan) * sum(blocks.get(name, 0) for name in scan.components) for scan in stream.scans)
    if visits > max(_LEAST_VISITS, _VISITS_PER_BYTE * length):
        scans = "a scan" if len(stream.scans) == 1 else f"{len(stream.scans)} scans"
        raise LimitError(
            f"{length} bytes claim {frame.size} pixels in {scans}, which would take too long to decode", hint=_REWRITE
        )


def _visits(frame: Frame, scan: Scan) -> int:
    """Return the work of a scan for each block, as the number of coefficients that would take as long to refine."""
    refined = max(scan.last - scan.first + 1, 0) if scan.high else 0
    return 8 + _ARITHMETIC * frame.arithmetic + refined


def _decoded(stream: Codestream, frame: Frame) -> tuple[Pixels, tuple[Entry, ...]]:
    """Return the picture, (H, W, 1, 3 or 4), as stored, and what of it is damaged.

    Raises:
        PictureError: nearly nothing of it can be decoded.
    """
    pixels, sound = _decoded_by_turbo(stream, frame) if _turbo_can(stream) else _decoded_by_pillow(stream, frame)
    if pixels.shape[:2] != frame.size:
        raise PictureError(DAMAGED)
    if sound and stream.sound:
        missing = "(fine detail is missing)" if frame.progressive else "(scans are missing)"
        return pixels, () if _finished(stream, frame) else (Entry(PIXELS, Fate.DAMAGED, missing),)
    flat = _flat_rows(pixels)
    if frame.size.height - flat < frame.size.height / LEAST_PART:
        raise PictureError(DAMAGED)
    where = "in the lower part" if flat >= _BLOCK else "in places"
    return pixels, (Entry(PIXELS, Fate.DAMAGED, where),)


def _flat_rows(pixels: Pixels) -> int:
    """Return the number of rows, from the last upwards, that are the same: libjpeg fills what is missing with grey."""
    for count, row in enumerate(pixels[::-1]):
        if not np.array_equal(row, pixels[-1]):
            return count
    return len(pixels)


def _turbo_can(stream: Codestream) -> bool:
    """Return whether TurboJPEG knows the sampling of colour."""
    try:
        simplejpeg.decode_jpeg_header(stream.decodable, strict=False)
    except (KeyError, ValueError):  # KeyError: of a sampling that simplejpeg has no name for
        return False
    return True


def _decoded_by_turbo(stream: Codestream, frame: Frame) -> tuple[Pixels, bool]:
    space = {1: "GRAY", 3: "RGB", 4: "CMYK"}[len(frame.components)]
    for data in _with_and_without_filling(stream.decodable):
        with suppress(ValueError):
            return simplejpeg.decode_jpeg(data, space), True
    # What the decoder does not reach would otherwise show whatever was in memory before.
    grey = np.full((*frame.size, len(frame.components)), 128, np.uint8)
    try:
        return simplejpeg.decode_jpeg(stream.decodable, space, strict=False, buffer=grey), False
    except ValueError:
        raise PictureError(DAMAGED) from None


def _with_and_without_filling(data: bytes) -> Iterator[bytes]:
    """Yield a picture, and, if there are any, without the zeros before its end, with which some cameras fill up."""
    yield data
    body = data[:-2].rstrip(b"\0")
    shorter = body + b"\0" * body.endswith(b"\xff") + data[-2:]  # one of them was stuffing
    if shorter != data:
        yield shorter


def _decoded_by_pillow(stream: Codestream, frame: Frame) -> tuple[Pixels, bool]:
    """Decode with Pillow, which is silent about damage: data are cut short if more of them change the picture.

    Not so those of arithmetic coding, whose last zeros are left out.
    """
    pixels = _pillow_pixels(stream.decodable)
    if frame.arithmetic:
        return pixels, True
    longer = _pillow_pixels(stream.decodable[:-2] + _JUNK + stream.decodable[-2:])
    return pixels, np.array_equal(pixels, longer)


def _pillow_pixels(data: bytes) -> Pixels:
    with Image.open(io.BytesIO(data), formats=("JPEG",)) as image:
        image.load()
        values = np.asarray(image)
    if image.mode == "CMYK":  # Pillow inverts all
        values = 255 - values
    return values.reshape(*values.shape[:2], -1)


def _finished(stream: Codestream, frame: Frame) -> bool:
    """Return whether the scans hold all bits of all coefficients of all components."""
    missing = {(component.identifier, number) for component in frame.components for number in range(64)}
    for scan in stream.scans:
        if scan.low == 0 or not frame.progressive:
            last = scan.last if frame.progressive else 63
            missing.difference_update(
                (name, number) for name in scan.components for number in range(scan.first, last + 1)
            )
    return not missing
