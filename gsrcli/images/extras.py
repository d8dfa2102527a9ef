"""What formats need that may be missing: optional packages, and parts of Pillow."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType
from typing import NamedTuple

from PIL import features

from gsrcli.errors import PictureError

__all__ = ["EXTRAS", "Extra", "has_extra", "load_extra", "pillow_has"]


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


_PARTS_OF_PILLOW = {"WEBP": "webp", "AVIF": "avif", "JPEG2000": "jpg_2000"}  # it may have been built without them


def pillow_has(form: str) -> bool:
    """Return whether Pillow was built with what a format, given its name, needs of it."""
    return form not in _PARTS_OF_PILLOW or bool(features.check(_PARTS_OF_PILLOW[form]))


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
