"""Tiles and strips: the output does not depend on how the picture is cut."""

from __future__ import annotations

import subprocess
import sys
import weakref
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from gsrcli.errors import LimitError
from gsrcli.images import Picture, from_unit, to_unit, white
from gsrcli.images.description import Raster
from gsrcli.images.strips import Strip, Strips, in_strips, joined
from gsrcli.models import build
from gsrcli.models.base import Model
from gsrcli.rasterizer import rasterize
from gsrcli.runtime.devices import autocast, channels_last
from gsrcli.runtime.timing import StageTimer
from gsrcli.size import Box, Size
from gsrcli.training.validation import enlarge
from gsrcli.upscaling import budget, upscaler
from gsrcli.upscaling.budget import plan
from gsrcli.upscaling.rows import Rows
from gsrcli.upscaling.tiling import Plane, _mirrored, cuts
from gsrcli.upscaling.transfer import SideStream
from gsrcli.upscaling.upscaler import STAGES, Upscaler, _Enlargement


@pytest.fixture(scope="module")
def model() -> Model:
    """Build a small network with random weights whose residual is as strong as a trained one's."""
    torch.manual_seed(0)
    model = build("gsasr-lite", {"width": 16, "blocks": 2, "head_width": 32})
    torch.nn.init.normal_(model.head.weight, std=0.1)
    return model.eval().requires_grad_(False)


