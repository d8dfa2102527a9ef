"""Colour profiles that are made from colour tags mean the same colours.

The colours are computed here from the standards (the forward functions of H.273, inverted by interpolation), and by
littlecms through the profiles.
"""

from __future__ import annotations

import io
import shutil
import struct
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms

from gsrcli.images import Chromaticities, Cicp, icc

D65, D50 = (0.3127, 0.3290), np.array([0.9642, 1, 0.8249])
SRGB = ((0.64, 0.33), (0.30, 0.60), (0.15, 0.06))
CHROMATICITIES = {
    1: (D65, *SRGB),
    4: ((0.310, 0.316), (0.67, 0.33), (0.21, 0.71), (0.14, 0.08)),
    5: (D65, (0.64, 0.33), (0.29, 0.60), (0.15, 0.06)),
    6: (D65, (0.63, 0.34), (0.31, 0.595), (0.155, 0.07)),
    7: (D65, (0.63, 0.34), (0.31, 0.595), (0.155, 0.07)),
    8: ((0.310, 0.316), (0.681, 0.319), (0.243, 0.692), (0.145, 0.049)),
    9: (D65, (0.708, 0.292), (0.170, 0.797), (0.131, 0.046)),
    11: ((0.314, 0.351), (0.68, 0.32), (0.265, 0.69), (0.15, 0.06)),
    12: (D65, (0.68, 0.32), (0.265, 0.69), (0.15, 0.06)),
    22: (D65, (0.63, 0.34), (0.295, 0.605), (0.155, 0.077)),
}
LIGHT = np.concatenate([[0], np.geomspace(1e-7, 1.2, 400_000)])
RGB = np.concatenate(
    [np.array(np.meshgrid(*[[0, 40, 128, 200, 255]] * 3)).reshape(3, -1).T, np.arange(256)[:, None].repeat(3, axis=1)]
).astype(np.uint8)


def encoded(transfer: int) -> np.ndarray:
    """Return the values of LIGHT by the forward function of a transfer."""
    light = LIGHT
    if transfer in (1, 6, 11, 12, 14, 15):
        return np.where(light < 0.018053968510807, 4.5 * light, 1.09929682680944 * light**0.45 - 0.09929682680944)
    if transfer == 7:
        return np.where(light < 0.0228, 4 * light, 1.1115 * light**0.45 - 0.1115)
    if transfer in (9, 10):
        decades = {9: 2, 10: 2.5}[transfer]
        return np.where(light < 10**-decades, 0, 1 + np.log10(np.maximum(light, 1e-9)) / decades)
    if transfer == 13:
        return np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    if transfer == 17:
        return (48 * light / 52.37) ** (1 / 2.6)
    return light ** (1 / {4: 2.2, 5: 2.8, 8: 1}[transfer])


def linear(transfer: int, values: np.ndarray) -> np.ndarray:
    """Return the light of 8-bit values; 0 for 0, which logarithmic functions leave open."""
    return np.where(values > 0, np.interp(values / 255, encoded(transfer), LIGHT), 0)


def lab(xyz: np.ndarray) -> np.ndarray:
    ratio = xyz / D50
    f = np.where(ratio > (6 / 29) ** 3, np.cbrt(ratio), ratio / (3 * (6 / 29) ** 2) + 4 / 29)
    return np.stack([116 * f[..., 1] - 16, 500 * (f[..., 0] - f[..., 1]), 200 * (f[..., 1] - f[..., 2])], axis=-1)


def to_d50(light: np.ndarray, chromaticities: tuple) -> np.ndarray:
    """Return (N, 3) XYZ, adapted after Bradford, of linear light."""
    white, *primaries = (np.array([x / y, 1, (1 - x - y) / y]) for x, y in chromaticities)
    matrix = np.array(primaries).T
    matrix = matrix * (np.linalg.inv(matrix) @ white)
    bradford = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])
    scale = np.diag((bradford @ D50) / (bradford @ white))
    return light @ (np.linalg.inv(bradford) @ scale @ bradford @ matrix).T


