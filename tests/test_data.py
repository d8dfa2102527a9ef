from __future__ import annotations

import collections
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from gsrcli.data import Crops, Pair, Scales, Span, find_pictures, load_pictures
from gsrcli.errors import PictureError

_SCALES = Scales(low=1.1, high=4.0, far=8.0, far_share=0.2, unequal=0.25)


def ruler(height: int, width: int, number: int = 0) -> Tensor:
    """A picture each pixel of which tells where it is: red its column, green its row, blue the picture."""
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    return torch.stack((columns, rows, torch.full_like(rows, number))).to(torch.uint8)


def crops(*pictures: Tensor, patch: int = 8, scales: Scales = _SCALES, seed: int = 3) -> Crops:
    return Crops(pictures or (ruler(90, 120, 0), ruler(130, 75, 1)), patch, scales, seed)


def source_of(pair: Pair) -> tuple[int, tuple[int, ...], tuple[int, bool]]:
    """The number of the picture a pair comes from, the crop's box, and how it was turned. Fails if it is no crop."""
    high = (pair.high * 255).round().to(torch.uint8)
    columns, rows, numbers = high.int()
    number = int(numbers[0, 0])
    left, right, top, bottom = (int(n) for n in (columns.min(), columns.max(), rows.min(), rows.max()))
    box = ruler(256, 256, number)[:, top : bottom + 1, left : right + 1]
    for quarter in range(4):
        for mirrored in (False, True):
            turned = box.rot90(quarter, (1, 2))
            if torch.equal(high, turned.flip(2) if mirrored else turned):
                return number, (left, top, right + 1, bottom + 1), (quarter, mirrored)
    raise AssertionError("this is no crop of the picture, nor one turned or mirrored")


# ---- pairs ---------------------------------------------------------------------------------------------


def test_an_example_depends_on_seed_and_index_alone() -> None:
    one, other = crops(), crops()
    backwards = [other[i] for i in reversed(range(6))][::-1]
    for i in range(6):
        assert torch.equal(one[i].low, backwards[i].low)
        assert torch.equal(one[i].high, backwards[i].high)
    assert len({one[i].high.numpy().tobytes() for i in range(20)}) == 20


def test_seeds_make_streams_of_their_own() -> None:
    streams = {tuple(crops(seed=seed)[i].high.shape for i in range(6)) for seed in range(5)}
    assert len(streams) == 5


@pytest.mark.parametrize("seed", [0, 20240101, 2**31 - 1])
def test_any_seed_makes_a_stream_and_a_long_one(seed: int) -> None:
    assert crops(seed=seed)[10**9].low.shape == (3, 8, 8)


def test_high_is_a_crop_of_a_picture_in_all_eight_orientations() -> None:
    sources = [source_of(crops()[i]) for i in range(300)]
    turns = collections.Counter(turn for _, _, turn in sources)
    assert len(turns) == 8
    assert min(turns.values()) > 300 / 8 / 3
    assert {number for number, _, _ in sources} == {0, 1}


def test_crops_lie_everywhere_up_to_the_edges() -> None:
    stream = crops(ruler(17, 18), scales=Scales(2, 2, 2, 0, 0))
    corners = {source_of(stream[i])[1][:2] for i in range(100)}
    assert corners == {(left, top) for left in (0, 1, 2) for top in (0, 1)}


