"""Weights on this machine: in the package, fetched once, or imported by hand; verified whenever they are used.

Of released files one checkpoint of ours is made, NAME.safetensors, and beside it NAME.json records its SHA-256 and
those of the files that it was made of. The record is written first, so that whoever finds a checkpoint can verify it.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Collection, Mapping
from contextlib import AbstractContextManager, suppress
from pathlib import Path

from gsrcli.download.digest import Digest, sha256_of
from gsrcli.download.provenance import Ledger, Record, Source
from gsrcli.errors import DownloadError, ModelError, UsageError, nearest
from gsrcli.runtime.files import filling, locked, user_folder
from gsrcli.weights.catalog import Backbone, Bundled, Released, Weights, backbones, is_name, registry

__all__ = [
    "Report",
    "fetch",
    "folder",
    "import_checkpoint",
    "import_released",
    "imported",
    "is_present",
    "listed",
    "locate",
    "path_of",
    "remove",
    "verified",
]

Report = Callable[[str, int, "int | None"], None]
"""Is told a file's name, how many of its bytes are there, and how many there will be, where that is known."""


def folder() -> Path:
    """Where weights are kept."""
    return user_folder("weights")


def path_of(name: str) -> Path:
    """Where the checkpoint of these weights is, or would be."""
    bundled = _bundled(name)
    return bundled.path if bundled else folder() / f"{name}.safetensors"


def is_present(name: str) -> bool:
    """Whether these weights are on this machine. In a folder that cannot be looked into there are none."""
    try:
        return path_of(name).exists()
    except OSError:
        return False


def listed() -> dict[str, Weights | Backbone]:
    """Everything that weights.toml lists, by name: weights of models, and after them the backbones of metrics."""
    return {**registry(), **backbones()}


def imported() -> list[str]:
    """The names of weights that were imported under names of the user's own."""
    try:
        names = [path.stem for path in folder().glob("*.safetensors")]
    except OSError:  # a folder that cannot be looked into
        return []
    return sorted(name for name in names if name not in listed())


def locate(name: str, report: Report | None = None) -> Path:
    """The verified checkpoint of these weights, fetched if they are not on this machine.

    Raises:
        ModelError: there are no such weights, or they are damaged or do not fit their model.
        DownloadError: they cannot be fetched.
    """
    return verified(name) if is_present(name) or _bundled(name) else fetch(name, report)


def verified(name: str) -> Path:
    """The checkpoint of these weights, after a look at every byte of it.

    Raises:
        ModelError: it is not on this machine, or not what it was.
    """
    _require_known(name)
    path = path_of(name)
    if bundled := _bundled(name):
        expected, remedy = bundled.digest, "reinstall gsrcli"
    else:
        record = _ledger(name).read()
        expected = Digest("sha256", record.sha256 or "" if record else "")
        released = name in listed()
        remedy = f"gsr weights fetch {name}" if released else f"gsr weights remove {name}, and import it again"
    try:
        actual = Digest.of(path, expected.kind)
    except OSError as error:
        raise ModelError(f"the weights of {name} are missing: {path}: {error.strerror}", hint=remedy) from error
    if actual != expected:
        raise ModelError(f"the weights of {name} are damaged: {path}", hint=remedy)
    return path


def fetch(name: str, report: Report | None = None) -> Path:
    """Bring released weights to this machine, unless they are here and intact.

    Raises:
        ModelError: there are no such weights, they are not what they were, or do not fit their model.
        DownloadError: they cannot be fetched.
    """
    entry = _entry(name)
    with suppress(ModelError):
        return verified(name)
    released = _released(entry)
    if isinstance(entry, Weights):
        from gsrcli.weights.convert import require_convertible

        require_convertible(entry.model, released)
    with filling(folder(), ModelError), _locked(name):
        with suppress(ModelError):
            return verified(name)  # another process was quicker
        _ledger(name).read()  # a damaged record is told of before anything is fetched
        parts = _parts_of(name)
        parts.mkdir(exist_ok=True)
        try:
            files = {file.name: parts / f"{file.name}.part" for file in released.values()}
            origins = {file: _download(entry, released[file], part, report) for file, part in files.items()}
            _convert(entry, files, origins)
        except DownloadError:
            raise  # with what there is to go on with
        except ModelError:
            shutil.rmtree(parts)
            raise
        else:
            shutil.rmtree(parts)
        finally:
            with suppress(OSError):
                parts.rmdir()  # where nothing is in it
    return path_of(name)


def import_released(name: str, files: Collection[Path]) -> Path:
    """Make weights of released files that were brought here by hand.

    Raises:
        ModelError: there are no such weights, or these files are not theirs.
        UsageError: not exactly the released files were given.
    """
    entry = _entry(name)
    released = _released(entry)
    given = {path.name: path for path in files} if len(released) > 1 else dict(zip(released, files, strict=False))
    if set(given) != set(released) or len(files) != len(released):
        raise UsageError(f"{name} is made of {' and '.join(released)}", hint="give these files, under these names")
    with filling(folder(), ModelError), _locked(name):
        for file, path in given.items():
            _ledger(name).require_known(file, path, released[file].digest)
        with suppress(ModelError):
            return verified(name)  # these very files are what it was made of
        _convert(entry, given, {file: str(path.absolute()) for file, path in given.items()})
    return path_of(name)


