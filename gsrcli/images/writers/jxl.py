"""Encode JPEG XL files with pillow-jxl-plugin, which brings libjxl."""

from __future__ import annotations

from typing import Any, BinaryIO

from gsrcli.images.exif import exif_with_resolution
from gsrcli.images.extras import load_extra
from gsrcli.images.picture import to_eight_bits
from gsrcli.images.strips import Strips, in_memory
from gsrcli.images.writers.encoding import Encoding
from gsrcli.images.writers.pillow import pillow_image

__all__ = ["encode_jxl"]

_EFFORT, _LOSSLESS_EFFORT = 7, 3


def encode_jxl(file: BinaryIO, strips: Strips, encoding: Encoding) -> None:
    """Write a picture as a JPEG XL file of 8 bits, with its EXIF, XMP and resolution.

    It is lossless if asked for, and, unless a quality is asked for, if the picture comes from a lossless JPEG XL file;
    also if alpha is data and 0 somewhere, because the lossy encoder smooths away the colours there.

    Raises:
        PictureError: pillow-jxl-plugin is not installed.
    """
    picture = in_memory(strips)
    image = pillow_image(picture)
    hides = picture.alpha is not None and not to_eight_bits(picture.alpha).all()
    lossless = (hides and picture.alpha_is_data) or encoding.without_loss(picture, "JXL")
    metadata = picture.metadata
    encode: Any = load_extra("pillow_jxl").Encoder(
        mode=image.mode,
        lossless=lossless,
        quality=100 if lossless else encoding.quality_in("JXL"),
        decoding_speed=0,
        effort=_LOSSLESS_EFFORT if lossless else _EFFORT,
        use_container=True,
        use_original_profile=lossless,
        num_threads=-1,
    )
    exif = exif_with_resolution(metadata.exif, metadata.dpi)
    data: bytes = encode(
        image.tobytes(),
        image.width,
        image.height,
        jpeg_encode=False,
        exif=exif,
        jumb=None,
        xmp=metadata.xmp,
        compress=False,
    )
    file.write(data)
