"""Weights on this machine: in the package, fetched once, or imported by hand; verified whenever they are used.

Of released files one checkpoint of ours is made, NAME.safetensors, and beside it NAME.json records its SHA-256 and
those of the files it was made of. Files whose digest nobody published are held to that record: what was fetched first
is trusted, and a later change is refused until the weights are removed.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

from gsrcli.digests import Digest, sha256_of
from gsrcli.errors import DownloadError, ModelError, UsageError, nearest
from gsrcli.files import locked, user_folder, write_whole
from gsrcli.registry import Backbone, Bundled, Released, Weights, backbones, is_name, registry

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
    """Whether these weights are on this machine."""
    return path_of(name).exists()


def listed() -> dict[str, Weights | Backbone]:
    """Everything that weights.toml lists, by name: weights of models, and after them the backbones of metrics."""
    return {**registry(), **backbones()}


def imported() -> list[str]:
    """The names of weights that were imported under names of the user's own."""
    return sorted(record.stem for record in folder().glob("*.json") if record.stem not in listed())


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
        record = _Record.of(name)
        expected = Digest("sha256", record.sha256 if record else "")
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
        from gsrcli.conversion import require_convertible

        require_convertible(entry.model, released)
    with _writing(), _locked(name):
        with suppress(ModelError):
            return verified(name)  # another process was quicker
        _Record.of(name)  # a damaged one is told of before anything is fetched
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
    with _writing(), _locked(name):
        for file, path in given.items():
            _check(entry, released[file], path)
        _convert(entry, given, {file: str(path.absolute()) for file, path in given.items()})
    return path_of(name)


def import_checkpoint(path: Path, name: str | None = None) -> str:
    """Keep a checkpoint of ours under a name: its own if it was made of released files, any other if it was trained.

    Args:
        path: the checkpoint.
        name: what to call it; by default the released weights' name, or the file's.

    Returns:
        The name.

    Raises:
        ModelError: it is damaged, or the name is taken by other weights.
        UsageError: the name is none.
    """
    from gsrcli.checkpoints import read_model, write_checkpoint

    _, metadata = read_model(path)
    made_of = _made_of(metadata)
    name = name or made_of.name or path.stem
    if not is_name(name):
        raise UsageError(f"{name!r} is no name: letters, digits, - and _", hint="choose one with --name")
    if name in listed() and made_of.name != name:
        raise ModelError(f"{path} was not made of the released files of {name}", hint="choose a --name of your own")
    with _writing(), _locked(name):
        record = _Record.of(name)
        if record and (not made_of.files or made_of.files != {file: s.sha256 for file, s in record.sources.items()}):
            hint = f"to replace them: gsr weights remove {name}"
            raise ModelError(f"there are other weights called {name}", hint=hint)
        sources = {file: _Source(sha256, str(path.absolute())) for file, sha256 in made_of.files.items()}
        write_checkpoint(path_of(name), path.read_bytes())
        _Record(sha256_of(path_of(name)), sources).write(name)
    return name


def remove(name: str) -> None:
    """Delete weights, and forget what was recorded of the files that they were made of.

    Raises:
        ModelError: there are none of that name, or they are a part of gsrcli.
    """
    _require_known(name)
    if _bundled(name):
        raise ModelError(f"{name} is a part of gsrcli", hint="it goes with it: pip uninstall gsrcli")
    traces = [path_of(name), _record_of(name), _parts_of(name)]
    if not any(trace.exists() for trace in traces):
        raise ModelError(f"there are no weights of {name} on this machine")
    with _writing(), _locked(name):
        for trace in traces[:2]:
            trace.unlink(missing_ok=True)
        shutil.rmtree(_parts_of(name), ignore_errors=True)


