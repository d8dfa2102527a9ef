"""Files of several pictures: animations frame by frame, documents page by page, with bounded memory."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pytest
from PIL import Image, ImageSequence, features
from support.carriers import CARRIERS
from typer.testing import Result

from gsrcli.errors import PictureError
from gsrcli.images import Entry, Fate, Metadata, Picture, read_picture, write_pictures
from gsrcli.images.readers import Limits, Source, open_source
from gsrcli.images.strips import Strips, in_memory
from gsrcli.images.writers import ANIMATIONS, PAGES, Encoding
from gsrcli.models.lite import Lite
from gsrcli.size import Size

Upscale = Callable[..., Result]
Photo = Callable[..., Path]


@dataclass
class Studio:
    """Reads and writes files of a made-up kind, and knows what was done so far.

    Attributes:
        decoded: pictures decoded so far.
        encoded: pictures encoded so far.
        ahead: for each picture encoded, how many more had been decoded.
        spoilt: index of a frame that cannot be decoded.
        failing: number of frames after which the encoder fails.
        taken: called by the encoder with the number of frames taken.
    """

    decoded: int = 0
    encoded: int = 0
    ahead: list[int] = field(default_factory=list)
    spoilt: int | None = None
    failing: int | None = None
    taken: Callable[[int], object] = lambda count: None

    def open(self, data: bytes, limits: Limits) -> Source:
        kind, count, loops = data.decode().split()
        studio = self

        class Film(Source):
            format = "FILM"

            def __init__(self, data: bytes, limits: Limits) -> None:
                self.size, self.count, self.animated = Size(6, 8), int(count), kind == "film"
                self.loops = int(loops) if self.animated else None

            def picture(self, index: int = 0) -> Picture:
                if index == studio.spoilt:
                    raise PictureError("the file is damaged or cut short")
                studio.decoded += 1
                grow = 0 if self.animated else index
                pixels = np.random.default_rng(index).integers(0, 256, (6 + grow, 8 + grow, 3), np.uint8)
                metadata = Metadata(dpi=None if self.animated else (100.0 + index, 100.0 + index))
                ledger = (Entry("gain map", Fate.LOST),)
                duration = (index + 1) / 10 if self.animated else None
                return Picture(pixels, metadata=metadata, ledger=ledger, duration=duration)

        return Film(data, limits)

    def encode(self, file: BinaryIO, pictures: Iterable[Strips], loops: int | None, encoding: Encoding) -> None:
        frames = []
        for picture in map(in_memory, pictures):
            frames.append([str(picture.size), picture.duration, picture.metadata.dpi, picture.pixels.tolist()])
            self.encoded += 1
            self.ahead.append(self.decoded - self.encoded)
            self.taken(self.encoded)
            if self.encoded == self.failing:
                raise ValueError("the encoder broke")
        file.write(json.dumps({"loops": loops, "quality": encoding.quality, "frames": frames}).encode())


@pytest.fixture
def studio(monkeypatch: pytest.MonkeyPatch) -> Studio:
    made = Studio()

    def open_any(data: bytes, limits: Limits) -> Source:
        return made.open(data, limits) if data.startswith((b"film", b"book")) else open_source(data, limits)

    monkeypatch.setattr("gsrcli.images.read.open_source", open_any)
    monkeypatch.setitem(ANIMATIONS, "PNG", made.encode)  # type: ignore[arg-type]
    monkeypatch.setitem(PAGES, "TIFF", lambda file, pages, encoding: made.encode(file, pages, None, encoding))  # type: ignore[arg-type]
    return made


@pytest.fixture
def film(tmp_path: Path) -> Path:
    path = tmp_path / "film.gif"
    path.write_bytes(b"film 5 3")
    return path


@pytest.fixture
def book(tmp_path: Path) -> Path:
    path = tmp_path / "book.tif"
    path.write_bytes(b"book 3 0")
    return path


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_an_animation_is_upscaled_frame_by_frame(upscale: Upscale, studio: Studio, film: Path) -> None:
    result = upscale(film, "--scale", 2, "--format", "png")
    assert result.exit_code == 0, result.stderr
    output = film.with_name("film_x2.png")
    assert result.stdout.startswith(f"{output}: 5 frames of 16x12 in ")
    content = json.loads(output.read_bytes())
    assert content["loops"] == 3
    assert [frame[:2] for frame in content["frames"]] == [["16x12", (index + 1) / 10] for index in range(5)]
    assert len({str(frame[3]) for frame in content["frames"]}) == 5


def test_a_document_is_upscaled_page_by_page(upscale: Upscale, studio: Studio, book: Path) -> None:
    """Each page has its own size and metadata."""
    result = upscale(book, "--scale", 2)
    assert result.exit_code == 0, result.stderr
    assert ": 3 pages of 16x12 in " in result.stdout
    content = json.loads(book.with_name("book_x2.tif").read_bytes())
    pages = [page[:3] for page in content["frames"]]
    assert pages == [["16x12", None, [100, 100]], ["18x14", None, [101, 101]], ["20x16", None, [102, 102]]]


def test_few_frames_are_held_at_a_time(upscale: Upscale, studio: Studio, tmp_path: Path) -> None:
    """One is encoded while one is enlarged and one decoded."""
    (tmp_path / "long.gif").write_bytes(b"film 40 0")
    assert upscale(tmp_path / "long.gif", "--scale", 2, "--format", "png").exit_code == 0
    assert len(studio.ahead) == 40
    assert max(studio.ahead) <= 3


_PEAKS = """
import sys
from pathlib import Path

