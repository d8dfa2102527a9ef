"""What the numbers of a picture mean: its colour tags."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

__all__ = ["Chromaticities", "Cicp", "Colour"]


class Cicp(NamedTuple):
    """Coding-independent code points of RGB or grey values (ITU-T H.273).

    Attributes:
        primaries: colour primaries; 1 is BT.709, 9 BT.2020, 12 Display P3.
        transfer: transfer characteristics; 13 is sRGB, 16 PQ, 18 HLG.
        full_range: whether values span their whole range.
    """

    primaries: int
    transfer: int
    full_range: bool = True


class Chromaticities(NamedTuple):
    """CIE 1931 (x, y) of the white point and the primaries."""

    white: tuple[float, float]
    red: tuple[float, float]
    green: tuple[float, float]
    blue: tuple[float, float]


@dataclass(frozen=True)
class Colour:
    """Colour tags. Without any, values are sRGB by convention. CICP rules over the profile, and that over gamma.

    Attributes:
        icc: ICC profile, unchanged.
        cicp: coding-independent code points.
        gamma: exponent with which linear light was encoded, such as 1 / 2.2 (PNG, gAMA).
        chromaticities: white point and primaries (PNG, cHRM).
        mastering: mastering display's colour volume, as the 24 bytes of PNG's mDCV.
        light: maximum content and frame-average light level, in units of 0.0001 cd/m² (PNG, cLLI).
        intent: rendering intent, 0 to 3, of a file that states that its values are sRGB (PNG, sRGB).
    """

    icc: bytes | None = None
    cicp: Cicp | None = None
    gamma: float | None = None
    chromaticities: Chromaticities | None = None
    mastering: bytes | None = None
    light: tuple[int, int] | None = None
    intent: int | None = None
