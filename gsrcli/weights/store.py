"""Weights on this machine: in the package, fetched once, or imported by hand; verified whenever they are used.

``Store().entry(name)`` is what there is under a name. One checkpoint of ours is made of the released files,
NAME.safetensors, and beside it NAME.json records its SHA-256 and those of the files that it was made of. The record is
written first, so that whoever finds a checkpoint can verify it.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from gsrcli.download.digest import Digest, sha256_of
from gsrcli.download.provenance import Ledger, Record, SourceFile
from gsrcli.errors import DownloadError, ModelError, UsageError, nearest
from gsrcli.runtime.files import filling, locked, user_folder
from gsrcli.weights.catalog import Bundled, Released, Weights, is_name, model_weights, published
from gsrcli.weights.checkpoint import read_model, write_checkpoint

if TYPE_CHECKING:
    from gsrcli.download.http import Progress

__all__ = ["Entry", "Store"]


class Store:
    """A folder of weights, and the weights in the package.

    Args:
        folder: where fetched and imported weights are kept; by default the user's folder of weights.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder or user_folder("weights")

    def entry(self, name: str) -> Entry:
        """Return what there is under a name, on this machine or to be fetched.

        Raises:
            ModelError: there are no weights of that name.
        """
        entries = {entry.name: entry for entry in self.entries()}
        if name not in entries:
            raise ModelError(f"there are no weights called {name!r}", hint=f"try {nearest(name, entries)}")
        return entries[name]

    def entries(self) -> list[Entry]:
        """Return everything that weights.toml lists, and after it what was imported under names of the user's own."""
        listed = [Entry(name, self.folder, weights) for name, weights in published().items()]
        return listed + [Entry(name, self.folder) for name in self.imported()]

    def imported(self) -> list[str]:
        """Return the names of the user's own, in order. In a folder that cannot be looked into there are none."""
        try:
            names = {path.stem for path in self.folder.glob("*.safetensors")}
        except OSError:
            return []
        return sorted(names - published().keys())

    def model_names(self) -> list[str]:
        """Return the names of models' weights: those that weights.toml lists, and those that were imported."""
        return [*model_weights(), *self.imported()]

    def import_checkpoint(self, path: Path, name: str | None = None) -> Entry:
        """Keep a checkpoint of ours under a name of the user's own.

        Args:
            path: the checkpoint.
            name: what to call it; by default as its file is called.

        Raises:
            ModelError: it is damaged or no model's, or the name is taken.
            UsageError: the name is invalid.
        """
        name = name or path.stem
        if not is_name(name):
            message = f"invalid name {name!r}: use letters, digits, '-' and '_'"
            raise UsageError(message, hint="choose one with --name")
        if name in published():
            hint = "bring the files that its authors released, or choose a --name of your own"
            raise ModelError(
                f"{name} is the name of weights that gsrcli knows, which no checkpoint replaces", hint=hint
            )
        read_model(path)
        entry = Entry(name, self.folder)
        entry._keep_own(path.read_bytes())
        return entry