def test_low_is_high_shrunk_bicubically_to_eight_bits() -> None:
    picture = torch.randint(256, (3, 100, 100), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    for i in range(8):
        pair = crops(picture)[i]
        steps = pair.low * 255
        torch.testing.assert_close(steps, steps.round(), atol=1e-4, rtol=0)
        assert 0 <= pair.low.min() <= pair.low.max() <= 1
        planes = [Image.fromarray(plane.numpy(), "F").resize((8, 8), Image.Resampling.BICUBIC) for plane in pair.high]
        expected = np.stack([np.asarray(plane) for plane in planes]).clip(0, 1)
        np.testing.assert_allclose(pair.low.numpy(), expected, atol=0.51 / 255)


def test_scale_is_that_of_the_sides() -> None:
    for i in range(20):
        pair = crops()[i]
        torch.testing.assert_close(pair.scale * 8, torch.tensor(pair.high.shape[1:]).float())
        assert pair.scale.dtype == torch.float32
    assert Pair(torch.zeros(3, 4, 5), torch.zeros(3, 6, 20)).scale.tolist() == [1.5, 4.0]


def test_pictures_too_small_for_a_scale_are_used_whole() -> None:
    pair = crops(ruler(30, 20), scales=Scales(6, 6, 8, 0, 0))[0]
    number, box, _ = source_of(pair)
    assert (number, box) == (0, (0, 0, 20, 30))
    assert sorted(pair.scale.tolist()) == [20 / 8, 30 / 8]


def test_of_two_crops_the_one_with_more_detail_is_taken() -> None:
    """Half of the picture is flat: of pairs of crops within a half, three in four have one with detail."""
    picture = torch.zeros(3, 64, 400, dtype=torch.uint8)
    picture[:, :, 200:] = torch.randint(256, (3, 64, 200), dtype=torch.uint8)
    flat = sum(crops(picture, scales=Scales(2, 2, 2, 0, 0))[i].high.any().item() is False for i in range(200))
    assert 25 < flat < 75  # a quarter; half if one crop were taken as it comes


# ---- scales --------------------------------------------------------------------------------------------


def test_scales_are_drawn_from_the_ranges_in_the_shares_asked_for() -> None:
    generator = torch.Generator().manual_seed(0)
    drawn = np.array([_SCALES.draw(generator) for _ in range(4000)])
    assert drawn.min() >= 1.1
    assert drawn.max() <= 8
    assert np.mean(drawn[:, 0] != drawn[:, 1]) == pytest.approx(0.25, abs=0.03)
    for axis in drawn.T:
        far = axis > 4
        assert far.mean() == pytest.approx(0.2, abs=0.03)
        assert axis[~far].mean() == pytest.approx((1.1 + 4) / 2, abs=0.08)
        assert axis[far].mean() == pytest.approx((4 + 8) / 2, abs=0.2)
    near, far = drawn[drawn < 4], drawn[drawn > 4]
    assert near.min() < 1.15
    assert near.max() > 3.95
    assert far.max() > 7.9


def test_unequal_scales_reach_the_pairs() -> None:
    shapes = [crops(scales=Scales(2, 3, 3, 0, unequal))[i].high.shape for unequal in (0, 1) for i in range(20)]
    assert all(height == width for _, height, width in shapes[:20])
    assert sum(height != width for _, height, width in shapes[20:]) > 10


def test_span_is_the_indices_in_order() -> None:
    span = Span(5, 9)
    assert (list(span), list(span), len(span)) == ([5, 6, 7, 8], [5, 6, 7, 8], 4)


# ---- files ---------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Pictures of several kinds, and what is none."""
    (tmp_path / "deeper" / "still").mkdir(parents=True)
    (tmp_path / "a folder.png").mkdir()
    pixels = ruler(20, 30, 7).permute(1, 2, 0).numpy()
    Image.fromarray(pixels).save(tmp_path / "b.png")
    Image.fromarray(pixels[..., 0]).save(tmp_path / "deeper" / "still" / "grey.PNG")
    Image.fromarray(pixels[..., 0].astype(np.uint16) * 257).save(tmp_path / "deeper" / "sixteen.png")
    Image.fromarray(pixels[:5]).save(tmp_path / "a.tif")
    (tmp_path / "notes.txt").write_text("not a picture")
    return tmp_path


def test_pictures_are_found_in_folders_below_in_order(folder: Path) -> None:
    names = [path.relative_to(folder).as_posix() for path in find_pictures(folder)]
    assert names == ["a.tif", "b.png", "deeper/sixteen.png", "deeper/still/grey.PNG"]


def test_a_folder_without_pictures_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("not a picture")
    for path in (tmp_path, tmp_path / "missing"):
        with pytest.raises(PictureError, match="no pictures"):
            find_pictures(path)


def test_pictures_are_loaded_as_8_bit_rgb(folder: Path) -> None:
    shutil.rmtree(folder / "a folder.png")
    small, colour, sixteen, grey = load_pictures(find_pictures(folder), smallest=1)
    expected = ruler(20, 30, 7)
    assert torch.equal(colour, expected)
    assert torch.equal(small, expected[:, :5])
    for picture in (sixteen, grey):
        assert picture.is_contiguous()
        assert torch.equal(picture, expected[:1].expand(3, -1, -1))


def test_small_pictures_are_left_out_unless_all_are(folder: Path) -> None:
    paths = [folder / "a.tif", folder / "b.png"]
    assert [tuple(picture.shape) for picture in load_pictures(paths, smallest=20)] == [(3, 20, 30)]
    with pytest.raises(PictureError, match="none of 2 pictures has 21 pixels"):
        load_pictures(paths, smallest=21)


def test_a_picture_that_cannot_be_read_is_named(folder: Path) -> None:
    broken = folder / "broken.png"
    broken.write_bytes((folder / "b.png").read_bytes()[:60])
    with pytest.raises(PictureError, match=r"broken\.png"):
        load_pictures([folder / "b.png", broken], smallest=1)
