"""Small valid picture files of every kind that is read, made by other encoders or byte by byte."""

from __future__ import annotations

import functools
import io
import struct
import zlib
from collections.abc import Callable, Sequence
from typing import Any

import cv2
import numpy as np
from PIL import ExifTags, Image, ImageCms, PngImagePlugin, features

from support.heif import boxes_of, coded_items, exif_item, heif_file, xmp_item
from support.pictures import samples

__all__ = ["READERS", "seeds"]

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
XMP = (
    b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    b'<rdf:Description xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="6"/></rdf:RDF></x:xmpmeta>'
)
SIZE = (24, 18)


def _image(mode: str = "RGB", seed: int = 0, size: tuple[int, int] = SIZE) -> Image.Image:
    if mode in ("1", "P", "CMYK"):
        return _image("RGB", seed, size).convert(mode)
    if mode == "LAB":
        profiles = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
        return ImageCms.profileToProfile(_image("RGB", seed, size), *profiles, outputMode="LAB")
    return Image.fromarray(samples(size, mode, seed))


def _saved(image: Image.Image, form: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def _frames(mode: str = "RGBA") -> dict[str, Any]:
    return {"save_all": True, "append_images": [_image(mode, 1), _image(mode, 2)], "duration": [40, 50, 60], "loop": 3}


def _exif(orientation: int = 6) -> bytes:
    tags = Image.Exif()
    tags[ExifTags.Base.Make] = "Maker of cameras"
    tags[ExifTags.Base.Orientation] = orientation
    tags[ExifTags.Base.XResolution] = tags[ExifTags.Base.YResolution] = 240
    tags.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.ExifImageWidth] = SIZE[0]
    tags.get_ifd(ExifTags.IFD.GPSInfo)[1] = "N"
    return tags.tobytes()


def _deep(suffix: str, channels: int = 3, *options: int) -> bytes:
    values = np.random.default_rng(0).integers(0, 65536, (40, 36, channels), dtype=np.uint16)
    return cv2.imencode(suffix, values, options)[1].tobytes()


def _png() -> list[bytes]:
    info = PngImagePlugin.PngInfo()
    info.add_text("Title", "a title", zip=True)
    info.add_itxt("Source", "källa", lang="sv", tkey="Källa", zip=True)
    info.add_itxt("XML:com.adobe.xmp", XMP.decode())
    info.add_text("Raw profile type exif", f"\nexif\n{len(_exif()):8}\n{_exif().hex()}\n")
    rich = {"pnginfo": info, "icc_profile": SRGB, "dpi": (72, 72)}
    plain = [_saved(_image(mode), "PNG") for mode in ("1", "L", "LA", "RGB", "RGBA")]
    rows = zlib.compress(b"".join(b"\0" + bytes(range(part)) for part in (3, 3, 6, 3, 3, 9, 9)))
    tags = [
        (b"cICP", bytes([9, 16, 0, 1])),
        (b"gAMA", struct.pack(">I", 45455)),
        (b"cHRM", struct.pack(">8I", 31270, 32900, 68000, 32000, 26500, 69000, 15000, 6000)),
        (b"mDCV", bytes(range(24))),
        (b"cLLI", bytes(8)),
    ]
    interlaced = [(b"IHDR", struct.pack(">IIBBBBB", 3, 4, 8, 2, 0, 0, 1)), *tags, (b"IDAT", rows), (b"IEND", b"")]
    return [
        *plain,
        _saved(_image("P"), "PNG", transparency=bytes(range(256)), bits=8),
        _saved(_image("RGB"), "PNG", exif=_exif(), **rich),
        _deep(".png"),
        _deep(".png", 4),
        _saved(_image("RGBA"), "PNG", **_frames(), disposal=1, blend=1),
        b"\x89PNG\r\n\x1a\n" + b"".join(map(_png_chunk, interlaced)),
    ]


def _png_chunk(chunk: tuple[bytes, bytes]) -> bytes:
    name, body = chunk
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def _jpeg() -> list[bytes]:
    rich = _saved(_image(), "JPEG", exif=_exif(), icc_profile=SRGB, comment=b"comment", xmp=XMP, dpi=(72, 72))
    resources = b"Photoshop 3.0\x008BIM\x04\x04\0\0\0\0\0\x0a\x1c\2\x50\0\5Maker"
    iptc = b"\xff\xed" + struct.pack(">H", len(resources) + 2) + resources
    return [
        rich,
        rich[:2] + iptc + rich[2:] + _saved(_image("L"), "JPEG"),
        _saved(_image("L"), "JPEG"),
        _saved(_image("RGB"), "JPEG", progressive=True, subsampling="4:2:0"),
        _saved(_image("RGB"), "JPEG", restart_marker_blocks=2, subsampling="4:2:2"),
        _saved(_image("CMYK"), "JPEG"),
        _saved(_image("RGB"), "JPEG", keep_rgb=True, optimize=True),
    ]


