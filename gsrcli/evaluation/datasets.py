"""Find the datasets that papers report on in the usual folder layouts, or download them once.

A downloaded archive is compared with its published digest or, if there is none, with the digest recorded at the first
download. Only pictures directly in the wanted folders are extracted, under their base names, so that no name in the
archive decides where a file is written; an archive with a name that leads out of its folder is refused anyway.
"""

from __future__ import annotations

import shutil
import tarfile
import tomllib
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cache, cached_property, partial
from pathlib import Path, PurePosixPath
from typing import IO, TYPE_CHECKING, Any

from gsrcli.download.digest import Digest, sha256_of
from gsrcli.download.provenance import Ledger, Record, SourceFile
from gsrcli.errors import DownloadError, GsrError, UsageError, nearest
from gsrcli.evaluation.versions import pictures_in
from gsrcli.images import INPUT_SUFFIXES
from gsrcli.runtime.files import filling, locked, user_folder

if TYPE_CHECKING:
    from gsrcli.download.http import Progress

__all__ = ["Archive", "Collection", "Dataset", "check", "collect", "fetch", "find", "folder", "known_datasets"]

_INSIDE = ("hr", "gt", "original", "div2k_valid_hr", "val1", "val")
"""Names, in lower case, of folders that hold the originals if a dataset's folder has more in it."""


@dataclass(frozen=True)
class Archive:
    """A file that holds one or more datasets.

    Attributes:
        name: name of its record.
        urls: mirrors.
        size: approximate size, as text.
        digest: the digest published by its host; None if there is none.
    """

    name: str
    urls: tuple[str, ...]
    size: str
    digest: Digest | None = None


@dataclass(frozen=True)
class Dataset:
    """A set of pictures that papers report on.

    Attributes:
        name: name for ``--dataset`` and the protocols, in lower case.
        title: name in papers, and of its folder.
        license: terms of use of the pictures.
        page: the authors' page, or its DOI.
        pictures: number of pictures that papers report on.
        aliases: other names, also of its folder, in lower case.
        archive: the file to download; None if it must be requested from the authors.
        member: the folder of the originals in the archive.
    """

    name: str
    title: str
    license: str
    page: str
    pictures: int
    aliases: tuple[str, ...] = ()
    archive: Archive | None = None
    member: str = ""

    @property
    def names(self) -> tuple[str, ...]:
        """All names of the dataset, in lower case."""
        return tuple(dict.fromkeys((self.name, self.title.lower(), *self.aliases)))


@dataclass(frozen=True)
class Collection:
    """Originals to score on.

    Attributes:
        name: name of the dataset or folder.
        paths: paths of the originals, in order.
        dataset: the known dataset, if it is one.
        whole: whether these are all the originals that were found.
    """

    name: str
    paths: tuple[Path, ...]
    dataset: Dataset | None = None
    whole: bool = True

    @property
    def names(self) -> tuple[str, ...]:
        """All names that its folder may have, in lower case."""
        return self.dataset.names if self.dataset else (self.name.lower(),)

    @property
    def complete(self) -> bool:
        """Whether it is a whole known dataset, so that published means cover the same pictures."""
        return self.whole and self.dataset is not None and self.dataset.pictures == len(self.paths)

    @cached_property
    def pictures(self) -> dict[str, Path]:
        """The originals by name, which includes the suffix only if several differ in nothing else."""
        stems = Counter(path.stem for path in self.paths)
        return {path.stem if stems[path.stem] == 1 else path.name: path for path in self.paths}

    def limited(self, count: int | None) -> Collection:
        """Return the collection with the first ``count`` pictures only; all of them for None."""
        paths = self.paths[:count]
        return replace(self, paths=paths, whole=self.whole and len(paths) == len(self.paths))


@cache
def known_datasets() -> dict[str, Dataset]:
    """Return the datasets listed in datasets.toml, by name."""
    content = tomllib.loads(Path(__file__).with_name("datasets.toml").read_text(encoding="utf-8"))
    archives = {name: _archive(name, **entry) for name, entry in content["archives"].items()}
    return {name: _dataset(name, archives, **entry) for name, entry in content["datasets"].items()}