def _require_known(name: str) -> None:
    known = [*listed(), *imported()]
    if name not in known:
        raise ModelError(f"there are no weights called {name!r}", hint=f"try {nearest(name, known)}")


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
    from gsrcli.download import download

    def tell(done: int, total: int | None) -> None:
        if report:
            report(f"{entry.name}/{file.name}", done, total)

    try:
        return download(file.urls, part, lambda path: _check(entry, file, path), tell)
    except DownloadError as error:
        by_hand = f"to bring it by hand: gsr weights import {' '.join(_released(entry))} --name {entry.name}"
        raise DownloadError(str(error), hint=error.hint or by_hand) from error


def _check(entry: Weights | Backbone, file: Released, path: Path) -> None:
    """Refuse a file that is not the published one, or not the one that was recorded."""
    if file.digest and (actual := Digest.of(path, file.digest.kind)) != file.digest:
        raise DownloadError(f"{file.name} is not the published file: its digest is {actual}, not {file.digest}")
    record = _Record.of(entry.name)
    known = record.sources.get(file.name) if record else None
    if known and (sha256 := sha256_of(path)) != known.sha256:
        raise DownloadError(
            f"{file.name} has changed since {known.origin} gave it first: its SHA-256 was {known.sha256}, now {sha256}",
            hint=f"if the change is meant: gsr weights remove {entry.name}, then fetch again",
        )


def _convert(entry: Weights | Backbone, files: Mapping[str, Path], origins: Mapping[str, str]) -> None:
    """Make the checkpoint of released files, and record both."""
    from gsrcli.backbones import save_backbone
    from gsrcli.checkpoints import save_model
    from gsrcli.conversion import backbone_of_released, model_of_released

    sources = {file: _Source(sha256_of(path), origins[file]) for file, path in files.items()}
    made_of = _MadeOf(entry.name, {file: source.sha256 for file, source in sources.items()})
    path = path_of(entry.name)
    notes = {"released": asdict(made_of)}
    if isinstance(entry, Backbone):
        save_backbone(backbone_of_released(entry.name, files), entry.name, path, notes)
    else:
        save_model(model_of_released(entry.model, files), entry.model, path, notes)
    _Record(sha256_of(path), sources).write(entry.name)


@dataclass(frozen=True)
class _MadeOf:
    """What a checkpoint's metadata say that it was made of: the name of released weights, and their files' SHA-256."""

    name: str = ""
    files: dict[str, str] = field(default_factory=dict)


def _made_of(metadata: Mapping[str, str]) -> _MadeOf:
    try:
        note = json.loads(metadata.get("released", "{}"))
        return _MadeOf(str(note.get("name", "")), dict(note.get("files", {})))
    except (ValueError, TypeError, AttributeError):  # somebody else's note
        return _MadeOf()


@dataclass(frozen=True)
class _Source:
    """A file that a checkpoint was made of, and where it came from."""

    sha256: str
    origin: str


@dataclass(frozen=True)
class _Record:
    """What is known of a checkpoint in the cache."""

    sha256: str
    sources: dict[str, _Source]

    @classmethod
    def of(cls, name: str) -> _Record | None:
        path = _record_of(name)
        try:
            content = json.loads(path.read_bytes())
            sources = {file: _Source(**source) for file, source in content.pop("sources").items()}
            return cls(**content, sources=sources)
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            hint = f"gsr weights remove {name} forgets it"
            raise ModelError(f"the record of {name} is damaged: {path}: {error}", hint=hint) from error

    def write(self, name: str) -> None:
        write_whole(_record_of(name), (json.dumps(asdict(self), indent=2) + "\n").encode())


def _record_of(name: str) -> Path:
    return folder() / f"{name}.json"


def _parts_of(name: str) -> Path:
    return folder() / f"{name}.parts"


def _locked(name: str) -> AbstractContextManager[None]:
    """Keep other processes from the weights of this name."""
    return locked(folder() / f".{name}.lock", f"the weights of {name}")


@contextmanager
def _writing() -> Iterator[None]:
    """Turn failures to write to the cache into messages."""
    try:
        yield
    except OSError as error:
        hint = "free some space there, or set GSRCLI_HOME to a folder that can be written to"
        reason = error.strerror or error
        raise ModelError(f"cannot write to {error.filename or folder()}: {reason}", hint=hint) from error
