"""Files of the other formats."""

from __future__ import annotations

import struct

import cv2
import numpy as np
from PIL import Image

from support.carriers.jpeg import jpeg
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


def webp_lossy() -> bytes:
    """On its side, with alpha in a chunk of its own, and a chunk that nobody knows."""
    data = saved(Image.fromarray(pixels(4)), "WEBP", quality=90, exif=b"Exif\0\0" + exif(t274=8))
    return data[:4] + struct.pack("<I", len(data) + 4) + data[8:] + b"zzzz\4\0\0\0data"


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


def bmp_deep() -> bytes:
    """10 bits of colours and 2 of alpha, with the name of the file that holds the profile."""
    rows = pixels(4)[::-1].tobytes()
    name = b"Linked-Profile.icc\0"
    header = struct.pack("<IiiHHIIiiII", 124, WIDTH, HEIGHT, 1, 32, 3, len(rows), 0, 0, 0, 0)
    header += struct.pack("<5I48x", 0x3FF00000, 0xFFC00, 0x3FF, 0xC0000000, 0x4C494E4B)
    header += struct.pack("<4I", 4, 124 + len(rows), len(name), 0)
    return struct.pack("<2sIHHI", b"BM", 14 + len(header) + len(rows) + len(name), 0, 0, 138) + header + rows + name


def jxl() -> bytes:
    """With a box of a gain map, and one that nobody knows."""
    import pillow_jxl

    encoder = pillow_jxl.Encoder(mode="RGBA", lossless=True, quality=100, use_container=True, num_threads=1)
    blocks = {"exif": exif(t282=DPI, t283=DPI), "jumb": None, "xmp": XMP, "compress": False}
    data = encoder(pixels(4).tobytes(), WIDTH, HEIGHT, jpeg_encode=False, **blocks)
    return data + box(b"jhgm", b"\0\0\0\0") + box(b"zzzz", b"words")


def jxl_deep() -> bytes:
    """16 bits of grey, with XMP that is compressed."""
    import pillow_jxl

    encoder = pillow_jxl.Encoder(mode="I;16", lossless=True, quality=100, use_container=True, num_threads=1)
    blocks = {"exif": None, "jumb": None, "xmp": XMP, "compress": True}
    return encoder(pixels(1, np.uint16).tobytes(), WIDTH, HEIGHT, jpeg_encode=False, **blocks)


def jxl_jpeg() -> bytes:
    """A JPEG file that can be had back."""
    import pillow_jxl

    encoder = pillow_jxl.Encoder(mode="RGB", lossless=True, quality=100, use_container=True, num_threads=1)
    return encoder(jpeg(), WIDTH, HEIGHT, jpeg_encode=True)


# Others


def tga() -> bytes:
    values = pixels(4)
    header = struct.pack("<BBBHHBHHHHBB", 13, 0, 2, 0, 0, 0, 7, 0, WIDTH, HEIGHT, 32, 8)
    data = header + b"Tga-Name-Word" + values.tobytes()
    area = bytearray(struct.pack("<H", 495).ljust(495, b"\0"))
    for at, word in ((2, b"Tga-Author"), (43, b"Plain-Comment"), (379, b"Tga-Job"), (426, b"Tga-Software")):
        area[at : at + len(word)] = word
    area[367:379] = struct.pack("<6H", 1, 2, 2026, 3, 4, 5)
    area[420:426], area[467:470] = struct.pack("<3H", 12, 34, 56), struct.pack("<Hc", 123, b"b")
    area[474:478] = struct.pack("<HH", 2, 1)
    area[478:482] = struct.pack("<HH", 18, 10)
    area[494] = 3
    return data + bytes(area) + struct.pack("<II", len(data), 0) + b"TRUEVISION-XFILE.\0"


