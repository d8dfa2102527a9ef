"""Find the inputs, name the outputs, and refuse clashes before any work is done."""

from __future__ import annotations

import glob
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from gsrcli.errors import UsageError
from gsrcli.images import INPUT_SUFFIXES, OPTIONAL_SUFFIXES, OUTPUT_SUFFIXES, install_hint

__all__ = ["Job", "Plan", "plan_jobs", "unread"]

_RAW = (
    ".3fr .arw .cr2 .cr3 .crw .dng .erf .fff .iiq .kdc .mef .mos .mrw .nef .nrw .orf .pef .raf .raw .rw2 .rwl .sr2 "
    ".srf .srw .x3f"
)
_VECTOR = ".ai .emf .eps .svg .svgz .wmf"
_OTHER = ".dds .djvu .exr .fits .hdr .icns .jxr .kra .pcx .psb .psd .qoi .xcf"
_UNREAD: Mapping[str, str] = {
    **dict.fromkeys(_RAW.split(), "camera raw; save them as TIFF first"),
    **dict.fromkeys(_VECTOR.split(), "vector graphics, which can be drawn at any size"),
    **dict.fromkeys(_OTHER.split(), "save them as PNG or TIFF first"),
    **{suffix: f"pip install '{extra}'" for suffix, extra in OPTIONAL_SUFFIXES.items()},
}
"""Suffixes of files that people take for pictures, and what to do about them; `INPUT_SUFFIXES` rules over it."""


@dataclass(frozen=True)
class Job:
    """One picture to read and one to write."""

    input: Path
    output: Path


class Plan(NamedTuple):
    """What a command line asks for.

    Attributes:
        jobs: the pictures to upscale, in order.
        passed_over: number of files in folders that look like pictures but cannot be read, by suffix.
    """

    jobs: list[Job]
    passed_over: Mapping[str, int]


class _Found(NamedTuple):
    """An input file; its output keeps its place relative to ``base``."""

    base: Path
    path: Path
    passed_over: bool = False


def plan_jobs(inputs: Sequence[str], output: Path | None, label: str, suffix: str | None, recursive: bool) -> Plan:
    """Return the jobs of a command line, each input once, and what its folders have that cannot be read.

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
    everything = _once(_find(inputs, recursive))
    found = [file for file in everything if not file.passed_over]
    passed_over = Counter(file.path.suffix.lower() for file in everything if file.passed_over)
    if output is not None and _names_file(output, inputs):
        if suffix not in (None, output.suffix.lower()):
            raise UsageError(f"--format {suffix[1:]} contradicts --output {output}", hint="give only one of them")
        return Plan([Job(found[0].path, output)], passed_over)
    jobs = [Job(path, _output_path(base, path, output, label, suffix)) for base, path, _ in found]
    # Outputs that an earlier run left next to its inputs are not inputs.
    outputs = {job.output for job in jobs}
    jobs = [job for job in jobs if job.input not in outputs]
    _refuse_clashes(jobs)
    return Plan(jobs, passed_over)


def unread(passed_over: Mapping[str, int]) -> str:
    """Return how many files of which suffixes were passed over, and what to do about them, each said once."""
    alike: dict[str, list[str]] = {}
    for suffix, count in sorted(passed_over.items()):
        alike.setdefault(_UNREAD[suffix], []).append(f"{count} {suffix}")
    return ", ".join(f"{', '.join(files)} ({advice})" for advice, files in alike.items())


def _once(found: Iterable[_Found]) -> list[_Found]:
    """Keep each file once, under the name it was first given by; one that is named is not passed over."""
    first: dict[str, _Found] = {}
    for file in found:
        key = os.path.realpath(file.path)
        if first.setdefault(key, file).passed_over:
            first[key] = file
    return list(first.values())


def _find(inputs: Sequence[str], recursive: bool) -> Iterator[_Found]:
    """Yield each input file."""
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


def _named(path: Path, recursive: bool) -> Iterator[_Found]:
    """Yield a file, or the pictures in a folder. A path that does not exist becomes a job, which then fails."""
    # os.path returns False where pathlib raises, as for names too long to exist.
    if not os.path.isdir(path):  # noqa: PTH112
        yield _Found(path.parent, path)
        return
    found = sorted(_pictures(path, recursive))
    if all(file.passed_over for file in found):
        others = unread(Counter(file.path.suffix.lower() for file in found))
        hint = None if recursive else "add --recursive to search its subfolders"
        raise UsageError(
            f"there are no pictures in {path}" + (f" that can be read, but {others}" if others else ""), hint=hint
        )
    yield from found


def _pictures(folder: Path, recursive: bool) -> Iterator[_Found]:
    """Yield the pictures in a folder that are not hidden.

    Unreadable folders and links to nothing are among them, and fail later as jobs.
    """
    unreadable: list[OSError] = []
    for place, folders, names in os.walk(folder, onerror=unreadable.append):
        folders[:] = [name for name in folders if recursive and not name.startswith(".")]
        paths = (Path(place, name) for name in names if not name.startswith("."))
        for path in paths:
            suffix = path.suffix.lower()
            if (suffix in INPUT_SUFFIXES or suffix in _UNREAD) and _may_be_file(path):
                yield _Found(folder, path, suffix not in INPUT_SUFFIXES)
    yield from (_Found(folder, Path(error.filename)) for error in unreadable)


def _may_be_file(path: Path) -> bool:
    """Return whether a path is a file, a link to nothing, or cannot be examined for lack of permission."""
    try:
        return path.is_file() or not path.exists()
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
    single = len(inputs) == 1 and not os.path.isdir(inputs[0]) and not _is_pattern(inputs[0])  # noqa: PTH112
    has_picture_suffix = output.suffix.lower() in OUTPUT_SUFFIXES
    if output.is_dir():
        if single and has_picture_suffix:
            raise UsageError(f"{output} is a folder, not a file", hint="choose another name")
        return False
    if single and has_picture_suffix:
        return True
    if single and output.suffix:
        hint = install_hint(output.suffix.lower())
        hint = hint or f"choose a folder, or a file ending in {' '.join(OUTPUT_SUFFIXES)}"
        raise UsageError(f"cannot write to {output}: unsupported format {output.suffix}", hint=hint)
    if has_picture_suffix:
        raise UsageError(f"cannot write several pictures to one file: {output}", hint="choose a folder")
    if output.is_file():
        raise UsageError(f"cannot write to {output}: it is a file, not a folder", hint="choose another name")
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
