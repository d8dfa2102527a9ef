"""Pixels between an array of the host and a device: up as tiles, down as strips, as integers both ways.

Integers are a quarter or half of what float32 is, and a device converts them faster than the host. To and from a CUDA
device they go through pinned memory, and nobody waits for them who does not need them yet. Pinned memory comes from
torch's caching allocator, which notes the copies begun in a piece and gives it out again only after the last of them.
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

__all__ = ["Readback", "SideStream", "quantize", "upload"]

_UNDER_WAY = 2


def upload(pixels: Pixels, device: torch.device) -> Tensor:
    """Integers of any shape, uint8 or uint16, as float32 in [0, 1] on a device: the values of `images.to_unit`."""
    staged = torch.empty(pixels.shape, dtype=_bits_dtype(pixels.dtype), pin_memory=device.type == "cuda")
    staged.numpy()[...] = _bits(pixels)
    integers = staged.to(device, non_blocking=device.type == "cuda")
    if integers.dtype == torch.int16:
        integers = integers.int().bitwise_and_(0xFFFF)
    values = integers.float()
    # By a tensor, because by a number CUDA does not divide but multiplies by its rounded reciprocal.
    return values.div_(values.new_full((), np.iinfo(pixels.dtype).max))


def quantize(values: Tensor, dtype: DTypeLike) -> Tensor:
    """Values of any shape as the bits of uint8 or uint16, contiguous: those of `images.from_unit`.

    Sixteen bits come as int16, because devices know little of uint16.
    """
    top = np.iinfo(np.dtype(dtype)).max
    scaled = values.mul(top).round_().clamp_(0, top)
    bits = _bits_dtype(dtype)
    if bits == torch.int16:
        scaled = scaled.int()  # beyond int16, what does not fit in floating point is undefined, in integers wraps round
    return scaled.to(bits, memory_format=torch.contiguous_format)


class Readback:
    """Strips on their way from a device into an array.

    With a copier two strips may be under way: one is copied to the host and the next is drawn while an older one is
    put into the array. Without, each is put there at once.

    Args:
        output: ``(H, W, C)``, uint8 or uint16, complete after :meth:`finish`.
        copier: begins to copy a strip to the host; gives the copy, and a function that waits until it is one. See
            :meth:`SideStream.of`.
    """

    def __init__(self, output: Pixels, copier: Callable[[Tensor], tuple[Tensor, Callable[[], object]]] | None) -> None:
        self._output = torch.from_numpy(_bits(output))
        self._copier = copier
        self._under_way: deque[tuple[int, Tensor, Callable[[], object]]] = deque()

    def send(self, begin: int, strip: Tensor) -> None:
        """Rows from ``begin`` on, ``(rows, W, C)`` from :func:`quantize`."""
        if self._copier is None:
            self._put(begin, strip)
            return
        while len(self._under_way) >= _UNDER_WAY:
            self._receive()
        self._under_way.append((begin, *self._copier(strip)))

    def finish(self) -> None:
        """Wait for all that was sent."""
        while self._under_way:
            self._receive()

    def _receive(self) -> None:
        begin, strip, wait = self._under_way.popleft()
        wait()
        self._put(begin, strip)

    def _put(self, begin: int, strip: Tensor) -> None:
        self._output[begin : begin + len(strip)].copy_(strip)


class SideStream:
    """Copies from a CUDA device to the host, in a stream beside the current one."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream = torch.cuda.Stream(device)

    @classmethod
    def of(cls, device: torch.device) -> SideStream | None:
        """One of the device, or None where copying waits, as on all but CUDA."""
        return cls(device) if device.type == "cuda" else None

    def __call__(self, tensor: Tensor) -> tuple[Tensor, Callable[[], object]]:
        """A copy of what the current stream makes of a tensor, and a function that waits until it is one."""
        copy = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
        self._stream.wait_stream(torch.cuda.current_stream(self._device))
        with torch.cuda.stream(self._stream):
            copy.copy_(tensor, non_blocking=True)
        tensor.record_stream(self._stream)  # or its memory could be given out while it is being read
        return copy, self._stream.record_event().synchronize


def _bits(pixels: Pixels) -> NDArray[Any]:
    return pixels.view(np.int16) if pixels.dtype == np.uint16 else pixels


def _bits_dtype(dtype: DTypeLike) -> torch.dtype:
    return torch.int16 if np.dtype(dtype) == np.uint16 else torch.uint8
