"""JPEG compression artefacts without files: an image as it looks after libjpeg has written and read it.

Follows ITU-T T.81; where the standard leaves a choice, libjpeg's default is used, as Pillow and most programs do:
quality scales the standard's example tables, chroma is halved by 2×2 means and upsampled by the triangle filter, and
the transforms are rounded between their two passes. Entropy coding is lossless and left out.

All samples of a batch go through the same operations, whatever their settings, so nothing waits for the device.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from gsrcli.size import Size

__all__ = ["jpeg", "round_trip", "tables"]

_LUMA = (
    (16, 11, 10, 16, 24, 40, 51, 61),
    (12, 12, 14, 19, 26, 58, 60, 55),
    (14, 13, 16, 24, 40, 57, 69, 56),
    (14, 17, 22, 29, 51, 87, 80, 62),
    (18, 22, 37, 56, 68, 109, 103, 77),
    (24, 35, 55, 64, 81, 104, 113, 92),
    (49, 64, 78, 87, 103, 121, 120, 101),
    (72, 92, 95, 98, 112, 100, 103, 99),
)
_CHROMA = (
    (17, 18, 24, 47, 99, 99, 99, 99),
    (18, 21, 26, 66, 99, 99, 99, 99),
    (24, 26, 56, 99, 99, 99, 99, 99),
    (47, 66, 99, 99, 99, 99, 99, 99),
    *((99,) * 8,) * 4,
)
"""Tables K.1 and K.2 of T.81."""

_RED, _GREEN, _BLUE = 0.299, 0.587, 0.114
"""Weights of the channels in luma: JFIF uses those of BT.601."""


def jpeg(images: Tensor, quality: Tensor, subsampled: Tensor) -> Tensor:
    """Compress each image of a batch as JPEG and decompress it again.

    Agrees with libjpeg except for about one value in ten thousand, which differs by 1. More differ if torch may use
    less than float32 in matrix products (TF32).

    Args:
        images: floating point ``(B, 3, h, w)`` in [0, 255], of any size; rounded to 8 bits first.
        quality: ``(B,)`` integers from 1 to 100, of any dtype, on libjpeg's scale.
        subsampled: bool ``(B,)``: whether chroma has half the resolution along both axes (4:2:0) or all of it (4:4:4).

    Returns:
        float32 ``(B, 3, h, w)``: integers in [0, 255].
    """
    return round_trip(images.float().clamp(0, 255).round(), tables(quality), subsampled)


def tables(quality: Tensor) -> Tensor:
    """Scale the standard tables by libjpeg's rule.

    Args:
        quality: ``(B,)`` integers from 1 to 100, of any dtype.

    Returns:
        float32 ``(B, 4, 8, 8)``, integers in [1, 255]: a table for each plane that :func:`round_trip` codes.
    """
    quality = quality.float()[:, None, None, None]
    percent = torch.where(quality < 50, (5000 / quality).floor(), 200 - 2 * quality)
    return ((_constants(quality.device).tables * percent + 50) / 100).floor().clamp(1, 255)


@torch.no_grad()
def round_trip(images: Tensor, tables: Tensor, subsampled: Tensor) -> Tensor:
    """Do what :func:`jpeg` does, with given tables.

    Args:
        images: float32 ``(B, 3, h, w)``: integers in [0, 255].
        tables: ``(B, 4, 8, 8)``, from :func:`tables`.
        subsampled: bool ``(B,)``: whether chroma has half the resolution along both axes.

    Returns:
        float32 ``(B, 3, h, w)``: integers in [0, 255].
    """
    with torch.autocast(images.device.type, enabled=False):
        size = Size.of_tensor(images)
        constants = _constants(images.device)
        planes = _coded(_planes(images, constants), tables, constants)
        luma, chroma, halves = planes[:, :1], planes[:, 1:3], planes[:, 3]
        upsampled = _upsampled(halves, size, constants)
        whole = chroma[..., : size.height, : size.width]
        chroma = torch.where(subsampled[:, None, None, None], upsampled, whole)
        centred = torch.cat((luma[..., : size.height, : size.width], chroma), 1)
        # The offset restores the middle of the range, and adds a half because values are then floored, not rounded.
        colours = _by_channel(constants.to_rgb, centred, constants.rgb_offset)
        return colours.floor_().clamp_(0, 255)


class _Constants(NamedTuple):
    tables: Tensor  # (4, 8, 8)
    to_ycc: Tensor  # (3, 3)
    ycc_offset: Tensor  # (3, 1)
    to_rgb: Tensor  # (3, 3)
    rgb_offset: Tensor  # (3, 1)
    dct: Tensor  # (8, 8)
    half: Tensor  # (1, 1): added before flooring, to round
    bias_down: Tensor  # (1, 2): added to even and odd columns before flooring
    bias_up: Tensor  # (1, 2)


@lru_cache(maxsize=8)
def _constants(device: torch.device) -> _Constants:
    half = 0.5
    blue, red = 2 * (1 - _BLUE), 2 * (1 - _RED)  # ranges of the differences from luma
    to_ycc = [
        [_fixed(value, 16) for value in row]
        for row in (
            (_RED, _GREEN, _BLUE),
            (-_RED / blue, -_GREEN / blue, half),
            (half, -_GREEN / red, -_BLUE / red),
        )
    ]
    to_rgb = [[1, 0, red], [1, -blue * _BLUE / _GREEN, -red * _RED / _GREEN], [1, blue, 0]]
    # The middle is subtracted from luma, so that all planes are around 0; chroma is rounded with halves downwards.
    ycc_offset = [[half - 128], [half - 1 / 65536], [half - 1 / 65536]]
    values = (
        [_LUMA, *(_CHROMA,) * 3],
        to_ycc,
        ycc_offset,
        to_rgb,
        [[128 + half]] * 3,
        _dct(),
        [[half]],
        [[1 / 4, 2 / 4]],
        [[8 / 16, 7 / 16]],
    )
    return _Constants(*(torch.tensor(value, dtype=torch.float32, device=device) for value in values))


def _fixed(value: float, bits: int) -> float:
    """Round a factor to a number of binary places, as libjpeg's integers do."""
    return round(value * 2**bits) / 2**bits


