"""Copies of pixels to and from a device: the values of `gsrcli.images`, and every strip in its place."""

from __future__ import annotations

import itertools
import random
import warnings
from collections.abc import Callable

import numpy as np
import pytest
import torch

from gsrcli.images import from_unit, to_unit
from gsrcli.size import Box, Size
from gsrcli.upscaling.transfer import Readback, SideStream, quantize, upload

CPU = torch.device("cpu")
DEPTHS = pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


def every(dtype: type) -> np.ndarray:
    return np.arange(np.iinfo(dtype).max + 1).astype(dtype)


def tricky(top: int) -> np.ndarray:
    """Return every step, half and quarter step, the float32 values next to them, and values outside the range."""
    steps = np.arange(-2, top + 3, dtype=np.float64)
    values = ((steps[:, None] + [0, 0.25, 0.5]) / top).astype(np.float32).ravel()
    above, below = (np.nextafter(values, np.float32(towards)) for towards in (9, -9))
    outside = np.array([np.inf, -np.inf, -0.0, 1e30, -1e30, 1e-45], np.float32)
    return np.concatenate([values, above, below, outside])


@DEPTHS
def test_quantize_rounds_as_from_unit(dtype: type) -> None:
    values = tricky(np.iinfo(dtype).max)
    bits = quantize(torch.from_numpy(values), dtype).numpy()
    np.testing.assert_array_equal(bits.view(dtype), from_unit(values, dtype))
    assert len(np.unique(bits)) == np.iinfo(dtype).max + 1


@DEPTHS
def test_quantize_takes_halves_to_even(dtype: type) -> None:
    """A second reference besides from_unit: Python's rounding of the products in float32."""
    top = np.iinfo(dtype).max
    values = (np.arange(top) + 0.5).astype(np.float32) / np.float32(top)
    scaled = [float(np.float32(value * top)) for value in values.tolist()]
    assert sum(x % 2 == 0.5 for x in scaled) > 50
    assert sum(x % 2 == 1.5 for x in scaled) > 50
    expected = np.array([round(x) for x in scaled])
    np.testing.assert_array_equal(quantize(torch.from_numpy(values), dtype).numpy().view(dtype), expected)


@DEPTHS
def test_nan_becomes_black(dtype: type) -> None:
    nan = np.full(100, np.nan, np.float32)
    assert quantize(torch.from_numpy(nan), dtype).count_nonzero() == 0
    with np.errstate(invalid="ignore"):
        assert not from_unit(nan, dtype).any()


@DEPTHS
def test_quantize_keeps_its_argument_and_returns_contiguous_pixels(dtype: type) -> None:
    planes = torch.rand(3, 5, 7)
    before = planes.clone()
    bits = quantize(planes.permute(1, 2, 0), dtype)
    assert bits.is_contiguous()
    assert torch.equal(planes, before)
    np.testing.assert_array_equal(bits.numpy().view(dtype), from_unit(before.permute(1, 2, 0).numpy(), dtype))


@DEPTHS
def test_upload_gives_the_values_of_to_unit(dtype: type) -> None:
    np.testing.assert_array_equal(upload(every(dtype), CPU).numpy(), to_unit(every(dtype)))
    back = quantize(upload(every(dtype), CPU), dtype).numpy().view(dtype)
    np.testing.assert_array_equal(back, every(dtype))


@DEPTHS
def test_upload_accepts_views_and_read_only_arrays(dtype: type) -> None:
    pixels = np.random.default_rng(0).integers(0, np.iinfo(dtype).max, (9, 8, 3), dtype, endpoint=True)
    pixels.flags.writeable = False
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        part = upload(pixels[2:7, 1:5], CPU)
    np.testing.assert_array_equal(part.numpy(), to_unit(pixels[2:7, 1:5]))


FLOATS = np.array([0.0, -0.0, 1.0, 0.1, -7.5, 1e-45, 3.4e38, -3.4e38, 65535.7, -1e-30], np.float32)


