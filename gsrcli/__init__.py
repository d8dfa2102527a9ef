"""Upscale pictures by any factor with 2-D Gaussian splatting.

>>> import gsrcli
>>> gsrcli.upscale("photo.png", scale=6.5).save("large.png")  # doctest: +SKIP
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from gsrcli._version import __version__

if TYPE_CHECKING:
    from gsrcli.api import upscale
    from gsrcli.gaussians import Gaussians
    from gsrcli.rasterizer import rasterize
    from gsrcli.runtime.memory import keep_freed_memory
    from gsrcli.weights.load import load_model

__all__ = ["Gaussians", "__version__", "keep_freed_memory", "load_model", "rasterize", "upscale"]

_HOMES = {
    "Gaussians": "gsrcli.gaussians",
    "keep_freed_memory": "gsrcli.runtime.memory",
    "load_model": "gsrcli.weights.load",
    "rasterize": "gsrcli.rasterizer",
    "upscale": "gsrcli.api",
}


def __getattr__(name: str) -> Any:
    """Import the module of a name at its first use, because most modules import torch (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module 'gsrcli' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
