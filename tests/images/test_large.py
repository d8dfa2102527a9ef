"""Large files: read where it is needed, and decoded by strips that give what decoding all at once does.

That strips of every kind of picture do is checked with each file that the tests of readers read (`support.reading`).
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from support.carriers import CARRIERS
from support.large import all_large, assert_same
from support.reading import noise, png_chunk

from gsrcli.errors import PictureError
from gsrcli.images import PictureFile, content
from gsrcli.images.content import FileContent, Part, after, content_of, trimmed

BY_STRIPS = ["png", "png_hdr", "png_grey", "png_palette", "tiff", "tiff_tiles", "tiff_elevation", "tiff_cmyk"]
BY_STRIPS += ["ppm", "pgm", "pam", "pfm", "bmp", "bmp_deep", "tga"]
AT_ONCE = ["apng", "tiff_photo", "jpeg", "gif", "webp"]  # animated, turned, or of another format


@pytest.fixture
def large() -> Iterator[None]:
    with all_large():
        yield


def opened(path: Path) -> FileContent:
    found = content_of(path)
    assert isinstance(found, FileContent)
    return found


@given(data=st.binary(max_size=40), part=st.binary(max_size=3), ends=st.tuples(*[st.integers(-50, 50)] * 3))
def test_a_file_on_the_disk_reads_like_bytes(
    tmp_path_factory: pytest.TempPathFactory, data: bytes, part: bytes, ends: tuple[int, int, int]
) -> None:
    path = tmp_path_factory.mktemp("content") / "file"
    path.write_bytes(data)
    start, stop, step = ends
    with all_large(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(content, "_STEP", 4)
        file = opened(path)
        assert len(file) == len(data)
        assert file[:] == data
        assert file[start:stop] == data[start:stop]
        assert file[start : stop : abs(step) + 1] == data[start : stop : abs(step) + 1]
        assert file.startswith(part) == data.startswith(part)
        assert file.endswith(part) == data.endswith(part)
        at = abs(start)
        assert after(file, at)[:] == data[at:]
        assert len(after(file, at)) == len(data[at:])
        if part:
            assert file.find(part, at) == data.find(part, at)
        first, last = trimmed(file, at, b"\0\1")
        assert data[first:last] == data[at:].strip(b"\0\1")
        piece = Part(file, at, at + abs(stop))
        assert bytes(piece) == b"".join(piece.blocks()) == data[at : at + abs(stop)]
        assert len(piece) == len(bytes(piece))
        assert bytes(piece.cut(abs(step), 9)) == bytes(piece)[abs(step) : 9]


@pytest.mark.parametrize("name", [*BY_STRIPS, *AT_ONCE])
@pytest.mark.parametrize("strip_bytes", [1, 300])
def test_strips_are_the_picture(tmp_path: Path, name: str, strip_bytes: int) -> None:
    path = tmp_path / name
    path.write_bytes(CARRIERS[name]())
    picture = PictureFile(path).picture()
    with all_large(strip_bytes):
        strips = PictureFile(path).strips()
        assert_same(strips, picture)
        assert_same(strips, picture)  # which starts anew
        assert (len(list(strips)) > 1) == (name in BY_STRIPS)


@pytest.mark.parametrize("name", BY_STRIPS)
@pytest.mark.parametrize("share", [0.3, 0.7, 0.97])
@pytest.mark.parametrize("flip", [False, True])
def test_damage_is_told_as_at_once(tmp_path: Path, name: str, share: float, flip: bool) -> None:
    path, data = tmp_path / name, bytearray(CARRIERS[name]())
    at = int(len(data) * share)
    if flip:
        data[at] ^= 0x55
    else:
        del data[at:]
    path.write_bytes(data)
    picture, expected = told(lambda: PictureFile(path).picture())
    with all_large():
        strips, found = told(lambda: PictureFile(path).strips())
    assert found == expected
    if picture is not None:
        assert_same(strips, picture)


def told(read: Callable[[], object]) -> tuple[object, str]:
    try:
        return read(), ""
    except PictureError as error:
        return None, str(error)


@pytest.mark.parametrize("name", ["png", "tiff", "ppm", "bmp", "tga"])
@pytest.mark.usefixtures("large")
def test_a_file_that_changes_meanwhile_is_not_read_on(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(CARRIERS[name]())
    strips = PictureFile(path).strips()
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size // 2)
    with pytest.raises(PictureError, match=rf"cannot read {path}: another program changed it"):
        list(strips)


@pytest.mark.usefixtures("large")
def test_a_file_that_is_replaced_meanwhile_is_read_to_its_end(tmp_path: Path) -> None:
    """As when its own enlargement replaces it, which is written while it is read."""
    path, other = tmp_path / "picture.png", tmp_path / "other"
    path.write_bytes(CARRIERS["png"]())
    picture = PictureFile(path).picture()
    strips = PictureFile(path).strips()
    other.write_bytes(b"another file")
    other.replace(path)
    assert_same(strips, picture)


@pytest.mark.usefixtures("large")
@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="not Linux")
def test_files_are_closed(tmp_path: Path) -> None:
    path = tmp_path / "picture"
    before = len(list(Path("/proc/self/fd").iterdir()))
    for name in ("png", "tiff", "bmp", "jpeg"):
        path.write_bytes(CARRIERS[name]())
        list(PictureFile(path).strips())
    assert len(list(Path("/proc/self/fd").iterdir())) == before


@pytest.mark.parametrize("alpha_is_data", [False, True])
@pytest.mark.usefixtures("large")
def test_hidden_numbers_count_where_alpha_is_data(tmp_path: Path, *, alpha_is_data: bool) -> None:
    tifffile = pytest.importorskip("tifffile")
    values = noise(20, 9, 4).astype(np.float32)
    values[..., 3] = 1
    values[0, :2, 0] = 0, 255
    values[5, 3] = -1000, 0, 2000, 0
    tifffile.imwrite(tmp_path / "map.tif", values, photometric="rgb", extrasamples=["unassalpha"], rowsperstrip=1)
    strips = PictureFile(tmp_path / "map.tif").strips(alpha_is_data=alpha_is_data)
    assert strips.alpha_is_data == alpha_is_data
    assert strips.extremes == ((-1000, 2000) if alpha_is_data else (0, 255))


@pytest.mark.usefixtures("large")
def test_pipes_and_folders(tmp_path: Path) -> None:
    pipe, data = tmp_path / "pipe", CARRIERS["png"]()
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_bytes, args=(data,))
    writer.start()
    file = PictureFile(pipe)
    writer.join()
    (tmp_path / "file").write_bytes(data)
    assert_same(file.strips(), PictureFile(tmp_path / "file").picture())
    with pytest.raises(PictureError, match="directory"):
        PictureFile(tmp_path)


MEASURE = """
import sys, zlib
from pathlib import Path
import cv2, numpy, PIL.Image
from gsrcli.images import PictureFile

