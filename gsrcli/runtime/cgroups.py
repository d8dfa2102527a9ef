"""Control groups: where Linux keeps the limits of containers and services on memory and processors.

A group limits its processes and those of the groups below it, so the groups above count as well, as far as they are
mounted. In version 2 one tree of folders has the files of every controller, in version 1 there may be a tree for each.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

__all__ = ["PROC", "folders", "numbers"]

PROC = Path("/proc/self")


def folders(controller: str, proc: Path = PROC) -> Iterator[tuple[int, Path]]:
    """Yield the version and the folder of this process's group, and of each group above it, for a controller.

    A container may not show its own group: the path then leads nowhere below the mount, whose top is what limits it.

    Args:
        controller: memory, cpu or pids.
        proc: folder with the process's ``cgroup`` and ``mountinfo``.
    """
    for version, root, mount in _mounts(controller, proc):
        for group in _groups(controller, version, proc):
            shown = group.is_relative_to(root) and ".." not in group.parts
            inside = group.relative_to(root) if shown else Path()
            for folder in (mount / inside, *(mount / inside).parents):
                if folder.is_relative_to(mount) and folder.is_dir():
                    yield version, folder


def numbers(path: Path) -> dict[str, int]:
    """Return the numbers in a group's file by their names, or as "" if they have none; nothing for "max" or no file."""
    found = {}
    with suppress(OSError, UnicodeDecodeError):
        for line in path.read_text().splitlines():
            *name, value = line.split() or [""]
            with suppress(ValueError):
                found[" ".join(name)] = int(value)
    return found


def _mounts(controller: str, proc: Path) -> Iterator[tuple[int, Path, Path]]:
    """Yield the version of each mounted tree with the controller, the group at its top, and where it is mounted."""
    for line in _lines(proc / "mountinfo"):
        fields, _, rest = line.partition(" - ")
        kind, _, options = rest.split(" ", 2)
        version = 2 if kind == "cgroup2" else 1 if kind == "cgroup" and controller in options.split(",") else None
        if version:
            root, mount = (Path(_unescaped(field)) for field in fields.split(" ")[3:5])
            yield version, root, mount


def _groups(controller: str, version: int, proc: Path) -> Iterator[Path]:
    for line in _lines(proc / "cgroup"):
        number, controllers, group = line.split(":", 2)
        if (number == "0" and not controllers) if version == 2 else (controller in controllers.split(",")):
            yield Path(group)


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(errors="surrogateescape").splitlines()
    except OSError:  # not Linux
        return []


def _unescaped(text: str) -> str:
    r"""Undo the octal escapes of mountinfo, such as \040 for a space."""
    return re.sub(r"\\([0-7]{3})", lambda code: chr(int(code[1], 8)), text)
