"""Colour profiles."""

from __future__ import annotations

import io

from PIL import Image, ImageCms

__all__ = ["to_srgb"]


def to_srgb(image: Image.Image, icc: bytes | None) -> Image.Image:
    """A grey, CMYK or Lab Pillow image as RGB in sRGB, through its colour profile where that is usable."""
    try:
        lab = image.mode == "LAB"
        source = ImageCms.createProfile("LAB") if lab else ImageCms.ImageCmsProfile(io.BytesIO(icc or b""))
        converted = ImageCms.profileToProfile(
            image,
            source,
            ImageCms.createProfile("sRGB"),
            renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
            outputMode="RGB",
            flags=ImageCms.Flags.BLACKPOINTCOMPENSATION,
        )
    except (OSError, ImageCms.PyCMSError):
        return image.convert("RGB")  # no profile, or a broken one
    assert converted is not None
    return converted