def peak():
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) // 1024

before, checksum = peak(), 1
for strip in PictureFile(sys.argv[1]).strips():
    checksum = zlib.adler32(strip.pixels, checksum)
print(peak() - before, checksum)
"""


def rows_of_noise(height: int, width: int) -> Iterator[np.ndarray]:
    """Yield blocks of rows of a large picture, cheaply: pieces of the same noise."""
    pool = noise(256, width * 2, 3, top=32) * np.uint8(8)
    for top in range(0, height, 64):
        at = top * 37 % width
        yield pool[top // 64 % 4 * 64 :, at : at + width][:64][: height - top]


def write_png(path: Path, blocks: Iterator[np.ndarray], height: int, width: int) -> None:
    deflater = zlib.compressobj(1)
    with path.open("wb") as file:
        sides = width.to_bytes(4, "big") + height.to_bytes(4, "big")
        file.write(b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", sides + b"\x08\2\0\0\0"))
        for block in blocks:
            rows = block.copy()
            rows[:, 1:] -= block[:, :-1]
            filtered = np.insert(rows.reshape(len(rows), -1), 0, 1, axis=1)
            file.write(png_chunk(b"IDAT", deflater.compress(filtered.tobytes())))
        file.write(png_chunk(b"IDAT", deflater.flush()) + png_chunk(b"IEND"))


def write_ppm(path: Path, blocks: Iterator[np.ndarray], height: int, width: int) -> None:
    with path.open("wb") as file:
        file.write(b"P6 %d %d 255\n" % (width, height))
        for block in blocks:
            file.write(block.tobytes())


def write_tiff(path: Path, blocks: Iterator[np.ndarray], height: int, width: int) -> None:
    tifffile = pytest.importorskip("tifffile")
    options = {"photometric": "rgb", "compression": "deflate", "compressionargs": {"level": 1}}
    tifffile.imwrite(path, np.concatenate(list(blocks)), tile=(256, 256), **options)


def write_stored_tiff(path: Path, blocks: Iterator[np.ndarray], height: int, width: int) -> None:
    """Write one strip, as many programs do where there is no compression."""
    tifffile = pytest.importorskip("tifffile")
    tifffile.imwrite(path, np.concatenate(list(blocks)), photometric="rgb", rowsperstrip=height)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="peaks are read from /proc")
@pytest.mark.parametrize("write", [write_png, write_ppm, write_tiff, write_stored_tiff])
def test_memory_does_not_hold_a_large_picture(tmp_path: Path, write: Callable[..., None]) -> None:
    path, (height, width) = tmp_path / "picture", (6000, 9000)  # 162 MB
    write(path, rows_of_noise(height, width), height, width)
    checksum = 1
    for block in rows_of_noise(height, width):
        checksum = zlib.adler32(block.tobytes(), checksum)
    done = subprocess.run([sys.executable, "-c", MEASURE, path], capture_output=True, text=True, check=True)
    taken, found = map(int, done.stdout.split())
    assert found == checksum
    assert taken < 60  # MB


def test_pictures_that_are_not_large_come_as_one_strip(tmp_path: Path) -> None:
    Image.fromarray(noise(9, 8, 3)).save(tmp_path / "small.png")
    assert len(list(PictureFile(tmp_path / "small.png").strips())) == 1