def photo(height: int, width: int, channels: int = 3, dtype: type = np.uint8, seed: int = 0) -> np.ndarray:
    """Return smooth waves with an edge and some noise."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width, :1][:2]
    waves = np.sin(x / random.uniform(2, 9, channels) + y / random.uniform(2, 9, channels))
    values = np.clip(0.5 + 0.3 * waves + 0.2 * (x > y) + random.normal(0, 0.03, waves.shape), 0, 1)
    return (values * np.iinfo(dtype).max).astype(dtype)


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    error = np.mean((a.astype(np.float64) - b.astype(np.float64)) ** 2) / np.iinfo(a.dtype).max ** 2
    return np.inf if error == 0 else -10 * np.log10(error)


@pytest.mark.parametrize("scale", [1, 2, 3.3, 6.5])
@pytest.mark.parametrize("tile", [24, 37])
def test_tiled_equals_untiled(model: Model, scale: float, tile: int) -> None:
    picture = Picture(photo(81, 70))
    size = Size(round(81 * scale), round(70 * scale))
    whole = Upscaler(model, tile=1000).enlarge(picture, size).pixels
    tiled = Upscaler(model, tile=tile).enlarge(picture, size).pixels
    # Convolutions of other shapes sum in another order, which may change a rounding.
    assert np.abs(tiled.astype(int) - whole).max() <= 1
    assert np.mean(tiled != whole) < 1e-3


def test_a_halo_too_small_shows(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    """The test above can fail."""
    picture = Picture(photo(81, 70))
    whole = Upscaler(model, tile=1000).enlarge(picture, Size(162, 140)).pixels
    monkeypatch.setattr(model, "traits", replace(model.traits, halo=0))
    monkeypatch.setattr(upscaler, "_LEAST_WINDOW", 0)
    tiled = Upscaler(model, tile=24).enlarge(picture, Size(162, 140)).pixels
    assert np.abs(tiled.astype(int) - whole).max() > 1


@pytest.mark.parametrize("size", [Size(50, 33), Size(171, 99), Size(60, 340)])
def test_strips_equal_one_pass(model: Model, monkeypatch: pytest.MonkeyPatch, size: Size) -> None:
    picture = Picture(photo(50, 33))
    once = Upscaler(model).enlarge(picture, size).pixels
    monkeypatch.setattr(budget, "_PART_PIXELS", size.width * 7)
    monkeypatch.setattr(budget, "SMALLEST_PART", 1)
    assert np.array_equal(Upscaler(model).enlarge(picture, size).pixels, once)


@pytest.mark.parametrize("alpha", ["none", "opaque", "transparency", "data"])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_a_picture_in_strips_gives_the_same_as_a_whole_one(
    model: Model, monkeypatch: pytest.MonkeyPatch, alpha: str, dtype: type
) -> None:
    monkeypatch.setattr(upscaler, "_LEAST_WINDOW", 0)
    pixels, layer = photo(90, 41), photo(90, 41, 1)[..., 0]
    layer[20:50, :20] = 0
    if dtype is np.float32:
        pixels, layer = (array.astype(np.float32) / 100 for array in (pixels, layer))
        layer = layer.clip(0, 1)
    if alpha == "opaque":
        layer[:] = white(dtype)
    whole = Picture(pixels, None if alpha == "none" else layer)
    how = {"alpha": "data" if alpha == "data" else "transparency"}
    expected = Upscaler(model, tile=32).enlarge(whole, Size(200, 100), **how)
    strip = Strip(whole.pixels, whole.alpha)

    def source() -> Iterator[Strip]:
        return (strip.cut(row, row + 7) for row in range(0, 90, 7))

    strips = replace(in_strips(whole), source=source)
    streamed = list(Upscaler(model, tile=32).stream(strips, Size(200, 100), **how))
    assert len(streamed) == 3
    assert np.array_equal(np.concatenate([strip.pixels for strip in streamed]), expected.pixels)
    if expected.alpha is not None:
        assert np.array_equal(np.concatenate([strip.alpha for strip in streamed]), expected.alpha)


def test_rows_that_were_passed_are_let_go(model: Model) -> None:
    """Each strip of the picture is free again before the enlargement is complete, and none is read before its time."""
    alive: list[weakref.ref[np.ndarray]] = []
    most = 0

    def source() -> Iterator[Strip]:
        nonlocal most
        for _ in range(100):
            pixels = photo(8, 30)
            alive.append(weakref.ref(pixels))
            most = max(most, sum(reference() is not None for reference in alive))
            yield Strip(pixels)
            del pixels

    raster = Raster(Size(800, 30), 3, np.dtype(np.uint8), False)
    for _ in Upscaler(model, tile=48).stream(Strips(raster, source, True), Size(1600, 60)):
        pass
    assert len(alive) == 100
    assert most <= 16  # 48 rows of a tile, and its halo


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_strips_copied_asynchronously_equal_one_pass(
    model: Model, monkeypatch: pytest.MonkeyPatch, dtype: type
) -> None:
    """As on a GPU, with a copier whose copies complete late."""
    picture = Picture(photo(50, 33, dtype=dtype), photo(50, 33, 1, dtype)[..., 0])
    once = Upscaler(model).enlarge(picture, Size(171, 99))
    begun: list[torch.Tensor] = []

    def copier(strip: torch.Tensor):  # type: ignore[no-untyped-def]
        begun.append(strip)
        copy = torch.zeros_like(strip)
        return copy, lambda: copy.copy_(strip)

    monkeypatch.setattr(SideStream, "of", lambda device: copier)
    monkeypatch.setattr(budget, "_PART_PIXELS", 99 * 7)
    monkeypatch.setattr(budget, "SMALLEST_PART", 1)
    late = Upscaler(model).enlarge(picture, Size(171, 99))
    assert len(begun) == 2 * -(-171 // 7)
    assert np.array_equal(late.pixels, once.pixels)
    assert np.array_equal(late.alpha, once.alpha)


def test_agrees_with_the_direct_rendering(model: Model) -> None:
    """The reference is what training uses: network, rasterizer and bicubic base, without tiles or strips."""
    picture = Picture(photo(40, 52))
    image = torch.from_numpy(picture.pixels).permute(2, 0, 1)[None].float() / 255
    direct = enlarge(model, image, Size(131, 160))[0].permute(1, 2, 0).numpy() * 255
    streamed = Upscaler(model, tile=20).enlarge(picture, Size(131, 160)).pixels
    assert np.abs(streamed - direct).max() < 0.55  # a rounding, and another order of summing


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (9, 1), (2, 3), (17, 5)])
def test_small_pictures(model: Model, shape: tuple[int, int]) -> None:
    size = Size(shape[0] * 3 + 1, shape[1] * 5)
    enlarged = Upscaler(model).enlarge(Picture(photo(*shape)), size)
    assert enlarged.size == size


def test_every_lr_pixel_is_reported_once(model: Model) -> None:
    done: list[int] = []
    picture = Picture(photo(50, 61), alpha=photo(50, 61, 1)[..., 0])
    Upscaler(model, tile=16).enlarge(picture, Size(75, 92), done.append)
    assert sum(done) == Upscaler.work(picture) == 2 * 50 * 61
    assert min(done) > 0


class Mirror(Model):
    """A model that draws each LR pixel as one Gaussian and needs sides that are multiples of 8."""

    def __init__(self) -> None:
        super().__init__()
        self.anchor = torch.nn.Parameter(torch.zeros(()))
        base = build("gsasr-lite", {"width": 8, "blocks": 1, "head_width": 8}).traits
        self.traits = replace(base, density=1, base="none", multiple=8, halo=8, reach=4.0)
        self.windows: list[tuple[int, int]] = []

    def forward(self, image: torch.Tensor, scale: torch.Tensor):  # type: ignore[no-untyped-def]
        from gsrcli.gaussians import Gaussians

        _, _, height, width = image.shape
        assert height % 8 == 0
        assert width % 8 == 0
        self.windows.append((height, width))
        y, x = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
        count = height * width
        return Gaussians(
            centre=torch.stack((x, y), -1).reshape(1, count, 2),
            sigma=torch.full((1, count, 2), 0.6),
            rho=torch.zeros(1, count),
            value=image.permute(0, 2, 3, 1).reshape(1, count, 3),
        )


@pytest.mark.parametrize("shape", [(13, 21), (40, 9), (8, 8), (3, 2)])
@pytest.mark.parametrize("tile", [8, 16, None])
def test_models_that_need_multiples(shape: tuple[int, int], tile: int | None) -> None:
    """Padding adds exactly the Gaussians of the mirrored picture, whatever the tiles."""
    model = Mirror()
    picture = Picture(photo(*shape))
    size = Size(shape[0] * 2 + 1, shape[1] * 3)
    tiled = Upscaler(model, tile=tile).enlarge(picture, size).pixels
    whole = Upscaler(model, tile=10_000).enlarge(picture, size).pixels
    assert model.windows[-1] == (-(-shape[0] // 8) * 8, -(-shape[1] // 8) * 8)
    assert np.array_equal(tiled, whole)


def test_padding_mirrors_then_repeats() -> None:
    assert list(_mirrored(np.arange(2, 8), 5)) == [2, 3, 4, 3, 2, 1]
    assert list(_mirrored(np.arange(6), 2)) == [0, 1, 0, 1, 1, 1]
    model = Mirror()
    picture = in_strips(Picture(photo(3, 5)))
    window = Plane(Rows(picture), picture.raster, model, None, alpha=False).window(np.arange(8), np.arange(8))
    expected = np.pad(photo(3, 5), ((0, 2), (0, 3), (0, 0)), mode="reflect")
    np.testing.assert_allclose(window[0, :, :5].permute(1, 2, 0).numpy() * 255, expected, atol=1e-4)


@pytest.mark.parametrize(
    ("length", "tile", "multiple", "ends"),
    [
        (100, 30, 1, 0),
        (100, 30, 1, 7),
        (96, 40, 12, 0),
        (96, 40, 12, 24),
        (12, 5, 12, 0),
        (1, 512, 1, 0),
        (500, 8, 1, 9),
    ],
)
def test_cuts_cover_once_at_multiples(length: int, tile: int, multiple: int, ends: int) -> None:
    parts = cuts(length, tile, multiple, ends)
    assert [begin for begin, _ in parts[1:]] == [end for _, end in parts[:-1]]
    assert (parts[0][0], parts[-1][1]) == (0, length)
    assert all(begin % multiple == 0 and begin < end for begin, end in parts)
    inner = [(max(begin, ends), min(end, length - ends)) for begin, end in parts]
    assert all(end - begin <= max(tile, multiple) for begin, end in inner)


def test_windows_are_of_few_sizes() -> None:
    """All as large as that of an inner tile, except the last in each row and column."""
    model = Mirror()
    Upscaler(model, tile=64).enlarge(Picture(photo(300, 420)), Size(300, 420))
    heights, widths = (sorted(set(sides), reverse=True) for sides in zip(*model.windows, strict=True))
    assert len(model.windows) > 20
    assert len(heights) <= 2
    assert len(widths) <= 2
    assert max(heights[0], widths[0]) <= 64 + 2 * model.traits.halo


def test_grey_stays_grey_and_agrees_with_grey_as_colour(model: Model) -> None:
    grey = photo(30, 31, 1)
    alone = Upscaler(model).enlarge(Picture(grey), Size(75, 80)).pixels
    colour = Upscaler(model).enlarge(Picture(np.repeat(grey, 3, axis=2)), Size(75, 80)).pixels
    assert alone.shape == (75, 80, 1)
    luma = colour @ np.array([0.299, 0.587, 0.114])
    unclipped = ((colour > 0) & (colour < 255)).all(-1)
    assert unclipped.mean() > 0.5
    assert np.abs(alone[..., 0] - luma)[unclipped].max() < 1.1


def test_sixteen_bits_are_more_than_eight(model: Model) -> None:
    deep = photo(30, 31, dtype=np.uint16)
    enlarged = Upscaler(model).enlarge(Picture(deep), Size(60, 62)).pixels
    assert enlarged.dtype == np.uint16
    assert len(np.unique(enlarged % 257)) > 100
    shallow = Upscaler(model).enlarge(Picture((deep // 257).astype(np.uint8)), Size(60, 62)).pixels
    assert psnr((enlarged // 257).astype(np.uint8), shallow) > 40


def test_alpha_is_enlarged_and_hidden_colours_do_not_show(model: Model) -> None:
    alpha = np.zeros((40, 40), np.uint8)
    alpha[:, 20:] = 255
    pixels = np.full((40, 40, 3), 200, np.uint8)
    pixels[:, :20] = 0  # black under full transparency
    enlarged = Upscaler(model).enlarge(Picture(pixels, alpha), Size(120, 120))
    plain = Upscaler(model).enlarge(Picture(np.full((40, 40, 3), 200, np.uint8)), Size(120, 120))
    assert np.array_equal(enlarged.pixels, plain.pixels)
    assert enlarged.alpha is not None
    assert enlarged.alpha.shape == (120, 120)
    expected = Upscaler(model).enlarge(Picture(alpha[..., None]), Size(120, 120)).pixels[..., 0]
    assert np.array_equal(enlarged.alpha, expected)


def test_opaque_alpha_is_kept_and_costs_nothing(model: Model) -> None:
    picture = Picture(photo(20, 20), np.full((20, 20), 255, np.uint8))
    enlarged = Upscaler(model).enlarge(picture, Size(40, 40))
    assert Upscaler.work(picture) == 400
    assert enlarged.alpha is not None
    assert enlarged.alpha.min() == 255


# Memory


def _limit_parts(monkeypatch: pytest.MonkeyPatch, most: int) -> list[int]:
    """Let parts of more rows fail; return a list that collects the rows of all attempts."""
    tried: list[int] = []

    def limited(gaussians, size, scale, origin):  # type: ignore[no-untyped-def]
        tried.append(size[0])
        if size[0] > most:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return rasterize(gaussians, size, scale, origin)

    monkeypatch.setattr("gsrcli.models.base.rasterize", limited)
    return tried


def test_parts_are_halved_until_they_fit(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    picture = Picture(photo(150, 33))
    untroubled = Upscaler(model).enlarge(picture, Size(900, 70)).pixels
    monkeypatch.setattr("gsrcli.upscaling.upscaler.SMALLEST_PART", 70)
    tried = _limit_parts(monkeypatch, 130)
    assert np.array_equal(Upscaler(model).enlarge(picture, Size(900, 70)).pixels, untroubled)
    assert tried == [900, 450, 225, *[112] * 8, 4]


def test_parts_are_halved_down_to_a_floor(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gsrcli.upscaling.upscaler.SMALLEST_PART", 64 * 70)
    tried = _limit_parts(monkeypatch, 20)
    with pytest.raises(LimitError, match="smallest part") as raised:
        Upscaler(model).enlarge(Picture(photo(150, 33)), Size(900, 70))
    assert tried == [900, 450, 225, 112, 64]
    assert raised.value.hint is not None
    assert "--tile" in raised.value.hint


def test_memory_is_free_again_before_less_is_tried(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    """The traceback would keep alive what the failed function held."""
    held: list[weakref.ref[torch.Tensor]] = []
    predict = _Enlargement._predict

    def greedy(self: _Enlargement, core: Box):  # type: ignore[no-untyped-def]
        assert not any(reference() is not None for reference in held)
        if core.size.height > 60:
            activations = torch.zeros(1000)
            held.append(weakref.ref(activations))
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return predict(self, core)

    monkeypatch.setattr(_Enlargement, "_predict", greedy)
    Upscaler(model).enlarge(Picture(photo(200, 210)), Size(300, 315))
    assert len(held) == 2  # the whole and its first quarter


def test_tiles_after_one_that_was_too_large_are_split_at_once(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    predict = _Enlargement._predict
    tried: list[int] = []

    def limited(self: _Enlargement, core: Box):  # type: ignore[no-untyped-def]
        tried.append(core.size.height)
        if tried[-1] > 66:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return predict(self, core)

    picture = Picture(photo(384, 256))
    untroubled = Upscaler(model, tile=64).enlarge(picture, Size(500, 300)).pixels
    monkeypatch.setattr(_Enlargement, "_predict", limited)
    done = 0

    def advance(pixels: int) -> None:
        nonlocal done
        done += pixels

    assert np.array_equal(Upscaler(model, tile=128).enlarge(picture, Size(500, 300), advance).pixels, untroubled)
    # The first inner tile is a little smaller than one at an edge, which has a halo on one side only.
    assert tried == [130, *[65] * 8, 125, *[63, 63, 62, 62] * 2, *[65, 65, 64, 64] * 2]
    assert done == 384 * 256


@pytest.mark.parametrize("free", [2**36, 2**32, 2**30, 2**27, 2**20])
def test_tiles_and_parts_follow_the_free_memory(model: Model, free: int) -> None:
    traits = model.traits
    halo = traits.halo
    tile, band, pixels = plan(Size(3000, 4000), Size(12000, 16000), traits, halo, 3, free)
    pixel_bytes = max(traits.bytes_per_pixel, 2 * traits.density**2 * (2 * 4 * 8 + 32))  # of the network, of Gaussians
    most = min(free / 4, 2**28)
    if max(tile) > 48:
        assert (tile.height + 2 * halo) * (tile.width + 2 * halo) * pixel_bytes <= most
        assert (max(tile) + 16 + 2 * halo) * (512 + 2 * halo) * pixel_bytes > most or max(tile) == 512
    if tile.height > 8:
        longest = tile.height + (2 * halo if tile.height >= halo else 0)
        assert 2 * 4 * longest * 16000 * 3 <= min(free / 4, 2**27)
    assert band == 12000  # all rows of a row of tiles at once
    assert pixels == {2**20: 2**14}.get(free, min(2**19, int(free / 4 / 96)))
    assert min(tile) >= 8


@pytest.mark.parametrize(
    ("name", "dtype", "low", "scale"),
    [
        ("gsasr-lite", np.uint8, (150, 170), 2),
        ("gsasr-lite", np.float32, (150, 170), 3.3),
        ("gsasr-lite", np.uint8, (50, 53), 8),
        ("gaussiansr-edsr", np.float32, (50, 53), 2),
        ("gaussiansr-edsr-released", np.float32, (50, 53), 2.5),
    ],
)
def test_the_bits_do_not_depend_on_the_free_memory(
    monkeypatch: pytest.MonkeyPatch, name: str, dtype: type, low: tuple[int, int], scale: float
) -> None:
    """Of a model as wide as that with weights, laid out as it is loaded; GSASR's tiles have one size."""
    torch.manual_seed(0)
    model = channels_last(build(name, {"blocks": 2}).eval().requires_grad_(False))
    if name == "gsasr-lite":
        torch.nn.init.normal_(model.head.weight, std=0.1)  # at first it is zero
    pixels, alpha = photo(*low), photo(*low, 1)[..., 0]
    alpha[30:90, 20:60] = 0
    pixels, alpha = (from_unit(to_unit(array), dtype) for array in (pixels, alpha))
    picture, size = Picture(pixels, alpha), Size(*(round(side * scale) for side in low))
    cuts: set[object] = set()

    def planned(*arguments: object) -> object:
        cuts.add(plan(*arguments))
        return plan(*arguments)

    monkeypatch.setattr("gsrcli.upscaling.upscaler.plan", planned)
    monkeypatch.setattr("gsrcli.upscaling.upscaler.require_memory", lambda *_: None)
    made = []
    for free in (2**40, 5e7, 2e7, 1e6):
        monkeypatch.setattr("gsrcli.upscaling.upscaler.free_memory", lambda device, budget, free=free: free)
        made.append(Upscaler(model).enlarge(picture, size))
    assert len(cuts) >= 3
    for enlarged in made[1:]:
        assert np.array_equal(enlarged.pixels, made[0].pixels)
        assert np.array_equal(enlarged.alpha, made[0].alpha)


