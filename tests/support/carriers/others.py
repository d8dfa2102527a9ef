"""Files of the other formats."""

from __future__ import annotations

import struct

import numpy as np
from PIL import Image

from support.carriers.parts import DPI, DURATIONS, HEIGHT, IPTC, PROFILE, WIDTH, XMP, exif, pixels, saved
from support.carriers.png import png_file
from support.heif import box

__all__ = ["MAKERS"]


def webp() -> bytes:
    image = Image.fromarray(pixels(4))
    options = {"lossless": True, "exact": True, "icc_profile": PROFILE, "exif": exif(t282=DPI, t283=DPI), "xmp": XMP}
    data = saved(image, "WEBP", **options)
    return data[:4] + struct.pack("<I", len(data) + 4) + data[8:] + b"C2PA\4\0\0\0jumb"


def webp_animation() -> bytes:
    frames = [Image.fromarray(pixels(4, seed=number)) for number in range(3)]
    return saved(
        frames[0],
        "WEBP",
        save_all=True,
        append_images=frames[1:],
        duration=DURATIONS,
        loop=3,
        icc_profile=PROFILE,
        exif=exif(),
        xmp=XMP,
    )


_XMP_TRAILER = b"\x01" + bytes(range(255, -1, -1)) + b"\0"


def _blocks(*bodies: bytes) -> bytes:
    return b"".join(bytes([len(body)]) + body for body in bodies) + b"\0"


def _gif(frames: int, *extensions: bytes) -> bytes:
    images = []
    for number in range(frames):
        image = Image.fromarray(pixels(3, seed=number)).quantize(255)
        image.info["transparency"] = 3
        images.append(image)
    if frames > 1:
        data = saved(images[0], "GIF", save_all=True, append_images=images[1:], duration=DURATIONS, loop=2, disposal=2)
    else:
        data = saved(images[0], "GIF", transparency=3)
    start = 13 + 3 * 2 ** ((data[10] & 7) + 1)
    return b"GIF89a" + data[6:12] + bytes([113]) + data[13:start] + b"".join(extensions) + data[start:]


_COMMENT = b"\x21\xfe" + _blocks(b"Plain-Comment")
_GIF_XMP = b"\x21\xff\x0bXMP DataXMP" + XMP + _XMP_TRAILER
_GIF_ICC = b"\x21\xff" + _blocks(b"ICCRGBG1012", *(PROFILE[at : at + 255] for at in range(0, len(PROFILE), 255)))
_PLAIN_TEXT = b"\x21\x01" + _blocks(bytes(12), b"Plain-Text")


def gif() -> bytes:
    """Pixels of aspect 2."""
    return _gif(1, _COMMENT, _GIF_XMP, _GIF_ICC, b"\x21\xff" + _blocks(b"MGK8BIM0000", b"Magick-8bim"))


def gif_animation() -> bytes:
    return _gif(3, _COMMENT, _GIF_XMP, _PLAIN_TEXT)


def bmp() -> bytes:
    rows = pixels(4)[::-1].tobytes()
    per_metre = round(DPI / 0.0254)
    header = struct.pack("<IiiHHIIiiII", 124, WIDTH, HEIGHT, 1, 32, 3, len(rows), per_metre, per_metre, 0, 0)
    header += struct.pack("<5I48x", 0xFF0000, 0xFF00, 0xFF, 0xFF000000, 0x4D424544)
    header += struct.pack("<4I", 4, 124 + len(rows), len(PROFILE), 0)
    total = 14 + len(header) + len(rows) + len(PROFILE)
    return struct.pack("<2sIHHI", b"BM", total, 0, 0, 138) + header + rows + PROFILE


def bmp_calibrated() -> bytes:
    rows = pixels(3)[::-1].tobytes()
    header = struct.pack("<IiiHHIIiiII", 108, WIDTH, HEIGHT, 1, 24, 0, len(rows), 0, 0, 0, 0) + bytes(16)
    points = (0.68, 0.32, 0, 0.265, 0.69, 0.045, 0.15, 0.06, 0.79)
    header += struct.pack("<I9I3I", 0, *(round(value * 2**30) for value in points), *(3 * [round(1.8 * 2**16)]))
    return struct.pack("<2sIHHI", b"BM", 14 + len(header) + len(rows), 0, 0, 14 + len(header)) + header + rows


