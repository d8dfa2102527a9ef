"""From the decompressed bytes of strips and tiles to samples."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from gsrcli.errors import PictureError
from gsrcli.images.readers.tiff.layout import Layout, SampleFormat

__all__ = ["assembled", "samples_of"]

_BLOCK_BITS = 1 << 24


def samples_of(layout: Layout, values: NDArray[np.uint8], order: str) -> NDArray[Any]:
    """Return the samples of chunks: undo the predictor and unpack the bits.

    Args:
        layout: the layout of the page.
        values: ``(chunks, rows, bytes)``.
        order: the file's byte order.

    Returns:
        ``(chunks, rows, width, samples)`` of the smallest type that holds a sample: integers of 8 to 64 bits, signed
        or not, or floating point of 16, 32 or 64 bits.

    Raises:
        PictureError: the depth or the predictor is not supported.
    """
    bits, floating = layout.bits, layout.sample_format == SampleFormat.FLOAT
    shape = (*values.shape[:2], layout.chunk.width, layout.samples_per_chunk)
    if floating and bits not in (16, 24, 32, 64):
        raise PictureError(f"{bits}-bit floating-point pixels are not supported")
    if layout.predictor == 3 and floating:
        return _from_float_bytes(_undo_float_differences(values, shape, bits))
    if layout.predictor not in (1, 2) or (layout.predictor == 2 and bits not in (8, 16, 32, 64)):
        raise PictureError(f"predictor {layout.predictor} for {bits} bits is not supported")
    if bits in (8, 16, 32, 64):
        samples = values.view(f"{order}u{bits // 8}").reshape(shape)
        samples = samples.astype(samples.dtype.newbyteorder("="), copy=False)
        if layout.predictor == 2:
            samples = np.add.accumulate(samples, axis=2, dtype=samples.dtype)
        if floating:
            return samples.view(f"f{bits // 8}")
        return samples.view(f"i{bits // 8}") if layout.sample_format == SampleFormat.SIGNED else samples
    if bits == 24:
        octets = values.reshape(*shape, 3)[..., :: 1 if order == ">" else -1]
        if floating:
            return _from_float_bytes(octets)
        joined = np.zeros(shape, np.uint32)
        for octet in range(3):
            joined = joined << 8 | octets[..., octet]
        return _signed(joined, layout)
    return _signed(_unpacked(values, shape, bits), layout)


def assembled(layout: Layout, samples: NDArray[Any]) -> NDArray[Any]:
    """Lay chunks ``(chunks, rows, width, samples)`` together; return the page ``(H, W, samples)``."""
    rows, width, each = samples.shape[1:]
    planes = layout.samples if layout.planar else 1
    grid = samples.reshape(planes, layout.down, layout.across, rows, width, each)
    page = grid.transpose(1, 3, 2, 4, 0, 5).reshape(layout.down * rows, layout.across * width, planes * each)
    return page[: layout.size.height, : layout.size.width]


def _undo_float_differences(values: NDArray[np.uint8], shape: tuple[int, ...], bits: int) -> NDArray[np.uint8]:
    """Undo predictor 3 (Adobe's technical note 3): differences of a row's first bytes, then of its second, …

    Returns:
        big-endian bytes, ``(chunks, rows, width, samples, bytes)``.
    """
    chunks, rows, width, samples = shape
    octets = np.add.accumulate(values.reshape(chunks, rows, -1, samples), axis=2, dtype=np.uint8)
    split = octets.reshape(chunks, rows, bits // 8, width * samples)
    return np.moveaxis(split, 2, 3).reshape(*shape, bits // 8)


def _from_float_bytes(octets: NDArray[np.uint8]) -> NDArray[Any]:
    """Return floating point of big-endian bytes in the last axis."""
    size = octets.shape[-1]
    if size != 3:
        return np.ascontiguousarray(octets).view(f">f{size}")[..., 0].astype(f"f{size}")
    # 1 bit of sign, 7 of exponent (bias 63), 16 of fraction
    bits = octets[..., 0].astype(np.int64) << 16 | octets[..., 1].astype(np.int64) << 8 | octets[..., 2]
    sign = np.where(bits >> 23, -1.0, 1.0)
    exponent, fraction = bits >> 16 & 0x7F, (bits & 0xFFFF) / 65536
    finite = np.ldexp(np.where(exponent == 0, fraction, 1 + fraction), np.maximum(exponent, 1) - 63)
    special = np.where(fraction == 0, np.inf, np.nan)
    return (sign * np.where(exponent == 0x7F, special, finite)).astype(np.float32)


def _unpacked(values: NDArray[np.uint8], shape: tuple[int, ...], bits: int) -> NDArray[Any]:
    """Unpack samples of any number of bits; the first is in the highest bits of a byte, and rows start in new ones."""
    chunks, rows, width, samples = shape
    kind = np.dtype(np.uint8 if bits <= 8 else np.uint16 if bits <= 16 else np.uint32 if bits <= 32 else np.uint64)
    packed = values.reshape(chunks * rows, -1)
    unpacked = np.zeros((chunks * rows, width * samples), kind)
    step = max(1, _BLOCK_BITS // max(1, packed.shape[1] * 8))
    for start in range(0, len(packed), step):
        block = np.unpackbits(packed[start : start + step], axis=1, count=width * samples * bits)
        block = block.reshape(len(block), width * samples, bits)
        target = unpacked[start : start + step]
        for bit in range(bits):
            target <<= kind.type(1)
            target |= block[..., bit]
    return unpacked.reshape(shape)


def _signed(values: NDArray[Any], layout: Layout) -> NDArray[Any]:
    """Extend the sign of signed samples."""
    if layout.sample_format != SampleFormat.SIGNED:
        return values
    unused = 8 * values.dtype.itemsize - layout.bits
    moved = values << values.dtype.type(unused)
    return moved.view(moved.dtype.str.replace("u", "i")) >> unused
