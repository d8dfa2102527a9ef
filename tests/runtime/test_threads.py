"""Threads that read, upscale and write different pictures at the same time, while decoders complain about some."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image
from support.seeds import READERS, seeds

from gsrcli.images.readers import unlimited_pillow

_THREADS = """
import hashlib, random, sys, threading
from pathlib import Path

import cv2
from PIL import Image

from gsrcli.errors import GsrError
from gsrcli.images import PictureFile, write_picture

folder, rounds, checkpoint = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
if checkpoint:
    import gsrcli
    model = gsrcli.load_model(checkpoint, "cpu")


def outcome(path, number):
    try:
        pictures = list(PictureFile(path))
    except GsrError as error:
        return str(error)
    ledger = sorted(str(entry) for picture in pictures for entry in picture.ledger)
    parts = [picture.pixels.tobytes() for picture in pictures]
    if checkpoint:
        enlarged = gsrcli.upscale(pictures[0], 1.5, model=model)
        output = folder.with_name(f"{number}.avif" if path.stem == "AVIF" else f"{number}.jpg")
        write_picture(enlarged, output, background="white")
        parts += [enlarged.pixels.tobytes(), output.read_bytes()]
    return [hashlib.sha256(part).hexdigest() for part in parts], ledger


def work(number):
    order = random.Random(number)
    start.wait()
    for path in (path for _ in range(rounds) for path in order.sample(paths, len(paths))):
        found = outcome(path, number)
        if found != alone[path]:
            print(f"{path.name}: {alone[path]} alone, {found} beside others", flush=True)


Image.MAX_IMAGE_PIXELS = 99  # below every picture: Pillow refuses those of twice as many
cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_WARNING)
sys.setswitchinterval(1e-5)
paths, start = sorted(folder.iterdir()), threading.Barrier(3)
alone = {path: outcome(path, 3) for path in paths}
threads = [threading.Thread(target=work, args=(number,)) for number in range(3)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
assert Image.MAX_IMAGE_PIXELS == 99
assert cv2.utils.logging.getLogLevel() == cv2.utils.logging.LOG_LEVEL_WARNING
"""


def run_threads(folder: Path, files: dict[str, bytes], rounds: int, checkpoint: Path | str) -> None:
    """Work on files alone and then in three threads at a time; compare what comes of them."""
    folder.mkdir()
    for name, data in files.items():
        (folder / name).write_bytes(data)
    command = [sys.executable, "-c", _THREADS, folder, str(rounds), checkpoint]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def garbled(data: bytes) -> bytes:
    middle = len(data) // 2
    return data[:middle] + bytes(40) + data[middle + 40 :]


def test_messages_are_those_of_the_threads_own_picture(tmp_path: Path) -> None:
    """Damage that libtiff and OpenCV report on standard error is that of the picture which has it, however often."""
    tiffs, deep = seeds("TIFF"), [*seeds("PNG")[7:9], *seeds("JPEG2000")[3:]]
    sound = {f"{number}": data for number, data in enumerate([*tiffs, *deep])}
    run_threads(tmp_path / "in", {**sound, **{f"{name}, garbled": garbled(sound[name]) for name in sound}}, 8, "")


def test_pictures_come_out_as_they_do_alone(tiny_path: Path, tmp_path: Path) -> None:
    files = {reader: found[0] for reader in READERS if (found := seeds(reader))}
    run_threads(tmp_path / "in", files, 1, tiny_path)


@pytest.mark.parametrize("limit", [None, 7])
def test_a_limit_that_the_program_sets_meanwhile_stays(monkeypatch: pytest.MonkeyPatch, limit: int | None) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 99)
    with unlimited_pillow():
        Image.MAX_IMAGE_PIXELS = limit
    assert limit == Image.MAX_IMAGE_PIXELS
