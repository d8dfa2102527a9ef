"""Hostile files through the command: each is done or named with a reason, and the pictures beside them are upscaled."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image
from support.hostile import HOSTILE
from support.seeds import READERS, seeds

MAX_SECONDS, MAX_PEAK = 60.0, 1200.0
"""CPU time and megabytes of the whole process, torch included."""

SUFFIXES = {
    "PNG": "png",
    "JPEG": "jpg",
    "TIFF": "tif",
    "GIF": "gif",
    "WEBP": "webp",
    "AVIF": "avif",
    "HEIF": "heic",
    "BMP": "bmp",
    "TGA": "tga",
    "PNM": "pnm",
    "ICO": "ico",
    "JPEG2000": "jp2",
    "JXL": "jxl",
}

LARGE = {
    "PNG": {
        "blank grey",
        "blank RGB",
        "blank RGBA of 16 bits",
        "interlaced",
        "a thin and very long one",
        "blank, just believed",
        "blank RGB of 16 bits, just believed",
        "blank palette, just believed",
    },
    "JPEG": {"blank"},
    "BMP": {"empty runs"},
    "TGA": {"runs", "short runs"},
    "PNM": {"black or white", "bits", "samples"},
    "ICO": {"a blank PNG", "entries of blanks"},
    "JXL": {"blank"},
}
"""Files that are not refused, of up to 256 megapixels: upscaling them takes its time."""

_MEASURED = """
import atexit, os, pathlib, runpy, sys

report = pathlib.Path(sys.argv.pop())

def measure():
    status = pathlib.Path("/proc/self/status").read_text()
    report.write_text(f"{sum(os.times()[:2])} {status.split('VmHWM:')[1].split()[0]}")

atexit.register(measure)
runpy.run_module("gsrcli", run_name="__main__")
"""


def hostile_files() -> dict[str, bytes]:
    """Return files by name: claims, bombs and endless lists, cut and garbled pictures, and what is none at all."""
    files = {"empty.png": b"", "letter.jpg": b"Dear reader,\n" * 100, "zeros.tif": bytes(5_000)}
    for reader, make in HOSTILE.items():
        for name, data in make().items():
            if name not in LARGE.get(reader, ()):
                files[f"{reader}, {name}.{SUFFIXES[reader]}"] = data
        for number, data in enumerate(seeds(reader)[::2]):
            middle, junk = len(data) // 2, bytes(n * 89 % 256 for n in range(40))
            files[f"{reader} {number}, cut.{SUFFIXES[reader]}"] = data[:middle]
            files[f"{reader} {number}, garbled.{SUFFIXES[reader]}"] = data[:middle] + junk + data[middle + len(junk) :]
    return files


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's record of peak memory")
def test_a_folder_of_hostile_files(
    tiny_path: Path, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    """As JPEG holds one picture, files of thousands of frames or pages are refused when they have been opened."""
    folder, output, report = tmp_path / "in", tmp_path / "out", tmp_path / "report"
    folder.mkdir()
    good = {f"{reader}, good.{SUFFIXES[reader]}": found[0] for reader in READERS if (found := seeds(reader))}
    files = {**hostile_files(), **good}
    for name, data in files.items():
        assert len(data) < 1 << 20, name
        (folder / name).write_bytes(data)

    options = ("--scale", "1", "--format", "jpg", "--background", "white", "--model", tiny_path, "--json")
    command = [sys.executable, "-c", _MEASURED, "upscale", folder, "-o", output, *options, report]
    env = {**os.environ, "OMP_NUM_THREADS": "2"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=10 * MAX_SECONDS, env=env)
    seconds, peak = (float(number) for number in report.read_text().split())
    record_property("told", f"{len(files)} hostile files in {seconds:.0f} s and {peak / 1000:.0f} MB")

    assert done.returncode == 1, done.stderr
    rows = {Path(row["input"]).name: row for row in json.loads(done.stdout)["results"]}
    assert rows.keys() == files.keys()
    finished = {name for name, row in rows.items() if row["status"] == "done"}
    assert good.keys() <= finished
    assert {path.name for path in output.iterdir()} == {Path(rows[name]["output"]).name for name in finished}
    for name in finished:
        with Image.open(rows[name]["output"]) as image:
            image.load()
            assert image.size == (rows[name]["width"], rows[name]["height"])

    said = [line for line in done.stderr.splitlines() if not line.startswith("  ")]
    assert said == [f"error: {rows[name]['error']}" for name in rows if name not in finished]
    for name in rows.keys() - finished:
        assert re.fullmatch(f"(cannot read )?{re.escape(str(folder / name))}:? .+", rows[name]["error"])
    assert "bug" not in done.stderr

    assert seconds < MAX_SECONDS
    assert peak < MAX_PEAK * 1000
