"""Put everything that is carried to the GPU machine into one folder, for ``scripts/gpu_sprint.sh prepare``.

wheels/ has packages that the machine may lack; pictures.tar, pictures to train on; validation/, pictures to validate
on; state/, the run to continue. Existing wheels are kept, and as many existing pictures as fit: delete them to make
them again.
"""

from __future__ import annotations

import argparse
import io
import os
import re
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image
from sprint_train import RUN_FILES

REPOSITORY = Path(__file__).resolve().parents[1]
MIB = 1 << 20
PROCESSES = 2

# Packages that a Python with torch usually lacks or has in old versions, with their dependencies. Not pytest, since
# installed plugins might not work with it. Not opencv-python of 57 MB, whose headless build is usually installed.
WHEELS = (
    *("annotated-doc", "annotated-types", "cuda-core", "cuda-pathfinder", "filelock", "platformdirs", "pydantic"),
    *("pydantic-core", "rich", "shellingham", "typer", "typing-extensions", "typing-inspection"),
)
_PLATFORMS = ("manylinux1", "manylinux2014", *(f"manylinux_2_{minor}" for minor in (17, 24, 27, 28, 31, 34)))

# Ordinary pictures keep 44 dB on Y at 2 bits per pixel. At that size JPEG keeps less than 39 dB, and WebP 43 dB and
# 2 dB less in colour. Slower encoding saves 2 %.
_AVIF = {"format": "AVIF", "subsampling": "4:4:4", "speed": 6, "max_threads": 1}
_QUALITIES, _PSNR = (85, 90), 42.0  # the second if the first keeps less than this PSNR on Y, in dB
_SHORTEST = 400  # pixels; HR patches for the largest scales need nearly as many
_FINE = 6.0  # of 255; pictures with less fine detail lose little when halved
_SUFFIXES = (".avif", ".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--pictures", type=Path, required=True, help="folder of pictures to train on")
    parser.add_argument(
        "--validation",
        type=Path,
        help="folder of pictures to validate on; excluded.txt in it names training pictures to leave out",
    )
    parser.add_argument("--state", type=Path, help="folder of a run of gsr train to continue")
    parser.add_argument("--limit", type=float, default=58, help="total size limit in MiB")
    options = parser.parse_args()
    folder: Path = options.folder
    folder.mkdir(parents=True, exist_ok=True)
    download(folder / "wheels")
    if options.validation is not None:
        copy(folder / "validation", [p for p in sorted(options.validation.iterdir()) if p.is_file()])
    if options.state is not None:
        copy(folder / "state", [path for pattern in RUN_FILES for path in sorted(options.state.glob(pattern))])
    pack, limit = folder / "pictures.tar", int(options.limit * MIB)
    kept = pack.stat().st_size if pack.exists() else 0
    room = limit - (size(folder) - kept)
    if not kept:
        listed = folder / "validation" / "excluded.txt"
        excluded = set(listed.read_text(encoding="utf-8").splitlines()) if listed.exists() else set()
        print(f"pictures: {room / MIB:.1f} MiB of room", flush=True)
        print(make_pack(options.pictures, pack, room, excluded), flush=True)
    elif kept > room:
        print(f"pictures: {trim(pack, room)} of the existing ones kept", flush=True)
    for part in sorted(folder.iterdir()):
        print(f"{size(part) / MIB:7.2f} MiB  {part.name}")
    total = size(folder)
    print(f"{total / MIB:7.2f} MiB  of {options.limit:g}{'' if total <= limit else ': TOO LARGE'}")
    return int(total > limit)


def size(path: Path) -> int:
    return sum(p.stat().st_size for p in ([path] if path.is_file() else path.rglob("*")) if p.is_file())


def copy(folder: Path, files: Sequence[Path]) -> None:
    """Make a folder of these files and no others; they may already be in it."""
    contents = {path.name: path.read_bytes() for path in files}
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for name, content in contents.items():
        (folder / name).write_bytes(content)


# ---- wheels --------------------------------------------------------------------------------------------


def download(folder: Path, python: str = "3.12") -> None:
    """Download wheels for Linux on x86-64, in the versions of constraints.txt."""
    pins = (REPOSITORY / "constraints.txt").read_text(encoding="utf-8")
    folder.mkdir(exist_ok=True)
    there = {path.name.partition("-")[0].replace("_", "-") for path in folder.glob("*.whl")}
    platforms = [f"--platform={name}_x86_64" for name in _PLATFORMS]
    only = ("--no-deps", "--only-binary=:all:", f"--python-version={python}", "--implementation=cp", *platforms)
    for name in WHEELS:
        if name not in there:
            pin = (re.findall(rf"^{name}==[^;\s]+", pins, re.MULTILINE) or [name])[-1]
            command = [sys.executable, "-m", "pip", "download", "--quiet", *only, "--dest", str(folder), pin]
            subprocess.run(command, check=True)


# ---- pictures ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Candidate:
    """A picture as it would be packed."""

    path: Path
    name: str
    halved: bool
    detail: float


