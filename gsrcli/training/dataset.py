"""Training pictures: finding and decoding them, and cropping patches from one block of pixels in memory."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gsrcli.errors import GsrError, PictureError
from gsrcli.images import INPUT_SUFFIXES, read_picture, to_eight_bits
from gsrcli.runtime.devices import send
from gsrcli.runtime.memory import free_memory
from gsrcli.runtime.threads import usable_processors
from gsrcli.size import Size

__all__ = ["Loaded", "PictureBank", "find_pictures", "load_pictures"]

_CELL = 16  # side of the cells in which detail is measured, in pixels
_SHARE_OF_DEVICE = 0.5  # largest share of its free memory that pictures may take


@dataclass(frozen=True)
class Loaded:
    """Decoded pictures, and the files that were left out.

    Attributes:
        pictures: uint8 ``(3, H, W)``.
        too_small: files whose shorter side is below the required length.
        damaged: files that cannot be read, and why.
    """

    pictures: list[Tensor]
    too_small: list[Path]
    damaged: dict[Path, str]


def find_pictures(folder: Path) -> list[Path]:
    """Return the sorted paths of all pictures in a folder and its subfolders.

    Raises:
        PictureError: the folder does not exist or has no pictures.
    """
    if not folder.is_dir():
        raise PictureError(f"folder not found: {folder}")
    found = sorted(p for p in folder.rglob("*") if p.suffix.lower() in INPUT_SUFFIXES and p.is_file())
    if not found:
        raise PictureError(f"no pictures found in {folder}")
    return found


def load_pictures(paths: Sequence[Path], smallest: int) -> Loaded:
    """Decode pictures, leaving out those that are damaged or have a side below ``smallest`` pixels."""
    pictures: list[Tensor] = []
    too_small: list[Path] = []
    damaged: dict[Path, str] = {}
    with ThreadPoolExecutor(usable_processors()) as pool:
        for path, picture in zip(paths, pool.map(_load, paths), strict=True):
            if isinstance(picture, str):
                damaged[path] = picture
            elif min(picture.shape[1:]) < smallest:
                too_small.append(path)
            else:
                pictures.append(picture)
    return Loaded(pictures, too_small, damaged)


def _load(path: Path) -> Tensor | str:
    """Return the pixels, or the reason why they cannot be read."""
    try:
        pixels = torch.from_numpy(to_eight_bits(read_picture(path).pixels))
    except (GsrError, OSError) as error:
        return str(error)
    return pixels.permute(2, 0, 1).expand(3, -1, -1).contiguous()


class PictureBank:
    """All pictures as one row of pixels, on the device if they fit there, else in host memory.

    A pixel has 32 bits (red, green, blue and a byte that is not used), so that one access reads all of it.

    Attributes:
        heights: height of each picture, in pixels.
        widths: width of each picture, in pixels.
        starts: index of each picture's first pixel.
    """

    def __init__(self, pictures: Sequence[Tensor], device: torch.device) -> None:
        self.heights = np.array([picture.shape[1] for picture in pictures], np.int64)
        self.widths = np.array([picture.shape[2] for picture in pictures], np.int64)
        areas = self.heights * self.widths
        self.starts = np.cumsum(areas) - areas
        fits = 4 * int(areas.sum()) <= _SHARE_OF_DEVICE * free_memory(device)
        self._device = device
        self._pixels = torch.empty(int(areas.sum()), dtype=torch.int32, device=device if fits else "cpu")
        for picture, start, area in zip(pictures, self.starts, areas, strict=True):
            self._pixels[start : start + area] = _packed(picture)
        self._detail = _Detail(pictures)

    def __len__(self) -> int:
        return len(self.heights)

    @property
    def shortest_side(self) -> int:
        """The shortest side of all pictures, in pixels."""
        return int(min(self.heights.min(), self.widths.min()))

    def crop(self, first: Tensor, down: Tensor, right: Tensor, size: Size) -> Tensor:
        """Crop patches.

        Args:
            first: ``(B,)`` int64, as :meth:`send` returns it: index of each patch's first pixel.
            down: ``(B,)``, difference of index from a pixel of the patch to the one below it.
            right: ``(B,)``, difference of index to the pixel on its right.
            size: height and width of the patches.

        Returns:
            ``(B, 3, *size)`` float32 in [0, 1], on the device that the bank was made for.
        """
        device = self._pixels.device
        y, x = (torch.arange(side, device=device) for side in size)
        index = first[:, None, None] + down[:, None, None] * y[:, None] + right[:, None, None] * x
        pixels = self._pixels[index]
        if device != self._device:
            pixels = pixels.to(self._device)
        channels = pixels.view(torch.uint8).unflatten(-1, (size.width, 4))[..., :3]
        return channels.permute(0, 3, 1, 2).float() / 255

    def detail(
        self, picture: NDArray[np.int64], top: NDArray[np.int64], left: NDArray[np.int64], size: Size
    ) -> NDArray[np.float64]:
        """Return the approximate mean absolute difference of neighbouring pixels in the green channel of each patch."""
        return self._detail.mean(picture, top, left, size)

    def send(self, array: NDArray[np.int64]) -> Tensor:
        """Send a small array to where :meth:`crop` needs it, without waiting for the device."""
        return send(torch.from_numpy(array), self._pixels.device)


def _packed(picture: Tensor) -> Tensor:
    """Pack ``(3, H, W)`` uint8 into ``(H·W,)`` int32."""
    filled = torch.cat((picture, picture[:1]))  # the fourth byte is never read
    return filled.permute(1, 2, 0).contiguous().view(torch.int32).flatten()


class _Detail:
    """Summed-area tables of detail, in cells: the mean over a box takes four look-ups."""

    def __init__(self, pictures: Sequence[Tensor]) -> None:
        tables = [_summed(_cells(picture)) for picture in pictures]
        self._strides = np.array([table.shape[1] for table in tables], np.int64)
        sizes = np.array([table.size for table in tables], np.int64)
        self._starts = np.cumsum(sizes) - sizes
        self._sums = np.concatenate([table.ravel() for table in tables])
        self._bounds = np.array([table.shape for table in tables], np.int64) - 1

    def mean(
        self, picture: NDArray[np.int64], top: NDArray[np.int64], left: NDArray[np.int64], size: Size
    ) -> NDArray[np.float64]:
        rows, columns = self._bounds[picture].T
        y0, x0 = np.minimum(top // _CELL, rows - 1), np.minimum(left // _CELL, columns - 1)
        y1 = np.minimum(np.maximum((top + size.height) // _CELL, y0 + 1), rows)
        x1 = np.minimum(np.maximum((left + size.width) // _CELL, x0 + 1), columns)
        start, stride = self._starts[picture], self._strides[picture]

        def at(y: NDArray[np.int64], x: NDArray[np.int64]) -> NDArray[np.float64]:
            return self._sums[start + y * stride + x]

        return (at(y1, x1) - at(y0, x1) - at(y1, x0) + at(y0, x0)) / ((y1 - y0) * (x1 - x0))


def _cells(picture: Tensor) -> NDArray[np.float64]:
    """Return the detail of each cell of a picture, without incomplete cells at the right and bottom edge if any fit."""
    green = picture[1].to(torch.int16)
    change = torch.zeros(green.shape)
    change[1:] += green.diff(dim=0).abs()
    change[:, 1:] += green.diff(dim=1).abs()
    cell = [min(_CELL, side) for side in green.shape]
    return torch.nn.functional.avg_pool2d(change[None], cell, _CELL)[0].double().numpy()


def _summed(cells: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.pad(cells.cumsum(0).cumsum(1), ((1, 0), (1, 0)))
