"""Optional packages that read and write further formats."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType
from typing import NamedTuple

from gsrcli.errors import PictureError

__all__ = ["EXTRAS", "Extra", "has_extra", "load_extra"]


class Extra(NamedTuple):
    """The name of a format, the package that codes it, and what to install."""

    format: str
    package: str
    install: str


EXTRAS: Mapping[str, Extra] = {
    "pillow_heif": Extra("HEIC", "pillow-heif", "gsrcli[heic]"),
    "pillow_jxl": Extra("JPEG XL", "pillow-jxl-plugin", "gsrcli[jxl]"),
}
"""By module."""


def has_extra(module: str) -> bool:
    """Return whether an optional module is installed."""
    try:
        return find_spec(module) is not None
    except ValueError:  # it is half imported, or blocked
        return False


def load_extra(module: str) -> ModuleType:
    """Import an optional module.

    Raises:
        PictureError: it is not installed, or cannot be loaded.
    """
    name, package, install = EXTRAS[module]
    try:
        return import_module(module)
    except ImportError as error:
        raise PictureError(f"{name} needs {package}", hint=f"pip install '{install}'") from error