def lab_through(profile: bytes, rgb: np.ndarray) -> np.ndarray:
    """Return (N, 3) L*a*b* of (N, 3) or (N, 1) values through a profile, by littlecms, to the nearest 1."""
    image = Image.fromarray(rgb[None] if rgb.shape[1] == 3 else rgb.reshape(1, -1))
    opened = ImageCms.ImageCmsProfile(io.BytesIO(profile))
    target = ImageCms.createProfile("LAB")
    found = ImageCms.profileToProfile(
        image,
        opened,
        target,
        renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
        outputMode="LAB",
        flags=ImageCms.Flags.NOOPTIMIZE,
    )
    values = np.asarray(found)[0]
    return np.column_stack([values[:, 0] / 2.55, values[:, 1:].astype(np.int8)])


def assert_same_colours(profile: bytes, expected: np.ndarray, rgb: np.ndarray = RGB) -> None:
    """Assert that a profile gives (N, 3) XYZ of D50."""
    wanted = lab(expected)
    wanted = np.clip(wanted, [0, -128, -128], [100, 127, 127])  # the range of 8 bits
    assert np.abs(lab_through(profile, rgb) - wanted).max() <= 0.75


@pytest.mark.parametrize(
    ("primaries", "transfer"),
    [(primaries, 13) for primaries in CHROMATICITIES]
    + [(9, transfer) for transfer in (1, 4, 5, 6, 7, 8, 9, 10, 11, 12, 14, 15, 17)],
)
def test_profiles_of_code_points(primaries: int, transfer: int) -> None:
    light = linear(transfer, RGB)
    expected = to_d50(light, CHROMATICITIES[primaries])
    profile = icc.cicp_profile(Cicp(primaries, transfer), grey=False)
    assert icc.profile_space(profile) == "RGB"
    assert_same_colours(profile, expected)
    assert b"cicp\0\0\0\0" + bytes([primaries, transfer, 0, 1]) in profile
    grey = icc.cicp_profile(Cicp(primaries, transfer), grey=True)
    assert icc.profile_space(grey) == "GRAY"
    ramp = np.arange(256, dtype=np.uint8)[:, None]
    assert_same_colours(grey, linear(transfer, ramp) * D50, ramp)


def test_xyz_code_points() -> None:
    light = (RGB / 255) ** 2.6 * (52.37 / 48)
    profile = icc.cicp_profile(Cicp(10, 17), grey=False)
    matrix = to_d50(np.eye(3), ((1 / 3, 1 / 3), (1, 1e-12), (1e-12, 1), (1e-12, 1e-12)))
    assert_same_colours(profile, light @ matrix)


@pytest.mark.parametrize("gamma", [None, 1, 1 / 1.8, 1 / 2.2, 0.45455])
@pytest.mark.parametrize("primaries", [None, 9, 12])
def test_profiles_of_gamma_and_chromaticities(gamma: float | None, primaries: int | None) -> None:
    chromaticities = CHROMATICITIES[primaries or 1]
    profile = icc.gamma_profile(gamma, Chromaticities(*chromaticities) if primaries else None, grey=False)
    light = linear(13, RGB) if gamma is None else (RGB / 255) ** (1 / gamma)
    assert_same_colours(profile, to_d50(light, chromaticities))


def test_adobe_rgb() -> None:
    expected = to_d50((RGB / 255) ** (563 / 256), (D65, (0.64, 0.33), (0.21, 0.71), (0.15, 0.06)))
    assert_same_colours(icc.adobe_rgb_profile(grey=False), expected)


def pq_light(value: np.ndarray) -> np.ndarray:
    power = value ** (32 / 2523)
    return 10000 * (np.maximum(power - 107 / 128, 0) / (2413 / 128 - 2392 / 128 * power)) ** (16384 / 2610)


@pytest.mark.parametrize("peak", [None, 203, 600, 4000])
def test_pq_is_exact_in_the_dark_and_rolls_off_to_white(peak: float | None) -> None:
    profile = icc.cicp_profile(Cicp(9, 16), grey=True, peak=peak)
    ramp = np.arange(256, dtype=np.uint8)[:, None]
    lightness = lab_through(profile, ramp)[:, 0]
    assert (np.diff(lightness) >= 0).all()
    light = pq_light(ramp[:, 0] / 255)
    assert lightness[light >= (peak or 1000)].min() == 100
    dark = light <= {None: 80, 203: 203, 600: 100, 4000: 25}[peak]
    exact = lab(light[:, None] / 203 * D50)[:, 0]
    assert np.abs(lightness - exact)[dark].max() < 0.75
    assert (lightness <= exact + 0.75).all()


