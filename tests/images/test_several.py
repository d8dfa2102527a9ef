"""Several pictures in one file, as Python programs read and write them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pytest
from PIL import Image, ImageCms

from gsrcli.errors import LimitError, PictureError, UsageError
from gsrcli.images import (
    Cicp,
    Colour,
    Fate,
    Feature,
    Metadata,
    Picture,
    PictureFile,
    fit,
    output_format,
    output_formats,
    read_picture,
    with_fate,
    write_pictures,
)
from gsrcli.images.strips import Strips, in_memory
from gsrcli.images.writers import ANIMATIONS, PAGES, Encoding


def grey(value: int, size: tuple[int, int] = (4, 6)) -> Picture:
    return Picture(np.full((*size, 1), value, np.uint8), duration=0.1)


@pytest.fixture
def encoded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Let PNG files of several pictures be their first values; return the list of values encoded so far."""
    values: list[int] = []

    def encode(file: BinaryIO, pictures: Iterable[Strips], loops: int, encoding: Encoding) -> None:
        for picture in map(in_memory, pictures):
            values.append(int(picture.pixels[0, 0, 0]))  # noqa: PERF401 (its length is looked at meanwhile)
        file.write(bytes([loops, *values]))

    monkeypatch.setitem(ANIMATIONS, "PNG", encode)  # type: ignore[arg-type]
    return values


def test_pictures_are_asked_for_one_by_one(encoded: list[int], tmp_path: Path) -> None:
    seen: list[int] = []

    def made() -> Iterator[Picture]:
        for value in range(5):
            seen.append(len(encoded))
            yield grey(value)

    write_pictures(made(), tmp_path / "film.png", loops=7)
    assert seen == [0, 1, 2, 3, 4]
    assert (tmp_path / "film.png").read_bytes() == bytes([7, 0, 1, 2, 3, 4])


@pytest.mark.parametrize("error", [ValueError("mine"), PictureError("mine"), OSError(5, "mine"), KeyError("mine")])
def test_what_the_making_of_pictures_raises_is_raised(encoded: list[int], tmp_path: Path, error: Exception) -> None:
    """It is not taken for a failure of the encoder."""

    def made() -> Iterator[Picture]:
        yield grey(1)
        raise error

    with pytest.raises(type(error)) as caught:
        write_pictures(made(), tmp_path / "film.png")
    assert caught.value is error
    assert list(tmp_path.iterdir()) == []


def test_each_picture_is_checked(encoded: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ANIMATIONS, "WEBP", ANIMATIONS["PNG"])  # type: ignore[arg-type]
    with pytest.raises(LimitError, match=r"film\.webp: 17000x2 is too large"):
        write_pictures([grey(1), grey(2, (2, 17000))], tmp_path / "film.webp")


@pytest.mark.parametrize("name", ["one.jpg", "one.bmp"])
def test_formats_of_one_picture_say_which_hold_more(encoded: list[int], tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match="does not hold several pictures") as caught:
        write_pictures([grey(1)], tmp_path / name)
    assert ".png" in (caught.value.hint or "")


def test_a_file_is_a_sequence_of_pictures(tmp_path: Path) -> None:
    pages = [Image.fromarray(np.full((4, 6), value, np.uint8)) for value in (10, 20, 30)]
    pages[0].save(tmp_path / "book.tif", save_all=True, append_images=pages[1:])
    file = PictureFile(tmp_path / "book.tif")
    assert len(file) == 3
    assert [int(page.pixels[0, 0, 0]) for page in file] == [10, 20, 30]
    with pytest.raises(PictureError, match=r"book\.tif: page 4: the file has 3 pages"):
        file.picture(3)
    with pytest.raises(PictureError, match=r"book\.tif: it has 3 pages"):
        read_picture(tmp_path / "book.tif")


def test_every_format_of_several_pictures_is_one_that_is_written() -> None:
    from gsrcli.images.writers import ENCODERS

    assert ANIMATIONS.keys() <= ENCODERS.keys()
    assert PAGES.keys() <= ENCODERS.keys()
    assert not ANIMATIONS.keys() & PAGES.keys()


# Frames that differ in what they have


def frame(value: tuple[int, ...], hole: bool = False, **parts: Any) -> Picture:
    """Return a frame of one colour, of which an eighth is visible if it has a hole."""
    pixels = np.empty((16, 16, len(value)), np.uint8)
    pixels[:] = value
    alpha = np.zeros((16, 16), np.uint8)
    alpha[4:8, 4:12] = 255
    return Picture(pixels, alpha if hole else None, duration=0.1, **parts)


def shown(pixels: Any, alpha: Any) -> np.ndarray:
    """Return a picture ``(16, 16, 4)`` whose colours are multiplied by alpha."""
    alpha = np.full((16, 16), 255, np.uint8) if alpha is None else alpha
    return np.dstack([pixels * (alpha[..., None] / 255), alpha])


RED, GREEN, BLUE, GREY = (255, 0, 0), (0, 255, 0), (0, 0, 255), (100,)
SEQUENCES = {
    "opaque, then transparent": [frame(RED), frame(GREEN, hole=True), frame(BLUE)],
    "transparent, then opaque": [frame(GREEN, hole=True), frame(GREEN), frame(BLUE, hole=True), frame(BLUE)],
    "transparent all the time": [frame(GREEN, hole=True), frame(RED, hole=True), frame(BLUE, hole=True)],
    "opaque twice, then transparent": [frame(RED), frame(RED), frame(GREEN, hole=True), frame(GREEN, hole=True)],
    "grey, then colour": [frame(GREY), frame(RED), frame(GREY)],
    "colour, then grey": [frame(RED), frame(GREY)],
    "grey, then transparent": [frame(GREY), frame(RED, hole=True), frame(GREY, hole=True)],
}


