"""Training in scripts/gpu_sprint.py: the command, copies of the run, and facts from its log."""

from __future__ import annotations

import json
import shutil
import sys
import tarfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sprint_record import replace

RUN_FILES = ("weights.safetensors", "state.json", "state-*.safetensors", "log.jsonl", "plateau.json")
RUN_FILES += ("plateau-*.safetensors",)
_INDICES = ("state", "plateau")
MOST_FILES, LARGEST = 6, 16 << 20  # what such machines may return: 8 files with the record's two, of 16 MiB each


def train_command(
    pictures: Path,
    run: Path,
    device: str,
    *,
    carried: Path | None = None,
    minutes: float | None = None,
    arguments: Sequence[str] = (),
) -> list[str]:
    """Return a ``gsr train`` command that continues the carried run; ``arguments`` come last and take precedence."""
    command = [sys.executable, "-m", "gsrcli", "train", str(pictures), "--run", str(run), "--device", device]
    if (run / "state.json").exists():
        command.append("--resume")
    elif carried is not None and (carried / "state" / "weights.safetensors").exists():
        command += ["--from", str(carried / "state" / "weights.safetensors")]
    if carried is not None and (carried / "validation").exists():
        command += ["--validate-on", str(carried / "validation")]
    if minutes is not None and "--minutes" not in arguments:
        command += ["--minutes", f"{minutes:.2f}"]
    return [*command, *arguments]


def unpack(pack: Path, folder: Path) -> Path:
    """Unpack pictures into a folder, and return it."""
    with tarfile.open(pack) as tar:
        tar.extractall(folder, filter="data")
    return folder


def snapshot(run: Path, folder: Path, tries: int = 5) -> bool:
    """Copy a run while it is being trained: parts first, indices last, each in one rename.

    A copy is complete only with the parts that its index names, so it is retried if the index changes meanwhile.

    Returns:
        Whether the run could be copied.
    """
    for _ in range(tries):
        try:
            before = _indices(run)
            names = [name for name in ("weights.safetensors", "log.jsonl") if (run / name).exists()]
            parts = [path.name for kind in before for path in sorted(run.glob(f"{kind}-*.safetensors"))]
            parts = [name for name in parts if any(name.encode() in index for index in before.values())]
            contents = {name: (run / name).read_bytes() for name in [*parts, *names]}
            if _indices(run) == before:
                break
        except FileNotFoundError:
            pass
        time.sleep(1)
    else:
        return False
    contents |= {f"{kind}.json": index for kind, index in before.items()}
    if len(contents) > MOST_FILES:  # the plateau is dispensable
        contents = {name: content for name, content in contents.items() if not name.startswith("plateau")}
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in contents.items():
        replace(folder / name, content)
    for path in folder.iterdir():
        if path.name not in contents:
            path.unlink()
    return True


def _indices(run: Path) -> dict[str, bytes]:
    return {kind: (run / f"{kind}.json").read_bytes() for kind in _INDICES if (run / f"{kind}.json").exists()}


def oversized(folder: Path) -> list[str]:
    """Return what exceeds the number or size of files that such a machine may return."""
    files = sorted(folder.iterdir()) if folder.exists() else []
    found = [f"{path.name} has {path.stat().st_size} bytes" for path in files if path.stat().st_size > LARGEST]
    return found + ([f"{len(files)} files"] if len(files) > MOST_FILES else [])


def begin_run(carried: Path | None, run: Path) -> None:
    """Create the folder of the run, with the carried state if there is one."""
    run.mkdir(parents=True)
    if carried is not None and (carried / "state" / "state.json").exists():
        shutil.copytree(carried / "state", run, dirs_exist_ok=True)


class Log:
    """The lines that are added to a run's log."""

    def __init__(self, run: Path) -> None:
        self._path = run / "log.jsonl"
        self._read = len(self._content())
        self.lines: list[dict[str, Any]] = []

    def news(self) -> list[dict[str, Any]]:
        """Return the complete lines added since the last call."""
        content = self._content()
        whole = content.rfind(b"\n") + 1
        new, self._read = content[self._read : whole], max(whole, self._read)
        found = [json.loads(line) for line in new.splitlines()]
        self.lines += found
        return found

    def facts(self) -> dict[str, Any]:
        """Summarise all lines."""
        if not self.lines:
            return {"steps": 0}
        first, last = self.lines[0], self.lines[-1]
        rates = [line["samples_per_second"] for line in self.lines if line.get("samples_per_second") is not None]
        facts = {"steps": last["step"], "first_loss": first["loss"], "last_loss": last["loss"]}
        return facts | ({"samples_per_second": sorted(rates)[len(rates) // 2]} if rates else {})

    def _content(self) -> bytes:
        return self._path.read_bytes() if self._path.exists() else b""
