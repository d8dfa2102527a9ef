"""``gsrcli.upscale``: the same results as those of the command."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from support.checkpoints import save_tiny
from typer.testing import Result

import gsrcli
from gsrcli.errors import LimitError, ModelError, PictureError, UsageError
from gsrcli.images import Colour, Metadata, Picture, PictureFile, read_picture, write_picture
from gsrcli.models import Model
from gsrcli.size import Size

Photo = Callable[..., Path]


@pytest.fixture(scope="module")
def model(tiny_path: Path) -> Model:
    return gsrcli.load_model(tiny_path)


def noise(shape: tuple[int, ...], dtype: Any = np.uint8) -> np.ndarray:
    random = np.random.default_rng(0)
    if np.issubdtype(dtype, np.floating):
        return random.random(shape).astype(dtype)
    return random.integers(0, np.iinfo(dtype).max, shape, dtype, endpoint=True)


@pytest.mark.parametrize("give", [str, Path])
def test_a_path_gives_a_picture(model: Model, photo: Photo, give: type) -> None:
    enlarged = gsrcli.upscale(give(photo()), 2.5, model=model)
    assert isinstance(enlarged, Picture)
    assert enlarged.size == Size(45, 60)


def test_the_example_of_the_package(model: Model, photo: Photo, tmp_path: Path) -> None:
    """``gsrcli.upscale("photo.png", scale=6.5).save("large.png")``, as in the docstring of the package."""
    gsrcli.upscale(photo(), scale=6.5, model=model).save(tmp_path / "large.png")  # type: ignore[attr-defined]
    assert Image.open(tmp_path / "large.png").size == (156, 117)


@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "LA"])
@pytest.mark.parametrize("options", [[], ["--precision", "bfloat16"]], ids=["auto", "bfloat16"])
def test_it_gives_the_result_of_the_command(
    upscale: Callable[..., Result], tiny_path: Path, photo: Photo, tmp_path: Path, mode: str, options: list[str]
) -> None:
    source = photo(mode=mode)
    assert upscale(source, "--scale", 2.5, *options).exit_code == 0
    precision = options[1] if options else "auto"
    write_picture(gsrcli.upscale(source, 2.5, model=tiny_path, precision=precision), tmp_path / "api.png")
    assert (tmp_path / "api.png").read_bytes() == (tmp_path / "photo_x2.5.png").read_bytes()


def test_a_picture_keeps_its_metadata(model: Model) -> None:
    metadata = Metadata(exif=b"II*\0\x08\0\0\0\0\0\0\0\0\0", dpi=(300.0, 300.0))
    picture = Picture(noise((6, 5, 3)), colour=Colour(icc=b"profile"), metadata=metadata)
    enlarged = gsrcli.upscale(picture, 2, model=model)
    assert (enlarged.colour, enlarged.metadata) == (picture.colour, picture.metadata)
    assert enlarged.size == Size(12, 10)


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA"])
def test_pillow_images(model: Model, photo: Photo, mode: str) -> None:
    with Image.open(photo(mode=mode, dpi=(300, 300), icc_profile=b"a profile")) as image:
        enlarged = gsrcli.upscale(image, 3, model=model)
        assert isinstance(enlarged, Image.Image)
        assert (enlarged.mode, enlarged.size) == (mode, (72, 54))
        assert enlarged.info["icc_profile"] == b"a profile"
        assert enlarged.info["dpi"] == image.info["dpi"]
        assert np.array_equal(np.asarray(enlarged), gsrcli.upscale(np.asarray(image), 3, model=model))


@pytest.mark.parametrize("mode", ["P", "CMYK", "1", "I;16", "F", "YCbCr", "HSV"])
def test_pillow_images_of_other_modes_say_what_to_do(model: Model, mode: str) -> None:
    with pytest.raises(TypeError, match=f"mode {mode}; convert it to RGB or RGBA first"):
        gsrcli.upscale(Image.new(mode, (4, 4)), 2, model=model)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float16, np.float32, np.float64])
@pytest.mark.parametrize("shape", [(7, 5), (7, 5, 1), (7, 5, 2), (7, 5, 3), (7, 5, 4)])
def test_arrays_give_arrays_like_them(model: Model, dtype: Any, shape: tuple[int, ...]) -> None:
    array = noise(shape, dtype)
    before = array.copy()
    enlarged = gsrcli.upscale(array, 2.2, model=model)
    assert isinstance(enlarged, np.ndarray)
    assert enlarged.dtype == dtype
    assert enlarged.shape == (15, 11, *shape[2:])
    assert np.array_equal(array, before)
    if np.issubdtype(dtype, np.floating):
        assert enlarged.min() >= 0
        assert enlarged.max() <= 1


def test_arrays_of_all_types_agree(model: Model) -> None:
    eight = noise((9, 8, 3))
    enlarged = gsrcli.upscale(eight, 2, model=model).astype(float)
    sixteen = gsrcli.upscale(eight.astype(np.uint16) * 257, 2, model=model)
    unit = gsrcli.upscale(eight.astype(np.float32) / 255, 2, model=model)
    assert np.abs(sixteen / 257 - enlarged).max() <= 0.51
    assert np.abs(unit * 255 - enlarged).max() <= 0.51


def test_arrays_may_be_views(model: Model) -> None:
    array = noise((18, 16, 3))
    view = array[::2, ::-2]
    assert np.array_equal(gsrcli.upscale(view, 2, model=model), gsrcli.upscale(view.copy(), 2, model=model))
    array.setflags(write=False)
    gsrcli.upscale(array, 1.5, model=model)


@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0])
def test_transparency_of_an_array_is_its_last_channel(model: Model, alpha: float) -> None:
    array = np.concatenate([noise((8, 8, 3), np.float32), np.full((8, 8, 1), alpha, np.float32)], axis=2)
    enlarged = gsrcli.upscale(array, 2, model=model)
    if alpha == 1:
        assert (enlarged[..., 3] == 1).all()
        assert np.array_equal(enlarged[..., :3], gsrcli.upscale(array[..., :3], 2, model=model))
    assert enlarged.shape == (16, 16, 4)


@pytest.mark.parametrize(
    ("options", "shape"),
    [
        ({"scale": 2}, (14, 10)),
        ({"size": (20, 30)}, (20, 30)),
        ({"width": 10}, (14, 10)),
        ({"height": 14}, (14, 10)),
        ({"scale": 3, "tile": 2}, (21, 15)),
    ],
)
def test_ways_to_ask_for_a_size(model: Model, options: dict[str, Any], shape: tuple[int, int]) -> None:
    assert gsrcli.upscale(noise((7, 5)), model=model, **options).shape == shape


def test_one_model_serves_many_calls(model: Model, tiny_path: Path) -> None:
    array = noise((7, 5, 3))
    first = gsrcli.upscale(array, 2, model=model)
    assert np.array_equal(gsrcli.upscale(array, 2, model=model), first)
    assert np.array_equal(gsrcli.upscale(array, 2, model=str(tiny_path)), first)


def test_a_checkpoint_that_was_trained_further_is_read_again(tmp_path: Path) -> None:
    """As in a notebook next to a training run, which rewrites the same path."""
    array = noise((7, 5, 3))
    path = save_tiny(tmp_path / "weights.safetensors", seed=1)
    first = gsrcli.upscale(array, 2, model=path)
    save_tiny(path, seed=2)
    assert not np.array_equal(gsrcli.upscale(array, 2, model=path), first)


def test_the_default_model_works(photo: Photo) -> None:
    assert gsrcli.upscale(photo(), 2).size == Size(36, 48)


@pytest.mark.parametrize(
    "array",
    [noise((4, 4, 5)), noise((4,)), noise((1, 4, 4, 3)), noise((4, 4), np.int32), noise((4, 4)) > 9],
    ids=lambda a: f"{a.shape}-{a.dtype}",
)
def test_other_arrays_are_refused(model: Model, array: np.ndarray) -> None:
    with pytest.raises(TypeError, match="expected"):
        gsrcli.upscale(array, 2, model=model)


def test_arrays_without_pixels_are_refused(model: Model) -> None:
    with pytest.raises((TypeError, ValueError), match="expected"):
        gsrcli.upscale(np.zeros((0, 4, 3), np.uint8), 2, model=model)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e300])
def test_numbers_that_are_not_finite_in_float32_are_refused(model: Model, value: float) -> None:
    array = noise((4, 4, 3), np.float64)
    array[1, 2, 0] = value
    with pytest.raises(ValueError, match="NaN or numbers beyond float32"):
        gsrcli.upscale(array, 2, model=model)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_floating_point_is_not_rounded_to_integers(model: Model, dtype: Any) -> None:
    array = noise((9, 8, 3), dtype)
    enlarged = gsrcli.upscale(array, 2, model=model)
    pixels = gsrcli.upscale(Picture(array.astype(np.float32)), 2, model=model).pixels
    assert np.array_equal(enlarged, pixels.astype(dtype))
    if dtype is not np.float16:
        assert len(np.unique(enlarged)) > 0.8 * enlarged.size


def test_colours_may_have_any_range_but_alpha_is_clipped(model: Model) -> None:
    array = noise((9, 8, 4), np.float32) * 3 - 1
    colours = array[..., :3]
    enlarged = gsrcli.upscale(array, 2, model=model, alpha="data")
    assert colours.min() <= enlarged[..., :3].min() < 0
    assert 1 < enlarged[..., :3].max() <= colours.max()
    assert np.array_equal(enlarged[..., :3], gsrcli.upscale(colours, 2, model=model))
    assert np.array_equal(enlarged[..., 3], gsrcli.upscale(array[..., 3].clip(0, 1), 2, model=model))


@pytest.mark.parametrize("alpha", ["transparency", "data"])
def test_colours_under_an_alpha_of_0_count_as_data_alone(model: Model, alpha: Any) -> None:
    array = noise((9, 8, 4))
    array[2:7, 2:7, 3] = 0
    other = array.copy()
    other[2:7, 2:7, :3] ^= 255
    enlarged, changed = (gsrcli.upscale(pixels, 2, model=model, alpha=alpha) for pixels in (array, other))
    assert np.array_equal(enlarged, changed) == (alpha == "transparency")


@pytest.mark.parametrize("alpha", ["transparency", "data"])
def test_saving_knows_what_alpha_is(model: Model, tmp_path: Path, alpha: Any) -> None:
    """Heights of 7 that an alpha of 0 hides are white as data; otherwise they take the colour beside them, 3."""
    heights, opacity = np.full((12, 16, 1), 3, np.float32), np.ones((12, 16), np.float32)
    heights[:, 8:], opacity[:, 8:] = 7, 0
    gsrcli.upscale(Picture(heights, opacity), 2, model=model, alpha=alpha).save(tmp_path / "out.png")
    saved = read_picture(tmp_path / "out.png").pixels[12, :, 0]
    assert (saved[4], saved[-4]) == (0, 65535 if alpha == "data" else 0)


@pytest.mark.parametrize("thing", [None, 3, b"bytes", [[1, 2], [3, 4]]])
def test_other_things_are_refused(model: Model, thing: Any) -> None:
    with pytest.raises(TypeError, match=f"cannot upscale an object of type {type(thing).__name__}"):
        gsrcli.upscale(thing, 2, model=model)


@pytest.mark.parametrize("size", [(20,), "20x30", (20, 30, 3)])
def test_a_size_is_a_pair(model: Model, size: Any) -> None:
    with pytest.raises(TypeError, match="height, width"):
        gsrcli.upscale(noise((7, 5, 3)), size=size, model=model)


def test_errors_are_those_of_the_package(model: Model, tmp_path: Path) -> None:
    array = noise((7, 5, 3))
    with pytest.raises(UsageError, match="only enlarges"):
        gsrcli.upscale(array, 0.5, model=model)
    with pytest.raises(UsageError, match="would shrink"):
        gsrcli.upscale(array, width=3, model=model)
    with pytest.raises(UsageError, match="no scale or size"):
        gsrcli.upscale(array, model=model)
    with pytest.raises(UsageError, match="abacus"):
        gsrcli.upscale(array, 2, device="abacus")
    with pytest.raises(UsageError, match="tile"):
        gsrcli.upscale(array, 2, model=model, tile=0)
    with pytest.raises(UsageError, match="memory"):
        gsrcli.upscale(array, 2, model=model, memory=0)
    with pytest.raises(LimitError, match="memory"):
        gsrcli.upscale(array, 2, model=model, memory=1)
    with pytest.raises(ModelError, match="no model called"):
        gsrcli.upscale(array, 2, model="nonesuch")
    with pytest.raises(PictureError, match=r"gone\.png"):
        gsrcli.upscale(tmp_path / "gone.png", 2, model=model)


def test_a_file_of_several_pictures_says_how_to_read_it(model: Model, photo: Photo, tmp_path: Path) -> None:
    frames = [Image.open(photo(f"{seed}.png", seed=seed)) for seed in range(3)]
    frames[0].save(tmp_path / "film.gif", save_all=True, append_images=frames[1:])
    with pytest.raises(PictureError, match=r"film\.gif: it is animated \(3 frames\)") as caught:
        gsrcli.upscale(tmp_path / "film.gif", 2, model=model)
    assert "gsrcli.images.PictureFile" in (caught.value.hint or "")
    sizes = [gsrcli.upscale(frame, 2, model=model).size for frame in PictureFile(tmp_path / "film.gif")]
    assert sizes == [Size(36, 48)] * 3


def test_the_limit_on_pixels_can_be_set(model: Model, photo: Photo) -> None:
    with pytest.raises(LimitError, match="24x18 is more than 400 pixels") as caught:
        gsrcli.upscale(photo(), 2, model=model, max_pixels=400)
    assert "--max-pixels 432" in (caught.value.hint or "")
    assert gsrcli.upscale(photo(), 2, model=model, max_pixels=432).size == Size(36, 48)


def test_a_picture_is_saved_like_those_of_the_command(model: Model, photo: Photo, tmp_path: Path) -> None:
    enlarged = gsrcli.upscale(photo(mode="RGBA"), 2, model=model)
    with pytest.raises(PictureError, match="cannot keep the transparency"):
        enlarged.save(tmp_path / "large.jpg")
    enlarged.save(tmp_path / "large.jpg", background="white", quality=80)
    enlarged.save(tmp_path / "large.webp", lossless=True)
    with pytest.raises(PictureError, match="the file exists"):
        enlarged.save(tmp_path / "large.webp", overwrite=False)
    with pytest.raises(UsageError, match="unknown colour"):
        enlarged.save(tmp_path / "large.bmp", background="whitish")
    assert Image.open(tmp_path / "large.jpg").mode == "RGB"
    assert (tmp_path / "large.webp").read_bytes()[12:16] in (b"VP8L", b"VP8X")


def test_an_unknown_precision_is_a_usage_error(model: Model) -> None:
    with pytest.raises((UsageError, ValueError), match="float16"):
        gsrcli.upscale(noise((7, 5, 3)), 2, model=model, precision="float16")  # type: ignore[call-overload]


def test_a_path_and_the_picture_read_from_it_give_the_same_result(model: Model, photo: Photo) -> None:
    source = photo(mode="RGBA")
    by_path, by_picture = gsrcli.upscale(source, 2, model=model), gsrcli.upscale(read_picture(source), 2, model=model)
    assert np.array_equal(by_path.pixels, by_picture.pixels)
    assert by_path.alpha is not None
    assert by_picture.alpha is not None
    assert np.array_equal(by_path.alpha, by_picture.alpha)
