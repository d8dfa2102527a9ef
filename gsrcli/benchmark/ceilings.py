"""The best performance that the device can reach."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from gsrcli.runtime.devices import precision_name
from gsrcli.runtime.timing import Clock

__all__ = ["Ceilings", "measure_ceilings"]

_TRIES = 5


@dataclass(frozen=True)
class Ceilings:
    """The best rates of a device.

    Attributes:
        precision: dtype of the matrix product, such as bfloat16.
        matmul_flop_per_s: measured rate of a large matrix product.
        copy_bytes_per_s: measured rate of a large copy; bytes read and bytes written both count.
        fp32_instructions_per_s: multiprocessors x lanes x highest clock, or None if they are unknown.
    """

    precision: str
    matmul_flop_per_s: float
    copy_bytes_per_s: float
    fp32_instructions_per_s: float | None


def measure_ceilings(device: torch.device, dtype: torch.dtype) -> Ceilings:
    """Measure the ceilings: the best of several tries."""
    clock = Clock(device)
    # Larger than the caches, and long enough to time.
    side, length = (8192, 1 << 30) if device.type == "cuda" else (2048, 1 << 28)
    matrix = torch.randn(side, side, device=device).to(dtype)
    product = torch.empty_like(matrix)
    multiplying = min(clock.samples(lambda: torch.mm(matrix, matrix, out=product), _TRIES))
    source = torch.zeros(length, dtype=torch.uint8, device=device)
    target = torch.ones_like(source)
    copying = min(clock.samples(lambda: target.copy_(source), _TRIES))
    return Ceilings(precision_name(dtype), 2 * side**3 / multiplying, 2 * length / copying, _fp32_rate(device))


def _fp32_rate(device: torch.device) -> float | None:
    if device.type != "cuda" or torch.version.cuda is None:
        return None
    try:
        from cuda.core import Device
    except ImportError:
        return None
    properties = torch.cuda.get_device_properties(device)  # include the clock in some versions of torch only
    kilohertz = Device(torch.cuda.current_device() if device.index is None else device.index).properties.clock_rate
    # Compute capabilities up to 8.0 have half the lanes of later ones.
    lanes = 64 if (properties.major, properties.minor) <= (8, 0) else 128
    return properties.multi_processor_count * lanes * kilohertz * 1e3
