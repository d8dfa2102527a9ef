"""Colours where alpha is 0, if alpha is data: kept as well as those that are seen, or said to be lost."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from support.reading import noise

from gsrcli.images import Fate, Picture, fit, output_format, output_formats, with_fate, write_picture, write_pictures
from gsrcli.images.ledger import Feature
from gsrcli.images.writers import ANIMATIONS

WITH_ALPHA = [form for form in output_formats() if Feature.TRANSPARENCY in form.keeps]


def hiding(dtype: type = np.uint8, duration: float | None = None) -> Picture:
    """Return noise, half of which is hidden, as its alpha is 0 or, in 16 bits, becomes 0 in 8."""
    scale = np.iinfo(dtype).max // 255
    pixels = np.kron(noise(8, 8, 3), np.ones((8, 8, 1), np.uint8)).astype(dtype) * dtype(scale)
    alpha = np.zeros((64, 64), dtype)
    alpha[:, 8:], alpha[:, 32:] = scale // 3, np.iinfo(dtype).max
    return Picture(pixels, alpha, duration=duration, alpha_is_data=True)


def decoded(path: Path) -> np.ndarray:
    """Return the (first) picture in a file as others read it, RGBA in 8 bits."""
    if path.suffix == ".heic":
        return np.asarray(pytest.importorskip("pillow_heif").open_heif(path).to_pillow().convert("RGBA"))
    if path.suffix == ".jxl":
        pytest.importorskip("pillow_jxl")
    if path.suffix == ".tif":
        tifffile = pytest.importorskip("tifffile")
        values = tifffile.imread(path)
        return values if values.dtype == np.uint8 else (values // 257).astype(np.uint8)
    return np.asarray(Image.open(path).convert("RGBA"))


def assert_kept(path: Path, picture: Picture) -> None:
    expected = (picture.pixels // (np.iinfo(picture.pixels.dtype).max // 255)).astype(int)
    values = decoded(path)
    errors = np.abs(values[..., :3].astype(int) - expected).mean(axis=2)
    _, ledger = fit(picture, output_format(path))
    if "colours under full transparency" in with_fate(Fate.LOST, ledger):
        assert errors[:, :32].mean() > 40
    else:
        assert errors[:, :32].mean() < 2 * errors[:, 32:].mean() + 1


@pytest.mark.parametrize("form", WITH_ALPHA, ids=lambda form: form.name)
@pytest.mark.parametrize("options", [{}, {"quality": 98}, {"lossless": True}], ids=str)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_still_pictures(tmp_path: Path, form: Any, options: dict[str, int], dtype: type) -> None:
    if options.get("lossless") and not form.lossless:
        pytest.skip("it cannot be asked for")
    path = tmp_path / f"a{form.suffixes[0]}"
    picture = hiding(dtype)
    write_picture(picture, path, **options)
    assert_kept(path, picture)


@pytest.mark.parametrize("form", [form for form in WITH_ALPHA if form.name in ANIMATIONS], ids=lambda form: form.name)
def test_animations(tmp_path: Path, form: Any) -> None:
    path = tmp_path / f"a{form.suffixes[0]}"
    frames = [hiding(duration=0.1)] * 2
    write_pictures(frames, path)
    assert_kept(path, frames[0])
