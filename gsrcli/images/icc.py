"""Make and check ICC colour profiles.

Profiles are made after ICC.1:2022 (version 4.4) for displays: three primaries or grey, and a tone curve.
"""

from __future__ import annotations

import functools
import hashlib
import io
import struct
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import ImageCms

from gsrcli.images.colour import HLG, PQ, PRIMARIES, SRGB_TRANSFER, Chromaticities, Cicp

__all__ = [
    "adobe_rgb_profile",
    "cicp_profile",
    "curves_and_primaries",
    "gamma_profile",
    "profile_fits",
    "profile_for",
    "profile_space",
]

Array = NDArray[np.float64]

_SRGB = PRIMARIES[1]
_D50 = (63190, 65536, 54061)  # in units of 1/65536, as the header of every profile has it
_BRADFORD = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])
_MAX_TAGS = 1000
_CLASSES = (b"mntr", b"scnr", b"prtr", b"spac")  # the others link profiles, or name colours
_TABLES = {b"A2B0", b"A2B1", b"D2B0", b"D2B1"}  # which rule over curves and primaries
_MODES = {"RGB": "RGB", "GRAY": "L", "CMYK": "CMYK", "Lab": "LAB"}

_PAPER_WHITE = 203  # cd/m², BT.2408
_USUAL_PEAK = 1000  # cd/m², where the file does not tell
_SAMPLES = 4096


class _Curve(NamedTuple):
    """From value to linear light: ``(a * value + b) ** gamma``, but ``c * value`` below ``d``."""

    gamma: float
    a: float = 1
    b: float = 0
    c: float = 0
    d: float = 0

    def __call__(self, value: Array) -> Array:
        power = np.maximum(self.a * value + self.b, 0) ** self.gamma
        light: Array = np.where(value >= self.d, power, self.c * value)
        return light


def _inverse(slope: float, scale: float, start: float, exponent: float) -> _Curve:
    """Invert ``scale * light ** exponent - (scale - 1)`` that starts as ``slope * light`` up to ``start``."""
    return _Curve(1 / exponent, 1 / scale, (scale - 1) / scale, 1 / slope, slope * start)


_BT709 = _inverse(4.5, 1.09929682680944, 0.018053968510807, 0.45)
_CURVES = {
    **dict.fromkeys((1, 6, 11, 12, 14, 15), _BT709),
    4: _Curve(2.2),
    5: _Curve(2.8),
    7: _inverse(4, 1.111572195921731, 0.022821585529445, 0.45),  # SMPTE 240M
    8: _Curve(1),
    SRGB_TRANSFER: _Curve(2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045),
    17: _Curve(2.6, (52.37 / 48) ** (1 / 2.6)),  # SMPTE ST 428-1, whose white is 48 of 52.37 cd/m²
}
_LOGARITHMIC = {9: 2.0, 10: 2.5}  # decades
_NAMES_OF_PRIMARIES = {1: "BT.709", 9: "BT.2020", 10: "XYZ", 11: "DCI-P3", 12: "P3 D65"}
_NAMES_OF_TRANSFERS = {4: "gamma 2.2", 5: "gamma 2.8", 8: "linear", SRGB_TRANSFER: "sRGB", PQ: "PQ", HLG: "HLG"}
_NAMES_OF_TRANSFERS |= dict.fromkeys((1, 6, 14, 15), "BT.709")