def make_pack(pictures: Path, pack: Path, room: int, excluded: set[str]) -> str:
    """Put pictures into a tar file, the most detailed first, while there is room, and return a summary.

    Args:
        pictures: folder of pictures, including subfolders.
        pack: path of the tar file.
        room: largest size of the tar file, in bytes.
        excluded: names to leave out, relative to ``pictures``.
    """
    found = sorted(path for path in pictures.rglob("*") if path.suffix.lower() in _SUFFIXES)
    paths = [path for path in found if path.relative_to(pictures).as_posix() not in excluded]
    packed, pixels, errors = [], 0, []
    with ProcessPoolExecutor(PROCESSES, initializer=partial(os.nice, 19)) as pool:
        candidates = [c for c in pool.map(examine, paths, [pictures] * len(paths), chunksize=4) if c is not None]
        candidates.sort(key=lambda candidate: (-candidate.detail, candidate.name))
        with _Pack(pack, room) as tar:
            for candidate, (content, count, error) in zip(candidates, _encoded(pool, candidates), strict=False):
                if not tar.add(candidate.name, content):
                    break
                packed.append(candidate)
                pixels += count
                errors.append(error)
            if not packed:
                raise SystemExit(f"no picture in {pictures} fits into {room} bytes")
    halved = sum(candidate.halved for candidate in packed)
    return (
        f"{len(packed)} of {len(paths)} pictures, {halved} of them halved: {pixels / 1e6:.1f} megapixels in "
        f"{pack.stat().st_size / 1e6:.1f} MB, {8 * pack.stat().st_size / pixels:.2f} bits a pixel; PSNR on Y "
        f"{np.mean(errors):.1f} dB, the worst {min(errors):.1f}; detail from {packed[0].detail:.1f} down to "
        f"{packed[-1].detail:.1f}"
    )


def trim(pack: Path, room: int) -> int:
    """Keep the first pictures of a pack that fit into ``room`` bytes, and return their number."""
    count = 0
    with tarfile.open(pack) as old, _Pack(pack, room) as new:
        for entry in old:
            content = old.extractfile(entry)
            assert content is not None
            if not new.add(entry.name, content.read()):
                break
            count += 1
        if count == 0:
            raise SystemExit("there is no room for pictures")
    return count


class _Pack:
    """A tar file of limited size, which replaces ``path`` only once it is complete."""

    def __init__(self, path: Path, room: int) -> None:
        self._path, self._partial = path, path.with_suffix(".partial")
        self._left = room - tarfile.RECORDSIZE  # for the padding at its end
        self._tar = tarfile.open(self._partial, "w")  # noqa: SIM115

    def add(self, name: str, content: bytes) -> bool:
        """Add a file if there is room; return whether there was."""
        blocks = 1 + -(-len(content) // tarfile.BLOCKSIZE)
        if (needed := blocks * tarfile.BLOCKSIZE) > self._left:
            return False
        self._left -= needed
        entry = tarfile.TarInfo(name)
        entry.size = len(content)
        self._tar.addfile(entry, io.BytesIO(content))
        return True

    def __enter__(self) -> _Pack:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        self._tar.close()
        if kind is None:
            self._partial.replace(self._path)
        else:
            self._partial.unlink()


def _encoded(pool: ProcessPoolExecutor, candidates: list[Candidate]) -> Iterator[tuple[bytes, int, float]]:
    """Encode candidates in order, only a few ahead, since those without room are not needed."""
    ahead = 4 * PROCESSES
    waiting = [pool.submit(encode, candidate) for candidate in candidates[:ahead]]
    for candidate in [*candidates[ahead:], *[None] * ahead]:
        if not waiting:
            return
        yield waiting.pop(0).result()
        if candidate is not None:
            waiting.append(pool.submit(encode, candidate))


def examine(path: Path, pictures: Path) -> Candidate | None:
    """Return how to pack a picture, or None if it is too small or cannot be read."""
    try:
        with Image.open(path) as picture:
            whole = picture.convert("RGB")
    except OSError:
        return None
    if min(whole.size) < _SHORTEST:
        return None
    name = path.relative_to(pictures).with_suffix(".avif").as_posix().replace("/", "_")
    detail = fine_detail(whole)
    if detail < _FINE and min(whole.size) // 2 >= _SHORTEST:
        return Candidate(path, name, True, fine_detail(_half(whole)))
    return Candidate(path, name, False, detail)


def fine_detail(picture: Image.Image) -> float:
    """Return the mean of |Y - up2(down2(Y))|, of 255: the detail that upscaling by 2 would have to restore."""
    half = (picture.width // 2, picture.height // 2)
    luma = picture.convert("L").crop((0, 0, 2 * half[0], 2 * half[1]))
    coarse = luma.resize(half, Image.Resampling.LANCZOS).resize(luma.size, Image.Resampling.BICUBIC)
    return float(np.abs(np.asarray(luma, np.float32) - np.asarray(coarse, np.float32)).mean())


def _half(picture: Image.Image) -> Image.Image:
    return picture.resize((picture.width // 2, picture.height // 2), Image.Resampling.LANCZOS)


def encode(candidate: Candidate) -> tuple[bytes, int, float]:
    """Return the encoded file, the number of pixels, and the PSNR on Y of the file."""
    with Image.open(candidate.path) as picture:
        pixels = picture.convert("RGB")
    if candidate.halved:
        pixels = _half(pixels)
    for quality in _QUALITIES:
        content = io.BytesIO()
        pixels.save(content, quality=quality, **_AVIF)
        if (psnr := _psnr(content, pixels)) >= _PSNR:
            break
    return content.getvalue(), pixels.width * pixels.height, psnr


def _psnr(content: io.BytesIO, pixels: Image.Image) -> float:
    with Image.open(content) as read:
        error = np.asarray(read.convert("L"), np.float64) - np.asarray(pixels.convert("L"), np.float64)
    return 10 * float(np.log10(255**2 / max(np.square(error).mean(), 1e-3)))


if __name__ == "__main__":
    sys.exit(main())
