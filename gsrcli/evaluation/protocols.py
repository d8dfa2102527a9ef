"""How the papers measure: on which channels, within which border, and at which sizes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from gsrcli.errors import PictureError
from gsrcli.metrics.psnr_ssim import SSIM_WINDOW, from_integers, in_float64, luma, psnr, ssim
from gsrcli.size import Size

__all__ = ["PROTOCOLS", "Measure", "Protocol"]


@dataclass(frozen=True)
class Measure:
    """What of two pictures is compared.

    Attributes:
        channels: Y of BT.601 in studio range, or RGB.
        margin: pixels of border beyond the scale.
        widest: the border at larger scales, where it stops growing.
    """

    channels: Literal["Y", "RGB"]
    margin: int = 0
    widest: int | None = None

    def border(self, scale: float) -> int:
        """Pixels left out on each side along an axis that was enlarged by this much; a part of one counts whole."""
        border = math.ceil(scale) + self.margin
        return border if self.widest is None else min(border, self.widest)

    def __str__(self) -> str:
        border = f"⌈scale⌉ + {self.margin}" if self.margin else "⌈scale⌉"
        return f"{self.channels}, border = {border if self.widest is None else f'min({border}, {self.widest})'}"


@dataclass(frozen=True)
class Protocol:
    """A way to measure that papers share.

    Scales are (y, x). Where they differ, so do the borders: each axis has that of its own scale.

    Attributes:
        name: what ``--protocol`` calls it.
        measure: how data sets are measured.
        on_div2k: how DIV2K is, if otherwise: any data set whose name begins so.
        rounded: whether restored pictures are rounded to 8 bits first, as files are.
    """

    name: str
    measure: Measure
    on_div2k: Measure | None = None
    rounded: bool = True

    @property
    def description(self) -> str:
        """One line that says all of it."""
        exception = f" (DIV2K: {self.on_div2k})" if self.on_div2k else ""
        rounding = "8-bit results" if self.rounded else "results not rounded to 8 bits"
        return f"{self.measure}{exception}; {rounding}; LR size = floor(size / scale), originals cropped to match"

    def measured(self, dataset: str, scale: tuple[float, float]) -> str:
        """What of a data set's pictures is compared at a scale (y, x), in words: ``Y, border 4``."""
        measure = self._measure_of(dataset)
        return f"{measure.channels}, border {_border_text(*map(measure.border, scale))}"

    def low_size(self, size: Size, scale: tuple[float, float]) -> Size:
        """(h, w) that an original of (H, W) is shrunk to.

        Raises:
            PictureError: nothing would be left of it.
        """
        height, width = (math.floor(side / s + 1e-9) for side, s in zip(size, scale, strict=True))
        if 0 in (height, width):
            raise PictureError(f"nothing is left of {size} pixels, shrunk by {_text(scale)}")
        return Size(height, width)

    def high_size(self, low: Size, scale: tuple[float, float]) -> Size:
        """(H, W) that an LR picture of (h, w) is enlarged to; the original's top left of this size is compared.

        Never larger than what :meth:`low_size` was given. Halves are rounded up, as ``gsr upscale --scale`` does.
        """
        return Size(*(math.floor(side * s + 0.5) for side, s in zip(low, scale, strict=True)))

    def compared(
        self, restored: Tensor, original: Tensor, scale: tuple[float, float], dataset: str
    ) -> tuple[Tensor, Tensor]:
        """Both pictures as they are compared, still in RGB: rounded where they are to be, and without the border.

        Args:
            restored: floating point ``(3, H, W)``; it is clamped to [0, 1].
            original: uint8 ``(3, H, W)``.
            scale: (y, x), by which it was shrunk.
            dataset: its data set's name.

        Returns:
            Two float64 ``(3, H', W')`` in [0, 1].

        Raises:
            PictureError: the sizes differ, or what the border leaves is less than one window of SSIM.
        """
        if restored.shape != original.shape:
            sizes = [f"{picture.shape[2]}x{picture.shape[1]}" for picture in (restored, original)]
            raise PictureError("the restored picture is {}, its original {}".format(*sizes))
        restored, original = in_float64(restored.clamp(0, 1)), from_integers(original, 255)
        if self.rounded:
            restored = from_integers((restored * 255).round(), 255)
        y, x = (self._measure_of(dataset).border(s) for s in scale)
        height, width = original.shape[1:]
        if min(height - 2 * y, width - 2 * x) < SSIM_WINDOW:
            raise PictureError(
                f"a picture of {width}x{height} pixels is too small to be compared: "
                f"within a border of {_border_text(y, x)} there must be {SSIM_WINDOW}x{SSIM_WINDOW}",
                hint="leave it out, or choose a smaller scale",
            )
        inside = (slice(None), slice(y, height - y), slice(x, width - x))
        return restored[inside], original[inside]

    def score(self, restored: Tensor, original: Tensor, scale: tuple[float, float], dataset: str) -> dict[str, float]:
        """``psnr`` in dB, infinite for equal pictures, and ``ssim``; arguments and errors as of :meth:`compared`."""
        first, second = self.compared(restored, original, scale, dataset)
        if self._measure_of(dataset).channels == "Y":
            first, second = luma(first), luma(second)
        return {"psnr": psnr(first, second), "ssim": ssim(first, second)}

    def _measure_of(self, dataset: str) -> Measure:
        is_div2k = dataset.lower().startswith("div2k")
        return self.on_div2k if is_div2k and self.on_div2k else self.measure


def _border_text(y: int, x: int) -> str:
    return f"{y}" if y == x else f"{x} at the sides and {y} above and below"


def _text(scale: tuple[float, float]) -> str:
    y, x = scale
    return f"×{y:g}" if y == x else f"×{x:g} in width and ×{y:g} in height"


PROTOCOLS = {
    protocol.name: protocol
    for protocol in (
        Protocol("gsasr", Measure("Y", widest=8)),
        Protocol("liif", Measure("Y"), on_div2k=Measure("RGB", margin=6), rounded=False),
        Protocol("rgb", Measure("RGB", widest=8)),
    )
}
"""By name: ``gsasr``, of GSASR's tables (its README, Metrics); ``liif``, of LIIF's and most papers' on arbitrary scales
(arXiv:2012.09161, its test program); ``rgb``, GSASR's on all three channels."""
