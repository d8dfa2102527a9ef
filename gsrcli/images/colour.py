"""What the numbers of a picture mean: its colour tags."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

__all__ = ["HLG", "PQ", "PRIMARIES", "SRGB_TRANSFER", "Chromaticities", "Cicp", "Colour"]

SRGB_TRANSFER, PQ, HLG = 13, 16, 18
"""Codes of transfer characteristics in ITU-T H.273."""

_BT709 = 1
_NEAR_GAMMA, _NEAR_CHROMATICITY = 0.0005, 0.001  # they are stored rounded
_TRANSFERS = frozenset((1, *range(4, 19)))


class Chromaticities(NamedTuple):
    """CIE 1931 (x, y) of the white point and the primaries."""

    white: tuple[float, float]
    red: tuple[float, float]
    green: tuple[float, float]
    blue: tuple[float, float]


_C, _D65, _DCI, _EQUAL = (0.310, 0.316), (0.3127, 0.3290), (0.314, 0.351), (1 / 3, 1 / 3)
PRIMARIES: Mapping[int, Chromaticities] = {
    1: Chromaticities(_D65, (0.640, 0.330), (0.300, 0.600), (0.150, 0.060)),  # BT.709 and sRGB
    4: Chromaticities(_C, (0.670, 0.330), (0.210, 0.710), (0.140, 0.080)),  # BT.470 M
    5: Chromaticities(_D65, (0.640, 0.330), (0.290, 0.600), (0.150, 0.060)),  # BT.601, 625 lines
    6: Chromaticities(_D65, (0.630, 0.340), (0.310, 0.595), (0.155, 0.070)),  # BT.601, 525 lines
    7: Chromaticities(_D65, (0.630, 0.340), (0.310, 0.595), (0.155, 0.070)),  # SMPTE 240M
    8: Chromaticities(_C, (0.681, 0.319), (0.243, 0.692), (0.145, 0.049)),  # film
    9: Chromaticities(_D65, (0.708, 0.292), (0.170, 0.797), (0.131, 0.046)),  # BT.2020
    10: Chromaticities(_EQUAL, (1, 0), (0, 1), (0, 0)),  # XYZ
    11: Chromaticities(_DCI, (0.680, 0.320), (0.265, 0.690), (0.150, 0.060)),  # DCI-P3
    12: Chromaticities(_D65, (0.680, 0.320), (0.265, 0.690), (0.150, 0.060)),  # Display P3
    22: Chromaticities(_D65, (0.630, 0.340), (0.295, 0.605), (0.155, 0.077)),  # EBU 3213
}
"""White point and primaries by their code in ITU-T H.273."""


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

    @property
    def known(self) -> Cicp | None:
        """The codes with those of sRGB for an unspecified or reserved one; None if both are."""
        primaries = self.primaries if self.primaries in PRIMARIES else None
        transfer = self.transfer if self.transfer in _TRANSFERS else None
        if primaries is None and transfer is None:
            return None
        return Cicp(primaries or _BT709, transfer or SRGB_TRANSFER, self.full_range)

    @property
    def full(self) -> Cicp:
        """The codes of values that span their whole range."""
        return self._replace(full_range=True)

    @property
    def srgb(self) -> bool:
        """Whether the values are sRGB."""
        return self == (_BT709, SRGB_TRANSFER, True)

    @property
    def hdr(self) -> bool:
        """Whether values reach far above paper white."""
        return self.transfer in (PQ, HLG)


@dataclass(frozen=True)
class Colour:
    """Colour tags. Without any, values are sRGB. CICP rules over the profile, that over sRGB, and that over gamma.

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

    @property
    def srgb_gamma(self) -> bool:
        """Whether gamma and chromaticities are those that many programs write for sRGB (PNG, sRGB)."""
        primaries = np.array(self.chromaticities or PRIMARIES[_BT709])
        same_gamma = self.gamma is None or abs(self.gamma - 1 / 2.2) < _NEAR_GAMMA
        return same_gamma and bool(np.abs(primaries - PRIMARIES[_BT709]).max() < _NEAR_CHROMATICITY)

    @property
    def peak(self) -> float | None:
        """The brightest light of the picture, or of the display it was mastered on, in cd/m²."""
        if self.light and self.light[0]:
            return self.light[0] / 10000
        most = int.from_bytes((self.mastering or b"")[16:20], "big")
        return most / 10000 if most else None