def folder() -> Path:
    """Return the folder of downloaded datasets."""
    return user_folder("datasets")


def check(given: str, root: Path | None = None) -> None:
    """Check that a dataset or folder exists, and the root too, before anything is downloaded.

    Raises:
        UsageError: one of them does not exist.
    """
    if root is not None and not root.is_dir():
        raise UsageError(f"there is no folder {root}", hint="--data-root is the folder that contains the datasets")
    if _known(given) or Path(given).is_dir():
        return
    if Path(given).exists():
        raise UsageError(f"{given} is a file, not a folder of pictures")
    hint = f"try {nearest(given.lower(), known_datasets())}, or the path of a folder of pictures"
    raise UsageError(f"there is no dataset and no folder called {given!r}", hint=hint)


def collect(
    given: str, root: Path | None, report: Progress | None = None, announce: Callable[[Dataset], None] | None = None
) -> Collection:
    """Return the originals of a dataset, downloaded if they are not on this machine, or of any folder.

    Args:
        given: name of a dataset, or path of a folder.
        root: folder that is searched for datasets first, before :func:`folder`.
        report: is called with the progress of a download.
        announce: is called with the dataset before it is downloaded.

    Raises:
        UsageError: there is no such dataset and no such folder, or no picture in it.
        GsrError: the dataset must be requested from its authors.
        DownloadError: it cannot be downloaded, or its archive is not the expected one.
    """
    check(given, root)
    dataset = _known(given)
    if dataset is None:
        place = Path(given)
        return Collection(place.resolve().name or given, _originals(_innermost(place)))
    found = (root and find(dataset, root)) or find(dataset, folder())
    if found is None and dataset.archive and announce:
        announce(dataset)
    return Collection(dataset.name, _originals(found or fetch(dataset, report)), dataset)


def find(dataset: Dataset, root: Path) -> Path | None:
    """Return the folder of a dataset's originals: ``NAME``, ``NAME/HR``, ``benchmark/NAME/HR`` etc., in any case."""
    parents = [root, *_subfolders(root, ("benchmark",))]
    candidates = [subfolder for parent in parents for subfolder in _subfolders(parent, dataset.names)]
    if root.name.lower() in dataset.names:
        candidates.insert(0, root)
    return next((place for place in map(_innermost, candidates) if pictures_in(place)), None)


def fetch(dataset: Dataset, report: Progress | None = None) -> Path:
    """Download a dataset and those that share its archive; return the folder of its originals.

    Raises:
        GsrError: it must be requested from its authors, or cannot be written.
        DownloadError: it cannot be downloaded, or its archive is not the expected one.
        ModelError: the record of its archive is damaged.
    """
    by_hand = f"put its pictures into {folder() / dataset.title}, or give their folder: --dataset FOLDER"
    archive = dataset.archive
    if archive is None:
        message = f"{dataset.title} is not on this machine and must be requested from its authors: {dataset.page}"
        raise GsrError(message, hint=by_hand)
    try:
        lock = locked(folder() / f".{archive.name}.lock", f"the archive of {dataset.title}")
        with filling(folder(), GsrError), lock:
            if found := find(dataset, folder()):
                return found  # another process was quicker
            _fetch(dataset, archive, report)
    except DownloadError as error:
        raise DownloadError(f"{dataset.title}: {error}", hint=error.hint or by_hand) from error
    return folder() / dataset.title


def _fetch(dataset: Dataset, archive: Archive, report: Progress | None) -> None:
    """Download an archive, extract the dataset and all others in it that are missing, and record its digest."""
    from gsrcli.download.http import download, forget

    part = folder() / f"{archive.name}.part"
    file = archive.urls[0].rpartition("/")[2]
    record = folder() / f"{archive.name}.json"
    ledger = Ledger(record, f"delete {record}")

    def show(done: int, total: int | None) -> None:
        if report:
            report(file, done, total)

    origin = download(archive.urls, part, lambda path: ledger.require_known(file, path, archive.digest), show)
    sources = {file: SourceFile(sha256_of(part), origin)}
    try:
        _unpack(dataset, part)
    except DownloadError:
        forget(part)
        raise
    ledger.write(Record(sources))
    for other in known_datasets().values():
        if other.archive == archive and not find(other, folder()):
            with suppress(DownloadError):  # nobody requested it
                _unpack(other, part)
    forget(part)


