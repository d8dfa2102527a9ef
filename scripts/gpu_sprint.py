"""Run the stages of scripts/gpu_sprint.sh on the GPU machine, each within a time limit, and record the results."""

from __future__ import annotations

import argparse
import json
import os
import queue
import re
import shlex
import signal
import subprocess
import sys
import tempfile
import threading
import time
import tomllib
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import IO, Any

import sprint_train
from sprint_record import Facts, Record

SCRIPTS = Path(__file__).resolve().parent
REPOSITORY = SCRIPTS.parent

# Seconds for each stage; training gets the rest.
LIMITS = {"smoke": 40, "measure": 120, "tests": 220, "sanitizer": 150}
DEADLINE = 590
LAST = 20
"""Seconds before the deadline at which training is stopped, to save and copy the run."""
SETTLED = 10
"""Seconds before that at which training should end by itself."""
SAVING = 12
"""Seconds that saving may take."""
COPY_EVERY = 60
"""Seconds between copies of the run."""
WORTH = 30
"""Least number of seconds for which training is started."""


def main() -> int:
    began = time.monotonic()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that child processes are ended too
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--carried", type=Path)
    parser.add_argument("--output", type=Path, default=REPOSITORY / "benchmarks")
    parser.add_argument("--deadline", type=float, default=DEADLINE, help="time limit in seconds")
    parser.add_argument("--spent", type=float, default=0, help="seconds of the time limit that have already passed")
    parser.add_argument("--commit", default=_output(["git", "-C", str(REPOSITORY), *_DESCRIBE]))
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--train-args", default=None)
    parser.add_argument("stages", nargs="*", choices=[[], *STAGES], default=[])
    options = parser.parse_args()
    missing, old = lacking()
    if missing:
        print(
            f"missing packages: {', '.join(missing)}; scripts/gpu_sprint.sh says how to bring wheels", file=sys.stderr
        )
        return 2
    if old:
        print(f"packages older than required: {', '.join(old)}", file=sys.stderr)
    if options.commit is None:
        print("cannot ask git for the commit: name it with --commit", file=sys.stderr)
        return 2
    facts = machine(options.device, options.commit)
    if facts is None:
        print("torch finds no CUDA device", file=sys.stderr)
        return 2
    rehearsal = options.device == "cpu"
    facts |= {"older_than_required": old} if old else {}
    record = Record(options.output, None if rehearsal else REPOSITORY / "benchmarks" / "gpu.json")
    with tempfile.TemporaryDirectory() as folder:
        ends = began - options.spent + options.deadline
        carried = options.carried.resolve() if options.carried else None
        work = Work(Path(folder), options.device, carried, options.output.resolve(), ends, options.train_args)
        failed = [run_stage(name, work, record, facts) for name in options.stages or DEFAULT]
    return int(any(failed))


@dataclass
class Work:
    """What a stage needs: a temporary folder, the device, the carried and output folders, and the end of its time."""

    folder: Path
    device: str
    carried: Path | None
    output: Path
    ends: float
    train_args: str | None = None

    @property
    def left(self) -> float:
        """Seconds left until the deadline."""
        return self.ends - time.monotonic()

    def pictures(self) -> Path | None:
        """Return the folder of the unpacked pictures that were carried, or None."""
        folder = self.folder / "pictures"
        if folder.exists():
            return folder
        if self.carried is None or not (self.carried / "pictures.tar").exists():
            return None
        return sprint_train.unpack(self.carried / "pictures.tar", folder)


def run_stage(name: str, work: Work, record: Record, facts: Facts) -> bool:
    """Run a stage and record it; return whether it failed."""
    began = time.monotonic()
    print(f"== {name}, {work.left:.0f} s left", flush=True)
    entry = record.begin(name, {**facts, "date": _now()})
    add = _adding(record, entry)
    try:
        STAGES[name](work, entry, add)
    except (subprocess.SubprocessError, OSError, ValueError, KeyError) as error:
        entry["error"] = f"{type(error).__name__}: {error}"
    entry["took"] = round(time.monotonic() - began, 1)
    record.write()
    print(entry.get("error", f"done in {entry['took']} s"), flush=True)
    return "error" in entry or any(row.get("ok") is False for row in entry["rows"])