@dataclass(frozen=True)
class Entry:
    """The weights of one name.

    Attributes:
        name: as ``gsr weights list`` shows it.
        folder: where they are kept, unless they come with the package.
        published: what weights.toml says of them; None of what was imported under a name of the user's own.
    """

    name: str
    folder: Path
    published: Weights | None = None

    @property
    def bundled(self) -> Bundled | None:
        """The checkpoint that comes with the package, or None."""
        return self.published.bundled if self.published else None

    @property
    def path(self) -> Path:
        """Where the checkpoint is, or would be."""
        return self.bundled.path if self.bundled else self.folder / f"{self.name}.safetensors"

    @property
    def is_present(self) -> bool:
        """Whether the checkpoint is on this machine. In a folder that cannot be looked into there is none."""
        try:
            return self.path.exists()
        except OSError:
            return False

    @property
    def ledger(self) -> Ledger:
        """The file that records what the checkpoint is, and what it was made of."""
        return Ledger(self.folder / f"{self.name}.json", f"gsr weights remove {self.name}")

    def locate(self, report: Progress | None = None) -> Path:
        """Return the path of the verified checkpoint, fetched if it is not on this machine.

        Raises:
            ModelError: the weights are damaged, or do not fit their model.
            DownloadError: they cannot be fetched.
        """
        return self.verify() if self.is_present or self.bundled else self.fetch(report)

    def verify(self) -> Path:
        """Compare every byte of the checkpoint with its digest, and return its path.

        Raises:
            ModelError: it is not on this machine, or not what it was.
        """
        expected = self._digest()
        try:
            actual = Digest.of(self.path, expected.kind)
        except OSError as error:
            message = f"the weights of {self.name} are missing: {self.path}: {error.strerror}"
            raise ModelError(message, hint=self._remedy()) from error
        if actual != expected:
            raise ModelError(f"the weights of {self.name} are damaged: {self.path}", hint=self._remedy())
        return self.path

    def fetch(self, report: Progress | None = None) -> Path:
        """Download the released files and make the checkpoint of them, unless it is here and intact; return its path.

        Raises:
            ModelError: the weights were not released, the files are not what they were, or do not fit their model.
            DownloadError: they cannot be fetched.
        """
        with suppress(ModelError):
            return self.verify()
        weights = self._released()
        with self._changing():
            with suppress(ModelError):
                return self.verify()  # another process was quicker
            self.ledger.read()  # a damaged record is told of before anything is fetched
            self._parts.mkdir(exist_ok=True)
            try:
                files = {file.name: self._parts / f"{file.name}.part" for file in weights.released.values()}
                origins = {file: self._download(weights.released[file], part, report) for file, part in files.items()}
                self._convert(weights, files, origins)
            except DownloadError:
                raise  # what has arrived stays, and a later call resumes
            except ModelError:
                shutil.rmtree(self._parts)
                raise
            else:
                shutil.rmtree(self._parts)
            finally:
                with suppress(OSError):
                    self._parts.rmdir()  # where nothing is in it
        return self.path

    def import_released(self, files: Collection[Path]) -> Path:
        """Make the checkpoint of released files that were brought by hand, and return its path.

        Raises:
            ModelError: the weights were not released, or these files are not theirs.
            UsageError: not exactly the released files were given.
        """
        weights = self._released()
        released = weights.released
        given = {path.name: path for path in files} if len(released) > 1 else dict(zip(released, files, strict=False))
        if set(given) != set(released) or len(files) != len(released):
            raise UsageError(f"{self.name} is made of {' and '.join(released)}", hint="give these files, as named here")
        with self._changing():
            for file, path in given.items():
                self.ledger.require_known(file, path, released[file].digest)
            with suppress(ModelError):
                return self.verify()  # these very files are what it was made of
            self._convert(weights, given, {file: str(path.absolute()) for file, path in given.items()})
        return self.path

    def remove(self) -> None:
        """Delete the checkpoint, and forget which files it was made of.

        Raises:
            ModelError: there is none, or it is a part of gsrcli.
        """
        if self.bundled:
            raise ModelError(f"{self.name} is a part of gsrcli", hint="it goes with it: pip uninstall gsrcli")
        if not any(trace.exists() for trace in (self.path, self.ledger.path, self._parts)):
            raise ModelError(f"there are no weights of {self.name} on this machine")
        with self._changing():
            self.path.unlink(missing_ok=True)
            self.ledger.path.unlink(missing_ok=True)
            shutil.rmtree(self._parts, ignore_errors=True)

    @property
    def _parts(self) -> Path:
        """The folder of released files while they are fetched."""
        return self.folder / f"{self.name}.parts"

    @contextmanager
    def _changing(self) -> Iterator[None]:
        """Keep other processes from the weights of this name, and turn failures to write into messages."""
        lock = locked(self.folder / f".{self.name}.lock", f"the weights of {self.name}")
        with filling(self.folder, ModelError), lock:
            yield

    def _digest(self) -> Digest:
        """What the checkpoint must be; of one without a record, nothing that it could be."""
        if self.bundled:
            return self.bundled.digest
        record = self.ledger.read()
        return Digest("sha256", (record.sha256 if record else None) or "")

    def _remedy(self) -> str:
        """What to do about damage."""
        if self.bundled:
            return "reinstall gsrcli"
        if self.published:
            return f"gsr weights fetch {self.name}"
        return f"gsr weights remove {self.name}, and import it again"

    def _released(self) -> Weights:
        """What weights.toml says of weights whose files their authors released; ModelError where they did not."""
        if self.bundled:
            raise ModelError(f"the weights of {self.name} come with gsrcli", hint="reinstall gsrcli")
        if self.published is None:
            raise ModelError(f"the weights of {self.name} were imported, not released", hint=self._remedy())
        return self.published

    def _download(self, file: Released, part: Path, report: Progress | None) -> str:
        """Fetch one released file, and return the URL that gave it."""
        from gsrcli.download.http import download

        def tell(done: int, total: int | None) -> None:
            if report:
                report(f"{self.name}/{file.name}", done, total)

        def check(path: Path) -> None:
            self.ledger.require_known(file.name, path, file.digest)

        try:
            return download(file.urls, part, check, tell)
        except DownloadError as error:
            files = " ".join(self._released().released)
            by_hand = f"to bring it by hand: gsr weights import {files} --name {self.name}"
            raise DownloadError(str(error), hint=error.hint or by_hand) from error

    def _convert(self, weights: Weights, files: Mapping[str, Path], origins: Mapping[str, str]) -> None:
        """Make the checkpoint of released files, and record both."""
        from gsrcli.weights.convert import checkpoint_of_released

        content = checkpoint_of_released(weights, files)
        self._keep(content, {file: SourceFile(sha256_of(path), origins[file]) for file, path in files.items()})

    def _keep_own(self, content: bytes) -> None:
        """Put a checkpoint of the user's own in its place; ModelError where another has the name."""
        with self._changing():
            record = self.ledger.read()
            known = record.sha256 if record else None
            if self.is_present and _sha256(content) not in (known, sha256_of(self.path)):
                hint = f"to replace them: gsr weights remove {self.name}"
                raise ModelError(f"there are other weights called {self.name}", hint=hint)
            self._keep(content, {})

    def _keep(self, content: bytes, sources: dict[str, SourceFile]) -> None:
        """Put a checkpoint in its place, its record first."""
        self.ledger.write(Record(sources, _sha256(content)))
        write_checkpoint(self.path, content)


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
