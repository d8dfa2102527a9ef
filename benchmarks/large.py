"""A large picture ×2 from end to end: time, peak memory, and where the time went.

    python benchmarks/large.py [--width 6000 --height 4000 --scale 2]

Makes a synthetic photograph, runs `gsr upscale` on it as a process of its own, and reports what that used.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--width", type=int, default=6000)
    options.add_argument("--height", type=int, default=4000)
    options.add_argument("--scale", default="2")
    options.add_argument("--tile")
    arguments = options.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "large.png"
        Image.fromarray(photograph(arguments.height, arguments.width)).save(source, compress_level=1)
        command = [sys.executable, "-m", "gsrcli", "upscale", str(source), "--scale", arguments.scale, "--json"]
        command += ["--tile", arguments.tile] if arguments.tile else []
        report = json.loads(subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True).stdout)
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
    (result,) = report["results"]
    print(f"{arguments.width}x{arguments.height} to {result['width']}x{result['height']}, {report['model']}")
    print(f"on {report['device']} in {report['precision']}, rasterizer {report['rasterizer_note']}")
    print(f"{report['elapsed']:.1f} s in the process, peak memory {peak:.2f} GiB")
    for stage, seconds in report["seconds"].items():
        print(f"  {stage:<10} {seconds:6.2f} s  {seconds / report['elapsed']:5.1%}")


def photograph(height: int, width: int) -> np.ndarray:
    """Smooth shapes, edges and grain, made row block by row block."""
    random = np.random.default_rng(0)
    picture = np.empty((height, width, 3), np.uint8)
    x = np.arange(width, dtype=np.float32)[None, :, None]
    for top in range(0, height, 256):
        y = np.arange(top, min(top + 256, height), dtype=np.float32)[:, None, None]
        waves = np.sin(x / (9, 31, 87) + np.cos(y / (23, 11, 61))) + 0.5 * np.sign(np.sin((x + 2 * y) / 140))
        grain = random.normal(0, 4, (len(y), width, 3))
        picture[top : top + len(y)] = np.clip(128 + 60 * waves + grain, 0, 255)
    return picture


if __name__ == "__main__":
    main()
