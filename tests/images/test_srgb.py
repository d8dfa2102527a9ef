"""Conversion to sRGB keeps the depth of pixels, and finds the colours that LittleCMS does in floating point."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.profiles import packed_profile, table_profile, through_transicc

from gsrcli.images import Cicp, Colour, Entry, Fate, Feature, Picture, icc, read_picture, with_fate, write_picture
from gsrcli.images.fit import fit
from gsrcli.images.formats import output_format
from gsrcli.images.srgb import to_srgb


def grid(channels: int) -> list[np.ndarray]:
    return np.meshgrid(*[np.linspace(0, 1, 5)] * channels, indexing="ij")


def grey_table() -> bytes:
    (value,) = grid(1)
    return table_profile(b"GRAY", np.stack([100 * value**0.8, 0 * value, 0 * value], axis=-1))


def rgb_table() -> bytes:
    """Of colours within sRGB, where LittleCMS does not clip them."""
    red, green, blue = grid(3)
    lightness = 100 * (0.25 * red + 0.65 * green + 0.1 * blue) ** 0.9
    return table_profile(b"RGB ", np.stack([lightness, 20 * (red - green), 20 * (green - blue)], axis=-1))


def cmyk_table() -> bytes:
    cyan, magenta, yellow, black = grid(4)
    lightness = 100 * (1 - 0.3 * cyan - 0.35 * magenta - 0.1 * yellow) * (1 - 0.9 * black)
    a, b = (60 * magenta - 30 * cyan) * (1 - black), (70 * yellow - 40 * cyan) * (1 - black)
    return table_profile(b"CMYK", np.stack([lightness, a, b], axis=-1))


def bright_black() -> bytes:
    """A profile whose black emits a hundredth of white's light (parametricCurveType 4)."""
    curve = b"para\0\0\0\0" + struct.pack(">HH7i", 4, 0, *(round(65536 * v) for v in (2.2, 0.9954, 0, 0, 0, 0.01, 0)))
    primaries = ((28578, 14581, 912), (25239, 46983, 6361), (9374, 3972, 46787))  # of sRGB
    colorants = [b"XYZ \0\0\0\0" + struct.pack(">3i", *primary) for primary in primaries]
    tags = dict(zip((b"rXYZ", b"gXYZ", b"bXYZ"), colorants, strict=True))
    white = b"XYZ \0\0\0\0" + struct.pack(">3i", 63190, 65536, 54061)
    return packed_profile(b"RGB ", b"XYZ ", tags | dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), curve) | {b"wtpt": white})


EXACT, OFF = 0.05, 1.0
"""The largest difference, as of 8 bits: where colours are computed, and where they are interpolated."""
PROFILES = {
    "linear P3": (3, icc.cicp_profile(Cicp(12, 8), grey=False), EXACT),
    "Adobe RGB": (3, icc.adobe_rgb_profile(grey=False), EXACT),
    "PQ": (3, icc.cicp_profile(Cicp(9, 16), grey=False), EXACT),
    "bright black": (3, bright_black(), EXACT),
    "table of RGB": (3, rgb_table(), OFF),
    "linear grey": (1, icc.gamma_profile(1.0, None, grey=True), EXACT),
    "HLG grey": (1, icc.cicp_profile(Cicp(9, 18), grey=True), EXACT),
    "table of grey": (1, grey_table(), EXACT),
    "grey of RGB": (1, rgb_table(), OFF),
    "CMYK": (4, cmyk_table(), OFF),
}


@pytest.mark.parametrize("name", PROFILES)
def test_sixteen_bits_are_converted_as_such(tmp_path: Path, name: str) -> None:
    channels, profile, most = PROFILES[name]
    values = np.random.default_rng(0).integers(0, 65536, (60, 25, channels)).astype(np.uint16)
    values[:10] //= 50  # dark, where 8 bits leave 5 levels
    result = to_srgb(values, profile)
    assert result.dtype == np.uint16
    target, inputs = "*sRGB", values.reshape(-1, channels) / 65535
    if name == "grey of RGB":
        inputs = inputs.repeat(3, axis=1)
    elif channels == 1:
        (tmp_path / "grey.icc").write_bytes(icc.gamma_profile(None, None, grey=True))
        target = str(tmp_path / "grey.icc")
    expected = through_transicc(profile, inputs, tmp_path, target).reshape(result.shape)
    differences = 255 * np.abs(result / 65535 - expected)
    assert differences.max() <= most
    assert differences.mean() <= most / 4