def _tiff() -> list[bytes]:
    import tifffile

    def written(values: np.ndarray, **options: Any) -> bytes:
        file = io.BytesIO()
        kind = {key: options.pop(key) for key in ("bigtiff", "byteorder") if key in options}
        with tifffile.TiffWriter(file, **kind) as writer:
            writer.write(values, metadata=None, **options)
        return file.getvalue()

    rng = np.random.default_rng(0)
    deep = rng.integers(0, 65536, (18, 24, 4), dtype=np.uint16)
    tags = Image.Exif()
    tags.load(_exif())
    compressions = ["raw", "tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg", "zstd", "lzma"]
    return [
        *(_saved(_image(), "TIFF", compression=name) for name in compressions),
        *(_saved(_image("1"), "TIFF", compression=name) for name in ("raw", "group3", "group4", "tiff_ccitt")),
        *(_saved(_image(mode), "TIFF") for mode in ("L", "LA", "P", "RGBA", "CMYK", "LAB")),
        _saved(_image(), "TIFF", exif=tags, icc_profile=SRGB, dpi=(72, 72)),
        _saved(_image("RGB"), "TIFF", save_all=True, append_images=[_image("L"), _image("RGBA")]),
        _saved(_image(size=(40, 33)), "TIFF", compression="jpeg", tiffinfo={278: 16}),
        written(np.moveaxis(deep[..., :3], 2, 0).copy(), photometric="rgb", planarconfig="separate"),
        written(deep, photometric="rgb", extrasamples=["unassalpha"], bigtiff=True, byteorder=">"),
        written(deep[..., :3], photometric="rgb", tile=(16, 16), predictor=True, compression="deflate"),
        written(deep, photometric="separated"),
        written(rng.normal(size=(18, 24, 3)).astype(np.float32), photometric="rgb"),
        written(rng.integers(0, 2**32, (18, 24), dtype=np.uint32), photometric="minisblack"),
    ]


def _bmp() -> list[bytes]:
    header = struct.pack("<IiiHHIIiiII", 40, 8, 2, 1, 8, 1, 0, 2835, 2835, 4, 0)
    runs = header + bytes(range(16)) + bytes([8, 1, 0, 0, 0, 3, 1, 2, 3, 0, 0, 2, 1, 0, 4, 2, 0, 1])
    fields = struct.pack("<IiiHHIIiiII4I", 124, 4, 2, 1, 16, 3, 0, 0, 0, 0, 0, 0xF00, 0xF0, 0xF, 0xF000)
    fields = fields.ljust(56, b"\0") + b"DEBM".ljust(56, b"\0") + struct.pack("<3I", 124 + 16, len(SRGB), 0)
    return [
        *(_saved(_image(mode), "BMP") for mode in ("1", "L", "P", "RGB", "RGBA")),
        struct.pack("<2sIHHI", b"BM", 14 + len(runs), 0, 0, 14 + 56) + runs,
        struct.pack("<2sIHHI", b"BM", 14 + 140 + len(SRGB), 0, 0, 14 + 124) + fields + bytes(range(16)) + SRGB,
    ]


def _gif() -> list[bytes]:
    return [
        _saved(_image("L"), "GIF", comment=b"comment"),
        _saved(_image("P"), "GIF", interlace=True, transparency=3),
        _saved(_image("P"), "GIF", **_frames("P"), disposal=2),
        _saved(_image("RGBA"), "GIF", **_frames(), disposal=3),
    ]


def _webp() -> list[bytes]:
    blocks = {"exif": _exif(8), "xmp": XMP, "icc_profile": SRGB}
    return [
        _saved(_image(), "WEBP", lossless=True),
        _saved(_image(), "WEBP", quality=60),
        _saved(_image("RGBA"), "WEBP", quality=60, **blocks),
        _saved(_image("RGBA"), "WEBP", **_frames(), **blocks),
    ]


def _heif(data: bytes, configuration: bytes, brand: bytes) -> bytes:
    """Return a file with metadata around the picture that an encoder wrote."""
    item = coded_items(data, configuration)[0]
    item.properties += [(kind, boxes_of(data, kind)[0]) for kind in (b"ispe", b"pixi", b"colr")]
    item.properties += [(b"irot", b"\1"), (b"imir", b"\0")]
    return heif_file(item, exif_item(_exif().removeprefix(b"Exif\0\0")), xmp_item(XMP), brand=brand)