def _unpack(dataset: Dataset, path: Path) -> None:
    """Extract a dataset's originals from its archive, all or none.

    Raises:
        DownloadError: the file is not an archive, is not safe, or lacks originals.
    """
    parts = folder() / f".{dataset.name}.part"
    shutil.rmtree(parts, ignore_errors=True)
    parts.mkdir()
    try:
        count = 0
        for member, content in _members(path):
            if member.parent == PurePosixPath(dataset.member) and member.suffix.lower() in INPUT_SUFFIXES:
                with content() as source, (parts / member.name).open("xb") as target:
                    shutil.copyfileobj(source, target, 2**20)
                count += 1
        if count != dataset.pictures:
            raise DownloadError(f"the archive holds {count} pictures in {dataset.member}, not {dataset.pictures}")
        parts.rename(folder() / dataset.title)
    except (tarfile.TarError, zipfile.BadZipFile, EOFError, zlib.error, RuntimeError, NotImplementedError) as error:
        raise DownloadError(f"the archive is damaged: {error}") from error
    finally:
        shutil.rmtree(parts, ignore_errors=True)


def _members(path: Path) -> Iterator[tuple[PurePosixPath, Callable[[], IO[bytes]]]]:
    """Yield the regular files of a tar or zip archive: their names, and functions that open them.

    Raises:
        DownloadError: a name leads out of the folder that it would be extracted to.
    """
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            for entry in archive.infolist():
                if not entry.is_dir():
                    yield _safe(entry.filename), partial(archive.open, entry)
        return
    with tarfile.open(path) as tar:
        for member in tar:
            name = _safe(member.name)
            if member.isreg():
                yield name, partial(_open_member, tar, member)


def _open_member(tar: tarfile.TarFile, member: tarfile.TarInfo) -> IO[bytes]:
    file = tar.extractfile(member)
    assert file is not None  # None is for members that are not regular files
    return file


def _safe(name: str) -> PurePosixPath:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\\" in name or ":" in name:
        raise DownloadError(f"the archive is not safe: {name!r} leads out of its folder")
    return path


def _known(given: str) -> Dataset | None:
    return next((dataset for dataset in known_datasets().values() if given.lower() in dataset.names), None)


def _originals(place: Path) -> tuple[Path, ...]:
    found = pictures_in(place)
    if not found:
        raise UsageError(f"there are no pictures in {place}")
    return tuple(found)


def _innermost(place: Path) -> Path:
    """Return the folder of the originals in a dataset's folder: ``HR`` or the like, or else the folder itself."""
    while inside := _subfolders(place, _INSIDE):
        place = inside[0]
    return place


def _subfolders(place: Path, names: Sequence[str]) -> list[Path]:
    """Return the subfolders that have one of these names, in any case, in the order of the names."""
    if not place.is_dir():
        return []
    ranked = [(names.index(path.name.lower()), path) for path in place.iterdir() if path.name.lower() in names]
    return [path for _, path in sorted(ranked) if path.is_dir()]


def _archive(name: str, *, urls: list[str], size: str, digest: str | None = None) -> Archive:
    if not all(url.startswith("https://") for url in urls):
        raise ValueError(f"the archive {name} is not downloaded over https")
    return Archive(name, tuple(urls), size, Digest.parse(digest) if digest else None)


def _dataset(
    name: str, archives: Mapping[str, Archive], *, archive: str | None = None, aliases: Sequence[str] = (), **entry: Any
) -> Dataset:
    return Dataset(name, archive=archives[archive] if archive else None, aliases=tuple(aliases), **entry)