def import_checkpoint(path: Path, name: str | None = None) -> str:
    """Keep a checkpoint of ours under a name of the user's own.

    Args:
        path: the checkpoint.
        name: what to call it; by default as its file is called.

    Returns:
        The name.

    Raises:
        ModelError: it is damaged or no model's, or the name is taken.
        UsageError: the name is none.
    """
    from gsrcli.weights.checkpoint import read_model

    name = name or path.stem
    if not is_name(name):
        raise UsageError(f"{name!r} is no name: letters, digits, - and _", hint="choose one with --name")
    if name in listed():
        hint = "bring the files that its authors released, or choose a --name of your own"
        raise ModelError(f"{name} is the name of weights that gsrcli knows, which no checkpoint replaces", hint=hint)
    read_model(path)
    content = path.read_bytes()
    with filling(folder(), ModelError), _locked(name):
        record = _ledger(name).read()
        if is_present(name) and _sha256(content) not in (record and record.sha256, sha256_of(path_of(name))):
            hint = f"to replace them: gsr weights remove {name}"
            raise ModelError(f"there are other weights called {name}", hint=hint)
        _keep(name, content, {})
    return name


def remove(name: str) -> None:
    """Delete weights, and forget what was recorded of the files that they were made of.

    Raises:
        ModelError: there are none of that name, or they are a part of gsrcli.
    """
    _require_known(name)
    if _bundled(name):
        raise ModelError(f"{name} is a part of gsrcli", hint="it goes with it: pip uninstall gsrcli")
    traces = [path_of(name), _ledger(name).path, _parts_of(name)]
    if not any(trace.exists() for trace in traces):
        raise ModelError(f"there are no weights of {name} on this machine")
    with filling(folder(), ModelError), _locked(name):
        for trace in traces[:2]:
            trace.unlink(missing_ok=True)
        shutil.rmtree(_parts_of(name), ignore_errors=True)


def _require_known(name: str) -> None:
    if name not in listed() and name not in imported():
        hint = f"try {nearest(name, [*listed(), *imported()])}"
        raise ModelError(f"there are no weights called {name!r}", hint=hint)


def _bundled(name: str) -> Bundled | None:
    source = listed()[name].source if name in listed() else None
    return source if isinstance(source, Bundled) else None


def _entry(name: str) -> Weights | Backbone:
    if name not in listed():
        raise ModelError(f"there are no released weights called {name!r}", hint=f"try {nearest(name, listed())}")
    return listed()[name]


def _released(entry: Weights | Backbone) -> dict[str, Released]:
    if isinstance(entry.source, Bundled):
        raise ModelError(f"the weights of {entry.name} come with gsrcli", hint="reinstall gsrcli")
    return entry.source


def _download(entry: Weights | Backbone, file: Released, part: Path, report: Report | None) -> str:
    """Fetch one released file; returns the URL that gave it."""
    from gsrcli.download.http import download

    def tell(done: int, total: int | None) -> None:
        if report:
            report(f"{entry.name}/{file.name}", done, total)

    def check(path: Path) -> None:
        _ledger(entry.name).require_known(file.name, path, file.digest)

    try:
        return download(file.urls, part, check, tell)
    except DownloadError as error:
        by_hand = f"to bring it by hand: gsr weights import {' '.join(_released(entry))} --name {entry.name}"
        raise DownloadError(str(error), hint=error.hint or by_hand) from error


def _convert(entry: Weights | Backbone, files: Mapping[str, Path], origins: Mapping[str, str]) -> None:
    """Make the checkpoint of released files, and record both."""
    from gsrcli.models.feature_extractors import backbone_bytes
    from gsrcli.weights.checkpoint import model_bytes
    from gsrcli.weights.convert import backbone_of_released, model_of_released

    if isinstance(entry, Backbone):
        content = backbone_bytes(backbone_of_released(entry.name, files), entry.name)
    else:
        content = model_bytes(model_of_released(entry.model, files), entry.model, {})
    _keep(entry.name, content, {file: Source(sha256_of(path), origins[file]) for file, path in files.items()})


def _keep(name: str, content: bytes, sources: dict[str, Source]) -> None:
    """Put a checkpoint into the cache, its record first."""
    from gsrcli.weights.checkpoint import write_checkpoint

    _ledger(name).write(Record(sources, _sha256(content)))
    write_checkpoint(path_of(name), content)


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _ledger(name: str) -> Ledger:
    return Ledger(folder() / f"{name}.json", f"gsr weights remove {name}")


def _parts_of(name: str) -> Path:
    return folder() / f"{name}.parts"


def _locked(name: str) -> AbstractContextManager[None]:
    """Keep other processes from the weights of this name."""
    return locked(folder() / f".{name}.lock", f"the weights of {name}")
