"""Small files that are read as large ones are: not held in memory, and decoded by strips."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

__all__ = ["all_large", "assert_same"]


@contextmanager
def all_large(strip_bytes: int = 150) -> Iterator[None]:
    """Make all files count as large, with strips of about so many bytes."""
    from gsrcli.images import content
    from gsrcli.images.readers import source

    changed = [(content, "_HELD_BYTES", 0), (source, "_LARGE_BYTES", 0), (source, "_STRIP_BYTES", strip_bytes)]
    before = [getattr(module, name) for module, name, _ in changed]
    for module, name, value in changed:
        setattr(module, name, value)
    try:
        yield
    finally:
        for (module, name, _), value in zip(changed, before, strict=True):
            setattr(module, name, value)


def assert_same(strips: Any, picture: Any) -> None:
    """Check that strips make up a picture, and that all that is said of both is the same."""
    whole = strips.picture()
    assert (strips.raster, strips.opaque, strips.extremes) == (picture.raster, picture.opaque, picture.extremes)
    assert strips.described() == picture.described()
    np.testing.assert_array_equal(whole.pixels, picture.pixels)
    if picture.alpha is not None:
        np.testing.assert_array_equal(whole.alpha, picture.alpha)
