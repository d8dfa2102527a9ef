"""What a wheel holds, and which machines it says it is for."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LIBRARY = "gsrcli/_rasterize_cpu.so"


def wheel(folder: Path, **environment: str) -> Path:
    """Build a wheel from a copy of the sources, without the network."""
    source = folder / "source"
    ignored = shutil.ignore_patterns("__pycache__", "*.so")
    for name in ("gsrcli", "csrc"):
        shutil.copytree(ROOT / name, source / name, ignore=ignored)
    for name in ("setup.py", "pyproject.toml", "weights.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    build = f"from setuptools import build_meta; build_meta.build_wheel({str(folder)!r})"
    variables = {**os.environ, **environment}
    done = subprocess.run([sys.executable, "-c", build], cwd=source, env=variables, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (path,) = folder.glob("*.whl")
    return path


def test_a_pure_wheel_is_for_every_platform_and_has_no_library(tmp_path: Path) -> None:
    path = wheel(tmp_path, GSRCLI_PURE="1")
    assert path.name.endswith("-py3-none-any.whl")
    names = zipfile.ZipFile(path).namelist()
    assert LIBRARY not in names
    assert {"gsrcli/csrc/rasterize_cuda.cu", "gsrcli/weights.toml"} <= set(names)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="needs g++")
def test_a_wheel_with_the_library_is_for_one_platform_and_every_python(tmp_path: Path) -> None:
    path = wheel(tmp_path)
    python, abi, platform = path.stem.split("-")[-3:]
    assert (python, abi) == ("py3", "none")
    assert platform != "any"
    assert LIBRARY in zipfile.ZipFile(path).namelist()
