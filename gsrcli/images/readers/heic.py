"""Read HEIC files with pillow-heif, which brings libheif: 8, 10 and 12 bits."""

from __future__ import annotations

import numpy as np

from gsrcli.errors import LimitError, PictureError
from gsrcli.images.extras import load_extra
from gsrcli.images.isobmff import Item, find_box, pack_heif, parse_heif
from gsrcli.images.picture import Origin, Picture, Pixels, unmultiplied
from gsrcli.images.readers.heif import HeifPicture, boxes_left_out, item_size
from gsrcli.images.readers.source import Limits, Source, owned

__all__ = ["HeicSource"]

_CODED = b"hvc1"
_DERIVED = (b"grid", b"iovl", b"iden")


class HeicSource(Source):
    """A HEIC file: its primary picture. libheif sees the items of that picture alone."""

    format = "HEIF"

    def __init__(self, data: bytes, limits: Limits) -> None:
        self._heif = load_extra("pillow_heif")
        if data[8:12] == b"mif3":
            raise PictureError("the compact kind of HEIF (mif3) is not supported")
        if find_box(data, b"meta") is None and find_box(data, b"moov"):
            raise PictureError("a HEIF sequence without a still picture is not supported")
        self._whole = HeifPicture(parse_heif(data))
        self._beside = boxes_left_out(data)
        self.size = self._whole.size
        total = sum(len(item.content) for item in self._whole.parts.items.values())
        pixels = 0
        for item in self._whole.parts.items.values():
            if item.kind not in (_CODED, *_DERIVED):
                raise PictureError(f"HEIF with a picture of kind {item.kind.decode('latin-1')} is not supported")
            limits.check_compressed(item_size(item), total)
            pixels += item_size(item).area if item.kind == _CODED else 0
        if pixels < self._whole.stored_size.area and self._whole.item.kind == b"grid":
            raise ValueError("a grid of too few tiles")

    def picture(self, index: int = 0) -> Picture:
        whole = self._whole
        colour, of_colour = whole.colour()
        metadata, of_metadata = whole.metadata()
        pixels, alpha, bits = self._decode()
        return Picture(
            pixels=owned(whole.upright(pixels)),
            alpha=None if alpha is None else owned(whole.upright(alpha)),
            colour=colour,
            metadata=metadata,
            ledger=(*of_colour, *of_metadata, *whole.left_out(), *self._beside),
            origin=Origin(self.format, lossless=False, bits=bits),
        )

    def _decode(self) -> tuple[Pixels, Pixels | None, int | None]:
        """Return pixels and alpha in 8 bits, or in 16 so that white stays white, and then how many bits there are."""
        try:
            image = self._heif.open_heif(
                pack_heif(self._whole.parts, b"heic", b"heix", b"mif1"), convert_hdr_to_8bit=False
            )
            data, mode = image.data, image.mode
        except (RuntimeError, ValueError, SyntaxError) as error:
            if "limit" in str(error).lower():
                raise LimitError(f"it is beyond the decoder's limits: {error}") from error
            raise
        deep = mode.endswith(";16") or mode == "I;16"
        values: Pixels = np.frombuffer(data, np.uint16 if deep else np.uint8)
        bits = int(image.info["bit_depth"]) if deep else None
        width, height = image.size
        values = values.reshape(height, width, -1)
        if bits:
            values = values | values >> bits
        channels = values.shape[2]
        if channels in (1, 3):
            return values, None, bits
        pixels, alpha = values[..., : channels - 1], values[..., channels - 1]
        if mode.split(";")[0].endswith("a"):
            pixels = unmultiplied(pixels, alpha)
        grey = all(_monochrome(item) for item in self._whole.coded())
        return (pixels[..., :1] if grey else pixels), alpha, bits


def _monochrome(item: Item) -> bool:
    """Return whether the HEVC configuration of a coded picture has no colour."""
    configuration = item.property(b"hvcC") or b""
    return len(configuration) > 16 and not configuration[16] & 3
