"""The CUDA backend without a GPU: the real kernels and host code, with kernels run by fibers on the CPU."""

from __future__ import annotations

import ctypes
import functools
import secrets
import shutil
import struct
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

import torch

from gsrcli import rasterizer
from gsrcli.rasterizer import cuda, op

__all__ = ["COMPILER", "EmulatedModule", "compile_library", "emulated_cuda"]

COMPILER = shutil.which("g++")
_TESTS = Path(__file__).parent
_CPU_FLAGS = _TESTS.parent.parent / "csrc" / "cpu_flags"


class EmulatedModule:
    """The counterpart on the CPU of what :func:`gsrcli.rasterizer.nvrtc.load` returns.

    Args:
        source: CUDA C++ that includes no files of this project.
        kernels: names of the kernels in it.
        seed: random seed for the order in which the lanes of a warp take turns.
        sanitized: whether to check memory accesses; needs a process with AddressSanitizer preloaded.
    """

    def __init__(self, source: str, kernels: tuple[str, ...], seed: int = 0, sanitized: bool = False) -> None:
        self._library = _library(source, kernels, sanitized)
        self._seed = seed

    def launch(self, name: str, grid: int, block: int, *arguments: torch.Tensor | int | float) -> None:
        assert 0 < grid < 1 << 31, "a grid that CUDA refuses"
        words = b"".join(map(_word, arguments))
        self._library.emulate(name.encode(), ctypes.c_longlong(grid), block, words, self._seed)


def _word(argument: torch.Tensor | int | float) -> bytes:
    """Return the eight bytes that cuda.core would pass on."""
    if isinstance(argument, torch.Tensor):
        return struct.pack("q", argument.data_ptr())
    return struct.pack("d" if isinstance(argument, float) else "q", argument)


@functools.cache
def _library(source: str, kernels: tuple[str, ...], sanitized: bool) -> ctypes.CDLL:
    code = Path(_folder()) / f"{secrets.token_hex(8)}.cpp"
    runs = "\n".join(f"    EMULATE({kernel})" for kernel in kernels)
    code.write_text(_LIBRARY.format(source=source, runs=runs), encoding="utf-8")
    flags = ["-O1", "-Wall", "-Wextra", "-Werror", "-Wno-unknown-pragmas"]
    flags += ["-fsanitize=address", "-g"] if sanitized else []
    target = code.with_suffix(".so")
    compile_library(code, target, *flags, f"-I{_TESTS}")
    return ctypes.CDLL(str(target))


def compile_library(source: Path, target: Path, *flags: str) -> None:
    """Compile C++ like the CPU rasterizer, with additional flags, which take precedence."""
    assert COMPILER is not None
    ours = _CPU_FLAGS.read_text(encoding="utf-8").split()
    subprocess.run([COMPILER, *ours, "-shared", *flags, str(source), "-o", str(target)], check=True)


_LIBRARY = """
#include "cuda_on_cpu.h"
{source}
extern "C" void emulate(const char* name, long long grid, int block, const std::uint64_t* arguments, int seed) {{
{runs}
    emulated::fail(name);
}}
"""


@functools.cache
def _folder() -> str:
    folder = tempfile.TemporaryDirectory()
    _kept.append(folder)
    return folder.name


_kept: list[tempfile.TemporaryDirectory[str]] = []


@contextmanager
def emulated_cuda(seed: int = 0, *, sanitized: bool = False) -> Iterator[None]:
    """Draw fields on the CPU with the CUDA backend, and poison memory that torch leaves uninitialized.

    For ``seed`` and ``sanitized`` see :class:`EmulatedModule`.
    """

    def kernels(channels: int, device: object) -> EmulatedModule:
        return EmulatedModule(cuda.source(channels), cuda._KERNELS, seed, sanitized)

    with (
        mock.patch.object(cuda, "_kernels", kernels),
        mock.patch.object(op, "cpu", cuda),
        mock.patch.object(rasterizer, "backend", return_value=("cuda", "emulated")),
        _poison(),
    ):
        yield


@contextmanager
def _poison() -> Iterator[None]:
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True, warn_only=True)  # torch.empty is filled with NaN or the largest integer
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)
