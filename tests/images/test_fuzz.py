"""Mutated files of every kind: read, with warnings or not, or refused; nothing else, and in bounded time and memory.

``scripts/fuzz_pictures.py`` does the same for longer.
"""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.fuzzing import FAULTS, Examiner, mutated
from support.seeds import READERS, seeds

pytest.importorskip("tifffile")
pytest.importorskip("resource")

LEAST, SECONDS = 25, 1.5
"""Files per reader, and the time after which there are no more than that."""


@pytest.fixture(scope="module")
def examiner() -> Iterator[Examiner]:
    with Examiner(max_cpu=2, max_peak=500) as opened:
        yield opened


@pytest.mark.parametrize("reader", READERS)
def test_seeds_are_read(reader: str, examiner: Examiner, tmp_path: Path) -> None:
    path = tmp_path / "seed"
    for number, data in enumerate(seeds(reader)):
        path.write_bytes(data)
        finding = examiner.examine(path)
        assert finding.outcome == "read", f"{number}: {finding}"


@pytest.mark.parametrize("reader", READERS)
def test_mutated_files(
    reader: str, examiner: Examiner, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    files = seeds(reader)
    if not files:
        pytest.skip(f"nothing here makes {reader} files")
    seed = random.randrange(2**32)
    rng, path, outcomes, start = random.Random(seed), tmp_path / "mutated", Counter[str](), time.monotonic()
    while outcomes.total() < LEAST or time.monotonic() < start + SECONDS:
        data = mutated(rng, files)
        path.write_bytes(data)
        finding = examiner.examine(path)
        outcomes[finding.outcome] += 1
        assert finding.outcome not in FAULTS, f"{finding}; file {outcomes.total()} of seed {seed}: {data.hex()}"
    assert outcomes["refused"], "mutations do no harm"
    assert outcomes["read"] + outcomes["damaged"], "no mutated file is read"
    record_property("told", f"{reader}: {dict(outcomes)}")
