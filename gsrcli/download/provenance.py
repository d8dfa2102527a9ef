"""Records of downloaded and imported files: trust on first use.

A JSON file beside what was made from them records their digests. If a file has no published digest, its first version
is trusted, and a later change is refused until the record is deleted.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from gsrcli.download.digest import Digest, sha256_of
from gsrcli.errors import DownloadError, ModelError
from gsrcli.runtime.files import write_whole

__all__ = ["Ledger", "Record", "SourceFile"]


@dataclass(frozen=True)
class SourceFile:
    """A file that something was made from, and the URL or path where it came from."""

    sha256: str
    origin: str


@dataclass(frozen=True)
class Record:
    """The origin of something that is kept.

    Attributes:
        sources: the files that it was made from, by name.
        sha256: its own SHA-256; None if it is not a single file.
    """

    sources: dict[str, SourceFile]
    sha256: str | None = None


@dataclass(frozen=True)
class Ledger:
    """The file that holds a record.

    Attributes:
        path: path of the file.
        forget: command or action that deletes the record, for hints.
    """

    path: Path
    forget: str

    def read(self) -> Record | None:
        """Return the record, or None if there is none.

        Raises:
            ModelError: the record is damaged, or cannot be read.
        """
        try:
            content = json.loads(self.path.read_bytes())
            sources = {file: SourceFile(**source) for file, source in content.pop("sources").items()}
            return Record(sources, **content)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise ModelError(f"cannot read the record {self.path}: {error.strerror or error}") from error
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise ModelError(f"the record {self.path} is damaged", hint=f"to delete it: {self.forget}") from error

    def write(self, record: Record) -> None:
        """Replace the record.

        Raises:
            OSError: the file cannot be written.
        """
        write_whole(self.path, (json.dumps(asdict(record), indent=2) + "\n").encode())

    def require_known(self, file: str, path: Path, digest: Digest | None) -> None:
        """Refuse a file that differs from the published one or from the one recorded under this name.

        Raises:
            DownloadError: the file differs.
            ModelError: the record is damaged, or cannot be read.
            OSError: the file cannot be read.
        """
        if digest and (actual := Digest.of(path, digest.kind)) != digest:
            raise DownloadError(f"{file} is not the published file: its digest is {actual}, not {digest}")
        record = self.read()
        known = record.sources.get(file) if record else None
        if known and (sha256 := sha256_of(path)) != known.sha256:
            raise DownloadError(
                f"{file} has changed since {known.origin} first served it: SHA-256 was {known.sha256}, now {sha256}",
                hint=f"if the change is expected: {self.forget}, then fetch again",
            )