def _dct() -> list[list[float]]:
    """Return the DCT matrix for eight samples: √8 times the orthonormal one, with libjpeg's 13-bit constants.

    Multiplies out the factors of Loeffler, Ligtenberg and Moschytz (ICASSP 1989), so that each entry is a sum of
    rounded constants. With exact cosines, values halfway between two steps would often be rounded the other way.
    """
    c1, c2, c3, c5, c6, c7 = (math.sqrt(2) * math.cos(k * math.pi / 16) for k in (1, 2, 3, 5, 6, 7))

    def fixed(value: float) -> float:
        return _fixed(value, 13)

    common = fixed(c6)
    near, far = common + fixed(c2 - c6), common - fixed(c2 + c6)
    even: list[list[float]] = [
        [1, 1, 1, 1],
        [near, common, -common, -near],
        [1, -1, -1, 1],
        [common, far, -far, -common],
    ]
    outer, inner = -fixed(c3 - c7), -fixed(c1 + c3)
    cross = fixed(c3) - fixed(c3 + c5), fixed(c3) - fixed(c3 - c5)
    own = [fixed(c1 + c3 - c5 - c7), fixed(c1 + c3 + c5 - c7), fixed(c1 + c3 - c5 + c7), fixed(c3 + c5 - c1 - c7)]
    third = fixed(c3)
    odd = [
        [own[0] + outer + cross[1], third, cross[1], outer + third],
        [third, own[1] + inner + cross[0], inner + third, cross[0]],
        [cross[1], inner + third, own[2] + inner + cross[1], third],
        [outer + third, cross[0], third, own[3] + outer + cross[0]],
    ]
    rows = [row for pair in zip(even, odd, strict=True) for row in pair]
    return [row + [(-1) ** k * value for value in reversed(row)] for k, row in enumerate(rows)]


