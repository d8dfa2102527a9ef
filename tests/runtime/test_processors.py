"""How many processors a process may keep busy."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from support.groups import joining, limited_group

from gsrcli.runtime import threads
from gsrcli.runtime.threads import usable_processors, use_threads

UNIFIED = "35 31 0:29 / MOUNT rw - cgroup2 cgroup2 rw"
SPLIT = "35 31 0:32 / MOUNT rw - cgroup cgroup rw,cpu,cpuacct\n36 31 0:33 / MOUNT rw - cgroup cgroup rw,pids"
HERE = 64  # processors, in the tests with files


@pytest.fixture
def processors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str, dict[str, str]], int]:
    """Return the usable processors of 64, for the lines of groups and mounts, and the groups' files."""
    monkeypatch.setattr(threads, "_processors", lambda: HERE)
    monkeypatch.setattr(threads, "_asked_for", None)  # which an earlier test's --threads may have set

    def usable(groups: str, mounts: str, files: dict[str, str]) -> int:
        proc = tmp_path / "proc"
        texts = {"cgroup": groups, "mountinfo": mounts.replace("MOUNT", str(tmp_path / "cg"))}
        for path, text in [
            *((proc / n, t) for n, t in texts.items()),
            *((tmp_path / "cg" / n, t) for n, t in files.items()),
        ]:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"{text}\n")
        return usable_processors(proc)

    return usable


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, HERE),
        ({"a/cpu.max": "max 100000"}, HERE),
        ({"a/cpu.max": "100000 100000"}, 1),
        ({"a/cpu.max": "150000 100000"}, 2),
        ({"a/cpu.max": "20000 100000"}, 1),
        ({"a/cpu.max": "9900000 100000"}, HERE),
        ({"a/cpu.max": "300000 100000", "a/b/cpu.max": "800000 100000"}, 3),
        ({"a/cpu.max": "800000 100000", "a/b/cpu.max": "300000 100000"}, 3),
        ({"a/b/pids.max": "30", "a/b/pids.current": "4"}, 10),
        ({"a/pids.max": "10", "a/pids.current": "4"}, 1),
        ({"a/pids.max": "max", "a/pids.current": "4"}, HERE),
    ],
)
def test_groups_of_version_2(
    processors: Callable[[str, str, dict[str, str]], int], files: dict[str, str], expected: int
) -> None:
    assert processors("0::/a/b", UNIFIED, {"a/b/cgroup.procs": "1", **files}) == expected


@pytest.mark.parametrize(
    ("quota", "expected"),
    [("-1", HERE), ("100000", 1), ("250000", 3), ("0", HERE)],
)
def test_groups_of_version_1(processors: Callable[[str, str, dict[str, str]], int], quota: str, expected: int) -> None:
    files = {"a/cpu.cfs_quota_us": quota, "a/cpu.cfs_period_us": "100000"}
    assert processors("3:cpu,cpuacct:/a\n2:pids:/", SPLIT, files) == expected


_TORCH = """
from gsrcli.runtime.threads import configure, usable_processors
configure()
import os, torch
print(usable_processors(), torch.get_num_threads(), os.environ["OMP_WAIT_POLICY"])
"""


def torch_threads(before: Callable[[], object], **env: str) -> list[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("OMP_")}
    done = subprocess.run(
        [sys.executable, "-c", _TORCH],
        capture_output=True,
        text=True,
        check=True,
        preexec_fn=before,
        env={**clean, **env},
    )
    return done.stdout.split()


linux = pytest.mark.skipif(sys.platform != "linux", reason="of Linux")


@linux
def test_torch_keeps_to_the_affinity() -> None:
    one = min(os.sched_getaffinity(0))
    assert torch_threads(lambda: os.sched_setaffinity(0, {one})) == ["1", "1", "PASSIVE"]


@pytest.fixture
def one_processor() -> Iterator[Path]:
    """A control group with the time of one processor."""
    limits = {1: ("cpu.cfs_quota_us", "100000"), 2: ("cpu.max", "100000 100000")}
    with limited_group("cpu", limits) as folder:
        yield folder


@linux
def test_torch_keeps_to_a_control_groups_quota(one_processor: Path) -> None:
    join = joining(one_processor)
    assert torch_threads(join)[:2] == ["1", "1"]
    assert torch_threads(join, OMP_NUM_THREADS="2", OMP_WAIT_POLICY="ACTIVE") == ["1", "2", "ACTIVE"]


@pytest.fixture
def restored() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)
    threads._asked_for = None


@pytest.mark.usefixtures("restored")
def test_threads_asked_for(upscale: Callable[..., object], photo: Callable[..., Path], tmp_path: Path) -> None:
    for number in (3, 1):
        result = upscale(photo(), "--scale", 2, "--threads", number, "-o", tmp_path / f"{number}.png")
        assert result.exit_code == 0  # type: ignore[attr-defined]
        assert torch.get_num_threads() == usable_processors() == number
    assert (tmp_path / "1.png").read_bytes() == (tmp_path / "3.png").read_bytes()
    use_threads(None)
    assert torch.get_num_threads() == 1
