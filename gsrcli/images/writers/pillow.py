"""What the encoders built on Pillow share."""

from __future__ import annotations

import io
from dataclasses import replace
from typing import Any

from PIL import Image

from gsrcli.images.exif import exif_with_resolution
from gsrcli.images.icc import profile_for
from gsrcli.images.picture import Picture, to_eight_bits
from gsrcli.images.srgb import to_srgb

__all__ = ["encoded", "metadata_options", "pillow_image", "with_resolution_in_exif"]


def pillow_image(picture: Picture, *, grey: bool) -> tuple[Image.Image, bytes | None]:
    """Return a picture in 8 bits as a Pillow image, and its colour profile.

    Args:
        picture: the picture.
        grey: whether the format has a single channel of grey. Otherwise, and with alpha, grey becomes RGB, and its
            profile one for RGB.
    """
    pixels, icc = to_eight_bits(picture.pixels), picture.colour.icc
    in_rgb = picture.grey and (not grey or picture.alpha is not None)
    if in_rgb and icc and not profile_for(icc, grey=False):
        pixels, icc = to_srgb(pixels, icc), None
    image = Image.fromarray(pixels[..., 0] if picture.grey else pixels)
    if in_rgb:
        image, icc = image.convert("RGB"), icc and profile_for(icc, grey=False)
    if picture.alpha is not None:
        image.putalpha(Image.fromarray(to_eight_bits(picture.alpha)))
    return image, icc


def metadata_options(picture: Picture, icc: bytes | None) -> dict[str, bytes]:
    """Return a picture's profile, EXIF and XMP as Pillow takes them."""
    exif, xmp = picture.metadata.exif, picture.metadata.xmp
    options = {"icc_profile": icc, "exif": exif and b"Exif\0\0" + exif, "xmp": xmp}
    return {name: value for name, value in options.items() if value}


def with_resolution_in_exif(picture: Picture) -> Picture:
    """Return a picture whose EXIF says its pixels per inch."""
    metadata = picture.metadata
    return replace(picture, metadata=replace(metadata, exif=exif_with_resolution(metadata.exif, metadata.dpi)))


def encoded(image: Image.Image, form: str, **options: Any) -> bytes:
    """Return the content of the file that Pillow writes."""
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()