def test_hlg_shows_paper_white_bright() -> None:
    lightness = lab_through(icc.cicp_profile(Cicp(9, 18), grey=True), np.arange(256, dtype=np.uint8)[:, None])[:, 0]
    assert (np.diff(lightness) >= 0).all()
    assert lightness[255] == 100
    assert 80 < lightness[round(0.75 * 255)] < 95  # 75 % of HLG is paper white


@pytest.mark.parametrize(
    ("gamma", "chromaticities"),
    [
        (0, None),
        (1e9, None),
        (float("nan"), None),
        (0.45, Chromaticities((0, 0), *SRGB)),
        (0.45, Chromaticities(D65, (0.1, 0.1), (0.2, 0.2), (0.3, 0.3))),
        (0.45, Chromaticities(D65, (21474.0, 0.1), (0.2, 0.2), (0.3, 0.3))),
        (0.45, Chromaticities(D65, (float("nan"), 0.1), (0.2, 0.2), (0.3, 0.3))),
    ],
)
def test_impossible_colours(gamma: float, chromaticities: Chromaticities | None) -> None:
    with pytest.raises(ValueError, match=r"impossible|out of range"):
        icc.gamma_profile(gamma, chromaticities, grey=False)


def test_profiles_that_cannot_be_used() -> None:
    good = icc.adobe_rgb_profile(grey=False)
    assert icc.profile_space(good) == "RGB"
    assert icc.profile_space(good + b"\0\0") == "RGB"
    table = bytearray(good)
    table[136:140] = struct.pack(">I", len(good))
    link = good[:12] + b"link" + good[16:]
    for broken in (b"", b"not a profile", good[:100], good[:-8], good.replace(b"acsp", b"ascp"), bytes(table), link):
        assert icc.profile_space(broken) is None
    without_curves = good.replace(b"rTRC", b"xxxx", 1).replace(b"gTRC", b"xxxx", 1)
    assert icc.profile_space(without_curves) is None


def test_a_profile_for_grey_means_what_one_for_rgb_does() -> None:
    rgb = icc.cicp_profile(Cicp(12, 13), grey=False)
    ramp = np.arange(256, dtype=np.uint8)[:, None]
    grey = icc.profile_for(rgb, grey=True)
    assert grey is not None
    assert np.abs(lab_through(grey, ramp) - lab_through(rgb, ramp.repeat(3, axis=1))).max() <= 1
    again = icc.profile_for(grey, grey=False)
    assert again is not None
    assert icc.profile_space(again) == "RGB"
    assert np.abs(lab_through(again, ramp.repeat(3, axis=1)) - lab_through(grey, ramp)).max() <= 1
    assert icc.profile_for(rgb, grey=False) is rgb
    curve = rgb.index(b"gTRC") + 4
    uneven = bytearray(rgb)
    uneven[curve : curve + 8] = rgb[rgb.index(b"wtpt") + 4 :][:8]  # another tag in place of green's curve
    assert icc.profile_for(bytes(uneven), grey=True) is None


@pytest.mark.skipif(not shutil.which("exiftool"), reason="exiftool is not installed")
def test_exiftool_finds_no_fault(tmp_path: Path) -> None:
    for profile in (icc.cicp_profile(Cicp(9, 16), grey=False), icc.adobe_rgb_profile(grey=True)):
        path = tmp_path / "profile.icc"
        path.write_bytes(profile)
        command = ["exiftool", "-validate", "-warning", "-a", "-ProfileID", "-ColorSpaceData", str(path)]
        said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        assert "OK" in said
        assert "Warning" not in said


@pytest.mark.skipif(not shutil.which("transicc"), reason="transicc of littlecms is not installed")
def test_floating_point(tmp_path: Path) -> None:
    path = tmp_path / "profile.icc"
    path.write_bytes(icc.cicp_profile(Cicp(12, 13), grey=False))
    numbers = "".join(" ".join(map(str, row)) + "\n" for row in RGB.tolist())
    command = ["transicc", "-i", str(path), "-o*Lab", "-t1", "-n"]
    said = subprocess.run(command, input=numbers, capture_output=True, text=True, check=True).stdout
    found = np.array(said.split(), float).reshape(-1, 3)
    wanted = lab(to_d50(linear(13, RGB), CHROMATICITIES[12]))
    assert np.abs(found - wanted).max() < 0.1
