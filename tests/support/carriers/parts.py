"""Pixels and metadata that carriers have in common."""

from __future__ import annotations

import io
import struct
from typing import Any

import numpy as np
from PIL import Image, ImageCms

__all__ = [
    "CREATOR",
    "DPI",
    "DPI_CM",
    "DURATIONS",
    "HEIGHT",
    "IPTC",
    "LIGHT",
    "MASTERING",
    "PROFILE",
    "RESOURCES",
    "WIDTH",
    "XMP",
    "exif",
    "photoshop",
    "pixels",
    "saved",
    "xmp_packet",
]

HEIGHT, WIDTH = 24, 32
LIGHT, DURATIONS, DPI, DPI_CM = (1000, 400), [70, 210, 120], 200, 120
MASTERING = struct.pack(">8HII", 35400, 14600, 8500, 39850, 6550, 2300, 15635, 16450, 10_000_000, 50)


def _profile() -> bytes:
    """Return a profile of wide primaries with a description that can be looked for."""
    made = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    words = "Icc-Profile-".encode("utf-16-be")
    at = made.index("sRGB".encode("utf-16-be"))
    made[at : at + len(words)] = words
    start, size = next(
        struct.unpack_from(">II", made, 136 + 12 * number)
        for number in range(made[131])
        if made[132 + 12 * number : 136 + 12 * number] == b"gXYZ"
    )
    made[start + 8 : start + size] = struct.pack(">3I", 0x349A, 0xA02C, 0x0FC0)  # greener than sRGB
    return bytes(made)


PROFILE = _profile()


def pixels(channels: int = 3, dtype: Any = np.uint8, seed: int = 0) -> np.ndarray:
    """Return noise ``(24, 32, channels)``, in which there is everything."""
    if dtype == np.float32:
        return np.random.default_rng(seed).random((HEIGHT, WIDTH, channels), np.float32)
    return np.random.default_rng(seed).integers(0, np.iinfo(dtype).max + 1, (HEIGHT, WIDTH, channels), dtype)


CREATOR = b"<dc:creator><rdf:Seq><rdf:li>Xmp-Creator</rdf:li></rdf:Seq></dc:creator>"


def xmp_packet(properties: str) -> bytes:
    return (
        '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        '<rdf:Description rdf:about="" xmlns:dc="http://purl.org/dc/elements/1.1/">'
        f"{CREATOR.decode()}{properties}</rdf:Description></rdf:RDF></x:xmpmeta>"
    ).encode()


XMP = xmp_packet("")
IPTC = b"".join(
    b"\x1c\x02" + struct.pack(">BH", number, len(word)) + word
    for number, word in ((80, b"Iptc-Byline"), (55, b"20260102"), (225, b"Iptc-Odd"))
)


def exif(**more: Any) -> bytes:
    """Return EXIF with an artist, a lens and a thumbnail."""
    tags = Image.Exif()
    tags[0x013B] = "Exif-Artist"
    tags[0x010F] = "Exif-Make"
    tags[0xC4A5] = b"PrintIM\0Exif-Print"
    tags[0xC350] = "Exif-Private"
    tags.get_ifd(0x8769)[0xA434] = "Exif-Lens"
    tags.get_ifd(0x8825)[0x1D] = "2026:01:02"
    for name, value in more.items():
        tag = int(name[1:])
        (tags.get_ifd(0x8769) if 0x9000 <= tag < 0xA500 else tags)[tag] = value
    return tags.tobytes().removeprefix(b"Exif\0\0")


def saved(image: Image.Image, form: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def photoshop(*resources: tuple[int, bytes]) -> bytes:
    return b"".join(
        b"8BIM" + struct.pack(">HHI", name, 0, len(data)) + data + bytes(len(data) % 2) for name, data in resources
    )


RESOURCES = photoshop((0x0404, IPTC), (0x040A, b"\1"), (0x040B, b"http://Photoshop-Url"))