def test_a_wide_enlargement_has_low_tiles_so_that_its_bands_fit(model: Model) -> None:
    traits = model.traits
    few = plan(Size(100, 100), Size(200, 200), traits, traits.halo, 3, 2**40).tile
    assert few == (512, 512)
    many = plan(Size(10_000, 15_000), Size(20_000, 30_000), traits, traits.halo, 3, 2**40)
    assert many.tile.height + 2 * traits.halo == 2**27 // (2 * 2 * 30_000 * 3)
    assert many.band == 20_000


@pytest.mark.parametrize("height", [20, 36, 60, 90])
@pytest.mark.parametrize("scale", [2, 4])
def test_what_a_low_picture_leaves_fits_too(model: Model, height: int, scale: int) -> None:
    """It has fewer rows than a tile with its halo."""
    low, size = Size(height, 3000), Size(scale * height, scale * 3000)
    free = 4 * 40 * 2 * size.width * 3 * scale  # for 40 rows
    bands = Upscaler(model).stream(Picture(np.zeros((*low, 3), np.uint8)), size)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(upscaler, "free_memory", lambda device, budget: free)
        patch.setattr(upscaler, "require_memory", lambda *_: None)
        assert max(len(strip.pixels) for strip in bands) <= 40 * scale


@pytest.mark.parametrize("shape", [(724, 1), (3, 700), (2, 900), (500, 5), (30, 30)])
def test_the_bits_of_narrow_pictures_do_not_depend_on_the_tile(shape: tuple[int, int]) -> None:
    """For few pixels, torch adds up convolutions in another order."""
    torch.manual_seed(0)
    model = channels_last(build("gsasr-lite", {"blocks": 2}).eval().requires_grad_(False))
    torch.nn.init.normal_(model.head.weight, std=0.1)
    picture = Picture(np.random.default_rng(0).random((*shape, 3), np.float32))
    sizes = (1000, 48, 30, 8)
    whole, *tiled = (
        Upscaler(model, tile=tile).enlarge(picture, Size(4 * shape[0], 4 * shape[1])).pixels for tile in sizes
    )
    for pixels in tiled:
        assert np.array_equal(pixels, whole)


