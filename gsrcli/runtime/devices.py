"""Where and how precisely to compute."""

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

__all__ = ["autocast", "channels_last", "pick_device", "pick_precision", "send"]


def pick_device(name: str = "auto") -> torch.device:
    """The device called ``name``; for "auto" a GPU if there is one.

    Raises:
        UsageError: there is no such device here.
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
    """The network's dtype: for "auto" bfloat16 where the hardware has it, float32 elsewhere. Never float16.

    Args:
        lowest: what "auto" stays at or above: a model's ``traits.precision``.

    Raises:
        UsageError: the precision is none of these.
    """
    if precision not in get_args(Precision):
        raise UsageError(f"the precision is auto, float32 or bfloat16, not {precision}")
    if precision == "auto":
        return torch.bfloat16 if lowest == torch.bfloat16 and _has_bfloat16(device) else torch.float32
    return {"float32": torch.float32, "bfloat16": torch.bfloat16}[precision]


def _has_bfloat16(device: torch.device) -> bool:
    if device.type == "cuda":
        with torch.cuda.device(device):  # of which it asks
            return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type == "cpu":
        capabilities: dict[str, object] = getattr(torch.cpu, "get_capabilities", dict)()  # absent before torch 2.12
        return any(capabilities.get(name, False) for name in ("avx512_bf16", "amx_bf16", "bf16"))
    return False


@contextmanager
def autocast(device: torch.device, dtype: torch.dtype) -> Iterator[None]:
    """A context in which the network computes in ``dtype``, and what it keeps in float32 in nothing less.

    cuDNN's choice of algorithms is left as torch has it, by rules and not by timing (``cudnn.benchmark``): the choice
    would turn with the machine's load, and with it the last bits, and the same picture is to give the same bytes.
    """
    with _full_convolutions(), torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
        yield


@contextmanager
def _full_convolutions() -> Iterator[None]:
    """Keep cuDNN from rounding what float32 convolutions multiply to TF32, of 10 bits.

    It does by torch's default, while matrix products do not. From torch 2.9 on there is a setting for convolutions
    alone; to read the older one, after either of them has been set, may be an error.
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
    """Put a tensor of the host on a device, without waiting for a CUDA device's work so far."""
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)


def channels_last(module: Module) -> Module:
    """The module itself, its weights laid out as convolutions read them fastest."""
    return module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
