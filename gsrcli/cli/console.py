"""The only place that prints.

Results go to standard output; progress, warnings and errors to standard error. With ``--json`` standard output holds
one JSON object, or nothing where the command itself made no sense, and standard error errors alone.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tqdm import tqdm

__all__ = ["Console"]


class Console:
    """An output sink for people or, with ``json``, for programs."""

    def __init__(self, json: bool = False) -> None:
        self.json = json

    def result(self, text: str, data: dict[str, Any]) -> None:
        """What a command was run for, as text for people and as data for programs."""
        if hasattr(sys.stdout, "reconfigure"):
            sys.stdout.reconfigure(errors="backslashreplace")  # file names may be beyond the terminal's encoding
        sys.stdout.write((json.dumps(data) if self.json else text) + "\n")

    def note(self, text: str) -> None:
        """Something worth knowing; programs are not told."""
        if not self.json:
            self._say(text)

    def warn(self, text: str) -> None:
        """Something that is not as the user may think; programs are not told."""
        if not self.json:
            self._say(f"warning: {text}", "yellow")

    def error(self, text: str, hint: str | None = None) -> None:
        """A failure, and what to do about it."""
        self._say(f"error: {text}", "red")
        if hint:
            self._say(f"  {hint}")

    @contextmanager
    def progress(self, total: int, description: str, unit: str | None = None) -> Iterator[tqdm[Any]]:
        """A bar with the time left, on terminals only; counts and a rate are shown where there is a unit."""
        with tqdm(
            total=total,
            desc=description,
            unit=unit or "",
            bar_format=None if unit else "{desc}: {percentage:3.0f}%|{bar}| {elapsed}<{remaining}{postfix}",
            dynamic_ncols=True,
            disable=self.json or not sys.stderr.isatty(),
            file=sys.stderr,
            leave=False,
        ) as bar:
            yield bar

    def _say(self, text: str, colour: str = "") -> None:
        from rich.console import Console as RichConsole

        with tqdm.external_write_mode(file=sys.stderr):
            RichConsole(stderr=True, soft_wrap=True).print(text, style=colour, markup=False, highlight=False)
