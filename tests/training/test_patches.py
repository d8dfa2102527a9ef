"""Training pictures and patches: finding, decoding, cropping from one block of pixels, and downscaling."""

from __future__ import annotations

import collections
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor

from gsrcli.errors import PictureError
from gsrcli.resize import bicubic
from gsrcli.size import Size
from gsrcli.training.dataset import PictureBank, find_pictures, load_pictures
from gsrcli.training.patches import Pairs, PatchSampler, Scales

CPU = torch.device("cpu")
SCALES = Scales(low=1.1, high=4.0, far=8.0, far_share=0.2, unequal=0.25)

Source = tuple[int, tuple[int, int, int, int], tuple[int, bool]]


def ruler(height: int, width: int, number: int = 0) -> Tensor:
    """Return a picture whose pixels give their own position: red the column, green the row, blue the picture."""
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    return torch.stack((columns, rows, torch.full_like(rows, number))).to(torch.uint8)


def noise(height: int, width: int, seed: int = 0) -> Tensor:
    return torch.randint(256, (3, height, width), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


def crops(
    *pictures: Tensor, patch: int = 8, scales: Scales = SCALES, groups: int = 2, seed: int = 3, photo: bool = False
) -> PatchSampler:
    bank = PictureBank(pictures or (ruler(90, 120, 0), ruler(130, 75, 1)), CPU)
    return PatchSampler(bank, patch, scales, groups, "photo" if photo else "bicubic", seed)


def constant(scale: float) -> Scales:
    """Return a distribution of one scale only."""
    return Scales(scale, scale, scale, 0.0, 0.0)


def source_of(high: Tensor) -> Source:
    """Find the number of a crop's picture, its box, and how it was turned; fail if it is not a crop."""
    crop = (high * 255).round().to(torch.uint8)
    columns, rows, numbers = crop.int()
    number = int(numbers[0, 0])
    left, right, top, bottom = (int(n) for n in (columns.min(), columns.max(), rows.min(), rows.max()))
    box = ruler(256, 256, number)[:, top : bottom + 1, left : right + 1]
    for quarter in range(4):
        for mirrored in (False, True):
            turned = box.rot90(quarter, (1, 2))
            if torch.equal(crop, turned.flip(2) if mirrored else turned):
                return number, (left, top, right + 1, bottom + 1), (quarter, mirrored)
    raise AssertionError("this is no crop of the picture, nor one turned or mirrored")


# ---- the bank ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("flipped", [False, True])
@pytest.mark.parametrize("mirrored", [False, True])
def test_a_crop_is_the_pictures_pixels_in_each_of_the_eight_symmetries(
    turned: bool, flipped: bool, mirrored: bool
) -> None:
    """Compare reading by index arithmetic from the second of three pictures with cropping and turning by numpy."""
    pictures = [noise(20, 31, 0), noise(40, 23, 1), noise(9, 9, 2)]
    bank = PictureBank(pictures, CPU)
    top, left, height, width, stride = 5, 3, 12, 17, 23  # before turning
    box = pictures[1].numpy()[:, top : top + height, left : left + width]
    expected = box[:, ::-1] if flipped else box
    expected = expected[:, :, ::-1] if mirrored else expected
    expected = expected.transpose(0, 2, 1) if turned else expected
    first = int(bank.starts[1]) + (top + flipped * (height - 1)) * stride + left + mirrored * (width - 1)
    steps = (-stride if flipped else stride), (-1 if mirrored else 1)
    down, right = steps[::-1] if turned else steps
    crop = bank.crop(*(bank.send(np.array([n])) for n in (first, down, right)), Size.of_tensor(expected))
    assert crop.dtype == torch.float32
    assert np.array_equal((crop[0] * 255).round().numpy(), expected)
    assert torch.equal(crop[0], torch.from_numpy(expected.copy()).float() / 255)


def test_every_value_of_every_channel_survives() -> None:
    """Pixels are held as signed 32-bit numbers."""
    picture = torch.stack((torch.arange(256), torch.arange(256).flip(0), torch.arange(256) ^ 128)).to(torch.uint8)
    bank = PictureBank([picture.unflatten(1, (16, 16))], CPU)
    crop = bank.crop(*(bank.send(np.array([n])) for n in (0, 16, 1)), Size(16, 16))
    assert torch.equal(crop[0] * 255, picture.unflatten(1, (16, 16)).float())


def test_pictures_that_do_not_fit_on_the_device_stay_in_the_hosts_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """A device without memory stands in for a small one."""
    where = torch.device("meta")
    area = 100 * 100
    for free, expected in ((1e9, "meta"), (8.1 * area, "meta"), (7.9 * area, "cpu")):
        monkeypatch.setattr("gsrcli.training.dataset.free_memory", lambda device, free=free: free)
        bank = PictureBank([noise(100, 100)], where)
        assert bank.send(np.array([0])).device.type == expected
        crop = bank.crop(*(bank.send(np.array([n])) for n in (0, 100, 1)), Size(5, 6))
        assert (crop.device.type, crop.shape) == ("meta", (1, 3, 5, 6))


def test_pictures_in_the_hosts_memory_give_the_same_crops(monkeypatch: pytest.MonkeyPatch) -> None:
    usual = crops().batch(0, 4)
    monkeypatch.setattr("gsrcli.training.dataset.free_memory", lambda device: 0.0)
    for one, other in zip(usual, crops().batch(0, 4), strict=True):
        assert torch.equal(one.high, other.high)


# ---- detail --------------------------------------------------------------------------------------------


def cells_of(picture: Tensor) -> np.ndarray:
    """Compute the mean change in green over squares of 16, pixel by pixel."""
    green = picture[1].numpy().astype(int)
    height, width = green.shape
    change = np.zeros(green.shape)
    for y in range(height):
        for x in range(width):
            above = abs(green[y, x] - green[y - 1, x]) if y else 0
            beside = abs(green[y, x] - green[y, x - 1]) if x else 0
            change[y, x] = above + beside
    rows, columns = max(1, height // 16), max(1, width // 16)
    squares = [[change[16 * i : 16 * i + 16, 16 * j : 16 * j + 16].mean() for j in range(columns)] for i in range(rows)]
    return np.array(squares)


def test_detail_is_the_mean_over_the_cells_that_a_crop_covers() -> None:
    """Compare with adding up cells one by one; those in which a crop begins count, those in which it ends do not."""
    pictures = [noise(50, 70), ruler(33, 120), noise(16, 40, 1) // 3, noise(9, 64, 2)]
    cells = [cells_of(picture) for picture in pictures]
    bank = PictureBank(pictures, CPU)
    random = np.random.default_rng(0)
    for _ in range(300):
        number = int(random.integers(len(pictures)))
        _, height, width = pictures[number].shape
        size = int(random.integers(1, height + 1)), int(random.integers(1, width + 1))
        top, left = int(random.integers(height - size[0] + 1)), int(random.integers(width - size[1] + 1))
        rows, columns = cells[number].shape
        i, j = min(top // 16, rows - 1), min(left // 16, columns - 1)
        covered = cells[number][
            i : max(i + 1, (top + size[0]) // 16),
            j : max(j + 1, (left + size[1]) // 16),
        ]
        found = bank.detail(np.array([number]), np.array([top]), np.array([left]), Size(*size))
        assert found == pytest.approx([covered.mean()], rel=1e-5, abs=1e-6)


def test_each_patch_is_the_more_detailed_of_two_crops() -> None:
    """Half of the picture is flat: of pairs of crops within a half, three in four have one with detail."""
    picture = torch.zeros(3, 64, 400, dtype=torch.uint8)
    picture[:, :, 200:] = noise(64, 200)
    (pairs,) = crops(picture, scales=constant(2), groups=1).batch(0, 400)
    flat = int((pairs.high.amax((1, 2, 3)) == 0).sum())
    assert 60 < flat < 140  # a quarter; half with a single candidate


# ---- crops ---------------------------------------------------------------------------------------------


def test_a_batch_depends_on_seed_and_step_alone() -> None:
    one, other = crops(), crops()
    backwards = [other.batch(step, 4) for step in reversed(range(6))][::-1]
    torch.manual_seed(7)
    for step in range(6):
        for a, b in zip(one.batch(step, 4), backwards[step], strict=True):
            assert torch.equal(a.low, b.low)
            assert torch.equal(a.high, b.high)
    assert len({one.batch(step, 4)[0].high.numpy().tobytes() for step in range(20)}) == 20


def test_noise_too_depends_on_seed_and_step_alone() -> None:
    one, other = (crops(noise(90, 90), photo=True) for _ in range(2))
    other.batch(3, 8)
    for a, b in zip(one.batch(5, 8), other.batch(5, 8), strict=True):
        assert torch.equal(a.low, b.low)
    clean = crops(noise(90, 90)).batch(5, 8)
    assert any(not torch.equal(a.low, b.low) for a, b in zip(one.batch(5, 8), clean, strict=True))


def test_seeds_make_streams_of_their_own() -> None:
    streams = {tuple(tuple(pairs.high.shape) for pairs in crops(seed=seed).batch(0, 4)) for seed in range(5)}
    assert len(streams) == 5


@pytest.mark.parametrize("seed", [0, 20240101, 2**31 - 1, 2**62, -5])
def test_any_seed_makes_a_stream_and_a_long_one(seed: int) -> None:
    groups = crops(seed=seed).batch(10**9, 4)
    assert [pairs.low.shape for pairs in groups] == [(2, 3, 8, 8)] * 2


def test_a_group_is_an_equal_part_of_the_batch_at_one_scale() -> None:
    groups = crops(groups=3).batch(4, 12)
    assert [len(pairs.low) for pairs in groups] == [len(pairs.high) for pairs in groups] == [4, 4, 4]
    assert len({pairs.scale for pairs in groups}) == 3
    for pairs in groups:
        assert pairs.scale == (pairs.high.shape[2] / 8, pairs.high.shape[3] / 8)
    assert Pairs(torch.zeros(1, 3, 4, 5), torch.zeros(1, 3, 6, 20)).scale == (1.5, 4.0)


def test_high_is_a_crop_of_a_picture_in_all_eight_orientations() -> None:
    stream = crops()
    sources = [source_of(high) for step in range(25) for pairs in stream.batch(step, 8) for high in pairs.high]
    turns = collections.Counter(turn for _, _, turn in sources)
    assert len(turns) == 8
    assert min(turns.values()) > len(sources) / 8 / 2
    assert {number for number, _, _ in sources} == {0, 1}


def test_crops_with_unequal_sides_are_turned_too() -> None:
    """A crop of 16 x 32 lies in the picture as 16 x 32 or, a quarter turned, as 32 x 16."""
    stream = crops(ruler(80, 90), scales=Scales(1.5, 4, 4, 0, 1), groups=1)
    lying: collections.Counter[int] = collections.Counter()
    unequal = 0
    for step in range(30):
        (pairs,) = stream.batch(step, 8)
        unequal += pairs.high.shape[2] != pairs.high.shape[3]
        for high in pairs.high:
            _, (left, top, right, bottom), (quarter, _) = source_of(high)
            box = (bottom - top, right - left)
            lying[quarter % 2] += 1
            assert (box[::-1] if quarter % 2 else box) == tuple(high.shape[1:])
    assert min(lying.values()) > 80  # of 240
    assert unequal > 25  # of 30; two may round to one number of pixels


def test_crops_lie_everywhere_up_to_the_edges() -> None:
    (pairs,) = crops(ruler(17, 18), scales=constant(2), groups=1).batch(0, 200)
    corners = {source_of(high)[1][:2] for high in pairs.high}
    assert corners == {(left, top) for left in (0, 1, 2) for top in (0, 1)}


@settings(max_examples=60, deadline=None)
@given(
    sides=st.lists(st.tuples(st.integers(8, 100), st.integers(8, 100)), min_size=1, max_size=4),
    patch=st.integers(1, 12),
    scales=st.tuples(st.floats(1, 8), st.floats(1, 8)),
    step=st.integers(0, 2**40),
)
def test_crops_lie_inside_their_pictures_whatever_the_sizes(
    sides: list[tuple[int, int]], patch: int, scales: tuple[float, float], step: int
) -> None:
    """Includes crops as large as the smallest picture's shorter side."""
    fitting = min(min(pair) for pair in sides) / patch
    if fitting < 1:
        return
    low, high = sorted(min(scale, fitting) for scale in scales)
    pictures = [ruler(*pair, number) for number, pair in enumerate(sides)]
    stream = crops(*pictures, patch=patch, scales=Scales(low, high, fitting, 0.3, 0.5), groups=2, seed=step % 100)
    for pairs in stream.batch(step, 6):
        assert pairs.low.shape == (3, 3, patch, patch)
        for crop in pairs.high:
            number, (left, top, right, bottom), _ = source_of(crop)
            height, width = sides[number]
            assert 0 <= left < right <= width
            assert 0 <= top < bottom <= height


def test_low_is_each_crop_downscaled_by_itself() -> None:
    """Values are multiples of 1/255 as in files; one in a million may be rounded the other way."""
    stream = crops(noise(120, 100), noise(97, 96, 1), patch=12)
    different = values = 0
    for step in range(25):
        for pairs in stream.batch(step, 16):
            torch.testing.assert_close(pairs.low * 255, (pairs.low * 255).round(), atol=1e-4, rtol=0)
            assert 0 <= pairs.low.min() <= pairs.low.max() <= 1
            alone = torch.cat([bicubic.downscale_rounded(high[None].contiguous(), Size(12, 12)) for high in pairs.high])
            apart = ((pairs.low - alone) * 255).round().abs()
            assert apart.max() <= 1
            different += int((apart > 0).sum())
            values += apart.numel()
    assert different <= values * 1e-6 + 1


def test_downscaled_pictures_are_cropped_the_same_way() -> None:
    """The ruler's columns and rows increase from pixel to pixel by the factor that it was downscaled by."""
    bank = PictureBank([ruler(200, 240)], CPU)
    stream = PatchSampler(bank, 16, constant(2.0), 1, "bicubic", 0, reduce=3.0)
    factors = []
    for step in range(60):
        (pairs,) = stream.batch(step, 2)
        assert pairs.high.shape == (2, 3, 32, 32)
        assert torch.equal(pairs.low, bicubic.downscale_rounded(pairs.high, Size(16, 16)))
        inner = (pairs.high * 255)[:, :2, 4:-4, 4:-4]
        steps = [inner.diff(dim=dim).abs().mean((2, 3)).max(1).values for dim in (2, 3)]
        factors += torch.stack(steps).mean(0).tolist()
    assert 1 <= min(factors) < 1.2
    assert 2.8 < max(factors) <= 3.05
    assert 1.7 < np.mean(factors) < 2.3


def test_pictures_are_downscaled_no_further_than_their_size_allows() -> None:
    bank = PictureBank([ruler(200, 240), ruler(40, 50, 1)], CPU)
    stream = PatchSampler(bank, 16, constant(2.0), 1, "bicubic", 0, reduce=100.0)
    assert all(stream.batch(step, 2)[0].high.shape == (2, 3, 32, 32) for step in range(40))


def test_low_is_what_pillow_makes_of_high() -> None:
    (pairs,) = crops(noise(100, 100), groups=1).batch(1, 8)
    for low, high in zip(pairs.low, pairs.high, strict=True):
        planes = [Image.fromarray(plane.numpy(), "F").resize((8, 8), Image.Resampling.BICUBIC) for plane in high]
        expected = np.stack([np.asarray(plane) for plane in planes]).clip(0, 1)
        np.testing.assert_allclose(low.numpy(), expected, atol=0.51 / 255)


# ---- scales --------------------------------------------------------------------------------------------


def drawn(scales: Scales, count: int, groups: int = 1, seed: int = 0) -> np.ndarray:
    """Return the scales of the first batches, before sides are rounded to pixels."""
    found: list[tuple[float, float]] = []

    class Recording(Scales):
        def at(self, place: float, generator: np.random.Generator) -> tuple[float, float]:
            found.append(super().at(place, generator))
            return 1.0, 1.0

    recording = Recording(scales.low, scales.high, scales.far, scales.far_share, scales.unequal)
    stream = crops(ruler(9, 9), scales=recording, groups=groups, seed=seed)
    for step in range(count // groups):
        stream.batch(step, groups)
    return np.array(found)


def test_scales_are_drawn_from_the_ranges_in_the_given_shares() -> None:
    found = drawn(SCALES, 3000)
    assert found.min() >= 1.1
    assert found.max() <= 8
    assert np.mean(found[:, 0] != found[:, 1]) == pytest.approx(0.25, abs=0.03)
    for axis, tolerance in zip(found.T, (0.002, 0.03), strict=True):
        far = axis > 4
        assert far.mean() == pytest.approx(0.2, abs=tolerance)
        for part, low, high in ((axis[~far], 1.1, 4), (axis[far], 4, 8)):
            quartiles = np.quantile((part - low) / (high - low), [0, 0.25, 0.5, 0.75, 1])
            assert quartiles == pytest.approx([0, 0.25, 0.5, 0.75, 1], abs=0.05)
    apart = found[found[:, 0] != found[:, 1]]
    assert abs(np.corrcoef(apart.T)[0, 1]) < 0.12


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("groups", [1, 2, 5])
def test_few_steps_cover_the_whole_range(groups: int, seed: int) -> None:
    """Forty consecutive scales hit each of twenty equal parts of the range; random ones would miss about two."""
    scales = Scales(1.0, 5.0, 5.0, 0.0, 0.0)
    found = drawn(scales, 200, groups, seed)[:, 0]
    for begin in range(0, 160, 40):
        assert len({int(5 * (scale - 1)) for scale in found[begin : begin + 40]}) == 20


@pytest.mark.parametrize(
    ("scales", "low", "high"),
    [
        (Scales(2, 2, 2, 0, 0), 2, 2),
        (Scales(1, 3, 6, 1, 0), 3, 6),
        (Scales(1, 3, 6, 0, 1), 1, 3),
        (Scales(2, 2, 6, 0.5, 1), 2, 6),
    ],
    ids=str,
)
def test_ranges_may_be_empty_and_shares_whole(scales: Scales, low: float, high: float) -> None:
    found = drawn(scales, 200)
    assert low <= found.min() <= found.max() <= high
    assert np.mean(found[:, 0] != found[:, 1]) == (0 if scales.unequal == 0 else pytest.approx(1, abs=0.35))


# ---- files ---------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Write pictures of several formats, and files that are not pictures."""
    (tmp_path / "deeper" / "still").mkdir(parents=True)
    (tmp_path / "a folder.png").mkdir()
    pixels = ruler(20, 30, 7).permute(1, 2, 0).numpy()
    Image.fromarray(pixels).save(tmp_path / "b.png")
    Image.fromarray(pixels[..., 0]).save(tmp_path / "deeper" / "still" / "grey.PNG")
    Image.fromarray(pixels[..., 0].astype(np.uint16) * 257).save(tmp_path / "deeper" / "sixteen.png")
    Image.fromarray(pixels[:5]).save(tmp_path / "a.tif")
    (tmp_path / "notes.txt").write_text("not a picture")
    return tmp_path


def test_pictures_are_found_in_subfolders_in_order(folder: Path) -> None:
    names = [path.relative_to(folder).as_posix() for path in find_pictures(folder)]
    assert names == ["a.tif", "b.png", "deeper/sixteen.png", "deeper/still/grey.PNG"]


def test_a_folder_without_pictures_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("not a picture")
    with pytest.raises(PictureError, match="no pictures found"):
        find_pictures(tmp_path)
    for missing in (tmp_path / "missing", tmp_path / "notes.txt"):
        with pytest.raises(PictureError, match="folder not found"):
            find_pictures(missing)


def test_pictures_are_loaded_as_8_bit_rgb(folder: Path) -> None:
    loaded = load_pictures(find_pictures(folder), smallest=1)
    small, colour, sixteen, grey = loaded.pictures
    expected = ruler(20, 30, 7)
    assert torch.equal(colour, expected)
    assert torch.equal(small, expected[:, :5])
    for picture in (sixteen, grey):
        assert picture.is_contiguous()
        assert torch.equal(picture, expected[:1].expand(3, -1, -1))
    assert (loaded.too_small, loaded.damaged) == ([], {})


def test_small_pictures_are_left_out_and_named(folder: Path) -> None:
    paths = [folder / "a.tif", folder / "b.png"]
    loaded = load_pictures(paths, smallest=20)
    assert [tuple(picture.shape) for picture in loaded.pictures] == [(3, 20, 30)]
    assert loaded.too_small == [folder / "a.tif"]
    assert load_pictures(paths, smallest=21).too_small == paths


def test_files_that_cannot_be_read_are_left_out_and_named(folder: Path) -> None:
    cut_off, gone, animated = (folder / name for name in ("cut off.png", "gone.png", "animated.webp"))
    cut_off.write_bytes((folder / "b.png").read_bytes()[:60])
    frames = [Image.new("L", (30, 30), value) for value in (0, 200)]
    frames[0].save(animated, save_all=True, append_images=frames[1:])
    shutil.rmtree(folder / "a folder.png")
    loaded = load_pictures([cut_off, folder / "b.png", gone, animated], smallest=1)
    assert [tuple(picture.shape) for picture in loaded.pictures] == [(3, 20, 30)]
    assert set(loaded.damaged) == {cut_off, gone, animated}
    for path, why in loaded.damaged.items():
        assert str(path) in why
    assert "animated" in loaded.damaged[animated]
