"""The arithmetic that a network may be computed in. Needs no torch, so that ``--help`` is quick."""

from __future__ import annotations

from typing import Literal

__all__ = ["Precision"]

Precision = Literal["auto", "float32", "bfloat16"]
"""The network's arithmetic; Gaussians and their rasterization are float32 always."""
