"""From the samples of TIFF files to grey or RGB."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gsrcli.errors import PictureError
from gsrcli.images.cmyk import cmyk_to_srgb
from gsrcli.images.ledger import Entry, Fate
from gsrcli.images.picture import Pixels, from_unit, levels, to_unit, unmultiplied, white
from gsrcli.images.readers.source import DAMAGED
from gsrcli.images.readers.source import Decoded as DecodedPixels
from gsrcli.images.readers.tiff.layout import Layout, Photometric, SampleFormat
from gsrcli.images.srgb import srgb_encoded

__all__ = ["Decoded", "decoded_colours"]

_BLOCK_PIXELS = 1 << 20
_D50 = (0.9642, 1.0, 0.8249)
_D50_TO_LINEAR_SRGB = (  # with Bradford's adaptation from D50 to D65
    (3.1341864, -1.6172090, -0.4906941),
    (-0.9787485, 1.9161301, 0.0334334),
    (0.0719639, -0.2289939, 1.4057537),
)


@dataclass(frozen=True)
class Decoded(DecodedPixels):
    """Some rows of a page as stored: not turned upright.

    Attributes:
        same_numbers: whether pixels are the numbers in the file, so that what it says about numbers is still true.
        same_colours: whether its colour profile is still true.
        missing: number of pixels without data, which were made transparent.
    """

    same_numbers: bool = True
    same_colours: bool = True
    missing: int = 0


def decoded_colours(
    layout: Layout, samples: NDArray[Any], palette: NDArray[Any], icc: bytes | None, nodata: float | None
) -> Decoded:
    """Convert the samples of some rows of a page to grey or RGB.

    Args:
        layout: the layout of the rows.
        samples: ``(H, W, colours)`` or ``(H, W, colours + 1)``, the last of them alpha, as `samples_of` returns them.
        palette: the colour map, 16-bit: all reds, then all greens, then all blues.
        icc: the colour profile.
        nodata: the number that stands for no data.
    """
    decoded = _decoded(layout, samples, palette, icc, nodata)
    if decoded.same_numbers or nodata is None or decoded.pixels.dtype == np.float32:
        return decoded
    return _without(decoded, (samples[..., : layout.colours] == nodata).all(axis=2))


def _decoded(
    layout: Layout, samples: NDArray[Any], palette: NDArray[Any], icc: bytes | None, nodata: float | None
) -> Decoded:
    """Convert samples to grey or RGB, and make those without data transparent if they become floating point."""
    values = samples[..., : layout.colours]
    alpha = samples[..., layout.colours] if layout.alpha is not None else None
    if layout.photometric == Photometric.PALETTE:
        pixels, alpha = _looked_up(values[..., 0], palette, layout.bits), _integers(alpha, layout)
        return Decoded(pixels, _of_type(alpha, pixels.dtype), same_numbers=False)
    if layout.photometric in (Photometric.CIELAB, Photometric.ICCLAB):
        return _from_lab(layout, values, alpha)
    if layout.photometric == Photometric.WHITE_IS_ZERO:
        values = _inverted(values, layout)
    entries = []
    if layout.colours > 1 and values.dtype.kind == "u" and layout.bits > 16:
        entries.append(Entry(f"{layout.bits}-bit integers", Fate.CONVERTED, "to 16 bits"))
        values, alpha = (_highest_bits(array, layout.bits) for array in (values, alpha))
        layout = replace(layout, bits=16)
    if values.dtype.kind in "fi" or layout.bits > 16:
        if layout.photometric == Photometric.CMYK:
            kind = "floating-point values" if values.dtype.kind == "f" else "signed integers"
            raise PictureError(f"CMYK of {kind} is not supported", hint="save it as unsigned integers of 16 bits")
        return _as_floats(layout, values, alpha, nodata)
    pixels, alpha = _integers(values, layout), _integers(alpha, layout)
    if layout.premultiplied and alpha is not None:
        pixels = unmultiplied(pixels, alpha)
    if layout.photometric == Photometric.CMYK:
        pixels, entry = cmyk_to_srgb(pixels, icc)
        return Decoded(pixels, alpha, [*entries, entry], same_numbers=False, same_colours=False)
    return Decoded(pixels, alpha, entries, same_numbers=not entries and layout.bits in (8, 16))


def _of_type(alpha: Pixels | None, dtype: Any) -> Pixels | None:
    return None if alpha is None else from_unit(to_unit(alpha), dtype)


def _highest_bits(values: NDArray[Any] | None, bits: int) -> Any:
    """Return the highest 16 bits of unsigned integers; None stays None."""
    return None if values is None else (values >> (bits - 16)).astype(np.uint16)


def _integers(values: NDArray[Any] | None, layout: Layout) -> Any:
    """Scale unsigned samples of up to 8 bits to uint8, and of more to uint16, rounded; None stays None."""
    if values is None or layout.bits in (8, 16):
        return values
    return levels(2**layout.bits - 1, np.uint8 if layout.bits < 8 else np.uint16)[values]


def _looked_up(indices: NDArray[Any], palette: NDArray[Any], bits: int) -> Pixels:
    """Return the colours of a palette, in 8 bits if they are 8-bit colours."""
    if palette.size < 3 << bits or indices.dtype.kind != "u":
        raise PictureError(DAMAGED)
    colours = palette[: 3 << bits].astype(np.uint16).reshape(3, -1).T
    low, high = colours & 255, colours >> 8
    if not high.any():  # some programs store 8 bits as they are
        return np.ascontiguousarray(low.astype(np.uint8)[indices])
    eight_bits = not low.any() or bool((low == high).all())
    return np.ascontiguousarray((high.astype(np.uint8) if eight_bits else colours)[indices])


def _inverted(values: NDArray[Any], layout: Layout) -> NDArray[Any]:
    if values.dtype.kind == "f":
        return 1 - values
    return ~values if values.dtype.kind == "i" else values.dtype.type(2**layout.bits - 1) - values


def _as_floats(layout: Layout, values: NDArray[Any], alpha: NDArray[Any] | None, nodata: float | None) -> Decoded:
    """Return floating point, or integers of no colour range, as float32 of the same numbers.

    Pixels without a number, or with the number for no data, become transparent.
    """
    entries = []
    with np.errstate(over="ignore"):
        pixels = np.ascontiguousarray(values, np.float32)
    if values.dtype.kind != "f":
        entries.append(Entry(f"{layout.bits}-bit {_sign(layout)} integers", Fate.CONVERTED, "to floating point"))
    elif layout.bits == 64 and not _equal(pixels, values):
        entries.append(Entry("64-bit floating point", Fate.CONVERTED, "to 32 bits"))
    unit = None if alpha is None else _unit(alpha, layout)
    if layout.premultiplied and unit is not None:
        pixels = np.divide(pixels, unit[..., None], out=np.zeros_like(pixels), where=unit[..., None] > 0)
    missing = np.asarray(~np.isfinite(pixels).all(axis=2))
    if nodata is not None:
        missing |= (pixels == np.float32(nodata)).all(axis=2)
    if missing.any():
        pixels[missing] = 0
    return _without(Decoded(pixels, unit, entries, same_numbers=not missing.any()), missing)


def _without(decoded: Decoded, missing: NDArray[np.bool_]) -> Decoded:
    """Make pixels ``(H, W)`` transparent that hold no data."""
    count = int(missing.sum())
    if not count:
        return decoded
    given, dtype = decoded.alpha, decoded.pixels.dtype
    alpha = np.full(missing.shape, white(dtype), dtype) if given is None else given.copy()
    alpha[missing] = 0
    return replace(decoded, alpha=alpha, missing=count)


def _sign(layout: Layout) -> str:
    return "signed" if layout.sample_format == SampleFormat.SIGNED else "unsigned"


def _equal(pixels: Pixels, values: NDArray[Any]) -> bool:
    return bool(np.array_equal(pixels, values, equal_nan=True))


def _unit(alpha: NDArray[Any], layout: Layout) -> NDArray[np.float32]:
    """Return alpha of any type as float32 in [0, 1]."""
    if alpha.dtype.kind != "f":
        alpha = alpha / float(2 ** (layout.bits - (alpha.dtype.kind == "i")) - 1)
    return np.clip(np.nan_to_num(alpha, nan=0.0), 0, 1).astype(np.float32)


def _from_lab(layout: Layout, values: NDArray[Any], alpha: NDArray[Any] | None) -> Decoded:
    """Convert CIE L*a*b* under D50 to sRGB, exactly up to rounding."""
    bits, floating = layout.bits, layout.sample_format == SampleFormat.FLOAT
    if bits not in (8, 16) and not floating:
        raise PictureError(f"{bits}-bit Lab is not supported", hint="save it with 16 bits per channel")
    dtype = np.dtype(np.float32 if floating else f"u{bits // 8}")
    icc_offset = layout.photometric == Photometric.ICCLAB

    def converted(rows: slice) -> Pixels:
        block = values[rows]
        if floating:
            lab = block.astype(np.float64)
            if not np.isfinite(lab).all():
                raise PictureError("pixels that are not finite are not supported in Lab")
        else:
            unsigned = block.view(dtype)
            unit = 256 ** (bits // 8 - 1)  # of a* and b*
            top = 0xFF00 if icc_offset and bits == 16 else white(dtype)
            signed = unsigned - 128.0 * unit if icc_offset else block.view(dtype.str.replace("u", "i"))
            lab = np.concatenate([unsigned[..., :1] * (100 / top), signed[..., 1:] / unit], axis=2)
        return from_unit(np.clip(_lab_to_srgb(lab), 0, 1).astype(np.float32), dtype)

    pixels = _by_blocks((*values.shape[:2], layout.colours), converted, dtype)
    if alpha is not None:
        alpha = _unit(alpha, layout) if floating else alpha.view(dtype)
    entry = Entry("Lab", Fate.CONVERTED, "to sRGB")
    return Decoded(pixels, alpha, [entry], same_numbers=False, same_colours=False)


def _lab_to_srgb(lab: NDArray[np.float64]) -> NDArray[np.float64]:
    """Convert ``(…, 3)`` to sRGB, or lightness alone, ``(…, 1)``, to grey; beyond sRGB they lie outside [0, 1]."""
    y = (lab[..., :1] + 16) / 116
    if lab.shape[-1] == 1:
        linear = _cubed(y)
    else:
        f = np.concatenate([y + lab[..., 1:2] / 500, y, y - lab[..., 2:3] / 200], axis=-1)
        linear = _cubed(f) * _D50 @ np.array(_D50_TO_LINEAR_SRGB).T
    return srgb_encoded(linear)


def _cubed(f: NDArray[np.float64]) -> NDArray[np.float64]:
    """Invert the function of L*a*b*: from cube roots to amounts of light."""
    return np.where(f > 6 / 29, f**3, 3 * (6 / 29) ** 2 * (f - 4 / 29))


def _by_blocks(shape: tuple[int, ...], work: Callable[[slice], Pixels], dtype: Any = None) -> Pixels:
    """Compute an array by blocks of rows, because intermediate results are large."""
    step = max(1, _BLOCK_PIXELS // shape[1])
    first = work(slice(0, step))
    whole: Pixels = np.empty(shape, dtype or first.dtype)
    whole[:step] = first
    for start in range(step, shape[0], step):
        whole[start : start + step] = work(slice(start, start + step))
    return whole
