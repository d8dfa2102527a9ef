"""PNG files."""

from __future__ import annotations

import struct
import zlib

import numpy as np

from support.carriers.parts import (
    DPI,
    DURATIONS,
    HEIGHT,
    LIGHT,
    MASTERING,
    PROFILE,
    RESOURCES,
    WIDTH,
    XMP,
    exif,
    pixels,
)
from support.profiles import grey_profile

__all__ = ["MAKERS", "png_file"]


def _chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def _deflated(values: np.ndarray) -> bytes:
    rows = values.astype(values.dtype.newbyteorder(">")).reshape(len(values), -1).view(np.uint8)
    return zlib.compress(np.pad(rows, ((0, 0), (1, 0))).tobytes())


def png_file(values: np.ndarray, *chunks: bytes, after: bytes = b"", kind: int | None = None) -> bytes:
    kind = {1: 0, 2: 4, 3: 2, 4: 6}[values.shape[2]] if kind is None else kind
    header = struct.pack(">II5B", values.shape[1], values.shape[0], 8 * values.itemsize, kind, 0, 0, 0)
    parts = [_chunk(b"IHDR", header), *chunks, _chunk(b"IDAT", _deflated(values)), after, _chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def _raw_profile(name: bytes, block: bytes) -> bytes:
    return _chunk(
        b"zTXt",
        b"Raw profile type "
        + name
        + b"\0\0"
        + zlib.compress(b"\n%s\n%8d\n%s\n" % (name, len(block), block.hex().encode())),
    )


_TEXTS = (
    _chunk(b"tEXt", b"Author\0Text-Author"),
    _chunk(b"zTXt", b"Copyright\0\0" + zlib.compress(b"Text-Copyright")),
    _chunk(b"iTXt", b"Title\0\0\0fr\0Titre\0Text-Title"),
    _chunk(b"tEXt", b"Odd\0Text-Odd"),
    _chunk(b"tEXt", b"Comment\0Plain-Comment"),
    _chunk(b"tIME", struct.pack(">H5B", 2026, 1, 2, 3, 4, 5)),
)


def png() -> bytes:
    per_metre = round(DPI / 0.0254)
    return png_file(
        pixels(4),
        _chunk(b"iCCP", b"x\0\0" + zlib.compress(PROFILE)),
        _chunk(b"sBIT", bytes(4 * [8])),
        _chunk(b"pHYs", struct.pack(">IIB", per_metre, per_metre, 1)),
        _chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + XMP),
        *_TEXTS,
        after=_chunk(b"eXIf", exif()) + _raw_profile(b"iptc", RESOURCES),
    )


def png_unusual() -> bytes:
    """Chunks that few programs write, and data after the end."""
    whole = png_file(
        pixels(4),
        _chunk(b"bKGD", bytes(6)),
        _chunk(b"oFFs", struct.pack(">iiB", 5, 5, 0)),
        _chunk(b"sCAL", b"\x011\x001"),
        _chunk(b"caBX", b"jumb"),
        _chunk(b"zzZz", b"unknown"),
        _chunk(b"sTER", b"\0"),
    )
    return whole + b"something that follows"


def png_hdr() -> bytes:
    return png_file(
        pixels(3, np.uint16),
        _chunk(b"cICP", bytes((9, 16, 0, 1))),
        _chunk(b"mDCV", MASTERING),
        _chunk(b"cLLI", struct.pack(">II", *(10_000 * level for level in LIGHT))),
    )


def png_gamma() -> bytes:
    chromaticities = (31270, 32900, 68000, 32000, 26500, 69000, 15000, 6000)
    return png_file(
        pixels(),
        _chunk(b"gAMA", struct.pack(">I", 55555)),
        _chunk(b"cHRM", struct.pack(">8I", *chromaticities)),
        _chunk(b"pHYs", struct.pack(">IIB", 1, 2, 0)),
        _chunk(b"bKGD", bytes(6)),
    )


def png_palette() -> bytes:
    palette = pixels(3).reshape(-1)[: 3 * 256].tobytes()
    return png_file(pixels(1), _chunk(b"PLTE", palette), _chunk(b"tRNS", bytes((0, 100))), kind=3)


def png_drawing() -> bytes:
    """Interlaced indices of 4 bits, with profiles in texts as ImageMagick writes them, and old-fashioned chunks."""
    indices = pixels(1)[..., 0] & 15
    steps = ((0, 8, 0, 8), (0, 8, 4, 8), (4, 8, 0, 4), (0, 4, 2, 4), (2, 4, 0, 2), (0, 2, 1, 2), (1, 2, 0, 1))  # Adam7
    passes = (indices[top::down, left::across] for top, down, left, across in steps)
    rows = b"".join(b"\0" + bytes(row[::2] << 4 | row[1::2]) for part in passes for row in part)
    chunks = (
        _chunk(b"IHDR", struct.pack(">II5B", WIDTH, HEIGHT, 4, 3, 0, 0, 1)),
        _chunk(b"pCAL", b"x\0" + struct.pack(">iiBB", 0, 15, 0, 2) + b"V\0000\0001"),
        _chunk(b"sPLT", b"x\0\x08" + bytes(6)),
        _chunk(b"PLTE", bytes(pixels().ravel()[: 3 * 16])),
        _chunk(b"hIST", bytes(2 * 16)),
        _chunk(b"tRNS", bytes((0, 100))),
        _chunk(b"IDAT", zlib.compress(rows)),
        *(_raw_profile(*part) for part in ((b"icc", PROFILE), (b"exif", b"Exif\0\0" + exif()), (b"xmp", XMP))),
        _chunk(b"tEXt", b"date:create\0002026-01-02T03:04:05+00:00"),
        _chunk(b"dSIG", b"signature"),
        _chunk(b"IEND", b""),
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def png_grey() -> bytes:
    values = pixels(1, np.uint16)
    return png_file(values, _chunk(b"tRNS", values[0, 0].astype(">u2").tobytes()))


def png_deep_grey() -> bytes:
    return png_file(pixels(2, np.uint16), _chunk(b"iCCP", b"x\0\0" + zlib.compress(grey_profile(1.8))))


def png_plain() -> bytes:
    return png_file(
        pixels(), _chunk(b"sRGB", b"\0"), _chunk(b"gAMA", struct.pack(">I", 45455)), _chunk(b"bKGD", bytes(6))
    )


def apng() -> bytes:
    chunks = [_chunk(b"acTL", struct.pack(">II", len(DURATIONS), 3))]
    sequence = 0
    for number, duration in enumerate(DURATIONS):
        body = struct.pack(">5I2H2B", sequence, WIDTH, HEIGHT, 0, 0, duration, 1000, 0, 0)
        chunks.append(_chunk(b"fcTL", body))
        sequence += 1
        if number:
            chunks.append(_chunk(b"fdAT", struct.pack(">I", sequence) + _deflated(pixels(4, seed=number))))
            sequence += 1
        else:
            chunks.append(_chunk(b"IDAT", _deflated(pixels(4))))
    profile = _chunk(b"iCCP", b"x\0\0" + zlib.compress(PROFILE))
    header = _chunk(b"IHDR", struct.pack(">II5B", WIDTH, HEIGHT, 8, 6, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + profile + b"".join((*_TEXTS, *chunks)) + _chunk(b"IEND", b"")


MAKERS = (
    png,
    png_unusual,
    png_hdr,
    png_gamma,
    png_palette,
    png_drawing,
    png_grey,
    png_deep_grey,
    png_plain,
    apng,
)
