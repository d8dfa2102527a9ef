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
from gsrcli.size import Box, Size


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


def part_of(picture: torch.Tensor, size: Size, part: Box, antialias: bool = True) -> torch.Tensor:
    """Compute a part of the upscaled image from only that part of the source that is said to be needed."""
    source = Size.of_tensor(picture)
    needed = bicubic.part_needed(source, size, part, antialias)
    assert not needed.empty
    assert needed.meeting(Box.whole(source)) == needed
    top, bottom, left, right = needed
    return bicubic.resize_part(picture[:, :, top:bottom, left:right], source, size, part, (top, left), antialias)


def joined(picture: torch.Tensor, size: Size, rows: list[int], columns: list[int], antialias: bool) -> torch.Tensor:
    """Compute the upscaled image in parts between these edges, and put them together."""
    return torch.cat(
        [
            torch.cat(
                [
                    part_of(picture, size, Box(top, bottom, left, right), antialias)
                    for left, right in itertools.pairwise(columns)
                ],
                3,
            )
            for top, bottom in itertools.pairwise(rows)
        ],
        2,
    )


@settings(max_examples=40, deadline=None)
@given(
    sides=st.tuples(st.integers(1, 20), st.integers(1, 20)),
    grown=st.tuples(st.floats(1, 9), st.floats(1, 9)),
    cuts=st.tuples(*[st.lists(st.integers(1, 179), max_size=3)] * 2),
    antialias=st.booleans(),
)
def test_parts_join_to_the_whole(
    sides: tuple[int, int], grown: tuple[float, float], cuts: tuple[list[int], list[int]], antialias: bool
) -> None:
    picture = noise(*sides, batch=2)
    size = Size(*(int(side * factor) for side, factor in zip(sides, grown, strict=True)))
    edges = [
        sorted({0, *(cut for cut in some if cut < length), length}) for some, length in zip(cuts, size, strict=True)
    ]
    actual = joined(picture, size, *edges, antialias)
    torch.testing.assert_close(actual, bicubic.resize(picture, size, antialias), atol=1e-5, rtol=0)


def test_the_bits_of_the_parts_do_not_depend_on_where_they_are_cut() -> None:
    picture, size = noise(20, 15), Size(67, 50)
    whole = part_of(picture, size, Box.whole(size))
    assert torch.equal(joined(picture, size, [0, 1, 20, 41, 67], [0, 3, 4, 30, 50], True), whole)


def test_a_part_far_down_a_high_picture_is_as_exact_as_any() -> None:
    """float32 would place these rows with an error of up to 1/250 of a pixel."""
    height, size = 40_000, Size(92_000, 3)
    picture = (torch.arange(height) % 7).float()[:, None].expand(1, 1, height, 3)
    part = part_of(picture, size, Box(91_900, 91_950, 0, 3))
    # The last 5000 rows look the same by themselves: 35000 rows are 5000 periods, and 80500 rows of the enlargement.
    expected = bicubic.resize(picture[:, :, 35_000:].double(), Size(11_500, 3))[:, :, 91_900 - 80_500 : 91_950 - 80_500]
    torch.testing.assert_close(part.double(), expected, atol=1e-5, rtol=0)
