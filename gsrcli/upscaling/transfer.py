"""Move pixels between host and device as integers: tiles to the device, strips back.

Integers take a quarter or half of the bytes of float32, and a device converts them faster than the host. Copies to and
from a CUDA device go through pinned memory and run asynchronously. Pinned memory comes from torch's caching allocator,
which records the copies from and to each block and reuses it only after the last of them.
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

__all__ = ["Readback", "SideStream", "quantize", "upload", "upload_integers"]

_MAX_IN_FLIGHT = 2


def upload_integers(pixels: Pixels, device: torch.device) -> Tensor:
    """Copy uint8 or uint16 of any shape to a device as they are; uint16 as the same bits in int16."""
    staged = torch.empty(pixels.shape, dtype=_bits_dtype(pixels.dtype), pin_memory=device.type == "cuda")
    staged.numpy()[...] = _bits(pixels)
    return staged.to(device, non_blocking=device.type == "cuda")


def upload(pixels: Pixels, device: torch.device) -> Tensor:
    """Copy uint8 or uint16 of any shape to a device as float32 in [0, 1], with the values of `images.to_unit`."""
    integers = upload_integers(pixels, device)
    if integers.dtype == torch.int16:
        integers = integers.int().bitwise_and_(0xFFFF)
    values = integers.float()
    # Divide by a tensor: CUDA divides by a number by multiplying with its rounded reciprocal.
    return values.div_(values.new_full((), np.iinfo(pixels.dtype).max))


def quantize(values: Tensor, dtype: DTypeLike) -> Tensor:
    """Quantize values of any shape to uint8 or uint16, contiguous, with the bits of `images.from_unit`.

    uint16 is returned as the same bits in int16, because torch supports few operations on uint16.
    """
    top = np.iinfo(np.dtype(dtype)).max
    scaled = values.mul(top).round_().clamp_(0, top)
    bits = _bits_dtype(dtype)
    if bits == torch.int16:
        scaled = scaled.int()  # from integers the conversion to int16 wraps around; from floating point it is undefined
    return scaled.to(bits, memory_format=torch.contiguous_format)


class Readback:
    """Copies strips from a device into an array.

    With a copier, up to two strips are in flight: while one is copied to the host and the next is drawn, an older one
    is written to the array. Without a copier, each strip is written at once.

    Args:
        output: ``(H, W, C)``, uint8 or uint16, complete after :meth:`finish`.
        copier: begins to copy a strip to the host; returns the copy and a function that waits for it to complete. See
            :meth:`SideStream.of`.
    """

    def __init__(self, output: Pixels, copier: Callable[[Tensor], tuple[Tensor, Callable[[], object]]] | None) -> None:
        self._output = torch.from_numpy(_bits(output))
        self._copier = copier
        self._in_flight: deque[tuple[int, Tensor, Callable[[], object]]] = deque()

    def send(self, begin: int, strip: Tensor) -> None:
        """Send the rows from ``begin`` on, ``(rows, W, C)`` as :func:`quantize` returns them."""
        if self._copier is None:
            self._put(begin, strip)
            return
        while len(self._in_flight) >= _MAX_IN_FLIGHT:
            self._receive()
        self._in_flight.append((begin, *self._copier(strip)))

    def finish(self) -> None:
        """Wait until everything sent is in the array."""
        while self._in_flight:
            self._receive()

    def _receive(self) -> None:
        begin, strip, wait = self._in_flight.popleft()
        wait()
        self._put(begin, strip)

    def _put(self, begin: int, strip: Tensor) -> None:
        self._output[begin : begin + len(strip)].copy_(strip)


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
    return pixels.view(np.int16) if pixels.dtype == np.uint16 else pixels


def _bits_dtype(dtype: DTypeLike) -> torch.dtype:
    return torch.int16 if np.dtype(dtype) == np.uint16 else torch.uint8