def _planes(images: Tensor, constants: _Constants) -> Tensor:
    """Return the planes to code: Y, Cb, Cr, and a fourth with both halved chroma planes side by side.

    Sides are padded to multiples of 16. Encoders repeat the last column before halving, and the last row after it.

    Returns:
        ``(B, 4, H, W)``, integers around 0.
    """
    height, width = images.shape[2:]
    beyond = -height % 16, -width % 16
    padded = F.pad(images, (0, beyond[1], 0, beyond[0]), mode="replicate")
    whole = _by_channel(constants.to_ycc, padded, constants.ycc_offset).floor_()
    means = F.avg_pool2d(whole[:, 1:], 2)
    halves = (means.unflatten(-1, (-1, 2)) + constants.bias_down).floor_().flatten(-2)
    rows = (height + 1) // 2
    side_by_side = halves[:, :, :rows].transpose(1, 2).flatten(-2)[:, None]
    return torch.cat((whole, F.pad(side_by_side, (0, 0, 0, whole.shape[2] - rows), mode="replicate")), 1)


def _coded(planes: Tensor, tables: Tensor, constants: _Constants) -> Tensor:
    """Transform 8×8 blocks of the planes, quantise them, and transform them back.

    libjpeg keeps two binary places between the passes and, in the forward transform, three in the result.

    Returns:
        ``(B, 4, H, W)``, integers in [-128, 127].
    """
    dct, half = constants.dct, constants.half
    eighths = _along_columns(dct / 4, _along_rows(4 * dct, planes, half), half)
    blocks = eighths.unflatten(3, (-1, 8)).unflatten(2, (-1, 8))
    steps = tables[:, :, None, :, None, :]
    # Slightly smaller steps round halves away from zero.
    values = (blocks / (steps * (8 * (1 - 1e-6)))).round_().mul_(steps).view(planes.shape)
    return _along_rows(dct.mT / 32, _along_columns(4 * dct.mT, values, half), half).clamp_(-128, 127)


def _along_rows(matrix: Tensor, planes: Tensor, half: Tensor) -> Tensor:
    """Multiply every eight samples of a row by a matrix, and round."""
    return torch.addmm(half, planes.view(-1, 8), matrix.mT).floor_().view(planes.shape)


def _along_columns(matrix: Tensor, planes: Tensor, half: Tensor) -> Tensor:
    """Multiply every eight samples of a column by a matrix, and round."""
    eights = planes.view(-1, 8, planes.shape[3])
    return torch.baddbmm(half, matrix.expand(len(eights), 8, 8), eights).floor_().view(planes.shape)


def _upsampled(halves: Tensor, size: Size, constants: _Constants) -> Tensor:
    """Upsample halved chroma with weights 3/4 and 1/4, rounding up and down by turns as libjpeg does.

    Args:
        halves: ``(B, H, W)``, both planes side by side.
        size: (h, w) of the image.
        constants: the module's constants.

    Returns:
        ``(B, 2, h, w)``.
    """
    rows, columns = ((side + 1) // 2 for side in size)
    apart = halves[:, :rows].unflatten(-1, (2, -1)).transpose(1, 2)[..., :columns]
    doubled = F.interpolate(apart, scale_factor=2, mode="bilinear", align_corners=False)
    cut = (doubled.unflatten(-1, (-1, 2)) + constants.bias_up).floor_().flatten(-2)
    return cut[..., : size.height, : size.width]


def _by_channel(matrix: Tensor, images: Tensor, offset: Tensor) -> Tensor:
    """Multiply the channels of ``(B, 3, h, w)`` by a 3×3 matrix and add an offset to each."""
    mixed = torch.baddbmm(offset, matrix.expand(images.shape[0], 3, 3), images.flatten(2))
    return mixed.unflatten(2, images.shape[2:])
