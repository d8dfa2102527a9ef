"""Check that everything works on this device: print a JSON object per check; failures do not stop the rest."""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from sprint_train import train_command

from gsrcli import rasterizer
from gsrcli.gaussians import Gaussians
from gsrcli.rasterizer import View, rasterize, reference

NAMES = ("centre", "sigma", "rho", "value")


class OnGpuOnlyError(Exception):
    """The check applies to GPUs only."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cuda")
    device = torch.device(parser.parse_args().device)
    checks = list(_checks(device))
    tell({"plan": [name for name, _ in checks]})
    for name, check in checks:
        began = time.monotonic()
        ok: bool | None = True
        try:
            detail = check()
        except OnGpuOnlyError:
            ok, detail = None, "GPU only"
        except Exception as error:
            ok, detail = False, f"{type(error).__name__}: {error}"[-500:]
            traceback.print_exc()
        tell({"name": name, "ok": ok, "seconds": round(time.monotonic() - began, 2), "detail": detail})


def tell(line: dict[str, object]) -> None:
    print(json.dumps(line), flush=True)


def _checks(device: torch.device) -> Iterator[tuple[str, Callable[[], str]]]:
    """Yield the checks and their names, the most important first."""
    yield "a GPU that computes", lambda: _computes(device)
    for channels in (3, 8, 16):
        yield f"kernels of {channels} channels", lambda channels=channels: _compiles(device, channels)
    for name, field, size, scale in _fields():
        view = (name, field.to(device), size, scale)
        yield f"{name}, against float64", lambda view=view: _against_float64(*view[1:])
    yield "twice the same bytes", lambda: _repeats(device)
    yield "a side stream", lambda: _side_stream(device)
    yield "another thread", lambda: _another_thread(device)
    yield "a CUDA graph, forward and backward", lambda: _graph(device)
    yield "steps of gsr train", lambda: _training(device)


# ---- fields --------------------------------------------------------------------------------------------


def _fields() -> Iterator[tuple[str, Gaussians, tuple[int, int], tuple[float, float]]]:
    grid = _grid(24, 30)
    yield "a model's field at x4", grid, (96, 120), (4.0, 4.0)
    yield "the same, shuffled, at x2.5 by x3.3", _shuffled(grid), (60, 99), (2.5, 3.3)
    yield "two fields of 8 channels", _random(300, 8, batch=2), (40, 44), (2.0, 2.0)
    yield "16 channels, reaching outside", _random(300, 16, spread=3.0), (40, 44), (2.0, 2.0)


def _grid(height: int, width: int, density: int = 4) -> Gaussians:
    """Make a field like those of models: a slightly jittered grid of Gaussians about half a pixel in size."""
    random = torch.Generator().manual_seed(0)
    count = height * width * density**2
    y, x = torch.meshgrid(torch.arange(density * height), torch.arange(density * width), indexing="ij")
    places = (torch.stack((x, y), -1).reshape(1, count, 2) + 0.5) / density
    return Gaussians(
        centre=places + 0.3 * (torch.rand(1, count, 2, generator=random) - 0.5),
        sigma=0.15 + 0.5 * torch.rand(1, count, 2, generator=random),
        rho=1.8 * torch.rand(1, count, generator=random) - 0.9,
        value=torch.rand(1, count, 3, generator=random) * 2 / density**2,
    )


def _random(count: int, channels: int, batch: int = 1, spread: float = 1.0) -> Gaussians:
    random = torch.Generator().manual_seed(channels)
    return Gaussians(
        centre=spread * 22 * (torch.rand(batch, count, 2, generator=random) - 0.5) + 11,
        sigma=0.1 + 3 * torch.rand(batch, count, 2, generator=random),
        rho=1.8 * torch.rand(batch, count, generator=random) - 0.9,
        value=torch.randn(batch, count, channels, generator=random),
    )


def _shuffled(field: Gaussians) -> Gaussians:
    return field.select(torch.randperm(len(field), generator=torch.Generator().manual_seed(0)))


# ---- checks --------------------------------------------------------------------------------------------


def _computes(device: torch.device) -> str:
    if device.type == "cuda" and rasterizer.backend(device)[0] != "cuda":
        raise RuntimeError(f"not drawn by cuda but {rasterizer.backend(device)}")
    product = torch.ones(256, 256, device=device) @ torch.ones(256, 256, device=device)
    assert float(product.sum()) == 256.0**3
    return f"drawn by {rasterizer.backend(device)[0]}"


def _compiles(device: torch.device, channels: int) -> str:
    loss, _ = _both_ways(_random(20, channels).to(device), (20, 20), (2.0, 2.0), device)
    assert math.isfinite(loss)
    return ""


def _both_ways(
    field: Gaussians, size: tuple[int, int], scale: tuple[float, float], device: torch.device
) -> tuple[float, list[torch.Tensor]]:
    """Return the sum of squares of a drawing, and its gradients."""
    leaves = [getattr(field, name).detach().clone().requires_grad_() for name in NAMES]
    loss = rasterize(Gaussians(*leaves), size, scale).square().sum()
    return float(loss), list(torch.autograd.grad(loss, leaves))


def _against_float64(field: Gaussians, size: tuple[int, int], scale: tuple[float, float]) -> str:
    """Compare forward and backward with plain torch in float64."""
    noise = torch.randn(field.batch, field.channels, *size, generator=torch.Generator().manual_seed(1))
    results = []
    for dtype, draw in ((torch.float32, rasterize), (torch.float64, _exactly)):
        leaves = [getattr(field, name).detach().to(dtype).requires_grad_() for name in NAMES]
        image = draw(Gaussians(*leaves), size, scale)
        gradients = torch.autograd.grad(image, leaves, noise.to(image))
        results.append([tensor.detach().double() for tensor in (image, *gradients)])
    errors = [float((a - b).norm() / b.norm()) for a, b in zip(*results, strict=True)]
    told = ", ".join(f"{name} {error:.0e}" for name, error in zip(("image", *NAMES), errors, strict=True))
    # A pair near the cutoff may fall on either side of it, which affects gradients most.
    if not (errors[0] < 1e-4 and max(errors) < 2e-3):
        raise ValueError(f"relative errors: {told}")
    return f"relative errors: {told}"


def _exactly(field: Gaussians, size: tuple[int, int], scale: tuple[float, float]) -> torch.Tensor:
    return reference.rasterize(field, View(size, scale))


def _repeats(device: torch.device) -> str:
    field = _grid(24, 30).to(device)
    first, second = (_both_ways(field, (96, 120), (4.0, 4.0), device) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first[1], second[1], strict=True))
    return ""


def _side_stream(device: torch.device) -> str:
    """Check that drawing on another stream waits for earlier work on that stream."""
    _need_gpu(device)
    field = _grid(60, 60).to(device)
    expected = rasterize(field, (240, 240), 4)
    late = field.map(torch.zeros_like)
    torch.cuda.synchronize()
    with torch.cuda.stream(torch.cuda.Stream()):
        torch.cuda._sleep(50_000_000)
        for name in NAMES:
            getattr(late, name).copy_(getattr(field, name))
        image = rasterize(late, (240, 240), 4)
    torch.cuda.synchronize()
    assert torch.equal(image, expected)
    return ""


def _another_thread(device: torch.device) -> str:
    field = _random(200, 3).to(device)
    expected = rasterize(field, (24, 28), 2)
    with ThreadPoolExecutor(1) as another:
        assert torch.equal(another.submit(rasterize, field, (24, 28), 2).result(), expected)
    return ""


def _graph(device: torch.device) -> str:
    """Check that a replayed graph computes with the current contents of its inputs."""
    _need_gpu(device)
    field, other = (_random(200, 3, spread=spread).to(device) for spread in (1.0, 0.5))
    leaves = [getattr(field, name).clone().requires_grad_() for name in NAMES]

    def step() -> tuple[torch.Tensor, ...]:
        image = rasterize(Gaussians(*leaves), (24, 28), 2)
        return (image.detach(), *torch.autograd.grad(image.square().sum(), leaves))

    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            step()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = step()
    with torch.no_grad():
        for leaf, name in zip(leaves, NAMES, strict=True):
            leaf.copy_(getattr(other, name))
    graph.replay()
    torch.cuda.synchronize()
    replayed = [tensor.clone() for tensor in captured]
    assert all(torch.equal(a, b) for a, b in zip(replayed, step(), strict=True))
    return ""


def _need_gpu(device: torch.device) -> None:
    if device.type != "cuda":
        raise OnGpuOnlyError


def _training(device: torch.device) -> str:
    with tempfile.TemporaryDirectory() as folder:
        pictures = synthetic_pictures(Path(folder) / "pictures", 10)
        arguments = ["--batch", "4", "--steps", "2", "--held-out", "1"]
        command = train_command(pictures, Path(folder) / "run", str(device), arguments=arguments)
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(done.stderr[-400:])
        left = sorted(path.name for path in (Path(folder) / "run").iterdir())
    return f"left {', '.join(left)}"


def synthetic_pictures(folder: Path, count: int) -> Path:
    """Write pictures of waves, an edge and speckle to a new folder, and return it."""
    folder.mkdir(parents=True)
    y, x = np.mgrid[:480, :512]
    for seed in range(count):
        random = np.random.default_rng(seed)
        layers = [np.sin(x / random.uniform(2, 40) + y / random.uniform(2, 40) + c) for c in range(3)]
        pixels = 0.5 + 0.25 * np.stack(layers, -1) + 0.15 * (x > y)[..., None] + random.normal(0, 0.02, (*x.shape, 1))
        Image.fromarray((pixels.clip(0, 1) * 255).astype(np.uint8)).save(folder / f"{seed}.png")
    return folder


if __name__ == "__main__":
    sys.exit(main())
