"""What the tests of readers share: pictures to put into files, and reading them back."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from PIL import ImageCms

from gsrcli.images import Fate, Picture, PictureFile, probe, with_fate
from support.large import all_large, assert_same

__all__ = ["SRGB", "damaged", "lost", "noise", "png_chunk", "ramp", "read"]

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def noise(*shape: int, dtype: Any = np.uint8, top: int | None = None, seed: int = 0) -> np.ndarray:
    """Return integers over the whole range of a type, or from 0 up to below ``top``."""
    info = np.iinfo(dtype)
    low, high = (info.min, info.max) if top is None else (0, top - 1)
    return np.random.default_rng(seed).integers(low, high, shape, dtype=dtype, endpoint=True)


def ramp(height: int = 40, width: int = 48, top: int = 255) -> np.ndarray:
    """Return a smooth picture (H, W, 3) in which no two corners are alike."""
    y, x = np.mgrid[:height, :width]
    planes = [x * top // (width - 1), y * top // (height - 1), top - (x + y) * top // (width + height - 2)]
    return np.stack(planes, axis=2).astype(np.uint8 if top == 255 else np.uint16)


def png_chunk(name: bytes, body: bytes = b"", *, sound: bool = True) -> bytes:
    """Return a chunk of a PNG file; one that is not sound has a wrong checksum."""
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body) ^ (not sound))


def read(tmp_path: Path, data: bytes, name: str = "picture", *, form: str | None = None) -> Picture:
    """Read what is left of the only picture in a file; check its size, that it can be changed, and that strips agree.

    Args:
        tmp_path: a folder.
        data: the file.
        name: name of the file.
        form: the format that it must be read as, if that is to be checked.
    """
    path = tmp_path / name
    path.write_bytes(data)
    picture = PictureFile(path).picture()
    assert probe(path) == picture.size
    assert picture.pixels.flags.c_contiguous
    assert picture.pixels.flags.writeable
    with all_large():
        assert_same(PictureFile(path).strips(), picture)
    if form is not None:
        assert picture.origin is not None
        assert picture.origin.format == form
    return picture


def lost(picture: Picture) -> list[str]:
    """Return what of a picture was lost in reading."""
    return with_fate(Fate.LOST, picture.ledger)


def damaged(picture: Picture) -> list[str]:
    """Return what of a picture was found damaged in reading."""
    return with_fate(Fate.DAMAGED, picture.ledger)
