"""The deterministic weights with which the authors' programs produced the files in ``parity``."""

from __future__ import annotations

import gzip
import json
import math
import zlib
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

PARITY = Path(__file__).parent / "parity"
SHAPES = json.loads(gzip.decompress((PARITY / "state_dict_shapes.json.gz").read_bytes()))
"""Shapes of the tensors, by model and part."""


def filled(name: str, shape: list[int]) -> Tensor:
    """Return the tensor of a name, which begins with that of its part."""
    draw = np.random.Generator(np.random.PCG64(zlib.crc32(name.encode()))).standard_normal(shape)
    leaf = name.rpartition(".")[2]
    if leaf == "relative_position_bias_table":
        draw *= 0.5
    elif leaf not in {"gs_embedding", "pos_embedding", "rope_freqs"}:
        if draw.ndim > 1:
            draw /= math.sqrt(math.prod(shape[1:]))
        else:
            draw = 0.1 * draw + (leaf == "weight")
    return torch.from_numpy(draw.astype(np.float32))
