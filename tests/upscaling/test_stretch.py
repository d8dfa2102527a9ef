"""Floating-point pictures of any range: the right map to [0, 1] and back, and details as precise as a photo's."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from support.checkpoints import tiny_model

from gsrcli.images import Picture
from gsrcli.models.base import Model
from gsrcli.size import Size
from gsrcli.upscaling.stretch import Stretch
from gsrcli.upscaling.upscaler import Upscaler
from gsrcli.weights.load import load_model

LARGEST = float(np.finfo(np.float32).max)
RANGES = {
    "counts": lambda v: 4095 * v,
    "metres": lambda v: -500 + 9348 * v,
    "a narrow range far from 0": lambda v: 8000 + v,
    "a narrow range near 0": lambda v: 1e-6 + 9e-6 * v,
    "negative": lambda v: v - 2,
    "huge": lambda v: 1e30 * v,
    "subnormal": lambda v: 1e-39 * v,
    "all of float32": lambda v: LARGEST * (2 * v - 1),
}
Map = Callable[[np.ndarray], np.ndarray]


@pytest.fixture(scope="module")
def tiny() -> Model:
    return tiny_model()


@pytest.fixture(scope="module")
def trained() -> Model:
    return load_model("gsasr-lite", torch.device("cpu"))


def scene(side: int) -> np.ndarray:
    """Return a smooth function in [0, 1] on a square, averaged over each of ``side x side`` pixels, in float64."""
    position = (np.arange(side * 8) + 0.5) / (side * 8)
    y, x = np.meshgrid(position, position, indexing="ij")
    values = 0.5 + 0.25 * np.sin(9 * x + 4 * y) + 0.25 * np.sin(23 * x * y + 5 * y)
    return values.reshape(side, 8, side, 8).mean((1, 3))


def enlarge(model: Model, values: np.ndarray, scale: int = 3, **settings: object) -> np.ndarray:
    """Enlarge grey ``(h, w)`` values, cast to float32; return float64."""
    pixels = values.astype(np.float32)[..., None]
    size = Size(scale * len(values), scale * values.shape[1])
    enlarged = Upscaler(model, **settings).enlarge(Picture(pixels), size).pixels  # type: ignore[arg-type]
    assert enlarged.dtype == np.float32
    assert np.isfinite(enlarged).all()
    return enlarged[..., 0].astype(np.float64)


def of(pixels: np.ndarray) -> Stretch:
    return Stretch.of([pixels], Size.of(pixels))


def plain(strips: Iterable[np.ndarray], size: Size) -> Stretch:
    """Return the linear map, whatever the picture."""
    pixels = np.concatenate(list(strips))
    return Stretch(float(pixels.min()), float(pixels.max()))


def psnr(values: np.ndarray, truth: np.ndarray, peak: float = 1.0) -> float:
    return float(-10 * np.log10(np.mean(((values - truth) / peak) ** 2)))


# The map


@settings(max_examples=50, deadline=None)
@given(
    shape=st.tuples(st.integers(1, 30), st.integers(1, 30), st.sampled_from([1, 3])),
    cuts=st.lists(st.integers(1, 29), max_size=4),
    samples=st.integers(1, 900),
)
def test_the_map_does_not_depend_on_the_strips(shape: tuple[int, int, int], cuts: list[int], samples: int) -> None:
    pixels = np.random.default_rng(samples).integers(0, 9, shape).astype(np.float32)
    edges = sorted({0, *(cut for cut in cuts if cut < len(pixels)), len(pixels)})
    strips = [pixels[first:last] for first, last in itertools.pairwise(edges)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("gsrcli.upscaling.stretch._SAMPLES", samples)
        assert Stretch.of(strips, Size.of(pixels)) == of(pixels)


@pytest.mark.parametrize("pixels", [scene(20), scene(20) / 3, scene(20) / 3 + 0.6, np.eye(9), np.zeros((1, 1))])
def test_pictures_within_the_unit_range_stay_as_they_are(pixels: np.ndarray) -> None:
    stretch, pixels = of(pixels.astype(np.float32)[..., None]), pixels.astype(np.float32)
    unit = stretch.to_unit(pixels)
    assert np.array_equal(unit, pixels)
    assert np.array_equal(stretch.from_unit(torch.from_numpy(unit)).numpy(), pixels)


@pytest.mark.parametrize("values", RANGES.values(), ids=RANGES)
def test_other_ranges_are_mapped_linearly(values: Map) -> None:
    pixels = values(scene(20)).astype(np.float32)[..., None]
    stretch = of(pixels)
    assert (stretch.low, stretch.high, stretch.spread) == (pixels.min(), pixels.max(), None)
    assert stretch.to_unit(pixels).min() == 0
    assert stretch.to_unit(pixels).max() == 1


@pytest.mark.parametrize("far", [1000.0, -9999.0, 1e30, -LARGEST])
@pytest.mark.parametrize(
    "values", [lambda v: v, lambda v: 4095 * v, lambda v: 1e-4 * v - 1e-5], ids=["unit", "counts", "small"]
)
def test_values_far_away_are_mapped_by_their_order_of_magnitude(values: Map, far: float) -> None:
    pixels = values(scene(40)).astype(np.float32)[..., None]
    assert of(pixels).spread is None
    pixels[3:5, 7] = np.clip(far * max(1.0, float(pixels.max())), -LARGEST, LARGEST)
    stretch = of(pixels)
    assert stretch.spread is not None
    unit = stretch.to_unit(pixels)
    assert np.ptp(np.delete(unit, [3, 4], axis=0)) > 0.02
    assert {unit.min(), unit.max()} == {0, 1}


@pytest.mark.parametrize("far", [-1.0, 0.5, 1e-30, LARGEST])
def test_tiny_differences_do_not_lose_values_far_away(far: float) -> None:
    """In units of which those are beyond float32."""
    pixels = np.full((9, 9, 1), 1e-45, np.float32)
    pixels[::2, ::2] = 0
    pixels[4, 2:7, 0] = far * np.float32([1e-3, 1e-2, 0.1, 0.5, 1])
    stretch = of(pixels)
    assert stretch.spread is not None
    back = stretch.from_unit(torch.from_numpy(stretch.to_unit(pixels))).numpy()
    assert np.allclose(back, pixels, rtol=5e-5, atol=1e-44)


@pytest.mark.parametrize(
    "pixels", [np.eye(200), np.eye(200) * 7 - 3, np.eye(200, k=3) * LARGEST, np.pad([[9.0]], 50)], ids=range(4)
)
def test_few_pixels_on_a_flat_ground_are_not_far_away(pixels: np.ndarray) -> None:
    """Flat areas have no details to lose."""
    assert of(pixels.astype(np.float32)[..., None]).spread is None


def test_marks_for_no_data_may_cover_most_of_a_picture() -> None:
    pixels = 300 * scene(60).astype(np.float32)[..., None]
    pixels[:, 10:] = -LARGEST
    stretch = of(pixels)
    assert np.ptp(stretch.to_unit(pixels[:, :10])) > 0.01


def test_large_pictures_are_sampled_everywhere() -> None:
    pixels = np.full((3000, 1500, 3), 5, np.float32)
    pixels[2990:, 2:-2] = np.random.default_rng(0).random((10, 1496, 3), np.float32) + 7
    pixels[0, 0] = 1e9
    stretch = of(pixels)
    assert stretch.centre == pytest.approx(7.5, abs=0.05)
    assert stretch.spread == pytest.approx(0.25, abs=0.05)


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_values_come_back_in_order(data: st.DataObject) -> None:
    """Any finite picture: within its range, increasing, and as precise as its range allows in float32."""
    finite = st.floats(width=32, allow_nan=False, allow_infinity=False)
    elements = data.draw(st.sampled_from([finite, st.floats(-1, 1, width=32), st.sampled_from([0.0, 1.0, 2.0, 1e38])]))
    shape = data.draw(st.tuples(st.integers(1, 5), st.integers(1, 5), st.sampled_from([1, 3])))
    pixels = data.draw(arrays(np.float32, shape, elements=elements))
    stretch = of(pixels)
    unit = stretch.to_unit(pixels)
    assert unit.dtype == np.float32
    assert 0 <= unit.min() <= unit.max() <= 1
    order = np.argsort(pixels, axis=None)
    assert (np.diff(unit.ravel()[order]) >= 0).all()
    back = stretch.from_unit(torch.from_numpy(unit)).numpy()
    assert stretch.low <= back.min() <= back.max() <= stretch.high
    error = np.abs(back.astype(np.float64) - pixels)
    if stretch.spread is None:
        assert error.max() <= 4e-7 * max(abs(stretch.low), abs(stretch.high)) + 1e-44
    else:
        distance = np.abs(pixels - np.float64(stretch.centre))
        assert (error <= 5e-5 * (distance + stretch.spread) + 4e-7 * abs(stretch.centre) + 1e-44).all()
    outside = stretch.from_unit(torch.tensor([-9.0, 9.0])).tolist()
    assert outside == pytest.approx([stretch.low, stretch.high], rel=1e-6, abs=1e-44)


# The enlargement


def test_a_photo_is_enlarged_as_in_sixteen_bits(tiny: Model) -> None:
    """But without rounding, and so precisely that 16 bits are its rounding."""
    sixteen = np.random.default_rng(0).integers(0, 65536, (30, 31, 3), np.uint16)
    alpha = sixteen[..., 0].copy()
    size = Size(60, 80)
    rounded = Upscaler(tiny).enlarge(Picture(sixteen, alpha), size)
    unit = (sixteen / 65535).astype(np.float32)
    exact = Upscaler(tiny).enlarge(Picture(unit, unit[..., 0].copy()), size)
    assert exact.alpha is not None
    assert rounded.alpha is not None
    for ours, theirs in ((exact.pixels, rounded.pixels), (exact.alpha, rounded.alpha)):
        assert ours.dtype == np.float32
        assert ours.min() >= 0
        assert ours.max() <= 1
        steps = ours.astype(np.float64) * 65535
        assert np.abs(steps - theirs).max() < 0.53
        assert np.mean(np.abs(steps - np.rint(steps)) > 0.1) > 0.5


@pytest.mark.parametrize("values", RANGES.values(), ids=RANGES)
def test_a_range_makes_no_difference(tiny: Model, values: Map) -> None:
    """The enlargement of a mapped picture is the mapped enlargement."""
    low = scene(20)
    low = (low - low.min()) / np.ptp(low)
    expected = values(enlarge(tiny, low))
    mapped = enlarge(tiny, values(low))
    rounding = 5e-7 * np.abs(expected).max()
    assert np.abs(mapped - expected).max() < 1e-5 * np.ptp(expected) + rounding


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16], ids=str)
def test_details_are_as_precise_as_those_of_a_photo(trained: Model, precision: torch.dtype) -> None:
    low, truth = scene(32), scene(96)
    photo = psnr(enlarge(trained, low, dtype=precision), truth)
    assert photo > 45
    for name in ("metres", "a narrow range near 0", "all of float32"):
        values = RANGES[name]
        peak = float(values(np.float64(1)) - values(np.float64(0)))
        mapped = enlarge(trained, values(low), dtype=precision)
        assert psnr(mapped, values(truth), peak) == pytest.approx(photo, abs=1), name


@pytest.mark.parametrize("far", [1000.0, 1e30, -9999.0, -LARGEST])
def test_a_value_far_away_spoils_only_its_surroundings(trained: Model, far: float) -> None:
    low, truth = scene(32), scene(96)
    clean = psnr(enlarge(trained, low), truth)
    low[8, 8] = far
    enlarged = enlarge(trained, low)
    beyond = np.ones(truth.shape, bool)
    beyond[:48, :48] = False
    assert psnr(enlarged[beyond], truth[beyond]) > clean - 8
    assert np.float32(far) in enlarged


def test_without_care_a_value_far_away_spoils_everything(trained: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    """The test above can fail."""
    monkeypatch.setattr(Stretch, "of", plain)
    low, truth = scene(32), scene(96)
    low[8, 8] = -9999
    assert psnr(enlarge(trained, low)[48:], truth[48:]) < 35


def test_radiances_are_precise_in_the_dark_and_in_the_light(trained: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    """Six orders of magnitude, mostly dark: relative errors are a fraction of those of a linear map."""
    low, truth = (10 ** (6 * scene(side) ** 2 - 3) for side in (32, 96))
    ours = enlarge(trained, low)
    monkeypatch.setattr(Stretch, "of", plain)
    linear = enlarge(trained, low)
    for part in (truth < np.median(truth), truth >= np.median(truth)):
        error, other = (np.percentile(np.abs(np.log(values / truth))[part], 95) for values in (ours, linear))
        assert error < 0.3 * other


@pytest.mark.parametrize("value", [0.0, 0.1, 1.0, -7.0, 1e-30, 12345.678, LARGEST, -LARGEST, 1e-45])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_picture_of_one_value_keeps_it(tiny: Model, value: float, channels: int) -> None:
    pixels = np.full((9, 7, channels), value, np.float32)
    enlarged = Upscaler(tiny).enlarge(Picture(pixels), Size(20, 30)).pixels
    assert (enlarged == np.float32(value)).all()


@pytest.mark.parametrize("values", RANGES.values(), ids=RANGES)
def test_flat_areas_are_exact_and_nothing_leaves_the_range(tiny: Model, values: Map) -> None:
    low = np.tile(scene(24), (1, 2))
    low[:, 24:] = np.linspace(0, 1, 24) > 0.4
    low = values(low).astype(np.float32)
    enlarged = enlarge(tiny, low, 4)
    assert np.array_equal(enlarged[:, 4 * 36 + 12 :], np.full((96, 36), low[0, -1], np.float64))
    assert low.min() <= enlarged.min() <= enlarged.max() <= low.max()


def test_tiles_and_strips_agree(tiny: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    low = 9000 * scene(50) - 500
    low[7, 9] = 1e7
    whole = enlarge(tiny, low, tile=1000)
    tiled = enlarge(tiny, low, tile=20)
    assert np.allclose(tiled, whole, rtol=1e-4, atol=0.05)
    monkeypatch.setattr("gsrcli.upscaling.budget._PART_PIXELS", 150 * 7)
    monkeypatch.setattr("gsrcli.upscaling.budget.SMALLEST_PART", 1)
    assert np.allclose(enlarge(tiny, low, tile=1000), whole, rtol=1e-5, atol=1e-3)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("values", RANGES.values(), ids=RANGES)
def test_a_gpu_agrees_with_the_cpu(tiny: Model, values: Map) -> None:
    low = values(scene(40))
    expected = enlarge(tiny, low)
    ours = enlarge(tiny_model().to("cuda"), low)
    assert np.abs(ours - expected).max() <= 1e-3 * (expected.max() - expected.min())