def test_at_large_scales_gaussians_take_less_memory_than_bands(model: Model) -> None:
    traits = model.traits
    chosen = plan(Size(6_250, 7_500), Size(50_000, 60_000), traits, traits.halo, 8, 2**40)
    assert chosen.tile.height + 2 * traits.halo == 2**27 // (7_500 * 4 * 32)
    assert chosen.band == 2**27 // (2 * 60_000 * 8)
    vast = plan(Size(1_000, 1_000), Size(100_000, 100_000), traits, traits.halo, 3, 2**40)
    assert vast.tile == (512, 512)
    assert vast.band == 2**27 // (2 * 100_000 * 3)


@pytest.mark.parametrize("band", [1, 7, 50])
def test_a_row_of_tiles_may_be_drawn_in_several_bands(model: Model, monkeypatch: pytest.MonkeyPatch, band: int) -> None:
    pixels, alpha = photo(70, 60), photo(70, 60, 1)[..., 0]
    picture, size = Picture(pixels, alpha), Size(350, 300)
    at_once = list(Upscaler(model, tile=32).stream(picture, size))
    planned = upscaler._planned
    monkeypatch.setattr(upscaler, "_planned", lambda *arguments: planned(*arguments)._replace(band=band))
    in_bands = list(Upscaler(model, tile=32).stream(picture, size))
    assert max(len(strip.pixels) for strip in in_bands) <= band < max(len(strip.pixels) for strip in at_once)
    for one, several in zip(joined(at_once), joined(in_bands), strict=True):
        assert np.array_equal(one, several)


