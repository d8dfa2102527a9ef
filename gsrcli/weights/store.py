"""Weights on this machine: bundled, downloaded or imported; verified at every use.

``Store().entry(name)`` gives the weights of a name. Our checkpoint, NAME.safetensors, is made from the released files;
beside it, NAME.json records its SHA-256 and theirs. The record is written first, so that every checkpoint can be
verified.
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
        folder: folder of downloaded and imported weights; by default the user's folder of weights.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder or user_folder("weights")

    def entry(self, name: str) -> Entry:
        """Return the weights of a name, whether they are on this machine or not.

        Raises:
            ModelError: the name is unknown.
        """
        entries = {entry.name: entry for entry in self.entries()}
        if name not in entries:
            raise ModelError(f"there are no weights called {name!r}", hint=f"try {nearest(name, entries)}")
        return entries[name]

    def entries(self) -> list[Entry]:
        """Return all weights that weights.toml lists, then those that the user imported under other names."""
        listed = [Entry(name, self.folder, weights) for name, weights in published().items()]
        return listed + [Entry(name, self.folder) for name in self.imported()]

    def imported(self) -> list[str]:
        """Return the names that the user chose for imported weights, sorted; none if the folder cannot be read."""
        try:
            names = {path.stem for path in self.folder.glob("*.safetensors")}
        except OSError:
            return []
        return sorted(names - published().keys())

    def model_names(self) -> list[str]:
        """Return the names of models' weights: those in weights.toml, then the imported ones."""
        return [*model_weights(), *self.imported()]

    def import_checkpoint(self, path: Path, name: str | None = None) -> Entry:
        """Import one of our checkpoints under a name that the user chooses.

        Args:
            path: the checkpoint.
            name: name for it; by default the name of its file.

        Raises:
            ModelError: the checkpoint is damaged or not of a model, or the name is taken.
            UsageError: the name is invalid.
        """
        name = name or path.stem
        if not is_name(name):
            message = f"invalid name {name!r}: use letters, digits, '-' and '_'"
            raise UsageError(message, hint="choose one with --name")
        if name in published():
            hint = "import the files that its authors released, or choose another --name"
            raise ModelError(f"the name {name} is reserved for released weights", hint=hint)
        read_model(path)
        entry = Entry(name, self.folder)
        entry._keep_own(path.read_bytes())
        return entry


