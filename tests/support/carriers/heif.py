"""AVIF and HEIC files."""

from __future__ import annotations

import io
import re
import struct

import cv2
import numpy as np
from PIL import Image

from support.carriers.parts import DPI, DURATIONS, HEIGHT, LIGHT, MASTERING, PROFILE, WIDTH, XMP, exif, pixels, saved
from support.heif import HeifItem, box, boxes_of, coded_items, exif_item, heif_file, ispe, nclx, xmp_item
from support.profiles import grey_profile

__all__ = ["MAKERS"]

_ALPHA = b"\0\0\0\0urn:mpeg:mpegB:cicp:systems:auxiliary:alpha\0"
_DEPTH_MAP = b"\0\0\0\0urn:mpeg:mpegB:cicp:systems:auxiliary:depth\0"


def _opencv_avif(values: np.ndarray, bits: int) -> bytes:
    options = [cv2.IMWRITE_AVIF_DEPTH, bits, cv2.IMWRITE_AVIF_QUALITY, 100, cv2.IMWRITE_AVIF_SPEED, 9]
    return cv2.imencode(".avif", values, options)[1].tobytes()


def _wrapped(data: bytes, configuration: bytes, *extra: tuple[bytes, bytes]) -> HeifItem:
    item = coded_items(data, configuration)[0]
    item.properties += [(name, boxes_of(data, name)[0]) for name in (b"ispe", b"pixi")]
    item.properties += extra
    return item


_LIGHT_BOXES = (
    (b"clli", struct.pack(">HH", *LIGHT)),
    (b"mdcv", MASTERING[4:12] + MASTERING[:4] + MASTERING[12:]),
)
_PASP = (b"pasp", struct.pack(">II", 2, 1))


def _auxiliary(data: bytes, configuration: bytes, kind: bytes) -> HeifItem:
    item = _wrapped(data, configuration, (b"auxC", kind))
    item.references.append((b"auxl", [1]))
    return item


def avif() -> bytes:
    """Display P3 with alpha and a gain map."""
    colour = saved(Image.fromarray(pixels()), "AVIF", quality=95, speed=10)
    grey = saved(Image.fromarray(pixels(1)[..., 0]), "AVIF", quality=95, subsampling="4:0:0", speed=10)
    gain = HeifItem(b"tmap", b"\0" * 10, references=[(b"dimg", [1, 5])])
    gain.properties.append((b"ispe", boxes_of(colour, b"ispe")[0]))
    return heif_file(
        _wrapped(colour, b"av1C", nclx(12, 13), _PASP),
        _auxiliary(grey, b"av1C", _ALPHA),
        exif_item(exif(t282=DPI, t283=DPI)),
        xmp_item(XMP),
        _wrapped(grey, b"av1C"),
        gain,
        _auxiliary(grey, b"av1C", _DEPTH_MAP),
    )


def avif_profile() -> bytes:
    return saved(Image.fromarray(pixels()), "AVIF", icc_profile=PROFILE, speed=10)


def avif_hdr() -> bytes:
    values = np.random.default_rng(0).integers(0, 1024, (HEIGHT, WIDTH, 3), np.uint16)
    return heif_file(_wrapped(_opencv_avif(values, 10), b"av1C", nclx(9, 16), *_LIGHT_BOXES))


def avif_deep() -> bytes:
    """12 bits with alpha, turned and cropped."""
    values = np.random.default_rng(0).integers(0, 4096, (HEIGHT, WIDTH, 4), np.uint16)
    data = _opencv_avif(values, 12)
    colour, alpha = coded_items(data)
    size = ispe(WIDTH, HEIGHT)
    crop = struct.pack(">8I", WIDTH - 2, 1, HEIGHT - 4, 1, 0, 1, 0, 1)
    colour.properties += [size, (b"pixi", b"\0\0\0\0\3\x0c\x0c\x0c"), nclx(9, 18), _PASP]
    colour.properties += [(b"clap", crop), (b"irot", b"\1")]
    alpha.properties += [size, (b"pixi", b"\0\0\0\0\1\x0c"), (b"auxC", _ALPHA)]
    alpha.references.append((b"auxl", [1]))
    return heif_file(colour, alpha, exif_item(exif(t274=8, t282=DPI, t283=DPI)), xmp_item(XMP))


def avif_grey() -> bytes:
    """10 bits of grey with alpha, which colours are multiplied by."""
    values = np.random.default_rng(0).integers(0, 1024, (2, HEIGHT, WIDTH, 1), np.uint16)
    values[0] = values[0].astype(int) * values[1] // 1023
    grey, alpha = (_wrapped(_opencv_avif(part, 10), b"av1C") for part in values)
    grey.properties.append((b"colr", b"prof" + grey_profile(1.8)))
    grey.references.append((b"prem", [2]))
    alpha.properties.append((b"auxC", _ALPHA))
    alpha.references.append((b"auxl", [1]))
    return heif_file(grey, alpha)


