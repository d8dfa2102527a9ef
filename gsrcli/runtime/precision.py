"""The precisions that a network can be computed in. Does not need torch, so ``--help`` stays fast."""

from __future__ import annotations

from typing import Literal

__all__ = ["Precision"]

Precision = Literal["auto", "float32", "bfloat16"]
"""Precision of the network; Gaussians and their rasterization are always float32."""