def cicp_profile(cicp: Cicp, *, grey: bool, peak: float | None = None) -> bytes:
    """Make the profile of code points, for values that span their whole range.

    The curve of PQ and HLG rolls bright light off to white, as BT.2390 does for a display of 203 cd/m², the level of
    paper white; programs that know the profile's code points show them instead.

    Args:
        cicp: codes of which neither is reserved or unspecified.
        grey: whether it is for grey.
        peak: the brightest light of a PQ picture, in cd/m².
    """
    tags = {} if grey else {b"cicp": b"cicp\0\0\0\0" + bytes((cicp.primaries, cicp.transfer, 0, True))}
    primaries = _NAMES_OF_PRIMARIES.get(cicp.primaries, f"CICP {cicp.primaries}")
    name = f"{primaries}, {_NAMES_OF_TRANSFERS.get(cicp.transfer, f'CICP {cicp.transfer}')} curve"
    parametric = _CURVES.get(cicp.transfer)
    if parametric:
        return _display_profile(name, PRIMARIES[cicp.primaries], _parametric(parametric), tags, grey=grey)
    light = _light(cicp.transfer, np.linspace(0, 1, _SAMPLES), peak or _USUAL_PEAK)
    return _display_profile(name, PRIMARIES[cicp.primaries], _sampled(light), tags, grey=grey)


def gamma_profile(gamma: float | None, chromaticities: Chromaticities | None, *, grey: bool) -> bytes:
    """Make the profile of an encoding exponent, such as 1 / 2.2, and primaries. Those of sRGB replace a missing one.

    Raises:
        ValueError: no colours can have these chromaticities, or this exponent.
    """
    if gamma is not None and not 0.05 <= gamma <= 20:
        raise ValueError("the exponent is out of range")
    curve = _CURVES[SRGB_TRANSFER] if gamma is None else _Curve(1 / gamma)
    name = "sRGB curve" if gamma is None else f"Gamma {1 / gamma:.3g}"
    if chromaticities and not grey:
        name += ", own primaries"
    return _display_profile(name, chromaticities or _SRGB, _parametric(curve), {}, grey=grey)


def adobe_rgb_profile(*, grey: bool) -> bytes:
    """Make a profile of the colours that cameras call Adobe RGB."""
    primaries = Chromaticities((0.3127, 0.3290), (0.64, 0.33), (0.21, 0.71), (0.15, 0.06))
    curve = _parametric(_Curve(563 / 256))
    return _display_profile("Compatible with Adobe RGB (1998)", primaries, curve, {}, grey=grey)


@functools.lru_cache(maxsize=8)  # the profiles of a folder are few, and each is looked at before and after upscaling
def profile_space(icc: bytes) -> str | None:
    """Return the colour space of a profile: RGB, GRAY, CMYK or Lab; None if pixels cannot be converted through it."""
    space = icc[16:20].decode("latin-1").strip()
    if space not in _MODES or icc[12:16] not in _CLASSES or icc[36:40] != b"acsp" or _tags(icc) is None:
        return None
    try:
        profile = ImageCms.ImageCmsProfile(io.BytesIO(icc))
        ImageCms.buildTransform(profile, ImageCms.createProfile("sRGB"), _MODES[space], "RGB")
    except (OSError, ImageCms.PyCMSError):
        return None
    return space


def profile_fits(icc: bytes, *, grey: bool) -> bool:
    """Return whether a profile is one for grey, or for RGB."""
    return icc[16:20] == (b"GRAY" if grey else b"RGB ")


def profile_for(icc: bytes, *, grey: bool) -> bytes | None:
    """Return a profile that means for grey, or for RGB, what a usable profile of either says of equal channels.

    Returns:
        the profile itself if it fits, one with its tone curve, or None if that is not its only part.
    """
    tags = _tags(icc) or {}
    if profile_fits(icc, grey=grey):
        return icc
    curves = {tags.get(name) for name in ((b"rTRC", b"gTRC", b"bTRC") if grey else (b"kTRC",))}
    curve = curves.pop()
    if curves or curve is None or tags.keys() & _TABLES or icc[20:24] != b"XYZ ":
        return None
    return _display_profile("Tone curve of another profile", _SRGB, curve, {}, grey=grey)


