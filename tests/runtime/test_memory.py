"""Freed memory is reused, not requested from the system again; how much may be used is found out."""

from __future__ import annotations

import math
import platform
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
import torch

from gsrcli.errors import UsageError
from gsrcli.runtime.memory import free_memory, limits, parse_memory, return_freed_memory

_WORK = """
import resource, sys
import numpy as np
from gsrcli.runtime.memory import keep_freed_memory

if sys.argv[1] == "keep":
    keep_freed_memory()
for turn in range(11):
    if turn == 1:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    np.ones(60_000_000, np.uint8)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="of glibc alone")
def test_large_arrays_reuse_freed_memory() -> None:
    """Count the pages that the system provides for ten arrays, one after the other."""

    def pages(what: str) -> int:
        done = subprocess.run([sys.executable, "-c", _WORK, what], capture_output=True, text=True, check=True)
        return int(done.stdout)

    assert pages("keep") < pages("return") / 20


_PEAKS = """
import numpy as np
import torch
from gsrcli.runtime.memory import keep_freed_memory, peak_memory

keep_freed_memory()
before = peak_memory(lambda: None, torch.device("cpu"))
np.ones(500_000_000, np.uint8)
print(peak_memory(lambda: None, torch.device("cpu")) - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="of glibc alone")
def test_kept_memory_does_not_count_towards_the_next_peak() -> None:
    done = subprocess.run([sys.executable, "-c", _PEAKS], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 50_000_000


def test_free_memory_on_a_cpu_is_the_systems() -> None:
    free = free_memory(torch.device("cpu"))
    assert 0 < free <= psutil.virtual_memory().total
    assert abs(free - psutil.virtual_memory().available) < 0.25 * psutil.virtual_memory().total


def test_memory_that_torch_caches_on_a_gpu_counts_as_free(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.mem_get_info", lambda device: (1000, 5000))
    monkeypatch.setattr("torch.cuda.memory_reserved", lambda device: 700)
    monkeypatch.setattr("torch.cuda.memory_allocated", lambda device: 300)
    assert free_memory(torch.device("cuda")) == 1400


def test_the_command_keeps_freed_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    from gsrcli.cli import app

    asked = []
    monkeypatch.setattr(app, "keep_freed_memory", lambda: asked.append(True))
    monkeypatch.setattr(app, "app", lambda: None)
    app.main()
    assert asked


# How much memory may be used

GIB = 2**30


def tree(folder: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def version_2(limits: dict[str, str], current: int = 0, stat: str = "") -> dict[str, str]:
    return {
        **{f"memory.{name}": text for name, text in limits.items()},
        "memory.current": f"{current}\n",
        "memory.stat": f"anon 5\nfile 7\n{stat}",
    }


def version_1(limit: int, usage: int = 0, stat: str = "") -> dict[str, str]:
    return {
        "memory.limit_in_bytes": f"{limit}\n",
        "memory.usage_in_bytes": f"{usage}\n",
        "memory.stat": f"cache 3\ninactive_file 9\nactive_file 9\n{stat}",
    }


def process(folder: Path, groups: str, *mounts: str) -> Path:
    """Write what /proc shows of a process: the lines of its groups and mounts, with MOUNT for the folder."""
    escaped = str(folder).replace(" ", "\\040")
    other = "24 27 0:6 / /dev rw,relatime - devtmpfs devtmpfs rw,size=12334432k"
    tree(
        folder / "proc",
        {
            "cgroup": groups,
            "statm": "100 50 20 1 0 40 0\n",
            "mountinfo": "\n".join([other, *mounts]).replace("MOUNT", escaped) + "\n",
        },
    )
    return folder / "proc"


UNIFIED = "35 31 0:29 {} MOUNT/cg rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate"
SPLIT = "35 31 0:32 {} MOUNT/cg rw,relatime - cgroup cgroup rw,memory"
NO_LIMIT = 0x7FFFFFFFFFFFF000  # of version 1


@dataclass
class Container:
    """A process in a control group, and what the group leaves it."""

    groups: str
    mounts: list[str]
    files: dict[str, dict[str, str]]
    free: float


CONTAINERS = {
    "2": Container("0::/a\n", [UNIFIED.format("/")], {"a": version_2({"max": f"{GIB}\n"}, 1000)}, GIB - 1000),
    "2, cached files": Container(
        "0::/a\n",
        [UNIFIED.format("/")],
        {"a": version_2({"max": f"{GIB}\n"}, 1000, "inactive_file 300\nactive_file 200\n")},
        GIB - 500,
    ),
    "2, high": Container(
        "0::/a\n", [UNIFIED.format("/")], {"a": version_2({"max": f"{GIB}\n", "high": "5000\n"}, 1000)}, 4000
    ),
    "2, used beyond": Container("0::/a\n", [UNIFIED.format("/")], {"a": version_2({"high": "5000\n"}, 9000)}, -4000),
    "2, max": Container(
        "0::/a\n", [UNIFIED.format("/")], {"a": version_2({"max": "max\n", "high": "max\n"})}, math.inf
    ),
    "2, above": Container(
        "0::/a/b/c\n",
        [UNIFIED.format("/")],
        {
            "a": version_2({"max": "7000\n"}, 3000),
            "a/b": version_2({"max": "max\n"}, 10),
            "a/b/c": version_2({"max": "6000\n"}, 10),
        },
        4000,
    ),
    "2, a namespace of its own": Container("0::/\n", [UNIFIED.format("/")], {".": version_2({"max": "8000\n"})}, 8000),
    "2, bind-mounted": Container(
        "0::/kube/pod/a\n",
        [UNIFIED.format("/kube/pod")],
        {"a": version_2({"max": "9000\n"}), ".": version_2({"max": "8000\n"})},
        8000,
    ),
    "2, the host's path": Container("0::/docker/a\n", [UNIFIED.format("/")], {".": version_2({"max": "8000\n"})}, 8000),
    "2, another root": Container(
        "0::/user\n", [UNIFIED.format("/docker/a")], {".": version_2({"max": "8000\n"})}, 8000
    ),
    "2, outside its namespace": Container(
        "0::/../b\n", [UNIFIED.format("/")], {".": version_2({"max": "8000\n"})}, 8000
    ),
    "2, memory is not controlled": Container(
        "0::/a\n", [UNIFIED.format("/")], {"a": {"cgroup.procs": "1\n"}}, math.inf
    ),
    "1": Container(
        "9:name=systemd:/\n4:cpu,memory:/a\n0::/\n", [SPLIT.format("/")], {"a": version_1(GIB, 1000)}, GIB - 1000
    ),
    "1, cached files": Container(
        "4:memory:/a\n",
        [SPLIT.format("/")],
        {"a": version_1(GIB, 1000, "total_inactive_file 300\ntotal_active_file 200\n")},
        GIB - 500,
    ),
    "1, no limit": Container("4:memory:/a\n", [SPLIT.format("/")], {"a": version_1(NO_LIMIT, 1000)}, NO_LIMIT - 1000),
    "1, above": Container(
        "4:memory:/a/b\n", [SPLIT.format("/")], {"a": version_1(7000, 3000), "a/b": version_1(NO_LIMIT, 1000)}, 4000
    ),
    "1, above what is mounted": Container(
        "4:memory:/docker/a\n",
        [SPLIT.format("/docker/a")],
        {".": version_1(NO_LIMIT, 1000, "hierarchical_memory_limit 7000\n")},
        6000,
    ),
    "1 beside 2": Container(
        "4:memory:/a\n0::/\n",
        [UNIFIED.format("/").replace("/cg", "/unified"), SPLIT.format("/")],
        {"a": version_1(GIB, 1000)},
        GIB - 1000,
    ),
    "no groups": Container("", [], {}, math.inf),
}


@pytest.mark.parametrize("container", CONTAINERS.values(), ids=CONTAINERS)
def test_limits_of_control_groups(tmp_path: Path, container: Container) -> None:
    folder = tmp_path / "a folder"
    for name, files in container.files.items():
        tree(folder / "cg" / name, files)
    proc = process(folder, container.groups, *container.mounts)
    found = [limit.free for limit in limits(proc=proc) if limit.name == "the container"]
    assert min(found, default=math.inf) == container.free


def test_a_system_without_proc_has_the_computers_memory_alone(tmp_path: Path) -> None:
    assert [limit.name for limit in limits(proc=tmp_path)] == ["the computer"]


def test_a_budget_is_for_the_whole_process() -> None:
    cpu = torch.device("cpu")
    return_freed_memory()
    used = psutil.Process().memory_info().rss
    assert abs(free_memory(cpu, used + 2**28) - 2**28) < 2**26
    assert free_memory(cpu, 1) < 2**24
    assert free_memory(cpu, 2**60) == pytest.approx(free_memory(cpu), rel=0.2)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("600M", 600 * 2**20),
        ("2G", 2 * GIB),
        ("1.5GiB", 3 * GIB // 2),
        ("1.5 gib", 3 * GIB // 2),
        ("2GB", 2 * 10**9),
        ("500kb", 500_000),
        ("1T", 2**40),
        ("123456789", 123456789),
        (" 7K ", 7168),
    ],
)
def test_sizes_of_memory(text: str, size: int) -> None:
    assert parse_memory(text) == size


@pytest.mark.parametrize(
    "text", ["", "0", "0.1", "-1", "M", "2X", "2MM", "G2", "1e9", "inf", "nan", "1,5G", "1.G", "50%"]
)
def test_what_is_no_size_of_memory(text: str) -> None:
    with pytest.raises(UsageError, match="memory"):
        parse_memory(text)


_ALLOCATING = """
import mmap, resource, sys
import torch
from gsrcli.runtime.memory import free_memory, limits, tightest_limit

number, room = getattr(resource, sys.argv[1]), 300_000_000
least, most = free_memory(torch.device("cpu")), 0
used = {"RLIMIT_AS": "VmSize", "RLIMIT_DATA": "VmData"}[sys.argv[1]]
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
limit = int(status[used].split()[0]) * 1024 + room
resource.setrlimit(number, (limit, limit))
free = free_memory(torch.device("cpu"))
while least - most > 2**20:
    middle = int(least + most) // 2
    try:
        mmap.mmap(-1, middle, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS).close()
        most = middle
    except OSError:
        least = middle
print(tightest_limit().name, free, most)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="counts what Linux counts")
@pytest.mark.parametrize(("number", "name"), [("RLIMIT_AS", "ulimit -v"), ("RLIMIT_DATA", "ulimit -d")])
def test_a_process_limit_leaves_what_can_be_mapped(number: str, name: str) -> None:
    """Compare with the largest mapping that the system grants."""
    done = subprocess.run([sys.executable, "-c", _ALLOCATING, number], capture_output=True, text=True, check=True)
    found, free, granted = done.stdout.rsplit(maxsplit=2)
    assert found == name
    assert abs(float(free) - float(granted)) < 2**24
