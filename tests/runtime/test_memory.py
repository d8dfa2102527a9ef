"""Freed memory is reused, not requested from the system again."""

from __future__ import annotations

import platform
import subprocess
import sys

import psutil
import pytest
import torch

from gsrcli.runtime.memory import free_memory

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