def curves_and_primaries(icc: bytes) -> tuple[list[bytes], Array] | None:
    """Return what an RGB profile consists of that has no tables; None if it has.

    Returns:
        three profiles for grey, with the curves of red, green and blue; and the matrix from linear light of these
        primaries to that of the primaries of sRGB.
    """
    tags = _tags(icc) or {}
    names = [colour + part for part in (b"TRC", b"XYZ") for colour in (b"r", b"g", b"b")]
    found = [tags.get(name, b"") for name in names]
    if icc[20:24] != b"XYZ " or tags.keys() & _TABLES or not all(found):
        return None
    curves = [_display_profile("Curve of a channel", _SRGB, curve, {}, grey=True) for curve in found[:3]]
    colorants = np.array([struct.unpack_from(">3i", value, 8) for value in found[3:]]).T / 65536
    to_linear: Array = np.linalg.inv(_adapted(_SRGB)[0]) @ colorants
    return curves, to_linear


def _light(transfer: int, value: Array, peak: float) -> Array:
    """Return the light, 1 for white, of values of a transfer that has no parametric curve."""
    if transfer in _LOGARITHMIC:
        light: Array = np.where(value > 0, 10 ** ((value - 1) * _LOGARITHMIC[transfer]), 0)
        return light
    if transfer == PQ:
        return _rolled_off(value, max(peak, _PAPER_WHITE))
    assert transfer == HLG
    scene = np.where(value <= 0.5, value**2 / 3, (np.exp((value - 0.55991073) / 0.17883277) + 0.28466892) / 12)
    return _rolled_off(_to_pq(_USUAL_PEAK * scene**1.2), _USUAL_PEAK)


def _rolled_off(pq: Array, peak: float) -> Array:
    """Return the light, 1 for paper white, of PQ values after the tone curve of BT.2390 (5.4.1)."""
    source, target = (_to_pq(np.array(float(level))) for level in (peak, _PAPER_WHITE))
    ceiling = target / source
    knee = 1.5 * ceiling - 0.5
    value = np.minimum(pq / source, 1)
    t = np.maximum(value - knee, 0) / max(1 - knee, 1e-9)
    spline = (2 * t**3 - 3 * t**2 + 1) * knee + (t**3 - 2 * t**2 + t) * (1 - knee) + (3 * t**2 - 2 * t**3) * ceiling
    return _from_pq(np.where(value < knee, value, spline) * source) / _PAPER_WHITE


_M1, _M2, _C1, _C2, _C3 = 2610 / 16384, 2523 / 32, 107 / 128, 2413 / 128, 2392 / 128  # SMPTE ST 2084


def _from_pq(value: Array) -> Array:
    """Return the light of PQ values, in cd/m²."""
    power = value ** (1 / _M2)
    light: Array = 10000 * (np.maximum(power - _C1, 0) / (_C2 - _C3 * power)) ** (1 / _M1)
    return light


def _to_pq(light: Array) -> Array:
    """Return the PQ values of light in cd/m²."""
    power = (light / 10000) ** _M1
    value: Array = ((_C1 + _C2 * power) / (1 + _C3 * power)) ** _M2
    return value


def _display_profile(
    name: str, primaries: Chromaticities, curve: bytes, extra: dict[bytes, bytes], *, grey: bool
) -> bytes:
    colorants, adaptation = _adapted(primaries)
    tags = {
        b"desc": _text(name),
        b"cprt": _text("No copyright, use freely"),
        b"wtpt": _xyz(_D50),
        b"chad": b"sf32\0\0\0\0" + struct.pack(">9i", *_fixed(adaptation)),
    }
    if grey:
        tags[b"kTRC"] = curve
    else:
        red, green = _fixed(colorants[:, 0]), _fixed(colorants[:, 1])
        blue = [white - r - g for white, r, g in zip(_D50, red, green, strict=True)]  # so that greys are neutral
        tags |= {b"rXYZ": _xyz(red), b"gXYZ": _xyz(green), b"bXYZ": _xyz(blue)}
        tags |= dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), curve)
    return _packed(b"GRAY" if grey else b"RGB ", tags | extra)