def _avif() -> list[bytes]:
    plain = _saved(_image(), "AVIF", quality=80, speed=10)
    return [
        plain,
        _saved(_image("RGBA"), "AVIF", quality=80, speed=10, exif=_exif(), xmp=XMP, icc_profile=SRGB),
        _heif(plain, b"av1C", b"avif"),
        _saved(_image("RGB"), "AVIF", **_frames("RGB"), speed=10),
    ]


def _heic() -> list[bytes]:
    import pillow_heif

    found = []
    for mode in ("RGB", "RGBA"):
        file = io.BytesIO()
        image = _image(mode, size=(64, 64))
        pillow_heif.encode(mode, image.size, image.tobytes(), file, quality=60)
        found.append(file.getvalue())
    return [*found, _heif(found[0], b"hvcC", b"heic")]


def _jxl() -> list[bytes]:
    import pillow_jxl

    found = []
    for mode, container in (("L", False), ("RGB", False), ("RGBA", True)):
        image = _image(mode)
        encoder = pillow_jxl.Encoder(
            mode=mode, lossless=True, quality=100, effort=1, use_container=container, use_original_profile=True
        )
        blocks = {"exif": _exif().removeprefix(b"Exif\0\0"), "xmp": XMP} if container else {"exif": None, "xmp": None}
        found.append(encoder(image.tobytes(), *image.size, jpeg_encode=False, jumb=None, compress=False, **blocks))
    encoder = pillow_jxl.Encoder(mode="RGB", lossless=True, quality=100, use_container=True)
    return [*found, encoder(_jpeg()[0], *SIZE, jpeg_encode=True)]


def _pnm() -> list[bytes]:
    floats = np.random.default_rng(0).normal(size=(4, 6, 3)).astype("<f4").tobytes()
    return [
        b"P1\n# note\n5 3\n1 0 1 0 1 1 1 0 0 0 0 0 1 1 0\n",
        b"P2\n3 2\n15\n1 2 3 4 5 15\n",
        b"P3\n2 1\n255\n1 2 3 4 5 6\n",
        b"P4\n11 2\n" + bytes([0xA5, 0x40] * 2),
        b"P5\n4 3\n65535\n" + bytes(range(24)),
        b"P6\n4 3\n255\n" + bytes(range(36)),
        b"P7\nWIDTH 4\nHEIGHT 3\nDEPTH 4\nMAXVAL 255\nTUPLTYPE RGB_ALPHA\nENDHDR\n" + bytes(range(48)),
        b"PF\n6 4\n-1.0\n" + floats,
    ]


def _ico() -> list[bytes]:
    return [
        _saved(_image("RGBA", size=(32, 32)), "ICO", sizes=[(16, 16), (32, 32)]),
        _saved(_image("RGBA", size=(32, 32)), "ICO", sizes=[(16, 16), (32, 32)], bitmap_format="bmp"),
    ]


def _jpeg2000() -> list[bytes]:
    return [
        _saved(_image(), "JPEG2000"),
        _saved(_image(), "JPEG2000", no_jp2=True, irreversible=True),
        _saved(_image("RGBA"), "JPEG2000", tile_size=(16, 16)),
        _deep(".jp2", 3, cv2.IMWRITE_JPEG2000_COMPRESSION_X1000, 1000),
    ]


def _tga() -> list[bytes]:
    modes = ("L", "LA", "P", "RGB", "RGBA")
    return [_saved(_image(mode), "TGA", compression=kind) for mode in modes for kind in (None, "tga_rle")]


_MAKERS: dict[str, tuple[Callable[[], Sequence[bytes]], str]] = {
    "PNG": (_png, ""),
    "JPEG": (_jpeg, ""),
    "TIFF": (_tiff, ""),
    "BMP": (_bmp, ""),
    "GIF": (_gif, ""),
    "WEBP": (_webp, "webp"),
    "AVIF": (_avif, "avif"),
    "HEIF": (_heic, ""),
    "JXL": (_jxl, ""),
    "PNM": (_pnm, ""),
    "ICO": (_ico, ""),
    "JPEG2000": (_jpeg2000, "jpg_2000"),
    "TGA": (_tga, ""),
}

READERS = tuple(_MAKERS)
"""The kinds of files that there are seeds of."""


@functools.cache
def seeds(reader: str) -> tuple[bytes, ...]:
    """Return small valid files for a reader; none where what makes them is not installed."""
    make, needed = _MAKERS[reader]
    if needed and not features.check(needed):
        return ()
    try:
        return tuple(make())
    except ImportError:  # of an extra
        return ()