def _adding(record: Record, entry: Facts) -> Callable[[Facts], None]:
    def add(row: Facts) -> None:
        record.add(entry, row)
        told = ("name", "ok", "seconds", "detail", "kind", "model", "scale", "backend", "order", "step", "loss", "psnr")
        told += ("forward_ms", "backward_ms", "network_ms", "total_ms", "steps_per_second", "samples_per_second")
        values = {name: row[name] for name in told if row.get(name) not in (None, "")}
        print("  " + ", ".join(f"{name} {_short(value)}" for name, value in values.items()), flush=True)

    return add


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


# ---- the machine ---------------------------------------------------------------------------------------


def machine(device: str, commit: str) -> Facts | None:
    """Return facts about the machine and the commit, or None if there is no such GPU."""
    import torch

    from gsrcli.runtime.hardware import environment

    if device == "cpu":
        return {**environment(torch.device("cpu")), "commit": commit, "rehearsal": True}
    if not torch.cuda.is_available():
        return None
    capability = torch.cuda.get_device_capability(device)
    return {**environment(torch.device(device)), "capability": capability, "commit": commit}


def lacking() -> tuple[list[str], list[str]]:
    """Return which direct and indirect dependencies of gsrcli are missing, and which are older than required.

    Older ones may work nevertheless.
    """
    try:
        from packaging.requirements import Requirement
    except ImportError:
        return ["packaging"], []
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    waiting, seen = [*project["dependencies"], *_of_cuda()], set()
    missing, old = [], []
    while waiting:
        requirement = Requirement(waiting.pop())
        if requirement.name in seen or (requirement.marker and not requirement.marker.evaluate({"extra": ""})):
            continue
        seen.add(requirement.name)
        distribution = _distribution(requirement.name)
        if distribution is None:
            missing.append(requirement.name)
            continue
        if not requirement.specifier.contains(distribution.version, prereleases=True):
            old.append(f"{requirement}, here {distribution.version}")
        if requirement.name != "torch":  # whose builds differ in their dependencies
            waiting += distribution.requires or []
    return sorted(missing), sorted(old)


def _of_cuda() -> list[str]:
    """Return the package that a CUDA build of torch needs to call the driver, and usually brings along."""
    try:
        import torch
    except Exception:  # reported later
        return []
    return ["cuda-bindings"] if torch.version.cuda else []


def _distribution(name: str) -> metadata.Distribution | None:
    """Return the installed distribution of a name, or its headless build, or None."""
    for one in (name, f"{name}-headless"):
        with suppress(metadata.PackageNotFoundError):
            return metadata.distribution(one)
    return None


_DESCRIBE = ("describe", "--always", "--dirty", "--abbrev=12")


def _output(command: list[str]) -> str | None:
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip() or None
    except (OSError, subprocess.CalledProcessError):
        return None


# ---- children ------------------------------------------------------------------------------------------


class Child:
    """A program in its own process group, which is killed on exit together with all its children."""

    def __init__(self, command: list[str], errors: IO[bytes]) -> None:
        self._errors = errors
        self._process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            preexec_fn=_apart,
        )
        self._lines: queue.Queue[str | None] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def __enter__(self) -> Child:
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def lines(self, until: float) -> Iterator[str]:
        """Yield the lines that it prints until a time; afterwards :attr:`code` is None if it still runs."""
        while True:
            try:
                line = self._lines.get(timeout=max(0.0, until - time.monotonic()))
            except queue.Empty:
                return
            if line is None:
                self.wait(until)
                return
            yield line

    @property
    def code(self) -> int | None:
        """The exit code, or None while it runs."""
        return self._process.poll()

    def wait(self, until: float) -> None:
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(max(0.1, until - time.monotonic()))

    def interrupt(self) -> None:
        self._process.send_signal(signal.SIGINT)

    def complaint(self) -> str:
        """Return the end of its standard error."""
        self._errors.seek(0)
        return self._errors.read()[-3000:].decode(errors="replace").strip()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.put(line)
        self._lines.put(None)


