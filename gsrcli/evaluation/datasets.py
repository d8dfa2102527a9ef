"""The data sets that papers report on: found in the usual layouts of folders, or fetched once and kept.

What is fetched is an archive. It is compared with its published digest, or where there is none with the one recorded
when it was first fetched. Of its members only pictures directly in the wanted folders are written, under their base
names, so nothing in it decides where a file goes; an archive in which a name leads elsewhere is refused all the same.
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
from gsrcli.download.provenance import Ledger, Original, Record
from gsrcli.errors import DownloadError, GsrError, UsageError, nearest
from gsrcli.evaluation.versions import pictures_in
from gsrcli.images import INPUT_SUFFIXES
from gsrcli.runtime.files import filling, locked, user_folder

if TYPE_CHECKING:
    from gsrcli.download.http import Progress

__all__ = ["Archive", "Collection", "Dataset", "check", "collect", "fetch", "find", "folder", "known_datasets"]

_INSIDE = ("hr", "gt", "original", "div2k_valid_hr", "val1", "val")
"""Folders, in lower case, that hold the originals where a data set's folder has more than them."""


@dataclass(frozen=True)
class Archive:
    """A file that holds one or several data sets.

    Attributes:
        name: what its record is called.
        urls: where it is; any will do.
        size: about, for people.
        digest: what its host says that it is; None where it does not say.
    """

    name: str
    urls: tuple[str, ...]
    size: str
    digest: Digest | None = None


@dataclass(frozen=True)
class Dataset:
    """Pictures that papers report on.

    Attributes:
        name: what ``--dataset`` and the protocols call it, in lower case.
        title: what papers call it, and its folder.
        license: what may be done with the pictures.
        page: where its authors tell of it, or its DOI.
        pictures: how many papers report on.
        aliases: other names and names of its folder, in lower case.
        archive: what to fetch; None where the authors give it to those who ask.
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
        """All that it is called, in lower case."""
        return tuple(dict.fromkeys((self.name, self.title.lower(), *self.aliases)))


@dataclass(frozen=True)
class Collection:
    """Originals to score on.

    Attributes:
        name: a data set's, or a folder's.
        paths: of the originals, in order.
        dataset: what it is known as, if it is.
        whole: whether these are all that were found.
    """

    name: str
    paths: tuple[Path, ...]
    dataset: Dataset | None = None
    whole: bool = True

    @property
    def names(self) -> tuple[str, ...]:
        """All that its folder may be called, in lower case."""
        return self.dataset.names if self.dataset else (self.name.lower(),)

    @property
    def complete(self) -> bool:
        """Whether it is all of a known data set, so that published means are over the same pictures."""
        return self.whole and self.dataset is not None and self.dataset.pictures == len(self.paths)

    @cached_property
    def pictures(self) -> dict[str, Path]:
        """The originals by name: with the suffix only where several differ in nothing else."""
        stems = Counter(path.stem for path in self.paths)
        return {path.stem if stems[path.stem] == 1 else path.name: path for path in self.paths}

    def limited(self, count: int | None) -> Collection:
        """The first so many of its pictures."""
        paths = self.paths[:count]
        return replace(self, paths=paths, whole=self.whole and len(paths) == len(self.paths))


@cache
def known_datasets() -> dict[str, Dataset]:
    """The data sets that datasets.toml lists, by name."""
    content = tomllib.loads(Path(__file__).with_name("datasets.toml").read_text(encoding="utf-8"))
    archives = {name: _archive(name, **entry) for name, entry in content["archives"].items()}
    return {name: _dataset(name, archives, **entry) for name, entry in content["datasets"].items()}


def folder() -> Path:
    """Where fetched data sets are kept."""
    return user_folder("datasets")


def check(given: str, root: Path | None = None) -> None:
    """See, before anything is fetched, that there is such a data set or folder, and such a root.

    Raises:
        UsageError: there is not.
    """
    if root is not None and not root.is_dir():
        raise UsageError(f"there is no folder {root}", hint="--data-root is the folder that data sets are in")
    if _known(given) or Path(given).is_dir():
        return
    if Path(given).exists():
        raise UsageError(f"{given} is a file, not a folder of pictures")
    hint = f"try {nearest(given.lower(), known_datasets())}, or the path of a folder of pictures"
    raise UsageError(f"there is no data set, and no folder, called {given!r}", hint=hint)


def collect(
    given: str, root: Path | None, report: Progress | None = None, announce: Callable[[Dataset], None] | None = None
) -> Collection:
    """The originals of a data set, fetched if they are not on this machine, or those of any folder.

    Args:
        given: a data set's name, or a folder's path.
        root: where data sets are looked for first, before :func:`folder`.
        report: is told of the progress of a download.
        announce: is told of a data set before it is fetched.

    Raises:
        UsageError: there is no such data set and no such folder, or no picture in it.
        GsrError: the data set is given only to those who ask.
        DownloadError: it cannot be fetched, or its archive is not what it should be.
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
    """The folder of a data set's originals: ``NAME``, ``NAME/HR``, ``benchmark/NAME/HR`` or such, in any case."""
    parents = [root, *_subfolders(root, ("benchmark",))]
    candidates = [subfolder for parent in parents for subfolder in _subfolders(parent, dataset.names)]
    if root.name.lower() in dataset.names:
        candidates.insert(0, root)
    return next((place for place in map(_innermost, candidates) if pictures_in(place)), None)


