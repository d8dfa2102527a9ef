"""Rows that slide by: the right ones, no more than needed, and the same colours under transparency as of a whole."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gsrcli.images import Picture, bleed_alpha
from gsrcli.images.strips import Strip, Strips, in_strips
from gsrcli.upscaling import rows as module
from gsrcli.upscaling.rows import Rows, bled


def picture(height: int, width: int = 7, hidden: float = 0.0, seed: int = 0) -> Picture:
    """Return noise, of whose pixels a share is fully transparent."""
    random = np.random.default_rng(seed)
    alpha = random.integers(1, 256, (height, width), np.uint8)
    alpha[random.random((height, width)) < hidden] = 0
    return Picture(random.integers(0, 256, (height, width, 3), np.uint8), alpha)


def cut(whole: Picture, at: Sequence[int]) -> Strips:
    """Return a picture in strips that end at these rows."""
    strip = Strip(whole.pixels, whole.alpha)
    edges = sorted({0, *(row for row in at if 0 < row < whole.size.height), whole.size.height})

    def source() -> Iterator[Strip]:
        return (strip.cut(first, last) for first, last in itertools.pairwise(edges))

    return replace(in_strips(whole), source=source)


ROWS = st.lists(st.integers(1, 59), max_size=6)


@settings(max_examples=60, deadline=None)
@given(at=ROWS, steps=st.lists(st.tuples(st.integers(0, 9), st.integers(1, 20)), min_size=1, max_size=12))
def test_rows_are_those_asked_for(at: list[int], steps: list[tuple[int, int]]) -> None:
    whole = picture(60)
    rows, begin = Rows(cut(whole, at)), 0
    for forward, count in steps:
        begin = min(begin + forward, 59)
        rows.forget(begin)
        end = min(begin + count, 60)
        found = rows(begin, end)
        np.testing.assert_array_equal(found.pixels, whole.pixels[begin:end])
        np.testing.assert_array_equal(found.alpha, whole.alpha[begin:end])


def test_only_rows_that_may_be_needed_are_held() -> None:
    asked: list[int] = []

    def source() -> Iterator[Strip]:
        for row in range(100):
            asked.append(row)
            yield Strip(np.full((1, 3, 1), row, np.uint8))

    strips = replace(in_strips(Picture(np.zeros((100, 3, 1), np.uint8))), source=source)
    rows = Rows(strips)
    for begin in range(0, 90, 10):
        assert rows(begin, begin + 10).pixels[:, 0, 0].tolist() == list(range(begin, begin + 10))
        assert asked[-1] == begin + 9
        rows.forget(begin + 8)
        assert len(rows._held) == 2


@settings(max_examples=60, deadline=None)
@given(at=ROWS, hidden=st.sampled_from([0.3, 0.9, 0.99, 1.0]), piece=st.integers(1, 30), reach=st.integers(1, 9))
def test_colours_under_transparency_do_not_depend_on_the_strips(
    at: list[int], hidden: float, piece: int, reach: int
) -> None:
    whole = picture(60, 40, hidden, seed=piece)
    assert whole.alpha is not None
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_BLED_ROWS", piece)
        patch.setattr(module, "_BLEED_REACH", reach)
        found = bled(cut(whole, at)).picture()
    np.testing.assert_array_equal(found.pixels, bleed_alpha(whole.pixels, whole.alpha, reach))
    np.testing.assert_array_equal(found.alpha, whole.alpha)


def test_colours_farther_than_any_network_sees_stay() -> None:
    alpha = np.zeros((200, 200), np.uint8)
    alpha[100, 100] = 255
    pixels = np.full((200, 200, 3), 9, np.uint8)
    pixels[100, 100] = 200
    found = bled(in_strips(Picture(pixels, alpha))).picture().pixels[..., 0]
    assert (found[100, 36:165] == 200).all()
    assert found[100, 35] == found[100, 165] == found[0, 0] == 9