def _adapted(primaries: Chromaticities) -> tuple[Array, Array]:
    """Return the XYZ of the primaries as columns, adapted to D50 after Bradford, and the matrix that adapts.

    Raises:
        ValueError: the chromaticities are impossible.
    """
    values = np.array(primaries, np.float64)
    if not np.isfinite(values).all() or np.abs(values).max() > 10 or not 0 < values[0, 1] < 1:
        raise ValueError("the chromaticities are impossible")
    columns = np.column_stack([values, 1 - values.sum(axis=1)]).T  # X, Y, Z of white, red, green and blue
    white = columns[:, 0] / columns[1, 0]
    if abs(np.linalg.det(columns[:, 1:])) < 1e-4:
        raise ValueError("the chromaticities are impossible")
    colorants = columns[:, 1:] * np.linalg.solve(columns[:, 1:], white)
    cones = (_BRADFORD @ (np.array(_D50) / 65536)) / (_BRADFORD @ white)
    adaptation: Array = np.linalg.solve(_BRADFORD, cones[:, None] * _BRADFORD)
    adapted = adaptation @ colorants
    if max(np.abs(adapted).max(), np.abs(adaptation).max()) > 1000:
        raise ValueError("the chromaticities are impossible")
    return adapted, adaptation


def _fixed(values: Array) -> list[int]:
    return [round(value * 65536) for value in values.ravel().tolist()]


def _xyz(values: tuple[int, ...] | list[int]) -> bytes:
    return b"XYZ \0\0\0\0" + struct.pack(">3i", *values)


def _text(text: str) -> bytes:
    return b"mluc\0\0\0\0" + struct.pack(">II4sII", 1, 12, b"enUS", 2 * len(text), 28) + text.encode("utf-16-be")


def _parametric(curve: _Curve) -> bytes:
    if curve == _Curve(curve.gamma):
        return b"para\0\0\0\0" + struct.pack(">HHi", 0, 0, *_fixed(np.array([curve.gamma])))
    return b"para\0\0\0\0" + struct.pack(">HH5i", 3, 0, *_fixed(np.array(curve)))


def _sampled(light: Array) -> bytes:
    samples = np.rint(np.clip(light, 0, 1) * 65535).astype(">u2")
    return b"curv\0\0\0\0" + struct.pack(">I", len(samples)) + samples.tobytes()


def _packed(space: bytes, tags: dict[bytes, bytes]) -> bytes:
    """Pack a profile; equal values are stored once."""
    start = 128 + 4 + 12 * len(tags)
    table, body, offsets = struct.pack(">I", len(tags)), b"", dict[bytes, int]()
    for name, value in tags.items():
        if value not in offsets:
            offsets[value] = start + len(body)
            body += value + b"\0" * (-len(value) % 4)
        table += struct.pack(">4sII", name, offsets[value], len(value))
    header = struct.pack(">I4xI4s4s4s6H4s", start + len(body), 0x04400000, b"mntr", space, b"XYZ ", *_MADE, b"acsp")
    header = header.ljust(68, b"\0") + struct.pack(">3i", *_D50)
    profile = header.ljust(128, b"\0") + table + body
    identity = hashlib.md5(profile, usedforsecurity=False).digest()
    return profile[:84] + identity + profile[100:]


_MADE = (2022, 1, 1, 0, 0, 0)  # a fixed time, so that equal profiles have equal bytes


def _tags(icc: bytes) -> dict[bytes, bytes] | None:
    """Return the values of a profile's tags by name; None if some lie outside it."""
    if len(icc) < 132:
        return None
    size, count = int.from_bytes(icc[:4], "big"), int.from_bytes(icc[128:132], "big")
    if size > len(icc) or count > _MAX_TAGS or 132 + 12 * count > len(icc):
        return None
    tags = {}
    for name, at, length in struct.iter_unpack(">4sII", icc[132 : 132 + 12 * count]):
        if at + length > len(icc):
            return None
        tags[name] = icc[at : at + length]
    return tags
