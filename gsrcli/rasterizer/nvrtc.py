"""CUDA C++ at run time: compiled by NVRTC, cached on disk, launched on torch's current stream.

No CUDA toolkit is needed: NVRTC and the driver's bindings come with torch's CUDA builds; ``cuda.core`` wraps them.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import platformdirs
import torch
from torch import Tensor

from gsrcli.errors import UnavailableError
from gsrcli.runtime.files import write_whole

if TYPE_CHECKING:
    from cuda.core import Kernel, ObjectCode

__all__ = ["OPTIONS", "CompileTarget", "Module", "cache_folder", "compiled", "load", "target_of", "version"]

CompileTarget = tuple[Literal["cubin", "ptx"], str]
"""Kind of code and architecture, such as ("cubin", "sm_90"). Drivers compile PTX for newer GPUs."""

OPTIONS = {"std": "c++17"}
"""Compiler options besides the architecture: arguments of ``cuda.core.ProgramOptions``."""

_LENGTH_OF_DIGEST = 32


class Module:
    """A compiled source on one device."""

    def __init__(self, code: ObjectCode, device: torch.device) -> None:
        self._code = code
        self._device = device
        self._kernels: dict[str, Kernel] = {}

    def launch(self, name: str, grid: int | tuple[int, int, int], block: int, *arguments: Tensor | int | float) -> None:
        """Start a kernel on torch's current stream.

        Args:
            name: name of an ``extern "C"`` kernel.
            grid: number of blocks, at least one.
            block: threads per block.
            arguments: tensors are passed as pointers, int as ``long long``, float as ``double``; kernels take nothing
                else.
        """
        from cuda.core import LaunchConfig, launch

        kernel = self.kernel(name)
        # cuda.core passes a Python int as 8 bytes and a float as a double.
        plain = (a.data_ptr() if isinstance(a, Tensor) else a for a in arguments)
        with _current(self._device):
            stream = _Stream(torch.cuda.current_stream(self._device).cuda_stream)
            launch(stream, LaunchConfig(grid=grid, block=block), kernel, *plain)

    def kernel(self, name: str) -> Kernel:
        """Load a kernel.

        Raises:
            UnavailableError: there is no kernel of that name, or the driver rejects the code.
        """
        if name not in self._kernels:
            try:
                with _current(self._device):
                    self._kernels[name] = self._code.get_kernel(name)
            except Exception as error:  # cuda.core's errors share no public class
                raise UnavailableError(f"the driver cannot load {name}: {error}") from error
        return self._kernels[name]


class _Stream:
    """torch's stream, by the protocol through which cuda.core accepts other libraries' streams."""

    def __init__(self, handle: int) -> None:
        self._handle = handle

    def __cuda_stream__(self) -> tuple[int, int]:
        return 0, self._handle


@contextmanager
def _current(device: torch.device) -> Iterator[None]:
    """Make a device current for torch and, through its primary context, for cuda.core, in the calling thread.

    torch alone is not enough: it does nothing if it believes the device to be current already, and in a thread that has
    not computed anything yet, such as autograd's, the driver then has no context to launch in.
    """
    from cuda.core import Device

    with torch.cuda.device(device):
        Device(device.index).set_current()
        yield


def load(source: str, device: torch.device) -> Module:
    """Load a source on a device, compiling it unless its code is cached on disk.

    Args:
        source: CUDA C++17 without includes.
        device: CUDA device; without an index, the current one.

    Raises:
        UnavailableError: cuda.core, the driver's bindings or NVRTC are missing, torch was not built for CUDA, or the
            source does not compile; the message then contains the compiler's log.
    """
    if torch.version.cuda is None:
        raise UnavailableError("this torch was not built for CUDA")
    index = torch.cuda.current_device() if device.index is None else device.index
    return _load(source, index)


@functools.cache
def _load(source: str, index: int) -> Module:
    device = torch.device("cuda", index)
    target = target_of(torch.cuda.get_device_capability(device))
    code = compiled(source, target)
    from cuda.core import ObjectCode

    with _current(device):
        return Module(ObjectCode.from_cubin(code) if target[0] == "cubin" else ObjectCode.from_ptx(code), device)


def target_of(capability: tuple[int, int]) -> CompileTarget:
    """Choose what to compile for a device: machine code, or PTX if NVRTC is older than the device.

    Raises:
        UnavailableError: the device is too old for NVRTC, or NVRTC is missing.
    """
    wanted = 10 * capability[0] + capability[1]
    best = max((known for known in _architectures() if known <= wanted), default=None)
    if best is None:
        raise UnavailableError(f"NVRTC {version()} does not support GPUs as old as compute capability {wanted / 10}")
    return ("cubin", f"sm_{best}") if best == wanted else ("ptx", f"compute_{best}")


def compiled(source: str, target: CompileTarget) -> bytes:
    """Return the code of a source for a target, from the disk cache if it is there; raises as :func:`load` does.

    Cached code is preceded by its SHA-256, and compiled again if that does not match.
    """
    path = _path_of(source, target)
    with suppress(OSError):
        content = path.read_bytes()
        digest, code = content[:_LENGTH_OF_DIGEST], content[_LENGTH_OF_DIGEST:]
        if digest == hashlib.sha256(code).digest():
            return code
    code = _compile(source, target)
    with suppress(OSError):  # a cache that cannot be written only costs time
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, hashlib.sha256(code).digest() + code)
    return code


def cache_folder() -> Path:
    """Return the folder of compiled kernels. It may be deleted at any time."""
    return platformdirs.user_cache_path("gsrcli") / "kernels"


def _path_of(source: str, target: CompileTarget) -> Path:
    key = hashlib.sha256("\0".join((version(), repr(OPTIONS), *target, source)).encode()).hexdigest()
    return cache_folder() / f"{target[1]}-{key[:32]}.bin"


@functools.cache
def version() -> str:
    """Return NVRTC's version, such as "13.0".

    Raises:
        UnavailableError: NVRTC or its Python bindings are missing.
    """
    try:
        from cuda.bindings import nvrtc
        from cuda.core import Program  # noqa: F401 (checks that it is installed)

        status, major, minor = nvrtc.nvrtcVersion()
    except (ImportError, RuntimeError) as error:  # a module is missing, or the library that it loads
        reason, cuda = str(error).strip().splitlines()[0], (torch.version.cuda or "13").split(".")[0]
        raise UnavailableError(f"NVRTC is missing: {reason} (try: pip install 'cuda-core[cu{cuda}]')") from error
    if status != nvrtc.nvrtcResult.NVRTC_SUCCESS:
        raise UnavailableError(f"NVRTC cannot be used: {status.name}")
    return f"{major}.{minor}"


def _architectures() -> list[int]:
    version()
    from cuda.bindings import nvrtc

    return list(nvrtc.nvrtcGetSupportedArchs()[1])


def _compile(source: str, target: CompileTarget) -> bytes:
    version()
    from cuda.core import Program, ProgramOptions

    kind, architecture = target
    try:
        with closing(Program(source, "c++", ProgramOptions(arch=architecture, **OPTIONS))) as program:
            return bytes(program.compile(kind).code)
    except Exception as error:  # cuda.core's errors share no public class
        raise UnavailableError(f"the CUDA kernels do not compile for {architecture}: {error}") from error
