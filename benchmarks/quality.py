"""PSNR on Y of a model and of bicubic interpolation, on folders of originals.

    python benchmarks/quality.py FOLDER... --scales 2,3,4 --model gsasr-lite

Protocol: originals cropped to a multiple of the scale, shrunk by Pillow's bicubic to 8 bits, enlarged, rounded to 8
bits, compared on BT.601 studio-range luma without a border of `scale` pixels (at most 8); the mean over each folder.
"""

from __future__ import annotations

import argparse
import statistics
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from rich.console import Console
from rich.progress import track
from rich.table import Table

from gsrcli.devices import pick_device, pick_precision
from gsrcli.images import INPUT_SUFFIXES, Picture
from gsrcli.metrics import luma, psnr
from gsrcli.upscaler import Upscaler
from gsrcli.weights import load_model


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("folders", nargs="+", type=Path)
    options.add_argument("--scales", default="2,3,4", type=lambda text: [int(scale) for scale in text.split(",")])
    options.add_argument("--model", default="gsasr-lite")
    options.add_argument("--precision", default="auto")
    arguments = options.parse_args()
    device = pick_device()
    upscaler = Upscaler(load_model(arguments.model, device), pick_precision(device, arguments.precision))
    table = Table(
        "set", "scale", "bicubic", "model", "gain", title=f"PSNR on Y, dB: {arguments.model}, {upscaler.dtype}"
    )
    for folder in arguments.folders:
        originals = [p for p in sorted(folder.iterdir()) if p.suffix.lower() in INPUT_SUFFIXES]
        for scale in arguments.scales:
            rows = [
                score(path, scale, upscaler) for path in track(originals, f"{folder.name} ×{scale}", transient=True)
            ]
            bicubic, model = (statistics.fmean(column) for column in zip(*rows, strict=True))
            table.add_row(folder.name, f"×{scale}", f"{bicubic:.3f}", f"{model:.3f}", f"{model - bicubic:+.3f}")
    Console().print(table)


def score(path: Path, scale: int, upscaler: Upscaler) -> tuple[float, float]:
    """PSNR of bicubic and of the model for one original."""
    image = Image.open(path).convert("RGB")
    low_size = (image.width // scale, image.height // scale)
    high = image.crop((0, 0, low_size[0] * scale, low_size[1] * scale))
    low = high.resize(low_size, Image.Resampling.BICUBIC)
    bicubic = low.resize(high.size, Image.Resampling.BICUBIC)
    enlarged = upscaler.enlarge(Picture(np.asarray(low)), (high.height, high.width)).pixels
    border = min(scale, 8)
    return _psnr_y(np.asarray(bicubic), high, border), _psnr_y(enlarged, high, border)


def _psnr_y(restored: np.ndarray, original: Image.Image, border: int) -> float:
    first, second = (
        luma(torch.from_numpy(np.array(picture)).permute(2, 0, 1).double() / 255) for picture in (restored, original)
    )
    return psnr(first, second, border)


if __name__ == "__main__":
    main()
