"""Move pixels between host and device as their bits: tiles to the device, strips back.

Bits are integers of the pixels' size: uint8, int16 for uint16, because torch supports few operations on uint16, and
int32 for float32. uint8 and uint16 take a quarter or half of the bytes of float32, and a device converts them faster
than the host. Copies to and from a CUDA device go through pinned memory and run asynchronously. Pinned memory comes
from torch's caching allocator, which records the copies from and to each block and reuses it only after the last of
them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import DTypeLike, NDArray
from torch import Tensor

from gsrcli.images.picture import Pixels
from gsrcli.size import Box

__all__ = ["Readback", "SideStream", "quantize", "upload", "upload_bits"]

_MAX_IN_FLIGHT = 2


def upload_bits(pixels: Pixels, device: torch.device) -> Tensor:
    """Copy the bits of uint8, uint16 or float32 of any shape to a device."""
    staged = torch.empty(pixels.shape, dtype=_bits_dtype(pixels.dtype), pin_memory=device.type == "cuda")
    staged.numpy()[...] = _bits(pixels)
    return staged.to(device, non_blocking=device.type == "cuda")


def upload(pixels: Pixels, device: torch.device) -> Tensor:
    """Copy pixels of any shape to a device as float32, with the values of `images.to_unit`."""
    bits = upload_bits(pixels, device)
    if bits.dtype == torch.int32:
        return bits.view(torch.float32)
    if bits.dtype == torch.int16:
        bits = bits.int().bitwise_and_(0xFFFF)
    values = bits.float()
    # Divide by a tensor: CUDA divides by a number by multiplying with its rounded reciprocal.
    return values.div_(values.new_full((), np.iinfo(pixels.dtype).max))


def quantize(values: Tensor, dtype: DTypeLike) -> Tensor:
    """Quantize values of any shape to uint8, uint16 or float32, and return the bits of `images.from_unit`, contiguous.

    float32 is neither clipped nor rounded.
    """
    bits = _bits_dtype(dtype)
    if bits == torch.int32:
        return values.contiguous().view(torch.int32)
    top = np.iinfo(np.dtype(dtype)).max
    scaled = values.mul(top).round_().clamp_(0, top)
    if bits == torch.int16:
        scaled = scaled.int()  # from integers the conversion to int16 wraps around; from floating point it is undefined
    return scaled.to(bits, memory_format=torch.contiguous_format)


class Readback:
    """Copies parts of a picture from a device into an array.

    With a copier, up to two parts are in flight: while one is copied to the host and the next is drawn, an older one is
    written to the array. Without a copier, each part is written at once.

    Args:
        output: ``(H, W, C)``, uint8, uint16 or float32, complete after :meth:`finish`.
        copier: begins to copy a part to the host; returns the copy and a function that waits for it to complete. See
            :meth:`SideStream.of`.
    """

    def __init__(self, output: Pixels, copier: Callable[[Tensor], tuple[Tensor, Callable[[], object]]] | None) -> None:
        self._output = torch.from_numpy(_bits(output))
        self._copier = copier
        self._in_flight: deque[tuple[Box, Tensor, Callable[[], object]]] = deque()

    def send(self, place: Box, part: Tensor) -> None:
        """Send a part, ``(*place.size, C)`` as :func:`quantize` returns it, to its place."""
        if self._copier is None:
            self._put(place, part)
            return
        while len(self._in_flight) >= _MAX_IN_FLIGHT:
            self._receive()
        self._in_flight.append((place, *self._copier(part)))

    def finish(self) -> None:
        """Wait until everything sent is in the array."""
        while self._in_flight:
            self._receive()

    def _receive(self) -> None:
        place, part, wait = self._in_flight.popleft()
        wait()
        self._put(place, part)

    def _put(self, place: Box, part: Tensor) -> None:
        self._output[place.top : place.bottom, place.left : place.right].copy_(part)


class SideStream:
    """Copies tensors from a CUDA device to the host in a stream of its own."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream = torch.cuda.Stream(device)

    @classmethod
    def of(cls, device: torch.device) -> SideStream | None:
        """Return a side stream of a CUDA device; None for other devices, where copies are synchronous."""
        return cls(device) if device.type == "cuda" else None

    def __call__(self, tensor: Tensor) -> tuple[Tensor, Callable[[], object]]:
        """Begin to copy a tensor once the current stream has computed it; return the copy and a function that waits."""
        copy = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
        self._stream.wait_stream(torch.cuda.current_stream(self._device))
        with torch.cuda.stream(self._stream):
            copy.copy_(tensor, non_blocking=True)
        tensor.record_stream(self._stream)  # otherwise its memory could be reused while it is being read
        return copy, self._stream.record_event().synchronize


def _bits(pixels: Pixels) -> NDArray[Any]:
    return pixels.view({1: np.uint8, 2: np.int16, 4: np.int32}[pixels.dtype.itemsize])


def _bits_dtype(dtype: DTypeLike) -> torch.dtype:
    return {1: torch.uint8, 2: torch.int16, 4: torch.int32}[np.dtype(dtype).itemsize]
