"""Several pictures in one file, as Python programs read and write them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gsrcli.errors import LimitError, PictureError, UsageError
from gsrcli.images import Picture, PictureFile, read_picture, write_pictures
from gsrcli.images.writers import ANIMATIONS, PAGES, Encoding


def grey(value: int, size: tuple[int, int] = (4, 6)) -> Picture:
    return Picture(np.full((*size, 1), value, np.uint8), duration=0.1)


@pytest.fixture
def encoded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Let PNG files of several pictures be their first values; return the list of values encoded so far."""
    values: list[int] = []

    def encode(pictures: Iterable[Picture], loops: int, encoding: Encoding) -> bytes:
        for picture in pictures:
            values.append(int(picture.pixels[0, 0, 0]))  # noqa: PERF401 (its length is looked at meanwhile)
        return bytes([loops, *values])

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
