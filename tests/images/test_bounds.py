"""Files under a megabyte that ask for endless work or memory: read or refused within seconds and a gigabyte."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.fuzzing import FAULTS, Examiner
from support.hostile import HOSTILE

pytest.importorskip("resource")

MAX_BYTES, MAX_CPU, MAX_PEAK = 1 << 20, 5.0, 1000.0


@pytest.fixture(scope="module")
def examiner() -> Iterator[Examiner]:
    with Examiner(max_cpu=MAX_CPU, max_peak=MAX_PEAK) as opened:
        yield opened


@pytest.mark.parametrize("reader", HOSTILE)
def test_hostile_files(
    reader: str, examiner: Examiner, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    path, findings = tmp_path / "hostile", {}
    for name, data in HOSTILE[reader]().items():
        assert len(data) < MAX_BYTES, name
        path.write_bytes(data)
        findings[name] = examiner.examine(path, twice=False)
    if not findings:
        pytest.skip(f"nothing here makes {reader} files")
    slowest, largest = max(f.cpu for f in findings.values()), max(f.peak for f in findings.values())
    record_property("told", f"{reader}: {len(findings)} files, at most {slowest:.1f} s and {largest:.0f} MB")
    harmful = {name: finding for name, finding in findings.items() if finding.outcome in FAULTS}
    assert not harmful
