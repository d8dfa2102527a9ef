"""What the machine that is timed on can do at best."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from gsrcli.runtime.timing import Clock

__all__ = ["Ceilings", "measure_ceilings"]

_TRIES = 5


@dataclass(frozen=True)
class Ceilings:
    """What a device does at best.

    Attributes:
        precision: the arithmetic of the matrix product, such as bfloat16.
        matmul_flop_per_s: of a large matrix product, measured.
        copy_bytes_per_s: of a large copy, read and written, measured.
        fp32_instructions_per_s: multiprocessors x lanes x highest clock, or None where they are not known.
    """

    precision: str
    matmul_flop_per_s: float
    copy_bytes_per_s: float
    fp32_instructions_per_s: float | None


def measure_ceilings(device: torch.device, dtype: torch.dtype) -> Ceilings:
    """The best of several tries."""
    clock = Clock(device)
    # Beyond the caches, and long enough to be timed.
    side, length = (8192, 1 << 30) if device.type == "cuda" else (2048, 1 << 28)
    matrix = torch.randn(side, side, device=device).to(dtype)
    product = torch.empty_like(matrix)
    multiplying = min(clock.samples(lambda: torch.mm(matrix, matrix, out=product), _TRIES))
    source = torch.zeros(length, dtype=torch.uint8, device=device)
    target = torch.ones_like(source)
    copying = min(clock.samples(lambda: target.copy_(source), _TRIES))
    precision = str(dtype).removeprefix("torch.")
    return Ceilings(precision, 2 * side**3 / multiplying, 2 * length / copying, _fp32_rate(device))


def _fp32_rate(device: torch.device) -> float | None:
    if device.type != "cuda" or torch.version.cuda is None:
        return None
    try:
        from cuda.core import Device
    except ImportError:
        return None
    properties = torch.cuda.get_device_properties(device)  # which tell the clock in some versions of torch alone
    kilohertz = Device(torch.cuda.current_device() if device.index is None else device.index).properties.clock_rate
    # Compute capability 7 and 8.0 have half the lanes of what came after.
    lanes = 64 if (properties.major, properties.minor) <= (8, 0) else 128
    return properties.multi_processor_count * lanes * kilohertz * 1e3
