"""Build steps that pyproject.toml cannot express: the native library, and one wheel for every Python version.

The library is plain C++ behind a C ABI, loaded with ctypes: it links neither Python nor torch, so one build works with
every version. If it cannot be compiled, the installation continues without it, and gsrcli draws in plain torch.
GSRCLI_PURE=1 leaves it out; the wheel then works on every platform.
"""

from __future__ import annotations

import os
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_ext import build_ext
from setuptools.command.build_py import build_py

SHIPPED = ("weights.toml", "csrc/gaussian.h", "csrc/rasterize_cuda.cu")  # CUDA is compiled where it runs


class BuildLibrary(build_ext):
    """Builds the extension as a plain shared library, called gsrcli/_rasterize_cpu.so on every platform."""

    def get_ext_filename(self, fullname: str) -> str:
        return fullname.replace(".", "/") + ".so"

    def get_export_symbols(self, ext: Extension) -> list[str]:
        return []


class BuildPackage(build_py):
    """Copies files from the top of the repository into the package, where the installed program looks for them."""

    def run(self) -> None:
        super().run()
        if not self.editable_mode:
            for name in SHIPPED:
                target = Path(self.build_lib) / "gsrcli" / name
                self.mkpath(str(target.parent))
                self.copy_file(name, str(target))


class AnyPython(bdist_wheel):
    """Tags the wheel with the platform only, or as platform-independent if it has no library."""

    def get_tag(self) -> tuple[str, str, str]:
        return "py3", "none", super().get_tag()[2]


LIBRARY = Extension(
    "gsrcli._rasterize_cpu",
    sources=["csrc/rasterize_cpu.cpp"],
    depends=["csrc/gaussian.h", "csrc/cpu_flags"],
    include_dirs=["csrc"],
    extra_compile_args=Path(__file__).with_name("csrc").joinpath("cpu_flags").read_text("utf-8").split(),
    extra_link_args=["-pthread"],
    optional=True,
)

setup(
    ext_modules=[] if os.environ.get("GSRCLI_PURE") == "1" else [LIBRARY],
    cmdclass={"bdist_wheel": AnyPython, "build_ext": BuildLibrary, "build_py": BuildPackage},
)