def tga_palette() -> bytes:
    """Run lengths of indices of colours multiplied by alpha, a postage stamp, and the areas of developers."""
    colours = pixels(4).reshape(-1, 4)[:256].astype(int)
    colours[:, :3] = colours[:, :3] * colours[:, 3:] // 255
    header = struct.pack("<BBBHHBHHHHBB", 0, 1, 9, 0, 256, 32, 0, 0, WIDTH, HEIGHT, 8, 0x20)
    packets = b"".join(bytes((WIDTH - 1, *row)) for row in pixels(1)[..., 0])
    data = header + colours.astype(np.uint8).tobytes() + packets
    developer_at = len(data) + len(b"Developer-Word")
    data += b"Developer-Word" + struct.pack("<HHII", 1, 7, len(data), len(b"Developer-Word"))
    stamp_at = len(data)
    data += bytes((8, 6)) + bytes(8 * 6)
    area = bytearray(struct.pack("<H", 495).ljust(495, b"\0"))
    area[470:474] = bytes((1, 2, 3, 255))
    area[482:494] = struct.pack("<3I", len(data) + 495, stamp_at, 0)
    area[494] = 4
    table = bytes(2 * 4 * 256)
    return data + bytes(area) + table + struct.pack("<II", len(data), developer_at) + b"TRUEVISION-XFILE.\0"


def ppm() -> bytes:
    values = pixels(3, np.uint16)
    return b"P6\n# Plain-Comment\n%d %d\n65535\n" % (WIDTH, HEIGHT) + values.astype(">u2").tobytes()


def pgm() -> bytes:
    """A stream of two pictures."""
    head = b"P5\n# Plain-Comment\n%d %d\n255\n" % (WIDTH, HEIGHT)
    return 2 * (head + pixels(1).tobytes())


def pam() -> bytes:
    """10 bits in 16, with alpha."""
    values = pixels(4, np.uint16) & 1023
    size = b"WIDTH %d\nHEIGHT %d\nDEPTH 4\nMAXVAL 1023\n" % (WIDTH, HEIGHT)
    head = b"P7\n# Plain-Comment\n" + size + b"TUPLTYPE RGB_ALPHA\nENDHDR\n"
    return head + values.astype(">u2").tobytes()


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


def jp2_deep() -> bytes:
    """16 bits with alpha, and boxes that few programs write."""
    data = cv2.imencode(".jp2", np.repeat(pixels(4, np.uint16), 2, axis=0)[:32])[1].tobytes()
    at = data.index(b"jp2c") - 4
    boxes = (
        (b"jp2i", b"<owner/>"),
        (b"uuid", b"Jp2-Unknown-Uuid" + b"data"),
        (b"asoc", box(b"lbl ", b"gml.data")),
        (b"jumb", box(b"jumd", b"c2pa")),
    )
    return data[:at] + b"".join(box(*part) for part in boxes) + data[at:]


def ico() -> bytes:
    images = [png_file(pixels(4)), png_file(pixels(4)[:16, :16])]
    at, head = 6 + 16 * len(images), struct.pack("<HHH", 0, 1, len(images))
    for image in images:
        head += struct.pack("<BBBBHHII", 0, 0, 0, 0, 1, 32, len(image), at)
        at += len(image)
    return head + b"".join(images)


def cur() -> bytes:
    """A cursor: bitmaps with masks, and the spot that it points with."""
    bitmaps = []
    for side in (24, 16):
        header = struct.pack("<IiiHHIIiiII", 40, side, 2 * side, 1, 24, 0, 0, 0, 0, 0, 0)
        mask = np.packbits(np.pad(pixels(1)[:side, :side, 0] > 127, ((0, 0), (0, 32 - side))), axis=1)
        bitmaps.append(header + pixels()[:side, :side].tobytes() + mask.tobytes())
    at, head = 6 + 16 * len(bitmaps), struct.pack("<HHH", 0, 2, len(bitmaps))
    for bitmap, side in zip(bitmaps, (24, 16), strict=True):
        head += struct.pack("<BBBBHHII", side, side, 0, 0, 3, 5, len(bitmap), at)
        at += len(bitmap)
    return head + b"".join(bitmaps)


MAKERS = (
    webp,
    webp_animation,
    webp_lossy,
    gif,
    gif_animation,
    bmp,
    bmp_calibrated,
    bmp_deep,
    jxl,
    jxl_deep,
    jxl_jpeg,
    tga,
    tga_palette,
    ppm,
    pgm,
    pam,
    pfm,
    jp2,
    jp2_deep,
    ico,
    cur,
)
