"""Which files to make from which: inputs found, outputs named, clashes seen before any work is done."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from gsrcli.errors import UsageError
from gsrcli.images import INPUT_SUFFIXES, OUTPUT_SUFFIXES

__all__ = ["Job", "plan_jobs"]


@dataclass(frozen=True)
class Job:
    """One picture to read and one to write."""

    source: Path
    target: Path


def plan_jobs(inputs: Sequence[str], output: Path | None, label: str, suffix: str | None, recursive: bool) -> list[Job]:
    """The jobs that a command line asks for, in order, each input once.

    Args:
        inputs: files, folders and patterns.
        output: a file to write, for a single input file; else a folder, which keeps the structure of input
            folders; None puts each output beside its input.
        label: what outputs are called after their input: ``photo_{label}.png``.
        suffix: of the outputs, or None for that of the input where it can be written, .png otherwise.
        recursive: whether folders are searched to their depths.

    Raises:
        UsageError: nothing was found, an input is empty, or two inputs would become one output.
    """
    sources = _once(_sources(inputs, recursive))
    if output is not None and _names_file(output, inputs):
        if suffix not in (None, output.suffix.lower()):
            raise UsageError(f"--format {suffix[1:]} contradicts {output}", hint="give one of them")
        return [Job(sources[0][1], output)]
    jobs = [Job(source, _target(base, source, output, label, suffix)) for base, source in sources]
    # What an earlier run left beside its inputs is no input.
    targets = {job.target for job in jobs}
    jobs = [job for job in jobs if job.source not in targets]
    _refuse_clashes(jobs)
    return jobs


def _once(sources: Iterable[tuple[Path, Path]]) -> list[tuple[Path, Path]]:
    """Each file once, as it was first named."""
    first: dict[str, tuple[Path, Path]] = {}
    for base, source in sources:
        first.setdefault(os.path.realpath(source), (base, source))
    return list(first.values())


def _sources(inputs: Sequence[str], recursive: bool) -> Iterator[tuple[Path, Path]]:
    """Each input file with the folder its output's place is relative to."""
    for text in inputs:
        if not text:
            raise UsageError("an input is empty", hint="is a variable not set? The current folder is called .")
        if not _is_pattern(text):
            yield from _named(Path(text), recursive)
            continue
        matches = sorted(Path(p) for p in glob.glob(text, recursive=True))  # noqa: PTH207 (absolute patterns)
        if not matches:
            raise UsageError(f"nothing matches {text}")
        for match in matches:
            yield from _named(match, recursive)


def _named(path: Path, recursive: bool) -> Iterator[tuple[Path, Path]]:
    """A file, or the pictures of a folder. What does not exist fails as a job of its own."""
    # os.path answers False where pathlib raises, as for names too long to exist.
    if not os.path.isdir(path):  # noqa: PTH112
        yield path.parent, path
        return
    found = sorted(_pictures(path, recursive))
    if not found:
        deeper = "" if recursive else "; --recursive looks into its folders too"
        raise UsageError(f"there are no pictures in {path}{deeper}")
    yield from ((path, p) for p in found)


def _pictures(folder: Path, recursive: bool) -> Iterator[Path]:
    """The pictures of a folder but for hidden ones; and folders that cannot be read, to fail as jobs of their own."""
    unreadable: list[OSError] = []
    for place, folders, names in os.walk(folder, onerror=unreadable.append):
        folders[:] = [name for name in folders if recursive and not name.startswith(".")]
        paths = (Path(place, name) for name in names if not name.startswith("."))
        yield from (path for path in paths if path.suffix.lower() in INPUT_SUFFIXES and _may_be_file(path))
    yield from (Path(error.filename) for error in unreadable)


def _may_be_file(path: Path) -> bool:
    """Whether it is a file, or nobody lets us see what it is."""
    try:
        return path.is_file()
    except PermissionError:
        return True


def _is_pattern(text: str) -> bool:
    """Whether a name is a pattern; a file that exists is what it is called."""
    return glob.has_magic(text) and not os.path.exists(text)  # noqa: PTH110


def _names_file(output: Path, inputs: Sequence[str]) -> bool:
    """Whether --output means a file: it has a suffix and is no folder, and there is one input file.

    Raises:
        UsageError: it looks like a file but cannot be one.
    """
    hint = f"name a folder, or for one picture a {' '.join(OUTPUT_SUFFIXES)} file"
    single = len(inputs) == 1 and not os.path.isdir(inputs[0]) and not _is_pattern(inputs[0])  # noqa: PTH112
    pictured = output.suffix.lower() in OUTPUT_SUFFIXES
    if output.is_dir():
        if single and pictured:
            raise UsageError(f"{output} is a folder, not a file", hint="choose another name")
        return False
    if single and pictured:
        return True
    if output.is_file() or pictured or (single and output.suffix):
        raise UsageError(f"cannot write to {output}", hint=hint)
    return False


def _target(base: Path, source: Path, output: Path | None, label: str, suffix: str | None) -> Path:
    own = source.suffix.lower() if source.suffix.lower() in OUTPUT_SUFFIXES else ".png"
    name = f"{source.stem}_{label}{suffix or own}"
    return source.with_name(name) if output is None else output / source.parent.relative_to(base) / name


def _refuse_clashes(jobs: Sequence[Job]) -> None:
    first: dict[Path, Path] = {}
    for job in jobs:
        if job.target in first:
            raise UsageError(
                f"{first[job.target]} and {job.source} would both become {job.target}",
                hint="upscale them into different folders",
            )
        first[job.target] = job.source