def fetch(dataset: Dataset, report: Progress | None = None) -> Path:
    """Bring a data set, and those that share its archive, to this machine; gives the folder of its originals.

    Raises:
        GsrError: it is given only to those who ask, or there is no place for it.
        DownloadError: it cannot be fetched, or its archive is not what it should be.
        ModelError: the record of its archive is damaged.
    """
    by_hand = f"put its pictures into {folder() / dataset.title}, or name their folder: --dataset FOLDER"
    archive = dataset.archive
    if archive is None:
        message = f"{dataset.title} is not on this machine, and its authors give it to those who ask: {dataset.page}"
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
    """Download an archive, unpack a data set and the others in it that are not here, and keep its digest alone."""
    from gsrcli.download.http import download, forget

    part = folder() / f"{archive.name}.part"
    file = archive.urls[0].rpartition("/")[2]
    record = folder() / f"{archive.name}.json"
    ledger = Ledger(record, f"delete {record}")

    def tell(done: int, total: int | None) -> None:
        if report:
            report(file, done, total)

    origin = download(archive.urls, part, lambda path: ledger.require_known(file, path, archive.digest), tell)
    sources = {file: Original(sha256_of(part), origin)}
    try:
        _unpack(dataset, part)
    except DownloadError:
        forget(part)
        raise
    ledger.write(Record(sources))
    for other in known_datasets().values():
        if other.archive == archive and not find(other, folder()):
            with suppress(DownloadError):  # it was not asked for
                _unpack(other, part)
    forget(part)


def _unpack(dataset: Dataset, path: Path) -> None:
    """Write a data set's originals out of its archive, all or none.

    Raises:
        DownloadError: it is no archive, it is not safe, or the originals are not in it.
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
    """The regular files of a tar or zip archive: their names, and how to read them.

    Raises:
        DownloadError: a name leads out of where it would be unpacked.
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
    assert file is not None  # as only for what is no regular file
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
    """The folder of the originals in a data set's folder: ``HR`` and the like, if there are, or itself."""
    while inside := _subfolders(place, _INSIDE):
        place = inside[0]
    return place


def _subfolders(place: Path, names: Sequence[str]) -> list[Path]:
    """The folders in a folder that have one of these names, in any case, in the order of the names."""
    if not place.is_dir():
        return []
    ranked = [(names.index(path.name.lower()), path) for path in place.iterdir() if path.name.lower() in names]
    return [path for _, path in sorted(ranked) if path.is_dir()]


def _archive(name: str, *, urls: list[str], size: str, digest: str | None = None) -> Archive:
    if not all(url.startswith("https://") for url in urls):
        raise ValueError(f"the archive {name} is not fetched over https")
    return Archive(name, tuple(urls), size, Digest.parse(digest) if digest else None)


def _dataset(
    name: str, archives: Mapping[str, Archive], *, archive: str | None = None, aliases: Sequence[str] = (), **entry: Any
) -> Dataset:
    return Dataset(name, archive=archives[archive] if archive else None, aliases=tuple(aliases), **entry)
