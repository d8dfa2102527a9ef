"""Score models in the way that papers do.

:func:`evaluate` scores what an :class:`EvalConfig` lists; :func:`prepare` leaves the loop to its caller. ``datasets``
and ``versions`` find the pictures, ``protocols`` says how they are compared, ``methods`` restores them, ``runner``
scores them case by case, ``report`` and ``gallery`` present the results, ``published`` knows results from papers.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from gsrcli.evaluation.config import EvalConfig

if TYPE_CHECKING:
    from gsrcli.evaluation.entry import evaluate, prepare

__all__ = ["EvalConfig", "evaluate", "prepare"]


def __getattr__(name: str) -> Any:
    """Import the functions at first use, because they import torch (PEP 562)."""
    if name not in ("evaluate", "prepare"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module("gsrcli.evaluation.entry"), name)
