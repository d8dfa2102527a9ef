"""Look at what a picture file says without the readers of this package: its bytes, Pillow, OpenCV and tifffile."""

from __future__ import annotations

import io
import re
import struct
import zlib
from collections.abc import Iterator
from functools import cached_property
from typing import Any

import cv2
import numpy as np
import tifffile
from PIL import Image, ImageSequence

__all__ = ["Seen"]

_METRE, _INCH = 0.0254, 2.54


class Seen:
    """A picture file as other programs see it.

    Args:
        data: its content.
        form: name of its format, as Pillow calls it.
    """

    def __init__(self, data: bytes, form: str) -> None:
        self.data, self.form = data, form

    @cached_property
    def whole(self) -> bytes:
        """All bytes of the file, those of its compressed and hexadecimal chunks inflated."""
        return b"\n".join((self.data, *self._inflated()))

    def says(self, word: str) -> bool:
        """Return whether a word is in the file, in any encoding."""
        return any(word.encode(code) in self.whole for code in ("utf-8", "utf-16-le", "utf-16-be"))

    @property
    def bits(self) -> int:
        """Bits per channel; 32 for floating point."""
        if self.form == "PNG":
            return self.data[24]
        if self.form == "TIFF":
            return 8 * self.tiff.pages[0].dtype.itemsize
        if self.form == "AVIF":
            return 10 if self.box(b"av1C")[2] & 0x40 else 8
        if self.form == "HEIF":
            return 8 + (self.box(b"hvcC")[17] & 7)
        return 8

    @property
    def transparent(self) -> bool:
        """Whether there is transparency."""
        if self.form == "TIFF":
            return bool(self.tiff.pages[0].extrasamples)
        return self.image.has_transparency_data if self.form != "BMP" else self.data[28] == 32

    @property
    def icc(self) -> bytes:
        """The colour profile, or nothing."""
        if self.form == "BMP":
            return self.data[-3000:] if self.data[14] == 124 and self.data[70:74] == b"DEBM" else b""
        if self.form == "TIFF":  # of which Pillow does not open all
            return self._first_tags.get(34675, b"")
        icc = self.image.info.get("icc_profile") or b""
        names = ("sRGB", "Gra_D65_Rel_SRG")  # that libjxl gives to what a file without a profile means
        made = icc[4:8] == b"jxl " and any(name.encode("utf-16-be") in icc for name in names)
        return b"" if made else icc

    @property
    def code_points(self) -> tuple[int, ...]:
        """Primaries and transfer of CICP, or nothing."""
        if self.form == "PNG":
            return tuple(self.chunk(b"cICP")[:2])
        places = [found.end() for found in re.finditer(b"nclx", self.data)] if self.form in ("AVIF", "HEIF") else []
        return struct.unpack_from(">HH", self.data, places[0]) if places else ()

    @property
    def light(self) -> tuple[int, ...]:
        """The maximum content and frame-average light level in cd/m², or nothing."""
        if self.form == "PNG":
            return tuple(level // 10_000 for level in struct.unpack(">II", self.chunk(b"cLLI") or bytes(8)))
        return struct.unpack(">HH", self.box(b"clli") or bytes(4))

    @property
    def mastering(self) -> bytes:
        """The mastering display's colour volume as PNG has it, or nothing."""
        if self.form == "PNG":
            return self.chunk(b"mDCV")
        box = self.box(b"mdcv")
        return box[8:12] + box[:8] + box[12:]

    @property
    def dpi(self) -> tuple[float, float] | None:
        """Pixels per inch, horizontal and vertical."""
        if self.form in ("PNG", "JPEG", "BMP"):
            return self.image.info.get("dpi")
        tags = self.image.getexif() if self.form != "TIFF" else self._first_tags
        if 282 not in tags or tags.get(296, 2) == 1:
            return None
        factor = _INCH if tags.get(296, 2) == 3 else 1
        return float(tags[282]) * factor, float(tags[283]) * factor

    @property
    def aspect(self) -> float | None:
        """Width of a pixel divided by its height, where the file says it without a unit."""
        if self.form == "PNG" and (body := self.chunk(b"pHYs")) and not body[8]:
            x, y = struct.unpack(">II", body[:8])
        elif self.form == "JPEG" and not self.data[13]:
            x, y = struct.unpack_from(">HH", self.data, 14)
        elif self.form == "TIFF" and self._first_tags.get(296) == 1:
            x, y = float(self._first_tags[282]), float(self._first_tags[283])
        elif body := self.box(b"pasp") if self.form in ("AVIF", "HEIF") else b"":
            y, x = struct.unpack(">II", body)
        else:
            return None
        return y / x

    @property
    def orientation(self) -> int:
        """The orientation in EXIF or XMP; 1 without one."""
        tags = self.image.getexif() if self.form != "TIFF" else self._first_tags
        in_xmp = re.search(rb"Orientation\W+(\d)", self.whole)
        return tags.get(274, int(in_xmp[1]) if in_xmp else 1)

    @property
    def count(self) -> int:
        """Number of frames or pages."""
        return len(self.tiff.pages) if self.form == "TIFF" else getattr(self.image, "n_frames", 1)

    @property
    def pictures(self) -> list[np.ndarray]:
        """All pictures: ``(H, W, C)``, grey or RGB, with alpha or without."""
        if self.form == "TIFF":
            return [
                self._floats(page) if page.predictor == 3 else np.atleast_3d(page.asarray()) for page in self.tiff.pages
            ]
        if self.form == "PNG" and self.bits == 16:  # of which Pillow reads 8
            values = np.atleast_3d(cv2.imdecode(np.frombuffer(self.data, np.uint8), cv2.IMREAD_UNCHANGED))
            return [values[..., [2, 1, 0, 3][: values.shape[2]]] if values.shape[2] > 2 else values]
        frames = (frame.convert("RGBA") for frame in ImageSequence.Iterator(self.image))
        return [np.array(frame) for frame in frames]

    @property
    def durations(self) -> list[float]:
        """How long each frame is shown, in milliseconds."""
        found = []
        for index in range(self.count):
            self.image.seek(index)
            self.image.load()
            found.append(self.image.info["duration"])
        return found

    @property
    def loops(self) -> int:
        """How often the animation is shown; 0 for ever."""
        if self.form == "AVIF":
            (once,) = struct.unpack_from(">Q", self.box(b"elst"), 8)
            (whole,) = struct.unpack_from(">Q", self.box(b"tkhd"), 28)
            return 0 if whole == 2**64 - 1 else whole // once
        if self.form == "GIF":
            return self.image.info["loop"] + bool(self.image.info["loop"]) if "loop" in self.image.info else 1
        return self.image.info["loop"]

    def chunk(self, name: bytes) -> bytes:
        """Return the body of the first chunk of that name in a PNG file, or nothing."""
        at = self.data.find(name)
        return self.data[at + 4 : at + 4 + int.from_bytes(self.data[at - 4 : at], "big")] if at > 0 else b""

    def box(self, name: bytes) -> bytes:
        """Return the body of the first box of that name in a HEIF file, or nothing."""
        at = self.data.find(name) if self.form in ("AVIF", "HEIF", "JXL") else -1
        return self.data[at + 4 : at - 4 + int.from_bytes(self.data[at - 4 : at], "big")] if at > 0 else b""

    @cached_property
    def image(self) -> Image.Image:
        if self.form == "HEIF":
            import pillow_heif

            pillow_heif.register_heif_opener()
        if self.form == "JXL":
            import pillow_jxl  # noqa: F401 (registers itself)
        return Image.open(io.BytesIO(self.data))

    @cached_property
    def tiff(self) -> tifffile.TiffFile:
        return tifffile.TiffFile(io.BytesIO(self.data))

    @property
    def _first_tags(self) -> dict[int, Any]:
        tags = {tag.code: tag.value for tag in self.tiff.pages[0].tags}
        return {code: value[0] / value[1] if code in (282, 283) else value for code, value in tags.items()}

    def _floats(self, page: tifffile.TiffPage) -> np.ndarray:
        """Undo predictor 3 (Adobe's technical note 3) in deflated strips, for which tifffile needs another package."""
        places = zip(page.dataoffsets, page.databytecounts, strict=True)
        stored = b"".join(zlib.decompress(self.data[at : at + count]) for at, count in places)
        octets = np.frombuffer(stored, np.uint8).reshape(page.imagelength, -1, page.samplesperpixel)
        octets = np.add.accumulate(octets, axis=1, dtype=np.uint8).reshape(page.imagelength, 4, -1)
        values = np.ascontiguousarray(np.moveaxis(octets, 1, 2)).view(">f4")
        return values.reshape(page.imagelength, page.imagewidth, -1).astype(np.float32)

    def _inflated(self) -> Iterator[bytes]:
        if self.form != "PNG":
            return
        for found in re.finditer(rb"zTXt|iTXt|iCCP|tEXt", self.data):
            length = int.from_bytes(self.data[found.start() - 4 : found.start()], "big")
            body = self.data[found.end() : found.end() + length]
            for start in re.finditer(rb"\x78[\x01\x5e\x9c\xda]", body):
                try:
                    yield zlib.decompressobj().decompress(body[start.start() :])
                except zlib.error:
                    continue
            if body.startswith(b"Raw profile type"):
                yield bytes.fromhex("".join(body.decode("latin-1").split("\n")[3:]))
