"""Read TIFF files."""

from __future__ import annotations

from typing import Any

import numpy as np
from PIL import TiffImagePlugin

from gsrcli.errors import PictureError
from gsrcli.images import exif, xmp
from gsrcli.images.ledger import Entry
from gsrcli.images.metadata import Metadata
from gsrcli.images.picture import Pixels
from gsrcli.images.readers.opencv import decode_sixteen_bits
from gsrcli.images.readers.pillow import PillowSource, resolution, xmp_packet
from gsrcli.images.readers.source import DAMAGED
from gsrcli.size import Size

__all__ = ["TiffSource"]

_SUBFILE_TYPE, _BITS, _PHOTOMETRIC, _ORIENTATION = 254, 258, 262, 274
_PLANES, _EXTRA_SAMPLES, _SAMPLE_FORMAT = 284, 338, 339
_WHITE_IS_ZERO, _RGB = 0, 2
_PREMULTIPLIED, _STRAIGHT = 1, 2


class TiffSource(PillowSource):
    """A TIFF file."""

    format = "TIFF"
    formats = ("TIFF",)
    image: TiffImagePlugin.TiffImageFile

    @property
    def _tags(self) -> Any:
        return self.image.tag_v2

    def why_unidentified(self) -> str:
        bits, sample_format = exif.tiff_tag(self.data, _BITS), exif.tiff_tag(self.data, _SAMPLE_FORMAT)
        if bits is None:
            return DAMAGED
        kind = {2: "signed", 3: "floating-point"}.get(sample_format or 1, "integer")
        return f"{bits}-bit {kind} pixels are not supported, or the file is damaged"

    def stored_size(self) -> Size:
        # Pillow's .size is that of the upright picture.
        return Size(int(self._tags[TiffImagePlugin.IMAGELENGTH]), int(self._tags[TiffImagePlugin.IMAGEWIDTH]))

    def frames(self) -> tuple[int, bool]:
        pages = 0
        for frame in range(self.image.n_frames):
            self.image.seek(frame)
            # bit 0: a reduced copy of another page; bit 2: a transparency mask
            pages += not int(self._tags.get(_SUBFILE_TYPE, 0)) & 5
        self.image.seek(0)
        return max(pages, 1), False

    def orientation(self) -> int:
        tag = self._tags.get(_ORIENTATION)
        known = tag if isinstance(tag, int) and 1 <= tag <= 8 else None
        return known or xmp.xmp_orientation(xmp_packet(self.image) or b"") or 1

    def metadata(self) -> Metadata:
        packet = xmp_packet(self.image)
        return Metadata(
            exif=exif.exif_from_tiff(self.data),
            xmp=packet and xmp.xmp_upright(packet),
            dpi=resolution(self.image, self.orientation()),
        )

    def decode(self) -> tuple[Pixels, Pixels | None, list[Entry]]:
        if max(self._tags.get(_BITS, (1,))) > 8 and not self.image.mode.startswith("I"):
            return *self._decode_deep_colour(), []
        stored = self.orientation()
        if self.image.mode.startswith("I;16"):
            self.image.load()
            pixels, alpha, entries = self._deep_grey(), None, list[Entry]()
        else:
            pixels, alpha, entries = super().decode()
        return _as_stored(pixels, stored), None if alpha is None else _as_stored(alpha, stored), entries

    def _decode_deep_colour(self) -> tuple[Pixels, Pixels | None]:
        """Decode 16-bit colour."""
        tags = self._tags
        if tags.get(_PHOTOMETRIC) != _RGB or tags.get(_PLANES, 1) != 1:
            kind = self.image.mode if tags.get(_PHOTOMETRIC) != _RGB else "separate colour planes"
            raise PictureError(f"16-bit TIFF in {kind} is not supported", hint="save it as 16-bit RGB")
        extra = tags.get(_EXTRA_SAMPLES, (_STRAIGHT,))[0]  # programs take an undeclared fourth channel for alpha
        decoded = decode_sixteen_bits(exif.exif_upright(self.data) or self.data)  # OpenCV would turn it
        pixels = decoded[..., :3]
        alpha = decoded[..., 3] if extra in (_PREMULTIPLIED, _STRAIGHT) and decoded.shape[2] == 4 else None
        if extra == _PREMULTIPLIED and alpha is not None:
            pixels = _unmultiplied(pixels, alpha)
        return pixels, alpha

    def _deep_grey(self) -> Pixels:
        values: Pixels = np.asarray(self.image).astype(np.uint16)[..., None]
        top = 2 ** self._tags[_BITS][0] - 1  # Pillow does not scale 12 bits
        if top < 65535:
            values = (values.astype(np.uint32) * 65535 // top).astype(np.uint16)
        if self._tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO:
            values = 65535 - values
        return values


def _as_stored(array: Pixels, orientation: int) -> Pixels:
    """Undo the turn that Pillow gives TIFF files, as it does for no other format."""
    if orientation in (3, 4, 7, 8):
        array = array[::-1]
    if orientation in (2, 3, 6, 7):
        array = array[:, ::-1]
    return array.swapaxes(0, 1) if orientation > 4 else array


def _unmultiplied(pixels: Pixels, alpha: Pixels) -> Pixels:
    """Divide 16-bit colours by alpha, rounded; colours are 0 where alpha is 0."""
    wide, divisor = pixels.astype(np.uint32) * 65535, np.maximum(alpha, 1)[..., None].astype(np.uint32)
    straight: Pixels = np.minimum((wide + divisor // 2) // divisor, 65535).astype(np.uint16)
    return straight
