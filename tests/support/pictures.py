"""Synthetic pictures."""

from __future__ import annotations

import numpy as np

__all__ = ["samples"]


def samples(size: tuple[int, int], mode: str, seed: int) -> np.ndarray:
    """Return the 8-bit pixels of a synthetic photograph in Pillow's layout; alpha, if any, runs from 0 to 255."""
    random = np.random.default_rng(seed)
    width, height = size
    channels = len(mode)
    y, x = np.mgrid[:height, :width, :1][:2]
    waves = np.sin(x / random.uniform(2, 9, channels) + y / random.uniform(2, 9, channels))
    values = 0.5 + 0.3 * waves + 0.2 * (x > y) + random.normal(0, 0.03, waves.shape)
    if mode.endswith("A"):
        values[..., -1] = np.linspace(0, 1, width)[None]
    pixels = (values.clip(0, 1) * 255).round().astype(np.uint8)
    return pixels[..., 0] if channels == 1 else pixels