@dataclass(frozen=True)
class Entry:
    """The weights of one name.

    Attributes:
        name: name in ``gsr weights list``.
        folder: folder that keeps them, unless they come with the package.
        published: their entry in weights.toml; None if the user imported them under another name.
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
        """The path of the checkpoint, whether it exists or not."""
        return self.bundled.path if self.bundled else self.folder / f"{self.name}.safetensors"

    @property
    def is_present(self) -> bool:
        """Whether the checkpoint is on this machine; False if the folder cannot be read."""
        try:
            return self.path.exists()
        except OSError:
            return False

    @property
    def ledger(self) -> Ledger:
        """The file that records the digests of the checkpoint and of the files that it was made from."""
        return Ledger(self.folder / f"{self.name}.json", f"gsr weights remove {self.name}")

    def locate(self, report: Progress | None = None) -> Path:
        """Return the path of the verified checkpoint; download it if it is not on this machine.

        Raises:
            ModelError: the weights are damaged, or do not fit their model.
            DownloadError: the weights cannot be downloaded.
        """
        return self.verify() if self.is_present or self.bundled else self.fetch(report)

    def verify(self) -> Path:
        """Verify the checkpoint against its digest, and return its path.

        Raises:
            ModelError: the checkpoint is missing or damaged.
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
        """Download the released files and convert them, unless the checkpoint is intact; return its path.

        Raises:
            ModelError: the weights were not released, the files have changed, or they do not fit their model.
            DownloadError: the files cannot be downloaded.
        """
        with suppress(ModelError):
            return self.verify()
        weights = self._released()
        with self._changing():
            with suppress(ModelError):
                return self.verify()  # another process fetched it meanwhile
            self.ledger.read()  # report a damaged record before downloading anything
            self._parts.mkdir(exist_ok=True)
            try:
                files = {file.name: self._parts / f"{file.name}.part" for file in weights.released.values()}
                origins = {file: self._download(weights.released[file], part, report) for file, part in files.items()}
                self._convert(weights, files, origins)
            except DownloadError:
                raise  # keep the parts, so that a later call resumes
            except ModelError:
                shutil.rmtree(self._parts)
                raise
            else:
                shutil.rmtree(self._parts)
            finally:
                with suppress(OSError):
                    self._parts.rmdir()  # if it is empty
        return self.path

    def import_released(self, files: Collection[Path]) -> Path:
        """Convert released files that the user downloaded, and return the checkpoint's path.

        Raises:
            ModelError: the weights were not released, or these are not their files.
            UsageError: the files given are not exactly the released ones.
        """
        weights = self._released()
        released = weights.released
        given = {path.name: path for path in files} if len(released) > 1 else dict(zip(released, files, strict=False))
        if set(given) != set(released) or len(files) != len(released):
            raise UsageError(
                f"{self.name} is made from {' and '.join(released)}", hint="give exactly these files, under these names"
            )
        with self._changing():
            for file, path in given.items():
                self.ledger.require_known(file, path, released[file].digest)
            with suppress(ModelError):
                return self.verify()  # it was made from these very files
            self._convert(weights, given, {file: str(path.absolute()) for file, path in given.items()})
        return self.path

    def remove(self) -> None:
        """Delete the checkpoint and its record.

        Raises:
            ModelError: there is no checkpoint, or it is part of gsrcli.
        """
        if self.bundled:
            raise ModelError(
                f"{self.name} is part of gsrcli",
                hint="to remove both: pip uninstall gsrcli",
            )
        if not any(trace.exists() for trace in (self.path, self.ledger.path, self._parts)):
            raise ModelError(f"the weights of {self.name} are not on this machine")
        with self._changing():
            self.path.unlink(missing_ok=True)
            self.ledger.path.unlink(missing_ok=True)
            shutil.rmtree(self._parts, ignore_errors=True)

    @property
    def _parts(self) -> Path:
        """The folder of released files during a download."""
        return self.folder / f"{self.name}.parts"

    @contextmanager
    def _changing(self) -> Iterator[None]:
        """Lock the weights of this name against other processes, and turn failures to write into messages."""
        lock = locked(self.folder / f".{self.name}.lock", f"the weights of {self.name}")
        with filling(self.folder, ModelError), lock:
            yield

    def _digest(self) -> Digest:
        """Return the checkpoint's expected digest; without a record, one that no file has."""
        if self.bundled:
            return self.bundled.digest
        record = self.ledger.read()
        return Digest("sha256", (record.sha256 if record else None) or "")

    def _remedy(self) -> str:
        """Return a hint on what to do about damaged weights."""
        if self.bundled:
            return "reinstall gsrcli"
        if self.published:
            return f"gsr weights fetch {self.name}"
        return f"gsr weights remove {self.name}, then import them again"

    def _released(self) -> Weights:
        """Return the entry of released weights in weights.toml; raise ModelError if they were not released."""
        if self.bundled:
            raise ModelError(f"the weights of {self.name} come with gsrcli", hint="reinstall gsrcli")
        if self.published is None:
            raise ModelError(f"the weights of {self.name} were imported, not released", hint=self._remedy())
        return self.published

    def _download(self, file: Released, part: Path, report: Progress | None) -> str:
        """Download one released file, and return the URL that served it."""
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
            by_hand = f"to import the files by hand: gsr weights import {files} --name {self.name}"
            raise DownloadError(str(error), hint=error.hint or by_hand) from error

    def _convert(self, weights: Weights, files: Mapping[str, Path], origins: Mapping[str, str]) -> None:
        """Convert released files, and record them and the checkpoint."""
        from gsrcli.weights.convert import checkpoint_of_released

        content = checkpoint_of_released(weights, files)
        self._keep(content, {file: SourceFile(sha256_of(path), origins[file]) for file, path in files.items()})

    def _keep_own(self, content: bytes) -> None:
        """Store a checkpoint that the user imported; raise ModelError if other weights have the name."""
        with self._changing():
            record = self.ledger.read()
            known = record.sha256 if record else None
            if self.is_present and _sha256(content) not in (known, sha256_of(self.path)):
                hint = f"to replace them: gsr weights remove {self.name}"
                raise ModelError(f"the name {self.name} is taken by other weights", hint=hint)
            self._keep(content, {})

    def _keep(self, content: bytes, sources: dict[str, SourceFile]) -> None:
        """Write the record, then the checkpoint."""
        self.ledger.write(Record(sources, _sha256(content)))
        write_checkpoint(self.path, content)


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
