"""Picture files under a megabyte that ask for endless work or memory."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable

from PIL import Image, features

from support.heif import HeifItem, box, boxes_of, coded_items, heif_file, ispe
from support.reading import png_chunk as chunk
from support.seeds import seeds

__all__ = ["HOSTILE"]


def zeros(count: int) -> bytes:
    """Deflate zeros, of which a megabyte is deflated once."""
    deflater = zlib.compressobj(9, wbits=-zlib.MAX_WBITS)
    block = deflater.compress(bytes(1 << 20)) + deflater.flush(zlib.Z_FULL_FLUSH)
    rest = deflater.compress(bytes(count % (1 << 20))) + deflater.flush()
    return b"\x78\xda" + block * (count >> 20) + rest + struct.pack(">HH", count % 65521, 1)


def png(width: int, height: int, bits: int, kind: int, data: bytes, *before: bytes, interlaced: bool = False) -> bytes:
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, kind, 0, 0, interlaced))
    return b"\x89PNG\r\n\x1a\n" + head + b"".join(before) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


SMALL = zlib.compress(bytes(13 * 4))  # of 4x4 RGB pixels


def small_png(*before: bytes) -> bytes:
    return png(4, 4, 8, 2, SMALL, *before)


def apng(count: int, side: int) -> bytes:
    control = struct.pack(">4I2H2B", side, side, 0, 0, 1, 100, 0, 0)
    rows = zeros((side * 4 + 1) * side)
    parts = [chunk(b"acTL", struct.pack(">II", count, 0)), chunk(b"fcTL", bytes(4) + control)]
    data = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 6, 0, 0, 0)) + b"".join(parts)
    data += chunk(b"IDAT", rows)
    for number in range(1, count):
        data += chunk(b"fcTL", struct.pack(">I", 2 * number - 1) + control)
        data += chunk(b"fdAT", struct.pack(">I", 2 * number) + rows)
    return data + chunk(b"IEND", b"")


def pngs() -> dict[str, bytes]:
    profile = b"name\0\0" + zeros(200 << 20)
    return {
        "blank grey": png(12_000, 12_000, 8, 0, zeros(12_001 * 12_000)),
        "blank RGB": png(7_000, 7_000, 8, 2, zeros(21_001 * 7_000)),
        "blank RGBA of 16 bits": png(3_000, 3_000, 16, 6, zeros(24_001 * 3_000)),
        "blank, black or white": png(40_000, 12_000, 1, 0, zeros(5_001 * 12_000)),
        "interlaced": png(5_000, 5_000, 8, 2, zeros(15_001 * 5_000 + 90_000), interlaced=True),
        "far more rows than there are": png(4, 4, 8, 2, zeros(900 << 20)),
        "cut": png(15_000, 15_000, 8, 0, zeros(15_001 * 15_000)[:100_000]),
        "a thin and very long one": png(1, 16_000_000, 1, 0, zeros(32_000_000)),
        "a large profile": small_png(chunk(b"iCCP", profile)),
        "large texts": small_png(*[chunk(b"zTXt", b"a\0\0" + zeros(15 << 20))] * 50),
        "tiny texts": small_png(*[chunk(b"tEXt", b"a\0b")] * 60_000),
        "empty chunks": small_png(*[chunk(b"eXIf", b"")] * 80_000),
        "tiny pixel chunks": small_png(*[chunk(b"IDAT", SMALL[:1])] * 70_000),
        "a raw profile of zeros": small_png(
            chunk(b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(b"\nexif\n   99999999\n" + b"00" * (8 << 20)))
        ),
        "tiny frames": apng(8_000, 1),
        "frames": apng(60, 2_000),
        "large frames": apng(3, 4_000),
        "blank, just believed": png(16_000, 16_000, 8, 0, zeros(16_001 * 16_000)),
        "blank RGB of 16 bits, just believed": png(6_600, 6_600, 16, 2, zeros(39_601 * 6_600)),
        "blank palette, just believed": png(
            9_400, 9_400, 8, 3, zeros(9_401 * 9_400), chunk(b"PLTE", bytes(3)), chunk(b"tRNS", bytes(1))
        ),
    }


def segment(marker: int, body: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(body) + 2) + body


def jpegs() -> dict[str, bytes]:
    plain = seeds("JPEG")[2]
    progressive = seeds("JPEG")[3]
    last = progressive.rindex(b"\xff\xda")
    at = plain.index(b"\xff\xc0") + 5
    claims = plain[:at] + struct.pack(">HH", 65_500, 65_500) + plain[at + 4 :]
    at = progressive.index(b"\xff\xc2") + 5
    large = progressive[:at] + struct.pack(">HH", 20_000, 20_000) + progressive[at + 4 :]

    def after_start(*segments: bytes) -> bytes:
        return plain[:2] + b"".join(segments) + plain[2:]

    blank = io.BytesIO()
    Image.new("L", (7_000, 7_000)).save(blank, "JPEG", optimize=True)
    return {
        "a claimed size": claims,
        "a claimed size and many scans": large[:last] + large[last:-2] * 900,
        "scans": progressive[:-2] + progressive[last:-2] * 5_000 + b"\xff\xd9",
        "blank": blank.getvalue(),
        "empty comments": after_start(*[segment(0xFE, b"")] * 200_000),
        "empty profiles": after_start(*[segment(0xE2, b"ICC_PROFILE\0\1\xff")] * 50_000),
        "parts of XMP": after_start(
            *[segment(0xE1, b"http://ns.adobe.com/xmp/extension/\0" + b"A" * 32 + bytes(8) + b"x")] * 10_000
        ),
        "nested XMP": after_start(
            segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + b"<a>" * 9_000 + b"</a>" * 9_000),
        ),
        "entities": after_start(
            segment(
                0xE1,
                b'http://ns.adobe.com/xap/1.0/\0<!DOCTYPE a [<!ENTITY a0 "ha">'
                + b"".join(b'<!ENTITY a%d "%s">' % (n, b"&a%d;" % (n - 1) * 10) for n in range(1, 30))
                + b"]><a>&a29;</a>",
            )
        ),
        "image resources": after_start(*[segment(0xED, b"Photoshop 3.0\0" + b"8BIM\4\4\0\0\0\0\0\0" * 5_000)] * 15),
        "restart markers": plain[:-2] + b"\xff\xd0" * 400_000 + b"\xff\xd9",
        "fill bytes": plain[:2] + b"\xff" * 900_000 + plain[2:],
        "tables": after_start(*[segment(0xDB, b"\0" + bytes(range(1, 65)))] * 14_000),
        "pictures after it": plain * 1_500,
    }


def tiff(*directories: list[tuple[int, int, int, int]], after: bytes = b"") -> bytes:
    """Return directories one after the other, of (tag, kind, count, value or offset)."""
    data = b"II*\0" + struct.pack("<I", 8)
    for number, entries in enumerate(directories):
        data += struct.pack("<H", len(entries)) + b"".join(struct.pack("<HHII", *entry) for entry in entries)
        data += struct.pack("<I", len(data) + 4 if number + 1 < len(directories) else 0)
    return data + after


def tiff_tags(width: int, height: int, compression: int, at: int, length: int, bits: int = 8) -> list:
    return [
        (256, 4, 1, width),
        (257, 4, 1, height),
        (258, 3, 1, bits),
        (259, 3, 1, compression),
        (262, 3, 1, 1),
        (273, 4, 1, at),
        (277, 3, 1, 1),
        (278, 4, 1, height),
        (279, 4, 1, length),
    ]


def tiffs() -> dict[str, bytes]:
    start = 8 + 2 + 9 * 12 + 4
    found = {}
    for name, compression, stream in (
        ("deflate", 8, zeros(12_000 * 12_000)),
        ("LZW", 5, bytes(900_000)),
        ("PackBits", 32773, b"\x81\0" * 450_000),
        ("fax", 4, bytes(900_000)),
        ("nothing", 1, bytes(900_000)),
    ):
        for width, height in ((12_000, 12_000), (100, 1_440_000), (60_000, 60_000)):
            found[f"{name} of {width}x{height}"] = tiff(
                tiff_tags(width, height, compression, start, len(stream), bits=1 if name == "fax" else 8), after=stream
            )
    page = tiff_tags(1, 1, 1, 8, 1)
    found["pages"] = tiff(*[page] * 8_000)
    entries = [(40_000 + number % 9_000, 2, 900_000, 8) for number in range(60_000)]
    found["entries"] = tiff([*page, *entries], after=bytes(99))
    tags = [tag for tag in tiff_tags(20_000, 20_000, 8, 0, 0) if tag[0] not in (273, 278, 279)]
    places = [(273, 4, 20_000, 200), (278, 4, 1, 1), (279, 4, 20_000, 200)]
    found["strips at one place"] = tiff(sorted([*tags, *places]), after=bytes(900_000))
    return found


def gif(width: int, height: int, *parts: bytes) -> bytes:
    return b"GIF89a" + struct.pack("<HHBBB", width, height, 0x80, 0, 0) + bytes(6) + b"".join(parts) + b"\x3b"


def gif_frame(width: int, height: int, stream: bytes = b"\2\2\x44\1\0") -> bytes:
    return b"\x21\xf9\x04\0\1\0\0\0\x2c" + struct.pack("<HHHHB", 0, 0, width, height, 0) + stream


def gifs() -> dict[str, bytes]:
    return {
        "a claimed size": gif(65_535, 65_535, gif_frame(65_535, 65_535)),
        "a claimed size and a small frame": gif(20_000, 20_000, gif_frame(1, 1)),
        "tiny frames": gif(1, 1, *[gif_frame(1, 1)] * 30_000),
        "large frames": gif(4_000, 4_000, *[gif_frame(4_000, 4_000)] * 20_000),
        "tiny frames of a large picture": gif(5_000, 5_000, *[gif_frame(1, 1)] * 30_000),
        "comments": gif(1, 1, *[b"\x21\xfe\1a\0"] * 150_000, gif_frame(1, 1)),
        "empty extensions": gif(1, 1, *[b"\x21\xff\0"] * 250_000, gif_frame(1, 1)),
        "tiny blocks": gif(1, 1, b"\x21\xfe" + b"\1a" * 400_000 + b"\0", gif_frame(1, 1)),
        "blank": _blank("GIF", "L", 8_000),
    }


def _blank(form: str, mode: str, side: int, **options: object) -> bytes:
    file = io.BytesIO()
    Image.new(mode, (side, side)).save(file, form, **options)
    return file.getvalue()


def riff(*chunks: bytes) -> bytes:
    body = b"WEBP" + b"".join(chunks)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def riff_chunk(kind: bytes, body: bytes) -> bytes:
    return kind + struct.pack("<I", len(body)) + body + bytes(len(body) % 2)


def webps() -> dict[str, bytes]:
    if not features.check("webp"):
        return {}
    picture = _blank("WEBP", "RGB", 4, lossless=True)[12:]

    def extended(width: int, height: int, flags: int, *chunks: bytes) -> bytes:
        sides = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
        return riff(riff_chunk(b"VP8X", bytes([flags, 0, 0, 0]) + sides), *chunks)

    frame = riff_chunk(b"ANMF", bytes(6) + b"\3\0\0\3\0\0" + b"\x0a\0\0\0" + picture)
    start = riff_chunk(b"ANIM", bytes(6))
    return {
        "blank": _blank("WEBP", "RGB", 8_000, lossless=True, method=0),
        "blank, lossy": _blank("WEBP", "RGB", 6_000, method=0),
        "tiny frames of a large picture": extended(16_000, 16_000, 2, start, *[frame] * 15_000),
        "tiny frames": extended(4, 4, 2, start, *[frame] * 15_000),
        "empty chunks": extended(4, 4, 0, picture, *[riff_chunk(b"ABCD", b"")] * 100_000),
        "blocks of EXIF": extended(4, 4, 8, picture, *[riff_chunk(b"EXIF", b"II*\0\x08\0\0\0")] * 50_000),
    }


def heifs(brand: bytes, kind: bytes, configuration: bytes) -> dict[str, bytes]:
    seed = seeds("AVIF" if brand == b"avif" else "HEIF")
    if not seed:
        return {}
    size = (24, 18) if brand == b"avif" else (64, 64)
    boxes = box(b"ftyp", brand, bytes(4), brand, b"mif1")

    def item(width: int, height: int) -> HeifItem:
        coded = coded_items(seed[0], configuration)[0]
        coded.properties += [ispe(width, height), (b"pixi", boxes_of(seed[0], b"pixi")[0])]
        return coded

    def grid(rows: int, columns: int, width: int, height: int) -> HeifItem:
        body = struct.pack(">BBBBII", 0, 1, rows - 1, columns - 1, width, height)
        return HeifItem(b"grid", body, [ispe(width, height)], [(b"dimg", [2] * min(rows * columns, 65_535))])

    nested = b""
    for _ in range(9_000):
        nested = box(b"meta", bytes(4), nested)
    return {
        "a claimed size": heif_file(item(30_000, 30_000), brand=brand),
        "a grid": heif_file(grid(250, 250, 16_000, 16_000), item(*size), brand=brand),
        "empty boxes": heif_file(item(*size), brand=brand) + box(b"free") * 100_000,
        "nested boxes": boxes + nested,
        "items": heif_file(item(*size), *[HeifItem(kind, b"x")] * 9_000, brand=brand),
        "blocks of EXIF": heif_file(
            item(*size), *[HeifItem(b"Exif", bytes(4) + bytes(40), [], [(b"cdsc", [1])])] * 8_000, brand=brand
        ),
        "items derived from each other": heif_file(
            *[HeifItem(b"iden", b"", [ispe(*size)], [(b"dimg", [number])]) for number in range(2, 82)],
            item(*size),
            brand=brand,
        ),
    }


def bmps() -> dict[str, bytes]:
    def bmp(width: int, height: int, bits: int, compression: int, stream: bytes) -> bytes:
        head = struct.pack("<IiiHHIIiiII", 40, width, height, 1, bits, compression, 0, 0, 0, 0, 0)
        return struct.pack("<2sIHHI", b"BM", 54 + 1024 + len(stream), 0, 0, 54 + 1024) + head + bytes(1024) + stream

    return {
        "runs": bmp(10_000, 10_000, 8, 1, b"\xff\1" * 450_000),
        "empty runs": bmp(8_000, 4_000, 8, 1, b"\0\0" * 450_000),
        "jumps": bmp(4_000, 4_000, 8, 1, b"\0\2\1\0" * 220_000),
        "a claimed size": bmp(20_000, 20_000, 24, 0, bytes(900_000)),
        "short runs": bmp(1_000, 1_000, 8, 1, b"\1\1" * 450_000),
    }


def tgas() -> dict[str, bytes]:
    def tga(width: int, height: int, kind: int, depth: int, stream: bytes) -> bytes:
        return struct.pack("<BBBHHBHHHHBB", 0, 0, kind, 0, 0, 0, 0, 0, width, height, depth, 0) + stream

    return {
        "runs": tga(10_000, 5_000, 11, 8, b"\xff\1" * 450_000),
        "short runs": tga(700, 600, 11, 8, b"\0\1" * 450_000),
        "a claimed size": tga(65_535, 65_535, 10, 32, b"\xff\1\1\1\1" * 100),
    }


def pnms() -> dict[str, bytes]:
    return {
        "comments": b"P5\n" + b"#\n" * 400_000 + b"2 2\n255\n" + bytes(4),
        "spaces": b"P5\n" + b" " * 900_000 + b"2 2\n255\n" + bytes(4),
        "a long number": b"P5\n" + b"9" * 900_000 + b" 2\n255\n" + bytes(4),
        "a long sample": b"P2\n2 2\n255\n" + b"9" * 900_000 + b" 1 1 1",
        "samples": b"P2\n700 600\n9\n" + b"1 " * 420_000,
        "bits": b"P1\n950 950\n" + b"1" * 902_500,
        "black or white": b"P4\n2600 2600\n" + bytes(845_000),
        "a claimed size": b"P4\n60000 60000\n" + bytes(800_000),
        "fields": b"P7\n" + b"TUPLTYPE A\n" * 80_000 + b"ENDHDR\n",
    }


def icos() -> dict[str, bytes]:
    def ico(entries: list[tuple[int, int]], after: bytes) -> bytes:
        head = struct.pack("<HHH", 0, 1, len(entries))
        return head + b"".join(struct.pack("<BBBBHHII", 0, 0, 0, 0, 1, 32, n, at) for n, at in entries) + after

    blank = png(10_000, 10_000, 8, 0, zeros(10_001 * 10_000))
    start = 6 + 16 * 9_000
    return {
        "a blank PNG": ico([(len(blank), 22)], blank),
        "entries": ico([(len(small_png()), start)] * 9_000, small_png()),
        "entries of blanks": ico([(len(blank), start)] * 9_000, blank),
    }


def jpeg2000s() -> dict[str, bytes]:
    if not features.check("jpg_2000"):
        return {}
    plain = _blank("JPEG2000", "L", 64)
    at = plain.index(b"jp2c") - 4
    stream = _blank("JPEG2000", "L", 64, no_jp2=True)
    siz = stream.index(b"\xff\x51") + 6
    claims = stream[:siz] + struct.pack(">II", 30_000, 30_000) + stream[siz + 8 :]
    tiles = stream[:siz] + struct.pack(">8I", 20_000, 20_000, 0, 0, 1, 1, 0, 0) + stream[siz + 32 :]
    return {
        "blank": _blank("JPEG2000", "L", 5_000),
        "empty boxes": plain[:at] + box(b"free") * 100_000 + plain[at:],
        "a claimed size": claims,
        "tiny tiles": tiles,
        "comments": stream.replace(b"\xff\x52", b"\xff\x64\0\4\0\1" * 100_000 + b"\xff\x52", 1),
    }


def jxls() -> dict[str, bytes]:
    if not seeds("JXL"):
        return {}
    import pillow_jxl

    def blank(side: int) -> bytes:
        encoder = pillow_jxl.Encoder(mode="L", lossless=True, quality=100, effort=1)
        none = {"exif": None, "jumb": None, "xmp": None, "compress": False}
        return encoder(bytes(side * side), side, side, jpeg_encode=False, **none)

    whole = seeds("JXL")[2]
    return {
        "blank": blank(5_000),
        "empty boxes": whole + box(b"free") * 100_000,
        "boxes of EXIF": whole + box(b"Exif", bytes(4) + b"II*\0\x08\0\0\0") * 40_000,
        "parts": whole[:32] + box(b"jxlp", bytes(4)) * 60_000 + whole[32:],
    }


HOSTILE: dict[str, Callable[[], dict[str, bytes]]] = {
    "PNG": pngs,
    "JPEG": jpegs,
    "TIFF": tiffs,
    "GIF": gifs,
    "WEBP": webps,
    "AVIF": lambda: heifs(b"avif", b"av01", b"av1C"),
    "HEIF": lambda: heifs(b"heic", b"hvc1", b"hvcC"),
    "BMP": bmps,
    "TGA": tgas,
    "PNM": pnms,
    "ICO": icos,
    "JPEG2000": jpeg2000s,
    "JXL": jxls,
}
