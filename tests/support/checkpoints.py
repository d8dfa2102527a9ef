"""A tiny network whose weights matter."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from gsrcli.models import Model, build
from gsrcli.weights.checkpoint import save_model

TINY: dict[str, Any] = {"width": 8, "blocks": 1, "head_width": 16}
"""Config of a gsasr-lite with a few thousand parameters."""


def tiny_model(seed: int = 0) -> Model:
    """Build a tiny model with random weights and a residual as strong as a trained network's: not just bicubic."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = build("gsasr-lite", TINY)
        torch.nn.init.normal_(model.get_parameter("head.weight"), std=0.1)
    return model.eval().requires_grad_(False)


def save_tiny(path: Path, seed: int = 0) -> Path:
    """Save a checkpoint of :func:`tiny_model`; return its path."""
    save_model(tiny_model(seed), "gsasr-lite", path, {})
    return path
