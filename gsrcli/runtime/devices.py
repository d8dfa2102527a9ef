"""The device and the precision to compute with."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar, get_args

import torch
from torch import Tensor, nn
from torch.backends import cudnn

from gsrcli.errors import UsageError
from gsrcli.runtime.precision import Precision

Module = TypeVar("Module", bound=nn.Module)

__all__ = ["autocast", "channels_last", "pick_device", "pick_precision", "precision_name", "send"]


def pick_device(name: str = "auto") -> torch.device:
    """Return the device called ``name``; for "auto", a CUDA GPU if there is one, else the CPU.

    Raises:
        UsageError: this machine has no such device.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).item()
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise UsageError(f"device {name!r} cannot be used here", hint="try --device cpu") from error
    return device


def pick_precision(
    device: torch.device, precision: Precision = "auto", lowest: torch.dtype = torch.bfloat16
) -> torch.dtype:
    """Return the network's dtype: for "auto", bfloat16 if the hardware supports it, else float32. Never float16.

    Args:
        lowest: lowest precision that "auto" may choose: a model's ``traits.precision``.

    Raises:
        UsageError: the precision is unknown.
    """
    if precision not in get_args(Precision):
        raise UsageError(f"invalid precision {precision!r}: use auto, float32 or bfloat16")
    if precision == "auto":
        return torch.bfloat16 if lowest == torch.bfloat16 and _has_bfloat16(device) else torch.float32
    return {"float32": torch.float32, "bfloat16": torch.bfloat16}[precision]


def precision_name(dtype: torch.dtype) -> str:
    """Return the name of a precision, such as bfloat16."""
    return str(dtype).removeprefix("torch.")


def _has_bfloat16(device: torch.device) -> bool:
    if device.type == "cuda":
        with torch.cuda.device(device):  # the device that torch queries
            return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type == "cpu":
        capabilities: dict[str, object] = getattr(torch.cpu, "get_capabilities", dict)()  # absent before torch 2.12
        return any(capabilities.get(name, False) for name in ("avx512_bf16", "amx_bf16", "bf16"))
    return False


@contextmanager
def autocast(device: torch.device, dtype: torch.dtype) -> Iterator[None]:
    """Run the network in ``dtype`` inside this context, and what stays in float32 in full float32.

    cuDNN chooses algorithms by rules, torch's default, and not by timing (``cudnn.benchmark``): timings change with the
    machine's load, and with them the last bits, but the same picture must give the same bytes.
    """
    with _full_convolutions(), torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
        yield


@contextmanager
def _full_convolutions() -> Iterator[None]:
    """Keep cuDNN from rounding the factors in float32 convolutions to TF32, which has 10 bits.

    It does so by torch's default, while matrix products do not. Since torch 2.9 convolutions have a setting of their
    own; reading the older setting after either of them has been set may raise an error.
    """
    settings, name, full = (
        (cudnn.conv, "fp32_precision", "ieee") if hasattr(cudnn, "conv") else (cudnn, "allow_tf32", False)
    )
    usual = getattr(settings, name)
    setattr(settings, name, full)
    try:
        yield
    finally:
        setattr(settings, name, usual)


def send(tensor: Tensor, device: torch.device) -> Tensor:
    """Copy a tensor from the host to a device, without waiting for pending work on a CUDA device."""
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)


def channels_last(module: Module) -> Module:
    """Lay out a module's weights as convolutions read them fastest, and return the module."""
    return module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