def jxl() -> bytes:
    """With a box of a gain map."""
    import pillow_jxl

    encoder = pillow_jxl.Encoder(mode="RGBA", lossless=True, quality=100, use_container=True, num_threads=1)
    blocks = {"exif": exif(t282=DPI, t283=DPI), "jumb": None, "xmp": XMP, "compress": False}
    data = encoder(pixels(4).tobytes(), WIDTH, HEIGHT, jpeg_encode=False, **blocks)
    return data + box(b"jhgm", b"\0\0\0\0")


# Others


def tga() -> bytes:
    values = pixels(4)
    header = struct.pack("<BBBHHBHHHHBB", 13, 0, 2, 0, 0, 0, 0, 0, WIDTH, HEIGHT, 32, 8)
    data = header + b"Tga-Name-Word" + values.tobytes()
    area = bytearray(struct.pack("<H", 495).ljust(495, b"\0"))
    for at, word in ((2, b"Tga-Author"), (43, b"Plain-Comment"), (379, b"Tga-Job"), (426, b"Tga-Software")):
        area[at : at + len(word)] = word
    area[367:379] = struct.pack("<6H", 1, 2, 2026, 3, 4, 5)
    area[474:478] = struct.pack("<HH", 2, 1)
    area[478:482] = struct.pack("<HH", 18, 10)
    area[494] = 3
    return data + bytes(area) + struct.pack("<II", len(data), 0) + b"TRUEVISION-XFILE.\0"


def ppm() -> bytes:
    values = pixels(3, np.uint16)
    return b"P6\n# Plain-Comment\n%d %d\n65535\n" % (WIDTH, HEIGHT) + values.astype(">u2").tobytes()


def pfm() -> bytes:
    return b"Pf\n%d %d\n-1.0\n" % (WIDTH, HEIGHT) + (pixels(1, np.float32) * 7).astype("<f4").tobytes()


def jp2() -> bytes:
    data = saved(Image.fromarray(pixels()), "JPEG2000")
    at = data.index(b"jp2h") - 4
    size = int.from_bytes(data[at : at + 4], "big")
    header = data[at + 8 : at + size]
    start = header.index(b"colr") - 4
    header = header[:start] + header[start + int.from_bytes(header[start : start + 4], "big") :]
    header += box(b"colr", b"\2\0\0" + PROFILE)
    resolution = struct.pack(">4H2b", round(DPI / 0.0254), 1, round(DPI / 0.0254), 1, 0, 0)
    header += box(b"res ", box(b"resc", resolution))
    boxes = (
        (b"uuid", bytes.fromhex("BE7ACFCB97A942E89C71999491E3AFAC") + XMP),
        (b"uuid", bytes.fromhex("33C7A4D2B81D4723A0BAF1A3E097AD38") + IPTC),
        (b"uuid", b"JpgTiffExif->JP2" + exif()),
        (b"uuid", bytes.fromhex("B14BF8BD083D4B43A5AE8CD7D5A6CE03") + b"II*\0"),
        (b"xml ", b"<gml>Jp2-Xml</gml>"),
    )
    return data[:at] + box(b"jp2h", header) + b"".join(box(*part) for part in boxes) + data[at + size :]


def ico() -> bytes:
    images = [png_file(pixels(4)), png_file(pixels(4)[:16, :16])]
    at, head = 6 + 16 * len(images), struct.pack("<HHH", 0, 1, len(images))
    for image in images:
        head += struct.pack("<BBBBHHII", 0, 0, 0, 0, 1, 32, len(image), at)
        at += len(image)
    return head + b"".join(images)


MAKERS = (
    webp,
    webp_animation,
    gif,
    gif_animation,
    bmp,
    bmp_calibrated,
    jxl,
    tga,
    ppm,
    pfm,
    jp2,
    ico,
)