def test_a_tile_is_as_large_as_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gsrcli.upscaling.upscaler.free_memory", lambda device, budget: 1.0)
    model = Mirror()
    Upscaler(model, tile=700).enlarge(Picture(photo(96, 104)), Size(192, 208))
    assert model.windows == [(96, 104)]


def test_scarce_memory_cuts_small_pictures_no_smaller_than_they_need(model: Model) -> None:
    traits = model.traits
    free = 4.0 * 60 * 60 * 2 * traits.bytes_per_pixel
    assert plan(Size(60, 60), Size(60, 60), traits, traits.halo, 3, free).tile == (512, 512)


# Timing


@dataclass
class Stream:
    """A device that runs queued work when told to, and records its clock at each event."""

    clock: float = 0.0
    queue: list[object] = field(default_factory=list)
    waited: int = 0

    def event(self, device: torch.device) -> StreamEvent:
        event = StreamEvent(self)
        self.queue.append(event)
        return event

    def run(self, entries: int) -> None:
        for entry in self.queue[:entries]:
            if isinstance(entry, StreamEvent):
                entry.passed = self.clock
            else:
                self.clock += entry  # type: ignore[operator]
        del self.queue[:entries]


@dataclass(eq=False)
class StreamEvent:
    stream: Stream
    passed: float | None = None

    def query(self) -> bool:
        return self.passed is not None

    def synchronize(self) -> None:
        self.stream.waited += 1
        while self.passed is None:
            self.stream.run(1)

    def elapsed_time(self, end: StreamEvent) -> float:
        assert self.passed is not None
        assert end.passed is not None
        return end.passed - self.passed


