"""Files that commands write besides their results: seen to be possible before anything is computed. Needs no torch."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

from gsrcli.errors import UsageError

__all__ = ["check_file", "check_plot"]

_PLOT_SUFFIXES = (".png", ".svg")


def check_file(path: Path) -> None:
    """See that a table or a plot can be written, before anything is measured.

    Raises:
        UsageError: it cannot.
    """
    folder = path.absolute().parent
    if path.is_dir() or not os.access(folder, os.W_OK):
        raise UsageError(f"cannot write {path}", hint=f"see that {folder} is a folder that may be written to")


def check_plot(path: Path) -> None:
    """See that a plot of this name can be made.

    Raises:
        UsageError: plots are of other kinds, or matplotlib is missing.
    """
    check_file(path)
    if path.suffix.lower() not in _PLOT_SUFFIXES:
        raise UsageError(f"{path} is no name of a plot", hint=f"end it with {' or '.join(_PLOT_SUFFIXES)}")
    if importlib.util.find_spec("matplotlib") is None:
        raise UsageError("plots need matplotlib", hint="pip install 'gsrcli[plot]'")
