"""Remarks on pictures: what was converted, lost or damaged, each said once however many pictures it is true of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from gsrcli.cli.console import Console
from gsrcli.images import Fate, Ledger, with_fate

__all__ = ["Remarks"]

_MOST_PICTURES, _MOST_PARTS = 3, 8
"""How many pictures, and how many parts of one, a remark names."""


@dataclass
class Remarks:
    """Collects remarks during a batch, and says them at its end.

    Attributes:
        verbose: whether to say what was kept too.
    """

    verbose: bool = False
    _notes: dict[str, list[Path]] = field(default_factory=dict, init=False)
    _warnings: dict[str, list[Path]] = field(default_factory=dict, init=False)

    def add(self, source: Path, output: Path, form: str, reading: Ledger, writing: Ledger) -> None:
        """Add what became of a picture, or of all pictures in a file.

        Args:
            source: the file that was read.
            output: the file that is written.
            form: name of the output's format.
            reading: the ledger of reading.
            writing: the ledger of writing.
        """
        both = (*reading, *writing)
        if self.verbose:
            _add(self._notes, source, "kept", with_fate(Fate.KEPT, both))
        _add(self._notes, source, "converted", with_fate(Fate.CONVERTED, both))
        _add(self._warnings, source, "damaged", with_fate(Fate.DAMAGED, both))
        _add(self._warnings, source, "lost", with_fate(Fate.LOST, reading))
        _add(self._warnings, output, f"{form} does not keep", with_fate(Fate.LOST, writing))

    def say(self, console: Console) -> None:
        """Say all remarks: notes, then warnings."""
        for text, paths in self._notes.items():
            console.note(f"note: {_subject(paths, text)}")
        for text, paths in self._warnings.items():
            console.warn(_subject(paths, text))


def _add(remarks: dict[str, list[Path]], path: Path, verb: str, parts: Sequence[str]) -> None:
    if parts:
        more = [f"{len(parts) - _MOST_PARTS} more"] if len(parts) > _MOST_PARTS else []
        remarks.setdefault(f"{verb} {', '.join([*parts[:_MOST_PARTS], *more])}", []).append(path)


def _subject(paths: Sequence[Path], text: str) -> str:
    """Return a remark on some pictures."""
    if len(paths) == 1:
        return f"{paths[0]}: {text}"
    names = [path.name for path in paths[:_MOST_PICTURES]] + (["…"] if len(paths) > _MOST_PICTURES else [])
    return f"{len(paths)} pictures: {text} ({', '.join(names)})"