def test_stages_are_timed_by_events_and_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = Stream()
    monkeypatch.setattr("gsrcli.runtime.timing.mark", stream.event)
    seconds, device = StageTimer(STAGES), torch.device("cuda")
    for stage, milliseconds in (("network", 30), ("rasterizer", 2), ("network", 50)):
        with seconds.of(stage, device):
            stream.queue.append(milliseconds)
        stream.queue.append(1000)  # work of no stage
    assert stream.clock == stream.waited == 0
    assert seconds.read() == pytest.approx({"network": 0.08, "rasterizer": 0.002})
    assert seconds.read() == pytest.approx({"network": 0.08, "rasterizer": 0.002})


def test_events_that_have_passed_are_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = Stream()
    monkeypatch.setattr("gsrcli.runtime.timing.mark", stream.event)
    seconds = StageTimer(STAGES)
    for _ in range(100):
        with seconds.of("network", torch.device("cuda")):
            stream.queue.append(7)
        stream.run(3)
    assert len(seconds._under_way) == 1
    assert seconds.read()["network"] == pytest.approx(0.7)


def test_a_stage_that_fails_takes_no_time(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = Stream()
    monkeypatch.setattr("gsrcli.runtime.timing.mark", stream.event)
    seconds = StageTimer(STAGES)
    with pytest.raises(MemoryError), seconds.of("network", torch.device("cuda")):
        raise MemoryError
    assert seconds.read() == {"network": 0, "rasterizer": 0}


def test_stages_are_those_that_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter([1.0, 3.5])
    monkeypatch.setattr("gsrcli.runtime.timing.time.perf_counter", lambda: next(times))
    seconds = StageTimer(("drawing", "update"))
    with seconds.of("update", torch.device("cpu")):
        pass
    assert seconds.read() == {"drawing": 0, "update": 2.5}


def test_the_host_is_timed_by_its_clock(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter(range(100))
    monkeypatch.setattr("gsrcli.runtime.timing.time.perf_counter", lambda: float(next(times)))
    seconds = StageTimer(STAGES)
    Upscaler(model, tile=20).enlarge(Picture(photo(40, 40)), Size(80, 80), seconds=seconds)
    assert seconds.read() == {"network": 4.0, "rasterizer": 4.0}  # 4 tiles


# Float32 that is float32


def test_convolutions_in_float32_are_not_rounded_to_tf32() -> None:
    settings = getattr(torch.backends.cudnn, "conv", None)
    if settings is None:
        pytest.skip("torch before 2.9 has no setting for convolutions alone")
    before = settings.fp32_precision
    for dtype in (torch.float32, torch.bfloat16):
        with autocast(torch.device("cpu"), dtype):
            assert settings.fp32_precision == "ieee"
            assert torch.is_autocast_enabled("cpu") == (dtype == torch.bfloat16)
        assert settings.fp32_precision == before
    with pytest.raises(ZeroDivisionError), autocast(torch.device("cpu"), torch.float32):
        _ = 1 / 0
    assert settings.fp32_precision == before


def test_convolutions_in_float32_on_older_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    cudnn = SimpleNamespace(allow_tf32=True)
    monkeypatch.setattr("gsrcli.runtime.devices.cudnn", cudnn)
    with autocast(torch.device("cpu"), torch.float32):
        assert not cudnn.allow_tf32
    assert cudnn.allow_tf32


# On a GPU


@pytest.fixture
def on_gpu(model: Model) -> Model:
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    twin = build("gsasr-lite", {"width": 16, "blocks": 2, "head_width": 32})
    twin.load_state_dict(model.state_dict())
    return twin.to("cuda").eval().requires_grad_(False)


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_gpu_agrees_with_the_cpu(
    model: Model, on_gpu: Model, monkeypatch: pytest.MonkeyPatch, dtype: type, channels: int
) -> None:
    picture = Picture(photo(90, 133, channels, dtype), photo(90, 133, 1, dtype)[..., 0])
    expected = Upscaler(model).enlarge(picture, Size(297, 399))
    once = Upscaler(on_gpu).enlarge(picture, Size(297, 399))
    step = 1 if dtype is np.uint8 else 32
    for ours, theirs in ((once.pixels, expected.pixels), (once.alpha, expected.alpha)):
        difference = np.abs(ours.astype(int) - theirs)
        assert difference.max() <= step
        assert difference.mean() < step / 20
    monkeypatch.setattr(budget, "_PART_PIXELS", 399 * 13)
    monkeypatch.setattr(budget, "SMALLEST_PART", 1)
    seconds = StageTimer(STAGES)
    in_strips = Upscaler(on_gpu).enlarge(picture, Size(297, 399), seconds=seconds)
    assert np.array_equal(in_strips.pixels, once.pixels)
    assert np.array_equal(in_strips.alpha, once.alpha)
    assert all(0 < spent < 60 for spent in seconds.read().values())


@pytest.mark.gpu
def test_a_gpu_that_runs_out_of_memory_continues_with_less(on_gpu: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    """The allocator really fails: a strip of 8 megapixels does not fit, a fraction of it does."""
    picture = Picture(photo(500, 500))
    expected = Upscaler(on_gpu).enlarge(picture, Size(3000, 3000)).pixels
    failed: list[int] = []
    draw_less = _Enlargement._draw_less
    monkeypatch.setattr(
        _Enlargement, "_draw_less", lambda self, part: failed.append(part.size.area) or draw_less(self, part)
    )
    monkeypatch.setattr(budget, "_PART_PIXELS", 1 << 23)
    torch.cuda.empty_cache()
    total = torch.cuda.mem_get_info()[1]
    torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_reserved() + 256 * 2**20) / total)
    try:
        scarce = Upscaler(on_gpu).enlarge(picture, Size(3000, 3000)).pixels
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert failed
    difference = np.abs(scarce.astype(int) - expected)
    assert difference.max() <= 1
    assert difference.mean() < 1e-2


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="Linux alone tells the peak")
def test_memory_is_bounded_by_tiles_not_by_the_picture() -> None:
    """Eight times the rows may cost no more memory than the additional input and output rows."""
    script = (
        "import sys, numpy as np, torch\n"
        "from gsrcli.images import Picture\n"
        "from gsrcli.models import build\n"
        "from gsrcli.runtime.memory import peak_so_far\n"
        "from gsrcli.size import Size\n"
        "from gsrcli.upscaling.upscaler import Upscaler\n"
        "torch.set_num_threads(1)\n"
        "model = build('gsasr-lite', {'width': 16, 'blocks': 1, 'head_width': 32}).eval()\n"
        "rows = int(sys.argv[1])\n"
        "picture = Picture(np.zeros((rows, 400, 3), np.uint8))\n"
        "Upscaler(model, tile=128).enlarge(picture, Size(rows * 2, 800))\n"
        "print(peak_so_far())\n"
    )

    def peak(rows: int) -> int:
        done = subprocess.run([sys.executable, "-c", script, str(rows)], capture_output=True, text=True, check=True)
        return int(done.stdout)

    few, many = 400, 3200
    pictures = (many - few) * 400 * 3 * (1 + 4)
    assert peak(many) - peak(few) < pictures + 48 * 2**20
