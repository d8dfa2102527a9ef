"""Control groups below that of the tests, for the processes that tests start."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from gsrcli.runtime import cgroups

__all__ = ["joining", "limited_group"]


@contextmanager
def limited_group(controller: str, limits: dict[int, tuple[str, str]]) -> Iterator[Path]:
    """Make a group with a limit and remove it again; skip where none can be made.

    Args:
        controller: memory, cpu or pids.
        limits: by version of control groups, the file to write to, and what.
    """
    version, above = next(cgroups.folders(controller), (0, Path()))
    folder = above / f"gsr-test-{os.getpid()}"
    try:
        folder.mkdir()
    except OSError as error:
        pytest.skip(f"no control group can be made: {error}")
    try:
        try:
            name, value = limits[2 if version == 2 else 1]
            (folder / name).write_text(value)
        except OSError as error:
            pytest.skip(f"{controller} cannot be limited: {error}")
        yield folder
    finally:
        with suppress(OSError):
            folder.rmdir()


def joining(group: Path) -> Callable[[], object]:
    """Return what a process has to call to join a group."""
    return lambda: (group / "cgroup.procs").write_text(str(os.getpid()))
