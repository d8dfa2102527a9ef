"""Which files to make from which: inputs found, outputs named, clashes seen before any work is done."""

from __future__ import annotations

import glob
from collections.abc import Iterator, Sequence
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
        UsageError: nothing was found, or two inputs would become one output.
    """
    sources = list(dict.fromkeys(_sources(inputs, recursive)))
    if output is not None and _names_file(output, inputs):
        return [Job(sources[0][1], output)]
    jobs = [Job(source, _target(base, source, output, label, suffix)) for base, source in sources]
    # What an earlier run left beside its inputs is no input.
    targets = {job.target for job in jobs}
    jobs = [job for job in jobs if job.source not in targets]
    _refuse_clashes(jobs)
    return jobs


def _sources(inputs: Sequence[str], recursive: bool) -> Iterator[tuple[Path, Path]]:
    """Each input file with the folder its output's place is relative to."""
    for text in inputs:
        path = Path(text)
        if path.is_dir():
            found = sorted(p for p in (path.rglob("*") if recursive else path.iterdir()) if _is_picture(p))
            if not found:
                deeper = "" if recursive else "; --recursive looks into its folders too"
                raise UsageError(f"there are no pictures in {path}{deeper}")
            yield from ((path, p) for p in found)
        elif not path.exists() and glob.has_magic(text):
            matches = sorted(Path(p) for p in glob.glob(text, recursive=True))  # noqa: PTH207 (absolute patterns)
            if not matches:
                raise UsageError(f"nothing matches {text}")
            yield from ((p.parent, p) for p in matches if p.is_file())
        else:
            yield path.parent, path  # what does not exist fails as a job of its own


def _is_picture(path: Path) -> bool:
    return path.suffix.lower() in INPUT_SUFFIXES and path.is_file() and not path.name.startswith(".")


def _names_file(output: Path, inputs: Sequence[str]) -> bool:
    """Whether --output means a file: one input that is no folder, and a name with a picture's suffix."""
    single = len(inputs) == 1 and not Path(inputs[0]).is_dir() and not glob.has_magic(inputs[0])
    if not single or output.suffix.lower() not in OUTPUT_SUFFIXES:
        if output.is_file() or (output.suffix and not output.is_dir() and single):
            raise UsageError(
                f"cannot write to {output}",
                hint=f"name a folder, or for one picture a {' '.join(OUTPUT_SUFFIXES)} file",
            )
        return False
    if output.is_dir():
        raise UsageError(f"{output} is a folder, not a file", hint="add a slash, or choose another name")
    return True


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
