"""Read mutated pictures for minutes, and keep those that do harm.

Each file is read in a process with limits, which is begun anew after a crash; see tests/support/fuzzing.py for what is
asked of the readers. Prints counts by reader and outcome, and which files took most time and memory.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from support.fuzzing import FAULTS, Examiner, Finding, mutated
from support.seeds import READERS, seeds

_MOST_BYTES = 1 << 18  # of a seed: larger ones are slow, and mostly pixels
_SHOWN = 5


def main() -> int:
    """Read mutated pictures; return 1 if any does harm."""
    arguments = _arguments()
    kinds = _from_folder(arguments.seeds) if arguments.seeds else {reader: seeds(reader) for reader in READERS}
    kinds = {kind: files for kind, files in kinds.items() if files}  # not all can be made everywhere
    rng, seen = random.Random(arguments.seed), Counter[tuple[str, str]]()
    found: list[tuple[Finding, Path]] = []
    arguments.keep.mkdir(parents=True, exist_ok=True)
    path = arguments.keep / "current"
    with Examiner(max_cpu=arguments.max_cpu, max_peak=arguments.max_memory, patience=60) as examiner:
        for kind, data in _files(rng, kinds, arguments.minutes):
            path.write_bytes(data)
            finding = examiner.examine(path)
            seen[kind, finding.outcome] += 1
            if finding.outcome in FAULTS:
                kept = _kept(path, kind, finding.outcome)
                print(f"{kept}: {finding}", flush=True)
                found.append((finding, kept))
            else:
                found.append((finding, path))
                found = _extremes(found)
    path.unlink(missing_ok=True)
    _report(seen, [finding for finding, _ in found])
    return 1 if any(outcome in FAULTS for _, outcome in seen) else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seeds", type=Path, metavar="FOLDER", help="mutate the files in it, each once as it is")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", default=Path("offenders"), help="where offenders go")
    parser.add_argument("--max-cpu", type=float, default=2, metavar="SECONDS")
    parser.add_argument("--max-memory", type=float, default=500, metavar="MB")
    parser.add_argument("--seed", type=int, default=random.randrange(2**32))
    return parser.parse_args()


def _from_folder(folder: Path) -> Mapping[str, Sequence[bytes]]:
    """Return the files in a folder by their suffix."""
    found: dict[str, list[bytes]] = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not path.is_symlink() and 8 <= path.stat().st_size <= _MOST_BYTES:
            found.setdefault(path.suffix.lower() or "none", []).append(path.read_bytes())
    return found


def _files(rng: random.Random, kinds: Mapping[str, Sequence[bytes]], minutes: float) -> Iterator[tuple[str, bytes]]:
    """Yield each seed, and then mutations of one kind after the other until the time is up."""
    for kind, files in kinds.items():
        for data in files:
            yield f"{kind}, as it is", data
    end = time.monotonic() + 60 * minutes
    while time.monotonic() < end:
        for kind, files in kinds.items():
            yield kind, mutated(rng, files)


def _kept(path: Path, kind: str, outcome: str) -> Path:
    name = f"{outcome}-{kind}".replace(" ", "-").replace(",", "").replace("/", "-").replace(".", "")
    number = sum(1 for _ in path.parent.glob(f"{name}-*"))
    return path.rename(path.with_name(f"{name}-{number}"))


def _extremes(found: list[tuple[Finding, Path]]) -> list[tuple[Finding, Path]]:
    """Return the slowest and the largest of what was found, and the offenders."""
    offenders = [entry for entry in found if entry[0].outcome in FAULTS]
    slowest = sorted(found, key=lambda entry: -entry[0].cpu)[:_SHOWN]
    largest = sorted(found, key=lambda entry: -entry[0].peak)[:_SHOWN]
    return list(dict.fromkeys([*offenders, *slowest, *largest]))


def _report(seen: Counter[tuple[str, str]], found: list[Finding]) -> None:
    outcomes = sorted({outcome for _, outcome in seen}, key=lambda outcome: (outcome in FAULTS, outcome))
    print("kind".ljust(24), *(outcome.rjust(14) for outcome in ["files", *outcomes]))
    for kind in [*sorted({kind for kind, _ in seen}), "all"]:
        counts = [sum(n for (k, o), n in seen.items() if kind in (k, "all") and o == outcome) for outcome in outcomes]
        print(kind.ljust(24), *(f"{count:14}" for count in [sum(counts), *counts]))
    for finding in sorted(found, key=lambda finding: -finding.cpu)[:_SHOWN]:
        print(f"slow: {finding.cpu:.2f} s, {finding.outcome}: {finding.detail}")
    for finding in sorted(found, key=lambda finding: -finding.peak)[:_SHOWN]:
        print(f"large: {finding.peak:.0f} MB, {finding.outcome}: {finding.detail}")


if __name__ == "__main__":
    sys.exit(main())