def test_dark_linear_light_has_more_than_eight_bits(tmp_path: Path) -> None:
    """By the formula of sRGB: 1000 levels of linear light, of which 8 bits have 5."""
    linear = np.linspace(0, 0.02, 1000)
    values = np.rint(65535 * linear).astype(np.uint16)[None, :, None].repeat(3, axis=2)
    for profile in (icc.gamma_profile(1.0, None, grey=False), icc.gamma_profile(1.0, None, grey=True)):
        picture = Picture(values if profile[16:20] == b"RGB " else values[..., :1], colour=Colour(profile))
        converted, ledger = fit(picture, output_format("a.gif"))
        light = values[0, :, 0] / 65535
        expected = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
        assert np.abs(converted.pixels[0] / 65535 - expected[:, None]).max() < 0.1 / 255
        assert "16 bits per channel (8 are written)" in with_fate(Fate.LOST, ledger)


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_grey_with_an_uneven_profile_keeps_its_values_as_rgb(tmp_path: Path, suffix: str, dtype: Any) -> None:
    """A profile for RGB, of which no profile for grey can say the same: its colours stay, and nothing is rounded."""
    top = np.iinfo(dtype).max
    grey = np.random.default_rng(1).integers(0, top + 1, (8, 9, 1)).astype(dtype)
    written, ledger = fit(Picture(grey, colour=Colour(rgb_table())), output_format(f"a{suffix}"))
    write_picture(Picture(grey, colour=Colour(rgb_table())), tmp_path / f"out{suffix}")
    again = read_picture(tmp_path / f"out{suffix}")
    for picture in (written, again):
        np.testing.assert_array_equal(picture.pixels, grey.repeat(3, axis=2))
        assert picture.pixels.dtype == dtype
        assert picture.colour == Colour(rgb_table())
    deep = [Entry(Feature.SIXTEEN_BITS, Fate.KEPT)] if dtype == np.uint16 else []
    converted = Entry("grey", Fate.CONVERTED, "to RGB, for which its profile is")
    assert list(ledger) == [*deep, Entry(Feature.PROFILE, Fate.KEPT), converted]


def test_floating_point_keeps_its_values_with_an_uneven_profile() -> None:
    grey = np.linspace(-1, 2, 12, dtype=np.float32).reshape(3, 4, 1)
    written, _ = fit(Picture(grey, colour=Colour(rgb_table())), output_format("a.tif"))
    np.testing.assert_array_equal(written.pixels, grey.repeat(3, axis=2))
    assert written.colour == Colour(rgb_table())


@pytest.mark.parametrize("suffix", [".png", ".tif", ".webp", ".bmp", ".gif"])
def test_a_profile_for_grey_alone_says_nothing_of_rgb(suffix: str) -> None:
    pixels = np.random.default_rng(2).integers(0, 256, (4, 4, 3)).astype(np.uint8)
    written, ledger = fit(Picture(pixels, colour=Colour(grey_table())), output_format(f"a{suffix}"))
    np.testing.assert_array_equal(written.pixels, pixels)
    assert written.colour == Colour()
    assert list(ledger) == [Entry(Feature.PROFILE, Fate.DAMAGED)]


@pytest.mark.parametrize("suffix", [".bmp", ".webp"])
def test_grey_is_converted_where_a_format_has_profiles_for_rgb_alone(tmp_path: Path, suffix: str) -> None:
    grey = np.arange(256, dtype=np.uint8).reshape(16, 16, 1)
    write_picture(Picture(grey, colour=Colour(grey_table())), tmp_path / f"out{suffix}", lossless=suffix == ".webp")
    again = read_picture(tmp_path / f"out{suffix}")
    (tmp_path / "grey.icc").write_bytes(icc.gamma_profile(None, None, grey=True))
    expected = through_transicc(grey_table(), grey.reshape(-1, 1) / 255, tmp_path, str(tmp_path / "grey.icc"))
    assert again.colour.icc is None
    assert np.abs(again.pixels[..., :1] - 255 * expected.reshape(16, 16, 1)).max() <= 0.51
