"""A large picture from end to end: time, peak memory, and where the time went.

    python benchmarks/large.py [--width 6000 --height 4000 --scale 2 --suffix .png --memory 1G --tile 256]

Makes a synthetic photograph, runs `gsr upscale` on it as a process of its own, and reports what that used. Runs under
Linux, which tells a process's peak memory.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from gsrcli.images import write_picture
from gsrcli.images.description import Raster
from gsrcli.images.strips import Strip, Strips
from gsrcli.size import Size

_GSR = """
import sys
from gsrcli.__main__ import main
from gsrcli.runtime.memory import peak_so_far

try:
    main()
finally:
    print(peak_so_far(), file=sys.stderr)
"""


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--width", type=int, default=6000)
    options.add_argument("--height", type=int, default=4000)
    options.add_argument("--scale", default="2")
    options.add_argument("--suffix", default=".png", help="of the enlargement's file")
    options.add_argument("--memory")
    options.add_argument("--tile")
    arguments = options.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        source, output = Path(folder) / "large.png", Path(folder) / f"enlarged{arguments.suffix}"
        write_picture(photograph(Size(arguments.height, arguments.width)), source)
        command = [sys.executable, "-c", _GSR, "upscale", str(source), "--scale", arguments.scale, "--json"]
        command += ["--output", str(output), "--max-pixels", str(arguments.width * arguments.height)]
        for name in ("memory", "tile"):
            command += [f"--{name}={value}"] if (value := getattr(arguments, name)) else []
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        report, peak = json.loads(done.stdout), int(done.stderr.split()[-1])
        size = output.stat().st_size
    (result,) = report["results"]
    print(f"{arguments.width}x{arguments.height} to {result['width']}x{result['height']}, {report['model']}")
    print(f"on {report['device']} in {report['precision']}, rasterizer {report['rasterizer_note']}")
    print(f"{report['elapsed']:.1f} s in the process, peak memory {peak / 1e6:.0f} MB, a file of {size / 1e6:.0f} MB")
    for stage, seconds in report["seconds"].items():
        print(f"  {stage:<10} {seconds:6.2f} s  {seconds / report['elapsed']:5.1%}")


def photograph(size: Size) -> Strips:
    """Return smooth shapes, edges and grain, made strip by strip."""

    def strips() -> Iterator[Strip]:
        random = np.random.default_rng(0)
        periods = np.array([(9, 31, 87), (23, 11, 61)], np.float32)
        x = np.arange(size.width, dtype=np.float32)[None, :, None]
        for top in range(0, size.height, 128):
            y = np.arange(top, min(top + 128, size.height), dtype=np.float32)[:, None, None]
            waves = np.sin(x / periods[0] + np.cos(y / periods[1])) + 0.5 * np.sign(np.sin((x + 2 * y) / 140))
            grain = random.normal(0, 4, (len(y), size.width, 3))
            yield Strip(np.clip(128 + 60 * waves + grain, 0, 255).astype(np.uint8))

    return Strips(Raster(size, 3, np.dtype(np.uint8), False), strips, opaque=True)


if __name__ == "__main__":
    main()
