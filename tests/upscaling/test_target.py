"""The output size for each way to ask for it."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gsrcli.errors import GsrError, UsageError
from gsrcli.size import Size
from gsrcli.upscaling.target import Target

_sides = st.integers(1, 20_000)


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        (Target(scale=2), (36, 48)),
        (Target(scale=6.5), (117, 156)),
        (Target(scale=1), (18, 24)),
        (Target(scale=1.0001), (18, 24)),
        (Target(size=Size(100, 30)), (100, 30)),
        (Target(width=3840), (2880, 3840)),
        (Target(height=2160), (2160, 2880)),
        (Target(width=24), (18, 24)),
    ],
)
def test_each_way_to_ask_for_a_size(target: Target, expected: tuple[int, int]) -> None:
    assert target.of(Size(18, 24)) == expected


@pytest.mark.parametrize(("side", "scale", "expected"), [(3, 1.5, 5), (5, 1.5, 8), (7, 2.5, 18), (3, 1.4, 4)])
def test_halves_round_up(side: int, scale: float, expected: int) -> None:
    """Unlike with ``round``, which rounds halves to even: 5 x 1.5 would become 8, but 3 x 1.5 only 4."""
    assert Target(scale=scale).of(Size(side, 1))[0] == expected


@given(_sides, _sides, st.floats(1, 1000))
def test_a_scale_gives_the_nearest_size_and_never_a_smaller_one(height: int, width: int, scale: float) -> None:
    target = Target(scale=scale).of(Size(height, width))
    assert target[0] >= height
    assert target[1] >= width
    for side, result in zip((height, width), target, strict=True):
        assert abs(result - Fraction(side) * Fraction(scale)) <= Fraction(1, 2) + Fraction(1, 10**6)


@given(_sides, _sides, st.integers(0, 50_000))
def test_a_width_or_height_is_met_exactly_and_the_other_follows(height: int, width: int, more: int) -> None:
    target = Target(width=width + more).of(Size(height, width))
    assert target[1] == width + more
    assert abs(target[0] - Fraction(height * (width + more), width)) <= Fraction(1, 2) + Fraction(1, 10**6)
    assert Target(height=width + more).of(Size(width, height)) == target[::-1]


@pytest.mark.parametrize(
    "target", [Target(size=Size(17, 24)), Target(size=Size(18, 23)), Target(width=23), Target(height=17)]
)
def test_nothing_is_shrunk(target: Target) -> None:
    with pytest.raises(UsageError, match="24x18 pixels; gsr only enlarges"):
        target.of(Size(18, 24))


@pytest.mark.parametrize("scale", [0, -2, 0.5, 0.999999, math.nan, math.inf, -math.inf])
def test_scales_that_do_not_enlarge_are_refused(scale: float) -> None:
    with pytest.raises(UsageError, match="only enlarges"):
        Target(scale=scale)


@pytest.mark.parametrize("options", [{"size": (0, 5)}, {"size": (5, -1)}, {"width": 0}, {"width": -3}, {"height": 0}])
def test_sizes_without_pixels_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="at least 1 pixel"):
        Target(**options)


@pytest.mark.parametrize(
    "options",
    [{"scale": 2, "size": (9, 9)}, {"scale": 2, "width": 9}, {"width": 9, "height": 9}, {"scale": 2, "width": 0}],
)
def test_only_one_of_scale_and_sizes_is_accepted(options: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="give only one of"):
        Target(**options)


def test_a_scale_or_size_is_required() -> None:
    with pytest.raises(UsageError, match="no scale or size") as caught:
        Target()
    assert caught.value.hint == "for example, add --scale 4 or --size 3840x2160"


@pytest.mark.parametrize("options", [{"scale": 1e308}, {"width": 10**400}, {"height": 10**400}])
def test_numbers_beyond_floating_point_are_refused_like_others(options: dict[str, Any]) -> None:
    with pytest.raises(GsrError):
        Target(**options).of(Size(1800, 2400))


@pytest.mark.parametrize("text", ["3840x2160", "3840X2160", "3840×2160", "3840*2160", " 3840x2160 "])
def test_sizes_are_written_width_first(text: str) -> None:
    assert Size.parse(text) == (2160, 3840)


@pytest.mark.parametrize("text", ["", "3840", "3840x", "x2160", "-3840x2160", "3840.5x2160", "wide", "1x2x3"])
def test_invalid_sizes_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="invalid size") as caught:
        Size.parse(text)
    assert caught.value.hint is not None
    assert "3840x2160" in caught.value.hint


@pytest.mark.parametrize(
    ("target", "label"),
    [
        (Target(scale=6.5), "x6.5"),
        (Target(scale=4.0), "x4"),
        (Target(scale=10), "x10"),
        (Target(scale=1 / 0.3), "x3.333333333"),
        (Target(size=Size(2160, 3840)), "3840x2160"),
        (Target(width=3840), "w3840"),
        (Target(height=2160), "h2160"),
    ],
)
def test_labels_name_files(target: Target, label: str) -> None:
    assert target.label == label