def _apart() -> None:
    """Start a process group, and restore Ctrl-C, which background jobs of shells and their children ignore."""
    os.setpgid(0, 0)
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def rows_of(script: list[str], limit: float, entry: Facts, add: Callable[[Facts], None]) -> None:
    """Record the rows that a script prints, and in the end which names of its plan it has not reached."""
    plan: list[str] = []
    reached: list[str] = []
    with tempfile.TemporaryFile() as errors, Child([sys.executable, *script], errors) as child:
        for line in child.lines(time.monotonic() + limit):
            told = _parsed(line)
            if "plan" in told:
                plan = entry["plan"] = told["plan"]
            elif "failed" in told:
                entry.setdefault("failed", {})[told["name"]] = told["failed"]
                print(f"  {told['name']}: {told['failed']}", flush=True)
            elif told:
                _note(entry, told.pop("notes", []))
                add(told)
            reached += [told["name"]] if "name" in told else []
        code = child.code
        if code is None:
            entry["error"] = f"stopped after {limit:.0f} s"
        elif code:
            entry["error"] = f"exit code {code}\n{child.complaint()}"
    entry["not_reached"] = [name for name in plan if name not in reached]
    if failed := entry.get("failed"):
        entry.setdefault("error", f"failed: {', '.join(failed)}")


def _parsed(line: str) -> Facts:
    """Parse a line's JSON object; print other lines, which come from libraries."""
    try:
        told = json.loads(line)
    except ValueError:
        print(line, end="", flush=True)
        return {}
    return told if isinstance(told, dict) else {}


def _note(entry: Facts, notes: list[str]) -> None:
    known = entry.setdefault("notes", [])
    known += [note for note in notes if note not in known]


# ---- the stages ----------------------------------------------------------------------------------------


def _limit(name: str, work: Work) -> float:
    patience = 3 if work.device == "cpu" else 1  # so that a rehearsal finishes
    return max(0.0, min(patience * LIMITS[name], work.left - LAST))


def smoke(work: Work, entry: Facts, add: Callable[[Facts], None]) -> None:
    """Check that everything works."""
    rows_of([str(SCRIPTS / "sprint_smoke.py"), "--device", work.device], _limit("smoke", work), entry, add)


def measure(work: Work, entry: Facts, add: Callable[[Facts], None]) -> None:
    """Measure how fast everything is."""
    pictures = work.pictures()
    given = ["--pictures", str(pictures)] if pictures is not None and work.device != "cpu" else []
    script = [str(SCRIPTS / "sprint_measure.py"), "--device", work.device, *given]
    rows_of(script, _limit("measure", work), entry, add)


def tests(work: Work, entry: Facts, add: Callable[[Facts], None]) -> None:
    """Run the tests that need a GPU."""
    _pytest("not sanitizer", _limit("tests", work), entry, add)


def sanitizer(work: Work, entry: Facts, add: Callable[[Facts], None]) -> None:
    """Run the kernels under each of compute-sanitizer's tools, which is slow."""
    _pytest("sanitizer", _limit("sanitizer", work), entry, add)