import torch

from gsrcli.cli.batch import Batch, Handling
from gsrcli.cli.console import Console
from gsrcli.cli.jobs import Job
from gsrcli.images.strips import in_strips
from gsrcli.runtime.memory import peak_memory
from gsrcli.upscaling.target import Target


class Copier:
    memory = None

    def work(self, picture):
        return 1

    def stream(self, picture, size, *_):
        return in_strips(picture)


def work(path):
    batch = Batch(Copier, Target(scale=1), Console(json=True), Handling(overwrite=True))
    (outcome,) = batch.run([Job(path, path.with_stem("copy"))])
    assert outcome.frames or outcome.pages, outcome


for few, many in zip(sys.argv[1::2], sys.argv[2::2]):
    work(Path(few))  # imports
    print(*(peak_memory(lambda: work(Path(name)), torch.device("cpu")) for name in (few, many)))
"""


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="needs Linux's record of peak memory")
def test_memory_does_not_grow_with_the_number_of_frames(tmp_path: Path) -> None:
    """Of real files, from the reader to the writer, with nothing to compute in between."""
    side, few, many = 640, 4, 44
    options: dict[str, dict[str, Any]] = {".png": {}, ".gif": {}, ".webp": {}, ".tif": {"compression": "tiff_lzw"}}
    if features.check("avif"):
        options[".avif"] = {"speed": 10}
    paths = []
    for suffix, chosen in options.items():
        for count in (few, many):
            frames = [Image.new("RGB", (side, side), (4 * number, 99, 200 - number)) for number in range(count)]
            paths.append(tmp_path / f"{count}{suffix}")
            frames[0].save(paths[-1], save_all=True, append_images=frames[1:], **{"duration": 40, **chosen})
    done = subprocess.run([sys.executable, "-c", _PEAKS, *paths], capture_output=True, text=True, check=True)
    peaks = dict(zip(options, done.stdout.splitlines(), strict=True))
    if "None" in done.stdout:
        pytest.skip("the record of peak memory cannot be reset")
    growth = {suffix: int(line.split()[1]) - int(line.split()[0]) for suffix, line in peaks.items()}
    pixels = side * side * 3 * (many - few)
    assert {suffix: grown for suffix, grown in growth.items() if grown > pixels / 2} == {}, growth


def test_a_frame_is_encoded_while_the_next_is_enlarged(
    upscale: Upscale, studio: Studio, film: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = threading.Semaphore(0)
    forward = Lite.forward

    def announced(self: Lite, *inputs: Any) -> Any:
        begun.release()
        return forward(self, *inputs)

    waited: list[bool] = []

    def taken(count: int) -> None:
        if count < 5:  # this frame's own, and that of the next one, which begins while this one is still being encoded
            waited.append(begun.acquire(timeout=60) and (count > 1 or begun.acquire(timeout=60)))

    studio.taken = taken
    monkeypatch.setattr(Lite, "forward", announced)
    assert upscale(film, "--scale", 2, "--format", "png").exit_code == 0
    assert waited == [True] * 4


def test_json_counts_frames_and_pages(upscale: Upscale, studio: Studio, film: Path, book: Path) -> None:
    result = upscale(film, book, "--scale", 2, "--json", "-o", film.parent / "out", "--format", "tif")
    first, second = json.loads(result.stdout)["results"]
    assert (first["status"], second["status"]) == ("failed", "done")
    assert (second["pages"], second["width"], second["height"]) == (3, 16, 12)
    assert second["lost"] == ["gain map"]
    assert "frames" not in second


def test_what_is_lost_of_every_frame_is_said_once(upscale: Upscale, studio: Studio, film: Path) -> None:
    result = upscale(film, "--scale", 2, "--format", "png")
    assert result.stderr == f"warning: {film}: lost gain map\n"


@pytest.mark.parametrize("output", ["film_x2.jpg", "film_x2.tif"])
def test_a_format_without_animations_is_refused_before_anything_is_decoded(
    upscale: Upscale, studio: Studio, film: Path, output: str
) -> None:
    result = upscale(film, "--scale", 2, "-o", film.with_name(output))
    assert result.exit_code == 1
    assert "film.gif has 5 frames" in result.stderr
    assert "does not hold an animation" in result.stderr
    assert "add --frame 1 to choose one, or write a file ending in" in result.stderr
    assert ".png" in result.stderr.splitlines()[1]
    assert studio.decoded == 0
    assert names(film.parent) == {"film.gif"}


def test_pages_are_no_animation(upscale: Upscale, studio: Studio, book: Path) -> None:
    result = upscale(book, "--scale", 2, "--format", "png")
    assert result.exit_code == 1
    assert "book.tif has 3 pages" in result.stderr
    assert "add --page 1 to choose one, or write a file ending in .tif" in result.stderr
    assert studio.decoded == 0


@pytest.mark.parametrize("option", ["--frame", "--page"])
def test_one_picture_can_be_chosen(upscale: Upscale, studio: Studio, book: Path, option: str) -> None:
    result = upscale(book, "--scale", 2, option, 2, "--format", "png")
    assert result.exit_code == 0, result.stderr
    assert names(book.parent) == {"book.tif", "book_x2_2.png"}
    with Image.open(book.with_name("book_x2_2.png")) as image:
        assert image.size == (18, 14)
        assert image.info["dpi"] == pytest.approx((101, 101), abs=0.1)
    assert studio.decoded == 1


@pytest.mark.skipif(not features.check("avif"), reason="Pillow has no AVIF")
def test_a_chosen_frame_keeps_what_a_still_picture_does(upscale: Upscale, tmp_path: Path) -> None:
    film = tmp_path / "film.avif"
    film.write_bytes(CARRIERS["avif_animation"]())
    result = upscale(film, "--scale", 1.5, "--frame", 2)
    assert (result.exit_code, result.stderr) == (0, "")
    result = upscale(film, "--scale", 1.5, "-o", tmp_path / "out.avif")
    assert result.stderr == f"warning: {tmp_path}/out.avif: AVIF does not keep pixel aspect ratio, HDR mastering data\n"


def test_a_picture_that_there_is_not(upscale: Upscale, studio: Studio, film: Path, photo: Photo) -> None:
    result = upscale(film, photo(), "--scale", 2, "--frame", 9, "--format", "png")
    assert result.exit_code == 1
    assert f"cannot read {film}: frame 9: the file has 5 frames" in result.stderr
    assert "photo.png: the file has one picture" in result.stderr


def test_a_damaged_frame_fails_its_file_alone(upscale: Upscale, studio: Studio, film: Path, photo: Photo) -> None:
    studio.spoilt = 2
    result = upscale(film, photo("z.png"), "--scale", 2, "--format", "png")
    assert result.exit_code == 1
    assert result.stderr.count("error: ") == 1
    assert f"cannot read {film}: frame 3: the file is damaged or cut short" in result.stderr
    assert "1 done, 1 failed" in result.stdout
    assert studio.decoded == 2
    assert names(film.parent) == {"film.gif", "z.png", "z_x2.png"}


def test_a_failing_encoder_fails_its_file_alone(upscale: Upscale, studio: Studio, film: Path, photo: Photo) -> None:
    """Without a wait for frames that nobody takes, and without decoding them."""
    studio.failing = 1
    result = upscale(film, photo("z.png"), "--scale", 2, "--format", "png")
    assert result.exit_code == 1
    assert result.stderr.count("error: ") == 1
    assert "film_x2.png: the encoder broke" in result.stderr
    assert studio.decoded < 5
    assert names(film.parent) == {"film.gif", "z.png", "z_x2.png"}


def test_a_page_that_would_shrink_fails_the_document(upscale: Upscale, studio: Studio, book: Path) -> None:
    result = upscale(book, "--width", 9)
    assert result.exit_code == 1
    assert "would shrink a picture of 10x8" in result.stderr
    assert "cannot write" not in result.stderr
    assert names(book.parent) == {"book.tif"}


def test_ctrl_c_between_frames_leaves_nothing(
    upscale: Upscale, studio: Studio, film: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forward, calls = Lite.forward, iter(range(100))

    def interrupted(self: Lite, *inputs: Any) -> Any:
        if next(calls) == 2:
            raise KeyboardInterrupt
        return forward(self, *inputs)

    monkeypatch.setattr(Lite, "forward", interrupted)
    result = upscale(film, "--scale", 2, "--format", "png")
    assert result.exit_code == 130
    assert result.stderr.startswith("error: interrupted")
    assert names(film.parent) == {"film.gif"}


def test_a_model_that_cannot_be_loaded_is_reported_once(gsr: Upscale, studio: Studio, film: Path) -> None:
    result = gsr("upscale", film, "--scale", 2, "--format", "png", "--device", "abacus")
    assert result.exit_code == 2
    assert result.stderr.count("error: ") == 1
    assert "abacus" in result.stderr


def test_debug_raises_at_once(upscale: Upscale, studio: Studio, film: Path, photo: Photo) -> None:
    studio.spoilt = 1
    result = upscale(film, photo(), "--scale", 2, "--format", "png", "--debug")
    assert isinstance(result.exception, PictureError)
    assert names(film.parent) == {"film.gif", "photo.png"}


# Real files

FRAMES, SECONDS = 4, [0.1, 0.2, 0.3, 0.4]


def _animation(path: Path) -> None:
    """Write four frames, a square that wanders over an unchanging picture, shown three times."""
    ground = np.full((18, 24, 3), (40, 90, 160), np.uint8)
    frames = []
    for index in range(FRAMES):
        frame = ground.copy()
        frame[4:12, 4 * index : 4 * index + 6] = (250, 220, 30)
        frames.append(Image.fromarray(frame))
    options: dict[str, Any] = {"lossless": True} if path.suffix == ".webp" else {}
    milliseconds = [int(1000 * seconds) for seconds in SECONDS]
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=milliseconds, loop=3, **options)


@pytest.mark.parametrize("target", [".gif", ".webp", ".png"])
@pytest.mark.parametrize("source", [".gif", ".webp", ".png"])
def test_animations_keep_frames_times_and_loops(upscale: Upscale, tmp_path: Path, source: str, target: str) -> None:
    if {".gif": "GIF", ".webp": "WEBP", ".png": "PNG"}[target] not in ANIMATIONS:
        pytest.skip("the format is not written here")
    path = tmp_path / f"film{source}"
    _animation(path)
    result = upscale(path, "--scale", 2, "--format", target[1:])
    assert result.exit_code == 0, result.stderr
    with Image.open(tmp_path / f"film_x2{target}") as image:
        assert (image.size, image.n_frames) == ((48, 36), FRAMES)  # type: ignore[attr-defined]
        shown = 3 + (source == ".gif")  # GIF counts how often it is repeated
        assert image.info["loop"] == shown - (target == ".gif")
        seconds, shades = zip(*_shown(image), strict=True)
    assert seconds == pytest.approx(SECONDS, abs=0.011)
    for index, shade in enumerate(shades):
        inside, outside = shade[16, 8 * index + 6], shade[30, 8 * index + 6]
        assert inside[0] > inside[2], "the square is where it was"
        assert outside[0] < outside[2]


def _shown(image: Image.Image) -> Iterator[tuple[float, np.ndarray]]:
    for frame in ImageSequence.Iterator(image):
        shade = np.asarray(frame.convert("RGB")).astype(int)  # first, because decoding tells the duration
        yield frame.info["duration"] / 1000, shade


def test_pages_of_tiff(upscale: Upscale, tmp_path: Path) -> None:
    if "TIFF" not in PAGES:
        pytest.skip("pages are not written here")
    first, second = (np.random.default_rng(seed).integers(0, 256, (9, 7, 3), np.uint8) for seed in (1, 2))
    pages = [Image.fromarray(first), Image.fromarray(second[:, :5])]
    pages[0].save(tmp_path / "book.tif", save_all=True, append_images=pages[1:], dpi=(200, 200))
    for name, page in (("one", pages[0]), ("two", pages[1])):
        page.save(tmp_path / f"{name}.png")
    for path in (tmp_path / "book.tif", tmp_path / "one.png", tmp_path / "two.png"):
        assert upscale(path, "--scale", 2).exit_code == 0
    with Image.open(tmp_path / "book_x2.tif") as image:
        found = [np.asarray(page.convert("RGB")) for page in ImageSequence.Iterator(image)]
    expected = [read_picture(tmp_path / f"{name}_x2.png").pixels for name in ("one", "two")]
    assert len(found) == 2
    assert all(np.array_equal(a, b) for a, b in zip(found, expected, strict=True))


def test_an_animation_that_cannot_be_written_without_loss_is_refused_before_the_model_is_loaded(
    gsr: Upscale, tmp_path: Path, tiny_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from gsrcli.upscaling.upscaler import Upscaler

    monkeypatch.setattr(Upscaler, "load", lambda *_: pytest.fail("the model is loaded"))
    source = tmp_path / "film.gif"
    _animation(source)
    options = ("--model", tiny_path, "--scale", 2, "--lossless", "-o", tmp_path / "film.avif")
    result = gsr("upscale", source, *options)
    assert result.exit_code == 1
    assert "AVIF does not hold an animation without loss" in result.stderr
    assert "add --frame 1 to choose one, or write a file ending in .png .webp" in result.stderr


def test_the_ledger_is_that_of_animations(upscale: Upscale, tmp_path: Path) -> None:
    source = tmp_path / "film.png"
    frames = [Picture(np.full((6, 8, 3), value, np.uint16), duration=0.1) for value in (1000, 60000)]
    write_pictures(frames, source)
    target = tmp_path / "film.avif"
    assert upscale(source, "--scale", 2, "-o", target).stderr == (
        f"warning: {target}: AVIF does not keep 16 bits per channel (8 are written)\n"
    )
