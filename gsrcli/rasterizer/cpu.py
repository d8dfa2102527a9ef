"""The compiled CPU backend: ``csrc/rasterize_cpu.cpp`` through ctypes, which releases the GIL."""

from __future__ import annotations

import ctypes
import functools
from pathlib import Path

import torch
from torch import Tensor

from gsrcli.errors import UnavailableError
from gsrcli.rasterizer.view import View

__all__ = ["backward", "forward", "instruction_set", "load"]

_ABI_VERSION = 2
_LIBRARY = Path(__file__).resolve().parent.parent / "_rasterize_cpu.so"


class _Field(ctypes.Structure):
    _fields_ = [(name, ctypes.c_void_p) for name in ("centre", "sigma", "rho", "value")] + [
        (name, ctypes.c_int64) for name in ("batch", "count", "channels")
    ]


class _FieldGradient(ctypes.Structure):
    _fields_ = [(name, ctypes.c_void_p) for name in ("centre", "sigma", "rho", "value")]


class _View(ctypes.Structure):
    _fields_ = [(name, ctypes.c_longlong) for name in ("height", "width", "origin_y", "origin_x")] + [
        (name, ctypes.c_double) for name in ("scale_y", "scale_x", "q_max", "window_y", "window_x", "smallest_sigma")
    ]


@functools.cache
def load() -> ctypes.CDLL:
    """Load the library.

    Raises:
        UnavailableError: the library was not built, does not load, or belongs to another version.
    """
    if not _LIBRARY.exists():
        raise UnavailableError("the CPU rasterizer was not compiled when gsrcli was installed (no C++17 compiler?)")
    try:
        library = ctypes.CDLL(str(_LIBRARY))
    except OSError as error:
        raise UnavailableError(f"the compiled CPU rasterizer does not load: {error}") from error
    if not hasattr(library, "gsr_abi_version") or library.gsr_abi_version() != _ABI_VERSION:
        raise UnavailableError("the compiled CPU rasterizer belongs to another version of gsrcli: reinstall it")
    library.gsr_instruction_set.restype = ctypes.c_char_p
    pointer = ctypes.c_void_p
    library.gsr_rasterize.argtypes = [pointer, pointer, pointer, ctypes.c_int]
    library.gsr_rasterize_backward.argtypes = [pointer, pointer, pointer, pointer, ctypes.c_int]
    return library


def instruction_set() -> str:
    """Return which variant of the kernels runs on this processor: avx512, avx2 or baseline."""
    return load().gsr_instruction_set().decode()


def forward(fields: tuple[Tensor, Tensor, Tensor, Tensor], view: View) -> Tensor:
    """Draw centre, sigma, rho and value (contiguous float32) into a new ``(B, C, H, W)`` tensor."""
    field = _field(fields)
    image = torch.empty(field.batch, field.channels, *view.size)
    _check(load().gsr_rasterize(_at(field), _at(_view(view)), image.data_ptr(), torch.get_num_threads()))
    return image


def backward(
    fields: tuple[Tensor, Tensor, Tensor, Tensor], view: View, image_gradient: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the gradients of centre, sigma, rho and value from the image's gradient (contiguous float32)."""
    centre, sigma, rho, value = fields
    gradients = (torch.empty_like(centre), torch.empty_like(sigma), torch.empty_like(rho), torch.empty_like(value))
    out = _FieldGradient(*(gradient.data_ptr() for gradient in gradients))
    _check(
        load().gsr_rasterize_backward(
            _at(_field(fields)), _at(_view(view)), image_gradient.data_ptr(), _at(out), torch.get_num_threads()
        )
    )
    return gradients


def _field(fields: tuple[Tensor, ...]) -> _Field:
    return _Field(*(tensor.data_ptr() for tensor in fields), *fields[3].shape)


def _view(view: View) -> _View:
    return _View(*view.numbers)


def _at(structure: ctypes.Structure) -> ctypes.c_void_p:
    return ctypes.cast(ctypes.pointer(structure), ctypes.c_void_p)


def _check(status: int) -> None:
    if status != 0:
        raise MemoryError("the CPU rasterizer ran out of memory")
