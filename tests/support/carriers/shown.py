"""What the pictures in the carriers look like: the arrays that they were made from, or what other programs decode."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from PIL import Image, ImageCms, ImageSequence

from support.carriers.jpeg import jpeg
from support.carriers.parts import HEIGHT, WIDTH, pixels
from support.profiles import cmyk_profile

__all__ = ["SHOWN", "Shown"]


@dataclass(frozen=True)
class Shown:
    """What a file shows.

    Attributes:
        pictures: returns of the file all its pictures, upright: ``(H, W, C)``, grey or RGB, with straight alpha or not.
        within: how far a value may be off where it is opaque, in 1/255 of white.
    """

    pictures: Callable[[bytes], list[np.ndarray]]
    within: float = 0


def _made(*pictures: np.ndarray, within: float = 0) -> Shown:
    """Return what a file without loss shows: the arrays that it was made from."""
    return Shown(lambda data: list(pictures), within)


def _decoded(turns: int = 0, crop: Any = ..., within: float = 3) -> Shown:
    """Return what a lossy file shows in Pillow, which ignores crops and these turns by 90°, anticlockwise."""
    return Shown(lambda data: [np.rot90(picture[crop], turns) for picture in _by_pillow(data)], within)


def _by_pillow(data: bytes) -> list[np.ndarray]:
    if data[4:12] in (b"ftypheic", b"ftypmif1"):
        import pillow_heif

        pillow_heif.register_heif_opener()
    with Image.open(io.BytesIO(data)) as image:
        frames = ImageSequence.Iterator(image) if image.format != "HEIF" else [image]  # whose others are auxiliary
        modes = {"P": "RGBA"}
        return [np.atleast_3d(np.array(frame.convert(modes.get(frame.mode)))) for frame in frames]


def _by_opencv(data: bytes) -> list[np.ndarray]:
    return [cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)[..., _BGRA]]


def _with_alpha(colours: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """Return colours with alpha, given as values or as whether a pixel is opaque."""
    top = 1 if colours.dtype.kind == "f" else np.iinfo(colours.dtype).max
    scaled = alpha * top if alpha.dtype == np.bool_ else alpha
    return np.dstack([colours, scaled.astype(colours.dtype)])


def _indexed(colours: np.ndarray, indices: np.ndarray, *alpha: int) -> np.ndarray:
    """Look up colours ``(N, 3)``, of which the first have these values of alpha."""
    opacity = np.array([*alpha, *[255] * (len(colours) - len(alpha))], np.uint8)
    return np.column_stack([colours, opacity])[indices]


def _from_inks(inks: np.ndarray) -> np.ndarray:
    """Return what ideal inks leave of the light."""
    top = np.iinfo(inks.dtype).max
    left = (top - inks.astype(float)) / top
    return left[..., :3] * left[..., 3:]


def _managed(values: np.ndarray, mode: str, profile: Any) -> np.ndarray:
    """Convert 8 bits to sRGB with LittleCMS."""
    intent = ImageCms.Intent.RELATIVE_COLORIMETRIC
    flags = ImageCms.Flags.BLACKPOINTCOMPENSATION | ImageCms.Flags.NOOPTIMIZE
    sides = profile, ImageCms.createProfile("sRGB")
    image = Image.fromarray(values, mode)
    return np.array(ImageCms.profileToProfile(image, *sides, intent, "RGB", flags=flags))


def _of_inks(inks: np.ndarray) -> np.ndarray:
    return _managed(inks, "CMYK", ImageCms.ImageCmsProfile(io.BytesIO(cmyk_profile())))


def _of_lab(lab: np.ndarray) -> np.ndarray:
    """Convert 8 bits of Lab whose a* and b* start at 128, which Pillow takes as signed."""
    return _managed(lab ^ np.array((0, 128, 128), np.uint8), "LAB", ImageCms.createProfile("LAB"))


def _eight_bits(values: np.ndarray) -> np.ndarray:
    return np.rint(values / 257).astype(np.uint8)


_BGR, _BGRA = [2, 1, 0], [2, 1, 0, 3]
_GREY, _DEEP_GREY, _DEEP = pixels(1), pixels(1, np.uint16), pixels(4, np.uint16)
_FRAMES = [pixels(4, seed=number) for number in range(3)]
_MASK = _GREY[..., 0] > 127


def _of_packed() -> np.ndarray:
    """Return colours of 10 bits and alpha of 2 in words."""
    words = np.ascontiguousarray(pixels(4)).view("<u4")[..., 0]
    parts = [(words >> shift & 1023) / 1023 for shift in (20, 10, 0)]
    return np.rint(np.dstack([*parts, (words >> 30) / 3]) * 65535).astype(np.uint16)


def _of_palette() -> np.ndarray:
    colours = pixels(3, np.uint16).reshape(-1, 3)[:256]
    return _with_alpha(colours[_GREY[..., 0]], _GREY[..., 0] != 7)


def _of_heights() -> np.ndarray:
    heights = _DEEP_GREY.view(np.int16)
    return _with_alpha(heights.astype(np.float32), heights != heights[3, 4])


def _of_separations() -> np.ndarray:
    values = _eight_bits(pixels(6, np.uint16))
    return _with_alpha(_of_inks(values[..., :4].copy()), values[..., 5])


def _of_deep_lab() -> np.ndarray:
    """Return 8 bits of 16, whose a* and b* are signed."""
    signed = np.clip(np.rint(_DEEP[..., 1:3].view(np.int16) / 256), -128, 127) + 128
    lightness = np.rint(_DEEP[..., :1] / 257)
    return _with_alpha(_of_lab(np.dstack([lightness, signed]).astype(np.uint8)), _eight_bits(_DEEP[..., 3]))


def _cursor() -> np.ndarray:
    side = slice(24)
    return _with_alpha(pixels()[side, side][::-1][..., _BGR], ~_MASK[side, side][::-1])


_COLOURS = pixels().reshape(-1)
SHOWN: Mapping[str, Shown] = {
    **dict.fromkeys(("png", "png_unusual", "webp", "jxl", "ico"), _made(pixels(4))),
    **dict.fromkeys(("png_gamma", "png_plain", "jp2"), _made(pixels())),
    "png_hdr": _made(pixels(3, np.uint16)),
    "png_palette": _made(_indexed(_COLOURS[: 3 * 256].reshape(-1, 3), _GREY[..., 0], 0, 100)),
    "png_drawing": _made(_indexed(_COLOURS[: 3 * 16].reshape(-1, 3), _GREY[..., 0] & 15, 0, 100)),
    "png_grey": _made(_with_alpha(_DEEP_GREY, _DEEP_GREY[..., 0] != _DEEP_GREY[0, 0])),
    "png_deep_grey": _made(pixels(2, np.uint16)),
    "apng": _made(*_FRAMES),
    **dict.fromkeys(("jpeg", "jpeg_with_maps", "jpeg_grey", "jpeg_plain"), _decoded()),
    "jpeg_phone": _decoded(-1),
    "jpeg_cmyk": Shown(lambda data: [_from_inks(picture) for picture in _by_pillow(data)], 1),
    "jpeg_inks": Shown(lambda data: [_of_inks(picture) for picture in _by_pillow(data)], 4),
    "tiff": _made(pixels(5, np.uint16)[..., :4]),
    "tiff_photo": _made(np.rot90(_with_alpha(pixels(), _MASK), -1)),
    "tiff_premultiplied": _made(pixels(4), within=1.5),
    "tiff_tiles": _made(_DEEP, within=1.5 / 257),
    "tiff_palette": _made(_of_palette()),
    "tiff_of_numbers": _made(pixels(1, np.float32) * 900 - 100),
    "tiff_elevation": _made(_of_heights()),
    "tiff_cmyk": _made(_from_inks(_DEEP), within=1 / 257),
    "tiff_inks": _made(_of_separations(), within=4),
    "tiff_lab": _made(_of_deep_lab(), within=4),
    "tiff_icclab": _made(_of_lab(pixels()), within=4),
    "tiff_ome": _made(_GREY),
    "tiff_imagej": _made(_DEEP_GREY),
    "tiff_pages": _made(*(pixels(3, seed=number)[: HEIGHT - number] for number in range(3))),
    "tiff_fax": _made(_MASK[..., None] * np.uint8(255)),
    **dict.fromkeys(("avif", "avif_profile", "avif_hdr", "avif_grey", "avif_animation"), _decoded()),
    "avif_deep": _decoded(1, np.s_[2 : HEIGHT - 2, 1 : WIDTH - 1]),
    **dict.fromkeys(("heic", "heic_phone"), _decoded()),
    "webp_animation": _decoded(),
    "webp_lossy": _decoded(1),
    **dict.fromkeys(("gif", "gif_animation"), _decoded(within=0)),
    "bmp": _made(pixels(4)[..., _BGRA]),
    "bmp_calibrated": _made(pixels()[..., _BGR]),
    "bmp_deep": _made(_of_packed()),
    "jxl_deep": _made(_DEEP_GREY),
    "jxl_jpeg": Shown(lambda data: _by_pillow(jpeg()), 1),
    "tga": _made(pixels(4)[::-1][..., _BGRA]),
    "tga_palette": _made(pixels(4).reshape(-1, 4)[:256][_GREY[..., 0]][..., _BGRA], within=1.5),
    "ppm": _made(pixels(3, np.uint16)),
    "pgm": _made(_GREY),
    "pam": _made(np.rint((_DEEP & 1023) * (65535 / 1023)).astype(np.uint16)),
    "pfm": _made(pixels(1, np.float32)[::-1] * 7),
    "jp2_deep": Shown(_by_opencv),
    "cur": _made(_cursor()),
}
"""What every carrier shows."""
