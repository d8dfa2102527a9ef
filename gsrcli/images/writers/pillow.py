"""What the encoders built on Pillow share."""

from __future__ import annotations

import io
from dataclasses import replace
from typing import Any

from PIL import Image

from gsrcli.images.exif import exif_with_resolution
from gsrcli.images.picture import Picture, to_eight_bits

__all__ = ["encoded", "metadata_options", "pillow_image", "with_resolution_in_exif"]


def pillow_image(picture: Picture) -> Image.Image:
    """Return a picture in 8 bits as a Pillow image of mode L, LA, RGB or RGBA."""
    pixels = to_eight_bits(picture.pixels)
    image = Image.fromarray(pixels[..., 0] if picture.grey else pixels)
    if picture.alpha is not None:
        image.putalpha(Image.fromarray(to_eight_bits(picture.alpha)))
    return image


def metadata_options(picture: Picture) -> dict[str, bytes]:
    """Return a picture's profile, EXIF and XMP as Pillow takes them."""
    exif, xmp = picture.metadata.exif, picture.metadata.xmp
    options = {"icc_profile": picture.colour.icc, "exif": exif and b"Exif\0\0" + exif, "xmp": xmp}
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
