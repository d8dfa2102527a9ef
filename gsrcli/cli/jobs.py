"""Find the inputs, name the outputs, and refuse clashes before any work is done."""

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

    input: Path
    output: Path


def plan_jobs(inputs: Sequence[str], output: Path | None, label: str, suffix: str | None, recursive: bool) -> list[Job]:
    """Return the jobs of a command line in order, each input once.

    Args:
        inputs: files, folders and patterns.
        output: a file to write, for a single input file; otherwise a folder, which keeps the structure of input
            folders; None puts each output next to its input.
        label: suffix of the outputs' names: ``photo_{label}.png``.
        suffix: file name suffix of the outputs; None keeps the input's if it can be written, otherwise .png.
        recursive: whether to search subfolders.

    Raises:
        UsageError: no inputs were found, an input is empty, or two inputs would have the same output.
    """
    found = _once(_find(inputs, recursive))
    if output is not None and _names_file(output, inputs):
        if suffix not in (None, output.suffix.lower()):
            raise UsageError(f"--format {suffix[1:]} contradicts --output {output}", hint="give only one of them")
        return [Job(found[0][1], output)]
    jobs = [Job(path, _output_path(base, path, output, label, suffix)) for base, path in found]
    # Outputs that an earlier run left next to its inputs are not inputs.
    outputs = {job.output for job in jobs}
    jobs = [job for job in jobs if job.input not in outputs]
    _refuse_clashes(jobs)
    return jobs


def _once(found: Iterable[tuple[Path, Path]]) -> list[tuple[Path, Path]]:
    """Keep each file once, under the name it was first given by."""
    first: dict[str, tuple[Path, Path]] = {}
    for base, path in found:
        first.setdefault(os.path.realpath(path), (base, path))
    return list(first.values())


def _find(inputs: Sequence[str], recursive: bool) -> Iterator[tuple[Path, Path]]:
    """Yield each input file as (base, path); the output keeps the path's place relative to base."""
    for text in inputs:
        if not text:
            raise UsageError("an input is empty", hint="is a variable unset? Write . for the current folder")
        if not _is_pattern(text):
            yield from _named(Path(text), recursive)
            continue
        matches = sorted(Path(p) for p in glob.glob(text, recursive=True))  # noqa: PTH207 (absolute patterns)
        if not matches:
            raise UsageError(f"nothing matches {text}")
        for match in matches:
            yield from _named(match, recursive)


def _named(path: Path, recursive: bool) -> Iterator[tuple[Path, Path]]:
    """Yield a file, or the pictures in a folder. A path that does not exist becomes a job, which then fails."""
    # os.path returns False where pathlib raises, as for names too long to exist.
    if not os.path.isdir(path):  # noqa: PTH112
        yield path.parent, path
        return
    found = sorted(_pictures(path, recursive))
    if not found:
        hint = None if recursive else "add --recursive to search its subfolders"
        raise UsageError(f"there are no pictures in {path}", hint=hint)
    yield from ((path, p) for p in found)


def _pictures(folder: Path, recursive: bool) -> Iterator[Path]:
    """Yield the pictures in a folder that are not hidden, and unreadable folders, which fail later as jobs."""
    unreadable: list[OSError] = []
    for place, folders, names in os.walk(folder, onerror=unreadable.append):
        folders[:] = [name for name in folders if recursive and not name.startswith(".")]
        paths = (Path(place, name) for name in names if not name.startswith("."))
        yield from (path for path in paths if path.suffix.lower() in INPUT_SUFFIXES and _may_be_file(path))
    yield from (Path(error.filename) for error in unreadable)


def _may_be_file(path: Path) -> bool:
    """Return whether a path is a file, or cannot be examined for lack of permission."""
    try:
        return path.is_file()
    except PermissionError:
        return True


def _is_pattern(text: str) -> bool:
    """Return whether a text is a glob pattern and not the name of an existing file."""
    return glob.has_magic(text) and not os.path.exists(text)  # noqa: PTH110


def _names_file(output: Path, inputs: Sequence[str]) -> bool:
    """Return whether --output names a file: it has a suffix, is not a folder, and there is one input file.

    Raises:
        UsageError: it looks like a file but cannot be one.
    """
    hint = f"give a folder, or, for a single picture, a file ending in {' '.join(OUTPUT_SUFFIXES)}"
    single = len(inputs) == 1 and not os.path.isdir(inputs[0]) and not _is_pattern(inputs[0])  # noqa: PTH112
    has_picture_suffix = output.suffix.lower() in OUTPUT_SUFFIXES
    if output.is_dir():
        if single and has_picture_suffix:
            raise UsageError(f"{output} is a folder, not a file", hint="choose another name")
        return False
    if single and has_picture_suffix:
        return True
    if output.is_file() or has_picture_suffix or (single and output.suffix):
        raise UsageError(f"cannot write to {output}", hint=hint)
    return False


def _output_path(base: Path, path: Path, output: Path | None, label: str, suffix: str | None) -> Path:
    own = path.suffix.lower() if path.suffix.lower() in OUTPUT_SUFFIXES else ".png"
    name = f"{path.stem}_{label}{suffix or own}"
    return path.with_name(name) if output is None else output / path.parent.relative_to(base) / name


def _refuse_clashes(jobs: Sequence[Job]) -> None:
    first: dict[Path, Path] = {}
    for job in jobs:
        if job.output in first:
            raise UsageError(
                f"{first[job.output]} and {job.input} would both be written to {job.output}",
                hint="upscale them into different folders",
            )
        first[job.output] = job.input
