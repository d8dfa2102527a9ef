"""Mutate picture files, and examine in a process of its own what reading them does.

Run as a program, this is the process that reads; `Examiner` starts it.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import select
import subprocess
import sys
import tempfile
import time
import traceback
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

__all__ = ["FAULTS", "Examiner", "Finding", "mutated"]

# Mutations

_INSIDE = {b"meta": 4, b"iprp": 0, b"ipco": 0, b"moov": 0, b"trak": 0, b"mdia": 0, b"minf": 0, b"stbl": 0, b"jp2h": 0}
"""Boxes that hold boxes, and the bytes before those."""

_MOST_PARTS = 400  # of which the mutations choose


def _chunks(data: bytes) -> Iterator[tuple[int, int]]:
    at = 8
    while at + 12 <= len(data):
        stop = at + 12 + int.from_bytes(data[at : at + 4], "big")
        yield at, stop
        at = stop


def _segments(data: bytes) -> Iterator[tuple[int, int]]:
    at = 2
    while at + 4 <= len(data) and data[at] == 0xFF:
        stop = at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        if data[at + 1] == 0xDA:
            following = data.find(b"\xff\xc4", stop)  # the next scan of a progressive picture
            stop = following if following > 0 else len(data)
        yield at, stop
        at = stop


def _riff_chunks(data: bytes) -> Iterator[tuple[int, int]]:
    at = 12
    while at + 8 <= len(data):
        length = int.from_bytes(data[at + 4 : at + 8], "little")
        stop = at + 8 + length + length % 2
        yield at, stop
        at = stop


def _boxes(data: bytes, at: int = 0, end: int | None = None) -> Iterator[tuple[int, int]]:
    end = len(data) if end is None else min(end, len(data))
    while at + 8 <= end:
        length, kind = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8]
        stop = at + length if length >= 8 else end
        yield at, stop
        if kind in _INSIDE:
            yield from _boxes(data, at + 8 + _INSIDE[kind], stop)
        at = stop


def _entries(data: bytes) -> Iterator[tuple[int, int]]:
    order = "little" if data[:2] == b"II" else "big"
    big = data[2:4] in (b"+\0", b"\0+")
    word, counter, length = (8, 8, 20) if big else (4, 2, 12)
    at = int.from_bytes(data[8:16] if big else data[4:8], order)  # type: ignore[arg-type]
    for _ in range(8):
        count = int.from_bytes(data[at : at + counter], order)  # type: ignore[arg-type]
        first = at + counter
        for number in range(min(count, 64)):
            yield first + length * number, first + length * (number + 1)
        link = first + length * count
        at = int.from_bytes(data[link : link + word], order)  # type: ignore[arg-type]
        if not 0 < at < len(data):
            return


def _pictures(data: bytes) -> Iterator[tuple[int, int]]:
    for number in range(min(int.from_bytes(data[4:6], "little"), 64)):
        yield 6 + 16 * number, 22 + 16 * number


_PARTS: tuple[tuple[Callable[[bytes], bool], Callable[[bytes], Iterator[tuple[int, int]]]], ...] = (
    (lambda data: data.startswith(b"\x89PNG"), _chunks),
    (lambda data: data.startswith(b"\xff\xd8"), _segments),
    (lambda data: data.startswith(b"RIFF"), _riff_chunks),
    (lambda data: data[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"), _entries),
    (lambda data: data[4:8] in (b"ftyp", b"jP  ", b"JXL "), _boxes),
    (lambda data: data[:4] in (b"\0\0\1\0", b"\0\0\2\0"), _pictures),
)


def _parts(data: bytes) -> list[tuple[int, int]]:
    """Return where the chunks, segments, boxes or entries of a file are; slices of other formats."""
    for matches, walk in _PARTS:
        if matches(data):
            found = []
            for start, stop in walk(data):
                if stop > len(data) or len(found) >= _MOST_PARTS:
                    break
                found.append((start, stop))
            if found:
                return found
    step = max(1, len(data) // 12)
    return [(at, min(at + step, len(data))) for at in range(0, len(data), step)]


def _place(rng: random.Random, data: bytearray) -> int:
    """Return a place in a file, more often in a header than among the pixels."""
    match rng.randrange(3):
        case 0:
            return rng.randrange(min(64, len(data)))
        case 1:
            start, stop = rng.choice(_parts(bytes(data)))
            return min(start + rng.randrange(min(24, max(1, stop - start))), len(data) - 1)
        case _:
            return rng.randrange(len(data))


def _flip(rng: random.Random, data: bytearray, _other: bytes) -> None:
    for _ in range(rng.randint(1, 6)):
        data[_place(rng, data)] = rng.choice((0, 1, 127, 128, 255, rng.randrange(256)))


def _cut(rng: random.Random, data: bytearray, _other: bytes) -> None:
    del data[max(8, rng.choice((_place(rng, data), rng.randrange(len(data))))) :]


def _drop(rng: random.Random, data: bytearray, _other: bytes) -> None:
    at = _place(rng, data)
    del data[at : at + rng.choice((1, 2, 4, rng.randint(1, 64)))]


def _insert(rng: random.Random, data: bytearray, _other: bytes) -> None:
    at = _place(rng, data)
    data[at:at] = rng.choice((rng.randbytes(rng.randint(1, 16)), bytes(rng.randint(1, 300))))


def _splice(rng: random.Random, data: bytearray, other: bytes) -> None:
    if rng.random() < 0.5:  # the start of one and the end of the other
        data[_place(rng, data) :] = other[rng.randrange(len(other)) :]
    else:  # a part of the other
        start, stop = rng.choice(_parts(other))
        at = rng.choice(_parts(bytes(data)))[0]
        data[at:at] = other[start:stop]


def _set_length(rng: random.Random, data: bytearray, _other: bytes) -> None:
    at, width = _place(rng, data), rng.choice((1, 2, 4, 4, 8))
    order: Any = rng.choice(("little", "big"))
    before, top = int.from_bytes(data[at : at + width], order), (1 << 8 * width) - 1
    extremes = (0, 1, 2, top, top - 1, top // 2, top // 2 + 1, len(data), before + 1, before - 1, before * 2)
    data[at : at + width] = (rng.choice(extremes) & top).to_bytes(width, order)


def _duplicate(rng: random.Random, data: bytearray, _other: bytes) -> None:
    start, stop = rng.choice(_parts(bytes(data)))
    data[stop:stop] = data[start:stop] * rng.choice((1, 1, 2, min(200, 1 + 20_000 // max(1, stop - start))))


def _reorder(rng: random.Random, data: bytearray, _other: bytes) -> None:
    parts = _parts(bytes(data))
    (start, stop), (start2, stop2) = sorted((rng.choice(parts), rng.choice(parts)))
    if stop <= start2:
        data[start:stop2] = data[start2:stop2] + data[stop:start2] + data[start:stop]


def _remove(rng: random.Random, data: bytearray, _other: bytes) -> None:
    start, stop = rng.choice(_parts(bytes(data)))
    del data[start:stop]


_MUTATIONS = (_flip, _flip, _cut, _drop, _insert, _splice, _set_length, _set_length, _duplicate, _reorder, _remove)


def mutated(rng: random.Random, seeds: Sequence[bytes]) -> bytes:
    """Return one of the files after one to three mutations; PNG chunks mostly with checksums that are right again."""
    data = bytearray(rng.choice(seeds))
    begins = bytes(data[:16])
    for _ in range(rng.choice((1, 1, 2, 3))):
        rng.choice(_MUTATIONS)(rng, data, rng.choice(seeds))
        if len(data) < 8:
            data += bytes(8)
    if rng.random() < 0.5:  # still a file of this format, mostly
        kept = 12 if begins[4:8] in (b"ftyp", b"JXL ", b"jP  ") else 4
        data[:kept] = begins[:kept]
    if data.startswith(b"\x89PNG") and rng.random() < 0.8:
        for start, stop in _parts(bytes(data)):
            data[stop - 4 : stop] = zlib.crc32(data[start + 4 : stop - 4]).to_bytes(4, "big")
    return bytes(data)


# Examination

FAULTS = frozenset({"raised", "differs", "not written", "written wrongly", "noise", "crashed", "hung", "slow", "large"})
"""Outcomes that no file may have."""

_MOST_PICTURES = 4
_MOST_WRITTEN = 1 << 20  # pixels


@dataclass(frozen=True)
class Finding:
    """What came of reading a file twice, and of writing what was read.

    Attributes:
        outcome: read, damaged (read, with a warning), refused, beyond limits, or one of `FAULTS`.
        detail: the message or the reason.
        cpu: seconds of the first reading, of all threads.
        peak: the largest memory of the process meanwhile, in megabytes, everything else it holds included.
    """

    outcome: str
    detail: str = ""
    cpu: float = 0.0
    peak: float = 0.0


class Examiner:
    """A process that reads files, one after the other.

    Args:
        max_cpu: seconds of CPU time that reading a file may take.
        max_peak: megabytes of memory that the process may take.
        patience: seconds after which a file counts as hung.
    """

    def __init__(self, *, max_cpu: float, max_peak: float, patience: float = 60) -> None:
        self.max_cpu, self.max_peak, self.patience = max_cpu, max_peak, patience
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Examiner:
        return self

    def __exit__(self, *_error: object) -> None:
        self._stop()

    def examine(self, path: Path, *, twice: bool = True) -> Finding:
        """Read a file; ``twice`` reads it again, by parts and strips, and writes what was read."""
        if self._process is None:
            self._start()
        assert self._process is not None
        assert self._process.stdin is not None
        noise = os.fstat(self._noise.fileno()).st_size
        self._process.stdin.write(json.dumps([str(path), twice]) + "\n")
        self._process.stdin.flush()
        ready, _, _ = select.select([self._answers], [], [], self.patience)
        answer = self._answers.readline() if ready else ""
        finding = Finding(**json.loads(answer)) if answer else self._without_answer(hung=not ready)
        printed = os.pread(self._noise.fileno(), 300, noise).decode(errors="replace")
        if printed and finding.outcome not in ("crashed", "hung"):
            return Finding("noise", printed, finding.cpu, finding.peak)
        if finding.outcome not in FAULTS:
            if finding.cpu > self.max_cpu:
                return Finding("slow", f"{finding.outcome}: {finding.detail}", finding.cpu, finding.peak)
            if finding.peak > self.max_peak:
                return Finding("large", f"{finding.outcome}: {finding.detail}", finding.cpu, finding.peak)
        return finding

    def _start(self) -> None:
        self._noise = tempfile.TemporaryFile()  # noqa: SIM115 (closed by _stop)
        answers, told = os.pipe()
        self._process = subprocess.Popen(
            [sys.executable, __file__, str(told)],
            stdin=subprocess.PIPE,
            stdout=self._noise,
            stderr=self._noise,
            pass_fds=[told],
            text=True,
        )
        os.close(told)
        self._answers = os.fdopen(answers)
        assert self._answers.readline() == "ready\n"

    def _without_answer(self, *, hung: bool) -> Finding:
        assert self._process is not None
        if hung:
            self._process.kill()
        code = self._process.wait()
        self._stop()
        return Finding("hung" if hung else "crashed", f"exit status {code}")

    def _stop(self) -> None:
        if self._process is not None:
            assert self._process.stdin is not None
            self._process.stdin.close()
            self._process.wait()
            self._answers.close()
            if self._process.returncode == 0:
                self._noise.close()
            self._process = None


def _serve(told: int) -> None:
    """Answer each line of standard input with a finding."""
    with os.fdopen(told, "w", buffering=1) as answers, tempfile.TemporaryDirectory() as folder:
        _read(Path(folder) / "none", [])  # imports
        answers.write("ready\n")
        for line in sys.stdin:
            path, twice = json.loads(line)
            answers.write(json.dumps(asdict(_finding(Path(path), Path(folder) / "out.png", twice=twice))) + "\n")


def _finding(path: Path, written: Path, *, twice: bool) -> Finding:
    from gsrcli.images import Fate

    _forget_peak()
    start = time.process_time()
    pictures: list[Any] = []
    outcome, detail = _read(path, pictures)
    cpu, peak = time.process_time() - start, _peak()
    damage = [str(entry) for picture in pictures for entry in picture.ledger if entry.fate == Fate.DAMAGED]
    if outcome == "read" and damage:
        outcome, detail = "damaged", "; ".join(damage)[:300]
    if twice and outcome not in FAULTS:
        fault = _differs(path, pictures, (outcome, detail)) or _not_written(pictures, written)
        if fault:
            outcome, detail = fault
    return Finding(outcome, detail, cpu, peak)


def _read(path: Path, pictures: list[Any], *, by_parts: bool = False) -> tuple[str, str]:
    """Add the first pictures of a file, and return what came of it.

    Args:
        path: the file.
        pictures: a list that they are added to.
        by_parts: whether it is read as a large one is: not held in memory, and decoded by strips.
    """
    from gsrcli.errors import GsrError, LimitError, PictureError
    from gsrcli.images import PictureFile
    from support.large import all_large

    try:
        with all_large() if by_parts else nullcontext():
            file = PictureFile(path)
            indices = range(min(file.count, _MOST_PICTURES))
            pictures.extend(file.strips(index).picture() if by_parts else file.picture(index) for index in indices)
    except LimitError as error:
        return "beyond limits", str(error)
    except PictureError as error:
        if not str(error).startswith(f"cannot read {path}: "):
            return "raised", f"a message without the file: {error}"
        if _stumbled(error.__cause__):
            return "raised", f"{type(error.__cause__).__name__}, unforeseen: {error.__cause__}"
        return "refused", str(error)
    except GsrError as error:
        return "raised", f"{type(error).__name__}: {error}"
    except Exception as error:
        return "raised", f"{type(error).__name__}: {error}"
    return "read", ""


def _stumbled(error: BaseException | None) -> bool:
    """Return whether this package itself raised what it would not raise knowingly."""
    import gsrcli

    if not isinstance(error, TypeError | IndexError | ArithmeticError | AssertionError | RecursionError):
        return False
    return traceback.extract_tb(error.__traceback__)[-1].filename.startswith(str(Path(gsrcli.__file__).parent))


def _differs(path: Path, pictures: list[Any], outcome: tuple[str, str]) -> tuple[str, str] | None:
    from gsrcli.images import Fate

    again: list[Any] = []
    found = _read(path, again, by_parts=True)
    damage = [str(entry) for picture in again for entry in picture.ledger if entry.fate == Fate.DAMAGED]
    if found[0] == "read" and damage:
        found = "damaged", "; ".join(damage)[:300]
    if found != outcome:
        return "differs", f"{outcome} and then {found}"
    if list(map(_digest, pictures)) != list(map(_digest, again)):
        return "differs", "in pixels, tags or ledger"
    return None


def _digest(picture: Any) -> tuple[object, ...]:
    parts = [hashlib.sha256(part).digest() for part in (picture.pixels, picture.alpha) if part is not None]
    return (*parts, picture.colour, picture.metadata, picture.ledger, picture.origin, picture.duration)


def _not_written(pictures: list[Any], path: Path) -> tuple[str, str] | None:
    """Write pictures to PNG and read them back."""
    import numpy as np

    from gsrcli.images import fit, output_format, read_picture, write_picture

    for picture in pictures:
        if picture.size.area > _MOST_WRITTEN:
            continue
        try:
            write_picture(picture, path)
            again = read_picture(path)
        except Exception as error:
            return "not written", f"{type(error).__name__}: {error}"
        expected = fit(picture, output_format(path))[0]
        if not np.array_equal(again.pixels, expected.pixels):
            return "written wrongly", "pixels"
        if again.opaque != expected.opaque or not (expected.opaque or np.array_equal(again.alpha, expected.alpha)):
            return "written wrongly", "alpha"
    return None


def _forget_peak() -> None:
    with suppress(OSError):  # not Linux: the peak is that of all files so far
        Path("/proc/self/clear_refs").write_text("5")


def _peak() -> float:
    """Return the largest memory of this process since `_forget_peak`, in megabytes."""
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        import resource

        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return most / (1 << 20 if sys.platform == "darwin" else 1 << 10)
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))
    _serve(int(sys.argv[1]))
