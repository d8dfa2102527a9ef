"""Check, before anything is computed, that tables and plots can be written. Needs no torch."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

from gsrcli import plots
from gsrcli.errors import UsageError

__all__ = ["check_file", "check_plot"]


def check_file(path: Path) -> None:
    """Check that a table or a plot can be written.

    Raises:
        UsageError: it cannot.
    """
    folder = path.absolute().parent
    if path.is_dir() or not os.access(folder, os.W_OK):
        raise UsageError(f"cannot write {path}", hint=f"check that {folder} is a folder that you may write to")


def check_plot(path: Path) -> None:
    """Check that a plot can be drawn and written.

    Raises:
        UsageError: the format is not supported, the file cannot be written, or matplotlib is missing.
    """
    check_file(path)
    if path.suffix.lower() not in plots.SUFFIXES:
        raise UsageError(f"unsupported plot format: {path}", hint=f"use a name ending in {' or '.join(plots.SUFFIXES)}")
    if importlib.util.find_spec("matplotlib") is None:
        raise UsageError("plots need matplotlib", hint="pip install 'gsrcli[plot]'")