def test_floating_point_is_copied_as_it_is() -> None:
    """Bit for bit, without rounding or clipping, in any layout."""
    pixels = np.stack([FLOATS, FLOATS[::-1], 2 / (FLOATS + 3)], axis=-1)[None, ::-1]
    values = upload(pixels, CPU)
    assert values.dtype == torch.float32
    assert np.array_equal(values.numpy().view(np.int32), np.ascontiguousarray(pixels).view(np.int32))
    bits = quantize(values.permute(2, 0, 1).contiguous().permute(1, 2, 0), np.float32)
    assert bits.is_contiguous()
    output = np.zeros_like(pixels, order="C")
    readback = Readback(output, None)
    readback.send(Box.whole(Size.of(pixels)), bits)
    readback.finish()
    assert np.array_equal(output.view(np.int32), np.ascontiguousarray(pixels).view(np.int32))


class Slow:
    """A copier whose copies are garbage until they are waited for, like those of a device."""

    def __init__(self) -> None:
        self.under_way = 0
        self.most = 0

    def __call__(self, strip: torch.Tensor) -> tuple[torch.Tensor, Callable[[], object]]:
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        copy = torch.randint_like(strip, 100)

        def wait() -> None:
            self.under_way -= 1
            copy.copy_(strip)

        return copy, wait


@DEPTHS
@pytest.mark.parametrize("copier", [Slow(), None], ids=["slow", "direct"])
@pytest.mark.parametrize("rows", [0, 1, 2, 3, 50])
@pytest.mark.parametrize("columns", [1, 4])
def test_every_part_arrives_in_its_place(dtype: type, copier: Slow | None, rows: int, columns: int) -> None:
    height = 200 if rows else 0
    sent = np.random.default_rng(1).integers(0, np.iinfo(dtype).max, (height, 60, 3), dtype, endpoint=True)

    def edges(length: int, parts: int) -> list[int]:
        return [0, *sorted(random.Random(2).sample(range(1, length), parts - 1)), length] if parts else []

    output = np.zeros_like(sent)
    readback = Readback(output, copier)
    for top, bottom in itertools.pairwise(edges(200, rows)):
        for left, right in itertools.pairwise(edges(60, columns)):
            part = quantize(upload(sent[top:bottom, left:right], CPU), dtype)
            readback.send(Box(top, bottom, left, right), part)
    readback.finish()
    np.testing.assert_array_equal(output, sent)
    if copier:
        assert copier.under_way == 0
        assert copier.most <= 2


def test_one_part_is_copied_while_the_next_is_drawn() -> None:
    copier = Slow()
    readback = Readback(np.zeros((8, 2, 3), np.uint8), copier)
    seen = []
    for begin in range(0, 8, 2):
        readback.send(Box(begin, begin + 2, 0, 2), torch.ones(2, 2, 3, dtype=torch.uint8))
        seen.append(copier.under_way)
    assert seen == [1, 2, 2, 2]


def test_only_cuda_copies_asynchronously() -> None:
    assert SideStream.of(CPU) is None
    assert SideStream.of(torch.device("mps")) is None


@pytest.mark.gpu
@needs_gpu
@DEPTHS
def test_a_gpu_rounds_and_divides_as_the_host(dtype: type) -> None:
    device = torch.device("cuda")
    np.testing.assert_array_equal(upload(every(dtype), device).cpu().numpy(), to_unit(every(dtype)))
    values = tricky(np.iinfo(dtype).max)
    bits = quantize(torch.from_numpy(values).to(device), dtype).cpu().numpy()
    np.testing.assert_array_equal(bits.view(dtype), from_unit(values, dtype))
    assert quantize(torch.full((100,), torch.nan, device=device), dtype).count_nonzero() == 0


@pytest.mark.gpu
@needs_gpu
def test_parts_of_a_gpu_arrive_intact_while_it_continues() -> None:
    """Each part's memory is freed and overwritten as soon as it is sent, after work that keeps the device busy."""
    device = torch.device("cuda")
    busy = torch.rand(2048, 2048, device=device)
    output = np.zeros((64 * 40, 512, 3), np.uint8)
    readback = Readback(output, SideStream.of(device))
    for i in range(40):
        busy = (busy @ busy).clamp_(0, 1)
        part = torch.full((64, 512, 3), i + 1, dtype=torch.uint8, device=device)
        readback.send(Box(64 * i, 64 * i + 64, 0, 512), part)
        del part
        torch.zeros(64, 512, 3, dtype=torch.uint8, device=device)
    readback.finish()
    np.testing.assert_array_equal(output, np.repeat(np.arange(1, 41), 64)[:, None, None] + np.zeros_like(output))