def avif_animation() -> bytes:
    """Frames with HDR metadata and an aspect in the description of their samples."""
    frames = [Image.fromarray(pixels(3, seed=number)) for number in range(3)]
    options = {"save_all": True, "append_images": frames[1:], "duration": DURATIONS, "speed": 10}
    data = saved(frames[0], "AVIF", exif=exif(), xmp=XMP, **options)
    added = b"".join(box(name, body) for name, body in (*_LIGHT_BOXES, _PASP))
    places = [found.start() - 4 for found in re.finditer(b"moov|trak|mdia|minf|stbl|stsd|av01", data)]
    start = data.index(b"moov") - 4
    place = next(at for at in places if at > data.index(b"stsd") and data[at + 4 : at + 8] == b"av01")
    end = place + int.from_bytes(data[place : place + 4], "big")
    grown = bytearray(data)
    for at in places:
        size = int.from_bytes(data[at : at + 4], "big")
        if at >= start and at <= place < at + size:
            grown[at : at + 4] = struct.pack(">I", size + len(added))
    grown[end:end] = added
    for found in list(re.finditer(b"stco|iloc", grown)):
        at = found.end()
        if found[0] == b"iloc":
            _move_items(grown, at, len(added))
        else:
            spots = range(at + 8, at + 8 + 4 * int.from_bytes(grown[at + 4 : at + 8], "big"), 4)
            for spot in spots:
                grown[spot : spot + 4] = struct.pack(">I", int.from_bytes(grown[spot : spot + 4], "big") + len(added))
    return bytes(grown)


def _move_items(data: bytearray, at: int, distance: int) -> None:
    """Add to the offsets in an item location box of version 0, whose fields have 4 bytes."""
    assert data[at] == 0
    assert data[at + 4] == 0x44
    base = data[at + 5] >> 4
    assert not base
    spot = at + 8
    for _ in range(int.from_bytes(data[at + 6 : at + 8], "big")):
        assert data[spot + 4 : spot + 6] == b"\0\1"
        offset = int.from_bytes(data[spot + 6 : spot + 10], "big")
        data[spot + 6 : spot + 10] = struct.pack(">I", offset + distance)
        spot += 14


def _pillow_heif(values: np.ndarray, mode: str) -> bytes:
    import pillow_heif

    file = io.BytesIO()
    pillow_heif.encode(mode, (values.shape[1], values.shape[0]), values.tobytes(), file, quality=90)
    return file.getvalue()


def heic() -> bytes:
    """10 bits of PQ with alpha, a depth map, and a thumbnail."""
    colour = _pillow_heif(np.repeat(np.repeat(pixels(3, np.uint16), 4, 0), 4, 1), "RGB;16")
    grey = _pillow_heif(np.repeat(np.repeat(pixels(1), 4, 0), 4, 1), "L")
    thumbnail = _wrapped(grey, b"hvcC")
    thumbnail.references.append((b"thmb", [1]))
    return heif_file(
        _wrapped(colour, b"hvcC", nclx(9, 16), _PASP, *_LIGHT_BOXES),
        _auxiliary(grey, b"hvcC", _DEPTH_MAP),
        exif_item(exif(t282=DPI, t283=DPI)),
        xmp_item(XMP),
        thumbnail,
        brand=b"heic",
    )


def heic_phone() -> bytes:
    """Two tiles side by side, turned, with a profile, a gain map and a matte."""
    tile = _pillow_heif(np.repeat(np.repeat(pixels(), 4, 0), 4, 1), "RGB")
    grey = _pillow_heif(np.repeat(np.repeat(pixels(1), 4, 0), 4, 1), "L")
    tiles = [_wrapped(tile, b"hvcC") for _ in range(2)]
    width, height = 2 * 4 * WIDTH, 4 * HEIGHT
    grid = HeifItem(b"grid", b"\0\0\0\1" + struct.pack(">HH", width, height), references=[(b"dimg", [2, 3])])
    grid.properties += [ispe(width, height), (b"colr", b"prof" + PROFILE), (b"irot", b"\3")]
    return heif_file(
        grid,
        *tiles,
        exif_item(exif(t274=6, t282=DPI, t283=DPI)),
        _auxiliary(grey, b"hvcC", b"\0\0\0\0urn:com:apple:photo:2020:aux:hdrgainmap\0"),
        _auxiliary(grey, b"hvcC", b"\0\0\0\0urn:com:apple:photo:2018:aux:portraiteffectsmatte\0"),
        HeifItem(b"mime", b"<cookie/>", references=[(b"cdsc", [1])], media_type=b"application/odd"),
        brand=b"heic",
    )


MAKERS = (
    avif,
    avif_profile,
    avif_hdr,
    avif_deep,
    avif_grey,
    avif_animation,
    heic,
    heic_phone,
)
