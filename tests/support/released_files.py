"""Files like those that GSASR's authors released, of a small network."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import torch

from gsrcli.models.gsasr import GSASR_CONFIGS
from support.authors import SHAPES

SMALL = dataclasses.replace(
    GSASR_CONFIGS["gsasr-edsr"], width=24, heads=2, window=4, cross_layers=1, self_blocks=1, self_layers=1, multiple=4
)
"""gsasr-edsr with one layer of each kind and a smaller decoder."""

_SMALLER = {768: 96, 576: 72, 192: 24, 144: 16}
_FIRST_LAYERS = re.compile(r"(?!.*blocks\.[1-9])")
_TABLES = ("rope_t_x", "rope_t_y")


def released_states(seed: int = 0) -> dict[str, dict[str, torch.Tensor]]:
    """Return random state dicts of a released gsasr-edsr of config SMALL, by file."""
    random = torch.Generator().manual_seed(seed)
    decoder = {
        name: [2, 2, 6] if name.endswith("rope_freqs") else [_SMALLER.get(n, n) for n in shape]
        for name, shape in SHAPES["gsasr-edsr"]["decoder"].items()
        if _FIRST_LAYERS.match(name) and not name.endswith(_TABLES)
    }
    shapes = {"encoder.pth": SHAPES["gsasr-edsr"]["encoder"], "decoder.pth": decoder}
    return {
        file: {name: torch.randn(shape, generator=random) / 10 for name, shape in names.items()}
        for file, names in shapes.items()
    }


def write_released(folder: Path, seed: int = 0) -> dict[str, Path]:
    """Write such a release; return the paths of its files by name."""
    folder.mkdir(parents=True, exist_ok=True)
    files = {}
    for file, state in released_states(seed).items():
        files[file] = folder / file
        torch.save({"params_ema": state}, files[file])
    return files
