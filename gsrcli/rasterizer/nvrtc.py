"""CUDA C++ at run time: compiled by NVRTC, kept on disk, launched on torch's current stream.

No CUDA toolkit is needed: NVRTC and the driver's bindings come with torch's CUDA builds, and ``cuda.core`` joins them.
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
"""Machine code for one architecture, or code that the driver compiles for those after it; and which, such as sm_90."""

OPTIONS = {"std": "c++17"}
"""How every source is compiled, beside its architecture, in the words of ``cuda.core.ProgramOptions``."""

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
            name: of an ``extern "C"`` kernel.
            grid: blocks, at least one.
            block: threads a block.
            arguments: tensors become pointers, int ``long long`` and float ``double``: kernels take nothing else.
        """
        from cuda.core import LaunchConfig, launch

        kernel = self.kernel(name)
        # cuda.core passes a Python int on in 8 bytes and a float as a double.
        plain = (a.data_ptr() if isinstance(a, Tensor) else a for a in arguments)
        with _current(self._device):
            stream = _Stream(torch.cuda.current_stream(self._device).cuda_stream)
            launch(stream, LaunchConfig(grid=grid, block=block), kernel, *plain)

    def kernel(self, name: str) -> Kernel:
        """A kernel, loaded.

        Raises:
            UnavailableError: there is none of that name, or the driver refuses the code.
        """
        if name not in self._kernels:
            try:
                with _current(self._device):
                    self._kernels[name] = self._code.get_kernel(name)
            except Exception as error:  # cuda.core's errors share no public class
                raise UnavailableError(f"the driver does not load {name}: {error}") from error
        return self._kernels[name]


class _Stream:
    """torch's stream as cuda.core takes streams from others."""

    def __init__(self, handle: int) -> None:
        self._handle = handle

    def __cuda_stream__(self) -> tuple[int, int]:
        return 0, self._handle


@contextmanager
def _current(device: torch.device) -> Iterator[None]:
    """Make a device current for torch and, by its primary context, for cuda.core, in whichever thread this is.

    torch alone does not do: where it takes a device for the current one already it calls nothing, and in a thread that
    has computed nothing yet, such as autograd's, the driver then knows no context to launch in.
    """
    from cuda.core import Device

    with torch.cuda.device(device):
        Device(device.index).set_current()
        yield


def load(source: str, device: torch.device) -> Module:
    """A source, compiled for a device or found compiled on disk.

    Args:
        source: CUDA C++17 that includes no files.
        device: of type "cuda"; the current one where it has no index.

    Raises:
        UnavailableError: cuda.core, the driver's bindings or NVRTC are missing, torch was not built for CUDA, or the
            source does not compile: then the message holds the compiler's own log.
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
    """What to compile for a device: its machine code, or where NVRTC is older than the device, PTX.

    Raises:
        UnavailableError: the device is older than all that NVRTC knows, or there is no NVRTC.
    """
    wanted = 10 * capability[0] + capability[1]
    best = max((known for known in _architectures() if known <= wanted), default=None)
    if best is None:
        raise UnavailableError(f"NVRTC {version()} compiles for no device as old as compute capability {wanted / 10}")
    return ("cubin", f"sm_{best}") if best == wanted else ("ptx", f"compute_{best}")


def compiled(source: str, target: CompileTarget) -> bytes:
    """A source compiled for a target, from disk where it was compiled before. See :func:`load` for what is raised.

    What lies on disk is preceded by its SHA-256, and compiled anew where that does not fit.
    """
    path = _path_of(source, target)
    with suppress(OSError):
        content = path.read_bytes()
        digest, code = content[:_LENGTH_OF_DIGEST], content[_LENGTH_OF_DIGEST:]
        if digest == hashlib.sha256(code).digest():
            return code
    code = _compile(source, target)
    with suppress(OSError):  # a cache that cannot be written costs time, no more
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, hashlib.sha256(code).digest() + code)
    return code


def cache_folder() -> Path:
    """Where compiled kernels are kept. It may be deleted at any time."""
    return platformdirs.user_cache_path("gsrcli") / "kernels"


def _path_of(source: str, target: CompileTarget) -> Path:
    key = hashlib.sha256("\0".join((version(), repr(OPTIONS), *target, source)).encode()).hexdigest()
    return cache_folder() / f"{target[1]}-{key[:32]}.bin"


@functools.cache
def version() -> str:
    """NVRTC's version, such as "13.0".

    Raises:
        UnavailableError: there is no NVRTC, or nothing to call it with.
    """
    try:
        from cuda.bindings import nvrtc
        from cuda.core import Program  # noqa: F401 (whether it is there)

        status, major, minor = nvrtc.nvrtcVersion()
    except (ImportError, RuntimeError) as error:  # what is missing is a module, or the library behind it
        reason, cuda = str(error).strip().splitlines()[0], (torch.version.cuda or "13").split(".")[0]
        raise UnavailableError(f"NVRTC is missing: {reason} (pip install 'cuda-core[cu{cuda}]' brings it)") from error
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
