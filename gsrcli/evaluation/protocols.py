"""Compare restored pictures as papers do: on which channels, within which border, and at which sizes."""

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
    """The part of two pictures that is compared.

    Attributes:
        channels: Y of BT.601 in studio range, or RGB.
        margin: pixels that the border is wider than the scale.
        widest: largest border, in pixels; None for no limit.
    """

    channels: Literal["Y", "RGB"]
    margin: int = 0
    widest: int | None = None

    def border(self, scale: float) -> int:
        """Return the pixels left out at both ends of an axis with this scale, rounded up."""
        border = math.ceil(scale) + self.margin
        return border if self.widest is None else min(border, self.widest)

    def __str__(self) -> str:
        border = f"⌈scale⌉ + {self.margin}" if self.margin else "⌈scale⌉"
        return f"{self.channels}, border = {border if self.widest is None else f'min({border}, {self.widest})'}"


@dataclass(frozen=True)
class Protocol:
    """A way to score restored pictures that several papers share.

    Scales are (y, x). If they differ, so do the borders: each axis has the border of its own scale.

    Attributes:
        name: name for ``--protocol``.
        measure: what is compared.
        on_div2k: what is compared on datasets whose names begin with DIV2K; None for the same.
        rounded: whether restored pictures are rounded to 8 bits first, like files.
    """

    name: str
    measure: Measure
    on_div2k: Measure | None = None
    rounded: bool = True

    @property
    def description(self) -> str:
        """One line that describes the whole protocol."""
        exception = f" (DIV2K: {self.on_div2k})" if self.on_div2k else ""
        rounding = "8-bit results" if self.rounded else "results not rounded to 8 bits"
        return f"{self.measure}{exception}; {rounding}; LR size = floor(size / scale), originals cropped to match"

    def measured(self, dataset: str, scale: tuple[float, float]) -> str:
        """Describe what is compared on a dataset at a scale (y, x), as in ``Y, border 4``."""
        measure = self._measure_of(dataset)
        return f"{measure.channels}, border {_border_text(*map(measure.border, scale))}"

    def low_size(self, size: Size, scale: tuple[float, float]) -> Size:
        """Return the size of the LR picture of an original.

        Raises:
            PictureError: a side would be 0.
        """
        height, width = (math.floor(side / s + 1e-9) for side, s in zip(size, scale, strict=True))
        if 0 in (height, width):
            raise PictureError(f"a picture of {size} pixels is too small to be downscaled by {_text(scale)}")
        return Size(height, width)

    def high_size(self, low: Size, scale: tuple[float, float]) -> Size:
        """Return the size that an LR picture is upscaled to; the original is cropped to it, from its top left.

        It is at most the size given to :meth:`low_size`. Halves are rounded up, as by ``gsr upscale --scale``.
        """
        return Size(*(math.floor(side * s + 0.5) for side, s in zip(low, scale, strict=True)))

    def compared(
        self, restored: Tensor, original: Tensor, scale: tuple[float, float], dataset: str
    ) -> tuple[Tensor, Tensor]:
        """Return both pictures as they are compared, in RGB: rounded if the protocol says so, without the border.

        Args:
            restored: floating point ``(3, H, W)``, clamped to [0, 1] here.
            original: uint8 ``(3, H, W)``.
            scale: (y, x).
            dataset: name of its dataset.

        Returns:
            Two float64 ``(3, H', W')`` in [0, 1].

        Raises:
            PictureError: the sizes differ, or the part within the border is smaller than the window of SSIM.
        """
        if restored.shape != original.shape:
            sizes = [f"{picture.shape[2]}x{picture.shape[1]}" for picture in (restored, original)]
            raise PictureError("the restored picture is {}, but the original is {}".format(*sizes))
        restored, original = in_float64(restored.clamp(0, 1)), from_integers(original, 255)
        if self.rounded:
            restored = from_integers((restored * 255).round(), 255)
        y, x = (self._measure_of(dataset).border(s) for s in scale)
        height, width = original.shape[1:]
        if min(height - 2 * y, width - 2 * x) < SSIM_WINDOW:
            raise PictureError(
                f"a picture of {width}x{height} pixels is too small to be scored: "
                f"within a border of {_border_text(y, x)}, {SSIM_WINDOW}x{SSIM_WINDOW} are needed",
                hint="leave it out, or use a smaller scale",
            )
        inside = (slice(None), slice(y, height - y), slice(x, width - x))
        return restored[inside], original[inside]

    def score(self, restored: Tensor, original: Tensor, scale: tuple[float, float], dataset: str) -> dict[str, float]:
        """Return ``psnr`` in dB, infinite for equal pictures, and ``ssim``; see :meth:`compared` for the arguments."""
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
"""Protocols by name: ``gsasr``, from GSASR's tables (its README, Metrics); ``liif``, from LIIF (arXiv:2012.09161, its
test program) and most papers on arbitrary scales; ``rgb``, like GSASR's but on all three channels."""