@pytest.mark.parametrize("suffix", [".gif", ".webp", ".png", ".avif"])
@pytest.mark.parametrize("name", SEQUENCES)
def test_frames_of_differing_channels_are_right_or_refused(tmp_path: Path, name: str, suffix: str) -> None:
    """Pillow, which is not what reads them in gsr, sees the same."""
    frames, path = SEQUENCES[name], tmp_path / f"film{suffix}"
    first = frames[0]
    more = first.alpha is None and any(each.alpha is not None or each.channels > first.channels for each in frames)
    if more and suffix in (".png", ".avif"):
        with pytest.raises(PictureError, match=r"frame \d of the animation has colours or transparency"):
            write_pictures(iter(frames), path)
        return
    write_pictures(iter(frames), path, lossless=suffix == ".webp")
    file, image = PictureFile(path), Image.open(path)
    assert (file.count, getattr(image, "n_frames", 1)) == (len(frames), len(frames))
    tolerance = 6 if suffix == ".avif" else 0
    for index, expected in enumerate(frames):
        wanted = shown(np.broadcast_to(expected.pixels, (16, 16, 3)), expected.alpha)
        picture = file.picture(index)
        assert np.abs(shown(np.broadcast_to(picture.pixels, (16, 16, 3)), picture.alpha) - wanted).max() <= tolerance
        if suffix == ".gif" and name.startswith("opaque twice"):
            continue  # Pillow has no transparency after a first frame that is without and stays
        image.seek(index)
        values = np.asarray(image.convert("RGBA"))
        assert np.abs(shown(values[..., :3], values[..., 3]) - wanted).max() <= tolerance


@pytest.mark.parametrize("suffix", [".gif", ".webp", ".png", ".avif"])
def test_frames_of_differing_sizes_are_refused(tmp_path: Path, suffix: str) -> None:
    with pytest.raises(PictureError, match="frame 2 of the animation has 6x4 pixels, and the first one 7x4"):
        write_pictures([grey(1, (4, 7)), grey(2)], tmp_path / f"film{suffix}")


def profile(name: str) -> bytes:
    return bytes(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()) + name.encode()


@pytest.mark.parametrize("suffix", [".webp", ".png", ".avif"])
@pytest.mark.parametrize(
    "second", [Colour(), Colour(icc=profile("b")), Colour(cicp=Cicp(9, 16))], ids=["none", "another", "code points"]
)
def test_frames_of_differing_colours_are_refused(tmp_path: Path, suffix: str, second: Colour) -> None:
    frames = [frame(RED, colour=Colour(icc=profile("a"))), frame(RED, colour=second)]
    with pytest.raises(PictureError, match="frame 2 of the animation has other colour tags"):
        write_pictures(frames, tmp_path / f"film{suffix}")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("suffix", [".webp", ".png", ".avif"])
def test_grey_frames_may_have_the_profile_for_grey(tmp_path: Path, suffix: str) -> None:
    colour = Colour(icc=profile("a"))
    write_pictures([frame(c, colour=colour) for c in (RED, GREY)], tmp_path / f"film{suffix}")
    found = PictureFile(tmp_path / f"film{suffix}").picture(1).colour.icc
    assert found
    assert profile("a").startswith(found)


@pytest.mark.parametrize("name", ANIMATIONS)
def test_animations_hold_what_they_are_said_to_keep(tmp_path: Path, name: str) -> None:
    """What the ledger calls kept is in the file, and 16 bits are said to become what they become."""
    form = next(f for f in output_formats() if f.name == name)
    path = tmp_path / f"film{form.suffixes[0]}"
    mastering, xmp = bytes(range(24)), b'<x:xmpmeta xmlns:x="adobe:ns:meta/"/>'
    colour = Colour(cicp=Cicp(9, 16), mastering=mastering, light=(10_000_000, 4_000_000))
    for metadata in (Metadata(aspect=2.0, xmp=xmp), Metadata(dpi=(300.0, 300.0))):
        deep = np.full((16, 16, 3), 30_000, np.uint16)
        picture = Picture(deep, colour=colour, metadata=metadata, duration=0.1)
        _, ledger = fit(picture, form.of_frames)
        write_pictures([picture, replace(picture, pixels=deep + 9000)], path)
        found = PictureFile(path).picture(0)
        kept = {entry.what for entry in ledger if entry.fate == Fate.KEPT}
        assert kept <= set(found.features())
        assert (Feature.SIXTEEN_BITS in kept) == (found.bits == 16)
    assert (Feature.HDR in kept) == (name == "PNG")


def test_sixteen_bits_of_an_avif_animation_become_eight() -> None:
    form = output_format("film.avif")
    deep = Picture(np.zeros((16, 16, 3), np.uint16), metadata=Metadata(aspect=2.0))
    _, still = fit(deep, form)
    _, moving = fit(deep, form.of_frames)
    assert with_fate(Fate.LOST, still) == []
    assert with_fate(Fate.LOST, moving) == ["16 bits per channel (8 are written)", "pixel aspect ratio"]


def test_lossless_is_refused_where_only_stills_are(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="AVIF does not hold several pictures without loss") as caught:
        write_pictures(iter([]), tmp_path / "film.avif", lossless=True)
    assert caught.value.hint == "write a file ending in .png .webp .tif"
