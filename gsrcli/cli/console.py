"""The console: the only module that prints.

Results go to standard output; progress, warnings and errors to standard error. With ``--json``, standard output holds
one JSON object, or nothing if the command was invalid, and standard error holds only errors.
"""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

if TYPE_CHECKING:
    from rich.console import Console as RichConsole
    from rich.console import RenderableType

__all__ = ["Console", "printable"]

_FRAME = 0.25
"""Minimum interval between redraws of a live display, in seconds."""

_CONTROLS = re.compile("[\0-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
"""Characters that move the cursor, end a line, turn the direction of writing or give the terminal commands."""


class Console:
    """Writes for people or, with ``json``, for programs."""

    def __init__(self, json: bool = False) -> None:
        self.json = json
        self._terminal: RichConsole | None = None  # the terminal of a live display, above which texts are printed

    def result(self, text: str, data: dict[str, Any]) -> None:
        """Print the result of a command, as text for people or as data for programs."""
        _escape_unprintable()
        sys.stdout.write((json.dumps(data) if self.json else _printable_lines(text)) + "\n")
        sys.stdout.flush()

    def table(
        self, headings: Sequence[str], rows: Sequence[Sequence[str]], notes: Sequence[str], data: dict[str, Any]
    ) -> None:
        """Print a result of several rows, as a table with notes for people or as data for programs.

        The first column is shown in full, however narrow the terminal.
        """
        if self.json:
            self.result("", data)
            return
        from rich.table import Table

        table = Table(*headings, box=None, pad_edge=False)
        table.columns[0].min_width = max(len(row[0]) for row in rows)
        for row in rows:
            table.add_row(*map(printable, row))
        _escape_unprintable()
        console = _rich()
        if not console.is_terminal:
            console.width = 10_000  # one line per row, for programs that read it
        console.print(table)
        for note in notes:
            console.print(printable(note))

    def note(self, text: str) -> None:
        """Print a note; not with ``json``."""
        if not self.json:
            self._say(text)

    def warn(self, text: str) -> None:
        """Print a warning; not with ``json``."""
        if not self.json:
            self._say(f"warning: {text}", "yellow")

    def error(self, text: str, hint: str | None = None, *, lines: bool = False) -> None:
        """Print a failure and what to do about it. Only a text of ``lines`` goes on in the next, where it has one."""
        self._say(f"error: {text}", "red", lines)
        if hint:
            self._say(f"  {hint}")

    @contextmanager
    def progress(
        self, total: int | None, description: str, unit: str | None = None, done: int = 0
    ) -> Iterator[tqdm[Any]]:
        """Show a progress bar with the time left, on terminals only. With a unit, show counts and a rate too."""
        with tqdm(
            total=total,
            desc=description,
            unit=unit or "",
            unit_scale=unit == "B",
            initial=done,
            bar_format=None if unit else "{desc}: {percentage:3.0f}%|{bar}| {elapsed}<{remaining}{postfix}",
            dynamic_ncols=True,
            disable=not self._is_watched(),
            file=sys.stderr,
            leave=False,
        ) as bar:
            yield bar

    @contextmanager
    def status(self, text: str) -> Iterator[None]:
        """Show a text while the context lasts, on terminals only."""
        with tqdm(desc=text, bar_format="{desc}", disable=not self._is_watched(), file=sys.stderr, leave=False):
            yield

    @contextmanager
    def live(self, total: int, description: str) -> Iterator[Callable[[int, Callable[[], RenderableType]], None]]:
        """Show a progress bar and, below it, a display that is redrawn in place; on terminals only.

        Yields a function that takes the number of steps just done and a function that returns the display.
        """
        from rich.console import Group
        from rich.live import Live
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeElapsedColumn, TimeRemainingColumn

        console = _rich(stderr=True)
        if self.json or not console.is_terminal:
            yield lambda done, draw: None
            return
        columns = (BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
        bar = Progress("{task.description}", *columns)
        task = bar.add_task(description, total=total)
        drawn = 0.0
        with Live(bar, console=console, auto_refresh=False, transient=True) as live:
            self._terminal = console

            def show(done: int, draw: Callable[[], RenderableType]) -> None:
                nonlocal drawn
                bar.advance(task, done)
                if time.monotonic() - drawn < _FRAME and not bar.finished:
                    return
                drawn = time.monotonic()
                live.update(Group(bar, draw()), refresh=True)

            try:
                yield show
            finally:
                self._terminal = None

    @contextmanager
    def downloads(self) -> Iterator[Callable[[str, int, int | None], None]]:
        """Show a bar for each file being downloaded. Yields a function that takes its name, bytes so far and size."""
        with ExitStack() as bars:
            current: dict[str, tqdm[Any]] = {}

            def close() -> None:
                bars.close()
                current.clear()

            def report(file: str, done: int, total: int | None) -> None:
                if file not in current:
                    close()
                    self.note(f"downloading {file}")
                    current[file] = bars.enter_context(self.progress(total, file, "B", done))
                current[file].update(done - current[file].n)
                if done == total:
                    close()

            yield report

    def _is_watched(self) -> bool:
        return not self.json and sys.stderr.isatty()

    def _say(self, text: str, colour: str = "", lines: bool = False) -> None:
        with tqdm.external_write_mode(file=sys.stderr):
            shown = _printable_lines(text) if lines else printable(text)
            (self._terminal or _rich(stderr=True)).print(shown, style=colour, soft_wrap=True)


def _rich(*, stderr: bool = False) -> RichConsole:
    """Return rich's console for a standard stream. It shows texts as they are: brackets and colons mean nothing."""
    from rich.console import Console as RichConsole

    return RichConsole(stderr=stderr, markup=False, highlight=False, emoji=False)


def printable(text: str) -> str:
    """Return a line of text with its control characters escaped: file names may contain any, such as a new line."""
    return _CONTROLS.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def _printable_lines(text: str) -> str:
    return "\n".join(map(printable, text.split("\n")))


def _escape_unprintable() -> None:
    """Escape what standard output cannot encode, as may occur in file names."""
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="backslashreplace")
