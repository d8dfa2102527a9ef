"""Times the rasterizer: pairs a second a core, forward and backward, compiled against plain torch.

A pair is a (Gaussian, pixel) with ``exp(-q/2) >= EPSILON``: what must be drawn, whatever a backend visits. Pairs are
counted exactly, by where each Gaussian's ellipse begins and ends on each row of pixels. Time is the processor time of
all threads, which other programs disturb little. The field is a model's, of a picture made here; the gradient is noise.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import statistics
import time
from pathlib import Path
from unittest import mock

import numpy as np
import torch
from rich import box
from rich.console import Console
from rich.table import Table
from torch import Tensor

from gsrcli import rasterizer
from gsrcli.errors import ModelError
from gsrcli.gaussians import Gaussians
from gsrcli.models import Model, build
from gsrcli.rasterizer import EPSILON, cpu, rasterize
from gsrcli.weights import DEFAULT_MODEL, load_model

PLAIN_PAIRS = 4e6  # plain torch keeps some 100 bytes a pair for backward: it is timed on a strip of about so many
EXACT = 1e-8  # the float64 drawing leaves out less than this of a Gaussian


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scales", type=float, nargs="+", default=[2, 4, 8])
    parser.add_argument("--side", type=int, default=180, help="of the LR picture, in pixels")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--weights", help="a model's name or checkpoint; gsasr-lite by default")
    parser.add_argument("--json", type=Path, help="write the results there")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    instructions = cpu.instruction_set()
    model, described = model_to_time(options.weights)
    results: list[dict[str, float | str]] = []
    for scale in options.scales:
        with torch.no_grad():
            field = model(synthetic_picture(options.side), torch.tensor([[scale, scale]]))
        results += measure(field, options.side, scale, options.repeats)
    about = f"{described}, LR side {options.side}; {instructions}, {options.threads} thread(s)"
    Console(width=120).print(table(results, about))
    if options.json:
        options.json.write_text(json.dumps({"about": about, "results": results}, indent=2) + "\n", encoding="utf-8")


def measure(field: Gaussians, side: int, scale: float, repeats: int) -> list[dict[str, float | str]]:
    """A row of results for each backend: medians over repeats in which they take turns."""
    width = round(side * scale)
    ratio = (width / side, width / side)
    share = min(1.0, PLAIN_PAIRS / count_pairs(field, ratio, (width, width)))
    heights = {"compiled": width, "plain torch": max(1, round(width * share))}
    exact = rasterize(field.to(dtype=torch.float64), (width, width), ratio, epsilon=EXACT)
    noise = torch.randn(exact.shape, generator=torch.Generator().manual_seed(0))
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in heights}
    errors = {}
    for _ in range(repeats + 1):
        for name, height in heights.items():
            plain = mock.patch.object(rasterizer, "backend", return_value=("torch", "wanted here"))
            with plain if name == "plain torch" else contextlib.nullcontext():
                leaves = [t.detach().requires_grad_() for t in (field.centre, field.sigma, field.rho, field.value)]
                by_image = noise[:, :, :height].contiguous()
                began = time.process_time()
                drawn = rasterize(Gaussians(*leaves), (height, width), ratio)
                between = time.process_time()
                torch.autograd.grad(drawn, leaves, by_image)
            times[name].append((between - began, time.process_time() - between))
            errors[name] = (drawn.detach() - exact[:, :, :height]).abs().max().item()
    rows = []
    for name, height in heights.items():
        pairs = count_pairs(field, ratio, (height, width))
        forward, backward = (statistics.median(column) for column in zip(*times[name][1:], strict=True))  # 1st: warm-up
        row: dict[str, float | str] = {"scale": scale, "backend": name, "size": f"{width}x{height}", "pairs": pairs}
        for stage, seconds in (("forward", forward), ("backward", backward)):
            row |= {f"{stage}_s": seconds, f"{stage}_pairs_per_s_core": pairs / seconds}
        rows.append({**row, "error": errors[name]})
    return rows


def count_pairs(field: Gaussians, scale: tuple[float, float], size: tuple[int, int]) -> int:
    """Pixels of size inside each Gaussian's ellipse q <= -2 ln EPSILON, summed over the Gaussians."""
    q_max = -2 * math.log(EPSILON)
    centre, sigma = ((t[0].double().numpy() * (scale[1], scale[0])).T for t in (field.centre, field.sigma))
    (x, y), (sx, sy), rho = centre - 0.5, sigma, field.rho[0].double().numpy()
    reach, total = math.sqrt(q_max) * sy, 0
    for step in range(int(2 * reach.max()) + 2):  # the ellipses' first rows, their second ones, ...
        row = np.ceil(y - reach) + step
        v = (row - y) / sy
        middle, half = x + rho * sx * v, sx * np.sqrt(np.maximum((1 - rho**2) * (q_max - v**2), 0))
        columns = np.minimum(np.floor(middle + half), size[1] - 1) - np.maximum(np.ceil(middle - half), 0) + 1
        total += int(columns[(v**2 <= q_max) & (row >= 0) & (row < size[0]) & (columns > 0)].sum())
    return total


def model_to_time(weights: str | None) -> tuple[Model, str]:
    """The model asked for; without any weights one of random ones, which draws something at least."""
    try:
        return load_model(weights or DEFAULT_MODEL), weights or DEFAULT_MODEL
    except ModelError:
        if weights:
            raise
    torch.manual_seed(0)
    model = build(DEFAULT_MODEL).requires_grad_(False)
    for parameter in model.parameters():
        parameter.add_(torch.randn_like(parameter) / parameter[0].numel() ** 0.5)
    return model, "gsasr-lite with random weights"


def synthetic_picture(side: int) -> Tensor:
    """Gratings at several angles, edges and speckle like print: ``(1, 3, side, side)`` in [0, 1]."""
    random = np.random.default_rng(0)
    y, x = np.mgrid[:side, :side] / side
    grey = np.full((side, side), 0.5)
    for angle, cycles in zip(np.arange(8) * np.pi / 8, np.geomspace(3, side / 3, 8), strict=True):
        grey += 0.06 * np.sin(2 * np.pi * cycles * (x * np.cos(angle) + y * np.sin(angle)))
    grey += 0.2 * (x + 0.37 * y > 0.6) - 0.15 * (np.hypot(x - 0.3, y - 0.6) < 0.2)
    grey[side // 8 : side // 4] *= np.where(random.random((side // 4 - side // 8, side)) < 0.3, 0.1, 1.2)
    tint = 0.8 + 0.2 * np.stack((x, y, 1 - x))
    return torch.from_numpy((grey * tint).clip(0, 1)).float()[None]


def table(results: list[dict[str, float | str]], about: str) -> Table:
    """Markdown, and readable as it is. G pairs: 10^9 of them."""
    drawn = Table("scale", "backend", "drawn", "M pairs", box=box.MARKDOWN, caption=about)
    for title in ("forward ms", "G pairs/s/core", "backward ms", "G pairs/s/core", "max error"):
        drawn.add_column(title, justify="right")
    for r in results:
        cells = [f"{float(r['pairs']) / 1e6:.1f}"]
        for stage in ("forward", "backward"):
            cells += [f"{1e3 * float(r[f'{stage}_s']):.1f}", f"{float(r[f'{stage}_pairs_per_s_core']) / 1e9:.4f}"]
        drawn.add_row(f"×{r['scale']:g}", str(r["backend"]), str(r["size"]), *cells, f"{r['error']:.1e}")
    return drawn


if __name__ == "__main__":
    main()