def _pytest(which: str, limit: float, entry: Facts, add: Callable[[Facts], None]) -> None:
    """Run tests marked gpu and count each outcome as it comes, so that those finished in time are recorded."""
    # Other files may import packages that this machine lacks.
    files = [
        p for p in sorted((REPOSITORY / "tests").rglob("test_*.py")) if "mark.gpu" in p.read_text(encoding="utf-8")
    ]
    options = ["-m", "gpu", "-k", which, "-v", "--color=no", "-p", "no:cacheprovider"]
    counts: Counter[str] = Counter()
    with tempfile.TemporaryFile() as errors:
        with Child([sys.executable, "-m", "pytest", *options, *map(str, files)], errors) as child:
            for line in child.lines(time.monotonic() + limit):
                if found := re.match(r"(\S+::.*?) (PASSED|FAILED|ERROR|SKIPPED|XFAIL|XPASS)\b", line):
                    counts[found[2]] += 1
                    if found[2] in ("FAILED", "ERROR"):
                        add({"name": found[1], "outcome": found[2], "ok": False})
                print(line, end="", flush=True)
            code = child.code
        entry["counts"] = dict(counts)
    if code is None:
        entry["error"] = f"stopped after {limit:.0f} s"
    elif code:
        entry["error"] = f"pytest exits with {code}"


def train(work: Work, entry: Facts, add: Callable[[Facts], None]) -> None:
    """Train until shortly before the deadline, copying the run to the output folder every minute."""
    if work.left - LAST < WORTH:
        raise ValueError(f"only {work.left:.0f} s left, too few to train")
    pictures = work.pictures()
    if pictures is None:
        from sprint_smoke import synthetic_pictures

        pictures = synthetic_pictures(work.folder / "synthetic", 24)
    run, kept = work.folder / "run", work.output / "run"
    sprint_train.begin_run(work.carried, run)
    stop = work.ends - LAST
    minutes = (stop - SETTLED - time.monotonic()) / 60
    arguments = _arguments(work)
    command = sprint_train.train_command(
        pictures, run, work.device, carried=work.carried, minutes=minutes, arguments=arguments
    )
    log, copied = sprint_train.Log(run), time.monotonic()
    entry["arguments"] = shlex.join(arguments)
    print(f"  {shlex.join(command)}", flush=True)
    with tempfile.TemporaryFile() as errors, Child(command, errors) as child:
        while child.code is None and time.monotonic() < stop:
            for line in child.lines(min(time.monotonic() + 2, stop)):
                print(line, end="", flush=True)
            _tell(log, entry, add)
            if time.monotonic() - copied > COPY_EVERY:
                sprint_train.snapshot(run, kept)
                copied = time.monotonic()
        entry["ended"] = _stopped(child, stop)
        if child.code not in (0, 130):
            entry["error"] = f"exit code {child.code}\n{child.complaint()}"
    _tell(log, entry, add)
    if not sprint_train.snapshot(run, kept, tries=2):
        entry.setdefault("error", "the run could not be copied at the end")
    if large := sprint_train.oversized(kept):
        entry.setdefault("error", f"too large for such a machine to return: {', '.join(large)}")


def _arguments(work: Work) -> list[str]:
    if work.train_args is not None:
        return shlex.split(work.train_args)
    given = work.carried / "train.args" if work.carried else None
    return shlex.split(given.read_text(encoding="utf-8"), comments=True) if given and given.exists() else []


def _tell(log: sprint_train.Log, entry: Facts, add: Callable[[Facts], None]) -> None:
    for line in log.news():
        add(line)
    entry |= log.facts()


def _stopped(child: Child, stop: float) -> str:
    """Stop training if it still runs, first by Ctrl-C, which saves the run; return how it ended."""
    if child.code is not None:
        return "by itself" if child.code == 0 else f"with exit code {child.code}"
    child.interrupt()
    child.wait(stop + SAVING)
    return "interrupted" if child.code is not None else "killed because it did not save in time"


DEFAULT = ("smoke", "measure", "train")
STAGES: dict[str, Callable[[Work, Facts, Callable[[Facts], None]], None]] = {
    stage.__name__: stage for stage in (smoke, measure, train, tests, sanitizer)
}

if __name__ == "__main__":
    sys.exit(main())
