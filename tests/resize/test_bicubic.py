from __future__ import annotations

import itertools

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from gsrcli.resize import bicubic
from gsrcli.size import Size


def noise(height: int, width: int, batch: int = 1) -> torch.Tensor:
    return torch.rand(batch, 3, height, width, generator=torch.Generator().manual_seed(height * 1000 + width))


def resize_with_pillow(picture: torch.Tensor, size: tuple[int, int]) -> np.ndarray:
    """Resize (C, H, W) in float32."""
    planes = [Image.fromarray(plane, "F") for plane in picture.numpy()]
    return np.stack([np.asarray(plane.resize(size[::-1], Image.Resampling.BICUBIC)) for plane in planes])


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ((12, 17), (12, 17)),
        ((12, 17), (24, 34)),
        ((12, 17), (41, 60)),
        ((45, 61), (15, 20)),
        ((45, 61), (44, 60)),
        ((45, 61), (7, 130)),
        ((9, 60), (60, 9)),
        ((1, 1), (5, 7)),
        ((1, 9), (6, 20)),
        ((9, 1), (4, 3)),
        ((2, 3), (1, 1)),
        ((64, 64), (3, 2)),
        ((9, 1), (20, 1)),
        ((4, 7), (9, 1)),
        ((7, 4), (1, 9)),
    ],
)
def test_it_resizes_as_pillow_does(before: tuple[int, int], after: tuple[int, int]) -> None:
    picture = noise(*before)
    expected = resize_with_pillow(picture[0], after)
    np.testing.assert_allclose(bicubic.resize(picture, Size(*after))[0].numpy(), expected, atol=1e-4)


def test_overshoots_are_kept() -> None:
    step = torch.zeros(1, 1, 8, 8)
    step[..., 4:] = 1
    resized = bicubic.resize(step, Size(16, 16))
    assert resized.min() < -0.02
    assert resized.max() > 1.02


@pytest.mark.parametrize("after", [(12, 17), (24, 34), (41, 60), (7, 9)])
def test_without_antialiasing_it_resizes_as_opencv_does(after: tuple[int, int]) -> None:
    picture = noise(12, 17)
    expected = cv2.resize(picture[0].permute(1, 2, 0).numpy(), after[::-1], interpolation=cv2.INTER_CUBIC)
    actual = bicubic.resize(picture, Size(*after), antialias=False)[0].permute(1, 2, 0).numpy()
    np.testing.assert_allclose(actual, expected, atol=1e-5)


def rows_of(
    picture: torch.Tensor, size: tuple[int, int], rows: tuple[int, int], antialias: bool = True
) -> torch.Tensor:
    """Compute rows of the upscaled image from only those source rows that are said to be needed."""
    height = picture.shape[2]
    top, bottom = bicubic.rows_needed(height, size[0], rows, antialias)
    assert 0 <= top < bottom <= height
    return bicubic.resize_rows(picture[:, :, top:bottom], Size(*size), rows, top, height, antialias)


@settings(max_examples=40, deadline=None)
@given(
    height=st.integers(1, 30),
    width=st.integers(1, 20),
    grown=st.floats(1, 9),
    after=st.integers(1, 50),
    cuts=st.lists(st.integers(1, 269), max_size=4),
    antialias=st.booleans(),
)
def test_strips_of_rows_join_to_the_whole(
    height: int, width: int, grown: float, after: int, cuts: list[int], antialias: bool
) -> None:
    picture, size = noise(height, width, batch=2), (int(height * grown), after)
    edges = sorted({0, *(cut for cut in cuts if cut < size[0]), size[0]})
    strips = [rows_of(picture, size, rows, antialias) for rows in itertools.pairwise(edges)]
    torch.testing.assert_close(torch.cat(strips, 2), bicubic.resize(picture, Size(*size), antialias), atol=1e-5, rtol=0)


def test_the_strips_do_not_depend_on_where_they_are_cut() -> None:
    picture, size = noise(20, 15), (67, 50)
    whole = rows_of(picture, size, (0, 67))
    strips = [rows_of(picture, size, rows) for rows in itertools.pairwise((0, 1, 20, 41, 67))]
    assert torch.equal(torch.cat(strips, 2), whole)


def test_a_strip_far_down_a_high_picture_is_as_exact_as_any() -> None:
    """float32 would place these rows with an error of up to 1/250 of a pixel."""
    height, enlarged = 40_000, 92_000
    picture = (torch.arange(height) % 7).float()[:, None].expand(1, 1, height, 3)
    rows = (91_900, 91_950)
    top, bottom = bicubic.rows_needed(height, enlarged, rows)
    strip = bicubic.resize_rows(picture[:, :, top:bottom], Size(enlarged, 3), rows, top, height)
    # The last 5000 rows look the same by themselves: 35000 rows are 5000 periods, and 80500 rows of the enlargement.
    expected = bicubic.resize(picture[:, :, 35_000:].double(), Size(11_500, 3))[
        :, :, rows[0] - 80_500 : rows[1] - 80_500
    ]
    torch.testing.assert_close(strip.double(), expected, atol=1e-5, rtol=0)
