"""``gsr`` where memory is limited: it keeps within the limit, or says that it cannot."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from PIL import Image
from support.groups import joining, limited_group
from typer.testing import Result

from gsrcli.cli.failures import explain
from gsrcli.runtime.memory import Limit

resource = pytest.importorskip("resource")
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="Linux alone enforces these limits")

Photo = Callable[..., Path]
MIB = 2**20


def run(*arguments: object, before: Callable[[], object] = lambda: None) -> subprocess.CompletedProcess[str]:
    """Run ``gsr`` in a process of its own, after calling a function there."""
    command = [sys.executable, "-m", "gsrcli", *map(str, arguments)]
    env = {**os.environ, "OMP_NUM_THREADS": "2"}
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=300, env=env, preexec_fn=before)


def limited(number: int, size: int) -> Callable[[], None]:
    return lambda: resource.setrlimit(number, (size, size))


def told(done: subprocess.CompletedProcess[str]) -> bool:
    """Return whether messages of ours, and nothing else, say that memory was too little."""
    ours = all(line.startswith(("error: ", "warning: ", "  ")) for line in done.stderr.splitlines())
    return done.returncode == 1 and ours and bool(re.search("^error: .*memory", done.stderr, re.MULTILINE))


@pytest.mark.parametrize("limit", ["RLIMIT_AS", "RLIMIT_DATA"])
@pytest.mark.parametrize("size", [60, 150, 200, 290])
def test_too_little_memory_to_start_is_told(photo: Photo, tmp_path: Path, limit: str, size: int) -> None:
    done = run("upscale", photo(), "--scale", 2, before=limited(getattr(resource, limit), size * MIB))
    assert told(done), done
    assert f"ulimit -{'v' if limit == 'RLIMIT_AS' else 'd'} allows {size} MiB" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["photo.png"]


@pytest.mark.slow
@pytest.mark.parametrize("limit", ["RLIMIT_AS", "RLIMIT_DATA"])
def test_whatever_the_limit_there_is_a_result_or_a_message(photo: Photo, tmp_path: Path, limit: str) -> None:
    number, source, output = getattr(resource, limit), photo(size=(120, 90)), tmp_path / "large.png"
    refused = run("upscale", source, "--scale", 2, before=limited(number, 80 * MIB))
    found = re.search(r"need ([\d.]+) ([MG])iB", refused.stderr)
    assert found
    needed = int(float(found[1]) * (1 if found[2] == "M" else 1024)) + 1
    outcomes = []
    for more in (0, 20, 50, 100, 400):
        done = run("upscale", source, "--scale", 2, "-o", output, before=limited(number, (needed + more) * MIB))
        assert told(done) or (done.returncode, done.stderr) == (0, ""), (more, done)
        outcomes.append(done.returncode)
        assert output.exists() == (done.returncode == 0)
        output.unlink(missing_ok=True)
    assert outcomes[-1] == 0


@pytest.fixture
def group() -> Iterator[Path]:
    """A control group that limits memory."""
    size = str(600 * MIB)
    with limited_group("memory", {1: ("memory.limit_in_bytes", size), 2: ("memory.max", size)}) as folder:
        yield folder


_FREE = """
import sys, torch
import numpy as np
from gsrcli.runtime.memory import free_memory, tightest_limit

free = free_memory(torch.device("cpu"))
print(tightest_limit().name, int(free))
sys.stdout.flush()
np.ones(int(free * float(sys.argv[1])), np.uint8)
"""


def test_what_a_control_group_leaves_is_what_can_be_used(group: Path) -> None:
    """The system kills who uses more."""

    def use(share: float) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", _FREE, str(share)]
        return subprocess.run(command, capture_output=True, text=True, check=False, preexec_fn=joining(group))

    within, beyond = use(0.95), use(1.1)
    assert (within.returncode, beyond.returncode) == (0, -9)
    assert within.stdout.startswith("the container ")


@pytest.mark.slow
def test_a_picture_is_enlarged_within_a_control_group(group: Path, tmp_path: Path) -> None:
    """In one tile it would take more than there is."""
    source, output = tmp_path / "noise.png", tmp_path / "large.png"
    Image.effect_noise((640, 640), 60).convert("RGB").save(source)
    done = run("upscale", source, "--scale", 2, "--device", "cpu", "-o", output, before=joining(group))
    assert (done.returncode, done.stderr) == (0, ""), done
    assert Image.open(output).size == (1280, 1280)


# --memory


@pytest.mark.parametrize("size", ["", "2X", "0", "-1G", "some"])
def test_a_budget_that_is_no_size_is_refused(upscale: Callable[..., Result], photo: Photo, size: str) -> None:
    result = upscale(photo(), "--scale", 2, f"--memory={size}")
    assert result.exit_code == 2
    assert f"invalid size of memory: {size!r}" in result.stderr


def test_a_budget_below_what_gsr_takes_is_told(photo: Photo) -> None:
    done = run("upscale", photo(), "--scale", 2, "--memory", "50M")
    assert told(done), done
    assert "--memory allows 50 MiB" in done.stderr


_PEAK = """
from gsrcli.__main__ import main
from gsrcli.runtime.memory import peak_so_far

try:
    main()
finally:
    print(peak_so_far())
"""


@pytest.mark.slow
def test_a_budget_keeps_the_peak_within(tmp_path: Path) -> None:
    """Compare with the most memory that the system saw in use, and with what one tile takes."""
    source, output = tmp_path / "noise.png", tmp_path / "large.png"
    Image.effect_noise((560, 560), 60).convert("RGB").save(source)
    peaks = {}
    for budget in ("450M", "4G"):
        command = [sys.executable, "-c", _PEAK, "upscale", source, "--scale", "2", "--device", "cpu", "--overwrite"]
        done = subprocess.run([*command, "-o", output, "--memory", budget], capture_output=True, text=True, check=True)
        peaks[budget] = int(done.stdout.split()[-1])
    assert peaks["450M"] < 450 * MIB
    assert peaks["450M"] + 30 * MIB < peaks["4G"]


# What else the system says


def test_threads_that_cannot_start_are_told() -> None:
    failure = explain(RuntimeError("can't start new thread"))
    assert "threads" in failure.message
    assert failure.hint
    assert "bug" not in failure.hint


@pytest.mark.parametrize("limit", ["the computer", "ulimit -v"])
def test_a_library_that_cannot_be_mapped_lacks_memory_only_under_a_limit(
    monkeypatch: pytest.MonkeyPatch, limit: str
) -> None:
    monkeypatch.setattr("gsrcli.runtime.memory.limits", lambda budget=None: [Limit(limit, 10, 5)])
    failure = explain(ImportError("libtorch_cpu.so: failed to map segment from shared object"))
    assert ("memory" in failure.message) == (limit == "ulimit -v")
