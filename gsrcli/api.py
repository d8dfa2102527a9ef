"""``gsrcli.upscale``: the work of ``gsr upscale`` as a function."""

from __future__ import annotations

import functools
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from gsrcli.images import DEFAULT_MAX_PIXELS, Picture, read_picture, white
from gsrcli.models import Model
from gsrcli.runtime.devices import pick_device
from gsrcli.runtime.precision import Precision
from gsrcli.size import Size
from gsrcli.upscaling.alpha import AlphaMeaning
from gsrcli.upscaling.target import Target
from gsrcli.upscaling.upscaler import Upscaler
from gsrcli.weights.load import DEFAULT_MODEL, load_model

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["upscale"]

Array = NDArray[Any]


def upscale(
    image: str | os.PathLike[str] | Picture | Image.Image | Array,
    scale: float | None = None,
    *,
    size: tuple[int, int] | None = None,
    width: int | None = None,
    height: int | None = None,
    model: str | os.PathLike[str] | Model = DEFAULT_MODEL,
    device: str = "auto",
    precision: Precision = "auto",
    tile: int | None = None,
    memory: int | None = None,
    max_pixels: int | None = DEFAULT_MAX_PIXELS,
    alpha: AlphaMeaning = "transparency",
) -> Any:
    """Enlarge a picture. A path gives a :class:`gsrcli.images.Picture`; any other input gives its own type.

    Args:
        image: the path of a file with one picture; a Picture; a PIL image in mode L, LA, RGB or RGBA; or an array
            ``(H, W)`` or ``(H, W, 1 to 4)``, grey, grey and alpha, RGB or RGBA, in uint8, uint16, or floating point,
            which is computed in float32. In floating point, 0 to 1 is black to white; colours that go beyond, such as
            heights, counts and radiances, stay in their range (see `gsrcli.upscaling.stretch`), and alpha is clipped
            to [0, 1].
        scale: scale factor for both sides, any number from 1 up. Give exactly one of scale, size, width and height.
        size: exact (height, width).
        width: exact width, keeping the proportions.
        height: exact height, keeping the proportions.
        model: a name, the path of a checkpoint, or a model from :func:`gsrcli.load_model`, which stays on its device.
        device: auto, cpu, cuda, cuda:1 or mps.
        precision: arithmetic of the network; auto is bfloat16 if the hardware and the model support it, else float32.
        tile: side of the network's tiles, in input pixels; None chooses by the free memory.
        memory: bytes of the computer's memory that the whole process may use; None for what is free.
        max_pixels: largest picture to read from a file, in pixels; None for no limit.
        alpha: "transparency", or "data" for textures whose colours count where alpha is 0.

    Raises:
        UsageError: the size, device, precision, tile, memory or alpha is invalid.
        PictureError: the file cannot be read, some of its pixels are damaged, or it has several pictures; then see
            :class:`gsrcli.images.PictureFile`.
        ModelError: the model is unknown or its weights are damaged.
        TypeError: the image is of an unsupported type, shape or mode, or the size is no pair.
        ValueError: an array contains NaN or numbers beyond float32, or has no pixels.
    """
    if size is not None and len(size) != 2:
        raise TypeError(f"size is (height, width), not {size!r}")
    target = Target(scale, Size(*size) if size else None, width, height)
    if not isinstance(model, Model):
        model = _cached_model(os.fspath(model), pick_device(device), _stamp(model))
    upscaler = Upscaler.load(model, precision=precision, tile=tile, memory=memory)

    def enlarge(picture: Picture) -> Picture:
        return upscaler.enlarge(picture, target.of(picture.size), alpha=alpha)

    if isinstance(image, Picture):
        return enlarge(image)
    if isinstance(image, str | os.PathLike):
        return enlarge(read_picture(Path(image), max_pixels=max_pixels))
    if isinstance(image, np.ndarray):
        return _like(enlarge(_from_array(image)), image)
    return _upscale_pil(image, enlarge)


@functools.lru_cache(maxsize=2)
def _cached_model(name: str, device: torch.device, stamp: tuple[int, int] | None) -> Model:
    return load_model(name, device)


def _stamp(path: str | os.PathLike[str]) -> tuple[int, int] | None:
    """Return the time and size of a checkpoint file, which change when it is written again; None for a name."""
    if not Path(path).is_file():
        return None
    status = Path(path).stat()
    return status.st_mtime_ns, status.st_size


def _from_array(array: Array) -> Picture:
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (1, 2, 3, 4)):
        raise TypeError(f"expected an array (H, W) or (H, W, 1 to 4), got {array.shape}")
    if np.issubdtype(array.dtype, np.floating):
        with np.errstate(over="ignore"):
            array = array.astype(np.float32)
        if not np.isfinite(array).all():
            raise ValueError("the array contains NaN or numbers beyond float32")
    elif array.dtype not in (np.uint8, np.uint16):
        raise TypeError(f"expected uint8, uint16 or floating point, got {array.dtype}")
    layers = array[..., None] if array.ndim == 2 else array
    has_alpha = layers.shape[2] in (2, 4)
    if not has_alpha:
        return Picture(np.ascontiguousarray(layers))
    alpha = np.ascontiguousarray(layers[..., -1])
    return Picture(np.ascontiguousarray(layers[..., :-1]), alpha.clip(0, white(alpha.dtype)))


def _like(picture: Picture, array: Array) -> Array:
    """Return a picture as an array with the axes, channels and type of another."""
    layers = picture.pixels if picture.alpha is None else np.dstack((picture.pixels, picture.alpha))
    layers = layers.astype(array.dtype, copy=False)
    return layers[..., 0] if array.ndim == 2 else layers


def _upscale_pil(image: Any, enlarge: Any) -> Image.Image:
    from PIL import Image

    if not isinstance(image, Image.Image):
        raise TypeError(f"cannot upscale an object of type {type(image).__name__}")
    if image.mode not in ("L", "LA", "RGB", "RGBA"):
        raise TypeError(f"cannot upscale a PIL image of mode {image.mode}; convert it to RGB or RGBA first")
    pixels = np.asarray(image)
    enlarged = Image.fromarray(_like(enlarge(_from_array(pixels)), pixels))
    enlarged.info.update({key: image.info[key] for key in ("icc_profile", "exif", "dpi") if key in image.info})
    return enlarged
