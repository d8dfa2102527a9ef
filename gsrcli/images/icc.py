"""Read, make and convert between colour profiles."""

from __future__ import annotations

import io

from PIL import Image, ImageCms

__all__ = ["to_srgb"]


def to_srgb(image: Image.Image, icc: bytes | None) -> Image.Image:
    """Convert a grey, CMYK or Lab Pillow image to sRGB, through its colour profile if that is usable."""
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
