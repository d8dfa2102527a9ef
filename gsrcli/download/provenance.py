"""What is known of the files that were fetched or brought by hand: trust on first use.

A JSON file records them beside what was made of them. A file whose digest nobody published is held to that record: what
came first is trusted, and a later change is refused until the record is deleted.
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
    """A file that something was made of, and the URL or path that it came from."""

    sha256: str
    origin: str


@dataclass(frozen=True)
class Record:
    """What is known of something that is kept.

    Attributes:
        sources: the files that it was made of, by name.
        sha256: its own; None where it is not a single file.
    """

    sources: dict[str, SourceFile]
    sha256: str | None = None


@dataclass(frozen=True)
class Ledger:
    """The file that holds a record.

    Attributes:
        path: where it is.
        forget: what to do to be rid of it, for hints.
    """

    path: Path
    forget: str

    def read(self) -> Record | None:
        """Return the record, or None where there is none.

        Raises:
            ModelError: it is damaged, or cannot be read.
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
            raise ModelError(f"the record {self.path} is damaged", hint=f"to forget it: {self.forget}") from error

    def write(self, record: Record) -> None:
        """Replace the record; raises OSError."""
        write_whole(self.path, (json.dumps(asdict(record), indent=2) + "\n").encode())

    def require_known(self, file: str, path: Path, digest: Digest | None) -> None:
        """Refuse a file that is not the published one, or not the one that was recorded under this name.

        Raises:
            DownloadError: it is another.
            ModelError: the record is damaged, or cannot be read.
            OSError: the file cannot be read.
        """
        if digest and (actual := Digest.of(path, digest.kind)) != digest:
            raise DownloadError(f"{file} is not the published file: its digest is {actual}, not {digest}")
        record = self.read()
        known = record.sources.get(file) if record else None
        if known and (sha256 := sha256_of(path)) != known.sha256:
            raise DownloadError(
                f"{file} has changed since {known.origin} gave it first: its SHA-256 was {known.sha256}, now {sha256}",
                hint=f"if the change is meant: {self.forget}, then fetch again",
            )
