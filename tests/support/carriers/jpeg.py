"""JPEG files."""

from __future__ import annotations

import hashlib
import struct

import numpy as np
import simplejpeg
from PIL import Image

from support.carriers.parts import (
    CREATOR,
    DPI_CM,
    IPTC,
    PROFILE,
    RESOURCES,
    XMP,
    exif,
    photoshop,
    pixels,
    saved,
    xmp_packet,
)
from support.heif import box
from support.profiles import cmyk_profile

__all__ = ["MAKERS"]

_XMP_NAME, _EXTENSION_NAME = b"http://ns.adobe.com/xap/1.0/\0", b"http://ns.adobe.com/xmp/extension/\0"


def _segment(marker: int, body: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(body) + 2) + body


def _jpeg(
    values: np.ndarray, *segments: bytes, jfif: tuple[int, int, int] = (0, 1, 1), mode: str | None = None
) -> bytes:
    image = Image.fromarray(values[..., 0] if values.shape[2] == 1 else values, mode)
    coded = saved(image, "JPEG")
    start = coded[:2] + _segment(0xE0, b"JFIF\0\1\1" + struct.pack(">BHHBB", *jfif, 0, 0))
    return start + b"".join(segments) + coded[2 if mode == "CMYK" else 20 :]


def _icc_segment(icc: bytes) -> bytes:
    return _segment(0xE2, b"ICC_PROFILE\0\1\1" + icc)


def jpeg() -> bytes:
    extension = xmp_packet("<dc:source>Extended-Xmp" + "x" * 70_000 + "</dc:source>").replace(CREATOR, b"")
    digest = hashlib.md5(extension).hexdigest().upper()
    packet = xmp_packet(f'<n:HasExtendedXMP xmlns:n="http://ns.adobe.com/xmp/note/">{digest}</n:HasExtendedXMP>')
    parts = [
        _segment(
            0xE1,
            _EXTENSION_NAME + digest.encode() + struct.pack(">II", len(extension), at) + extension[at : at + 60_000],
        )
        for at in range(0, len(extension), 60_000)
    ]
    return _jpeg(
        pixels(),
        _segment(0xE1, b"Exif\0\0" + exif()),
        _segment(0xE1, _XMP_NAME + packet),
        *parts,
        _icc_segment(PROFILE),
        _segment(0xED, b"Photoshop 3.0\0" + RESOURCES),
        _segment(0xFE, b"Plain-Comment"),
        jfif=(2, DPI_CM, DPI_CM),
    )


def jpeg_phone() -> bytes:
    """On its side, of Adobe RGB that EXIF alone states, and with a video behind it."""
    turned = b'xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="6"'
    packet = XMP.replace(b'rdf:about=""', b'rdf:about="" ' + turned)
    block = exif(t274=6, t282=100, t283=50, t40961=0xFFFF, t40965={1: "R03"}, t37500=b"Exif-Notes")
    return (
        _jpeg(
            pixels(),
            _segment(0xE1, b"Exif\0\0" + block),
            _segment(0xE1, _XMP_NAME + packet),
            _segment(0xE7, b"Odd-Segment\0" + bytes(range(9))),
        )
        + box(b"ftyp", b"mp42")
        + box(b"mdat", bytes(range(99)))
    )


def jpeg_with_maps() -> bytes:
    gain = 'xmlns:hdrgm="http://ns.adobe.com/hdr-gain-map/1.0/" hdrgm:Version="1.0"'
    described = xmp_packet("").replace(b'rdf:about=""', b'rdf:about="" ' + gain.encode())
    depth = xmp_packet(
        "<d:AuxiliaryImageType xmlns:d='urn:d'>urn:com:apple:photo:2018:aux:depth</d:AuxiliaryImageType>"
    )
    small = pixels(1)
    return (
        _jpeg(pixels(), _segment(0xE1, _XMP_NAME + described), _segment(0xEB, b"JP\0\1\0\0\0\1jumbc2pa"))
        + _jpeg(small, _segment(0xE1, _XMP_NAME + described))
        + _jpeg(small, _segment(0xE1, _XMP_NAME + depth))
    )


def jpeg_grey() -> bytes:
    return _jpeg(pixels(1), jfif=(0, 1, 2))


def jpeg_cmyk() -> bytes:
    return _jpeg(pixels(4), mode="CMYK")


def jpeg_inks() -> bytes:
    """YCCK, which Adobe's programs store inverted, with a profile in two segments and Photoshop's resolution alone."""
    coded = simplejpeg.encode_jpeg(pixels(4), colorspace="CMYK")
    profile = cmyk_profile()
    parts = [profile[:1000], profile[1000:]]
    segments = [_segment(0xE2, b"ICC_PROFILE\0" + bytes((number, 2)) + part) for number, part in enumerate(parts, 1)]
    resolution = struct.pack(">IHHIHH", 150 << 16, 1, 1, 150 << 16, 1, 1)
    resources = photoshop((0x03ED, resolution), (0x0404, IPTC), (0x07D0, bytes(26)))
    return coded[:2] + b"".join(reversed(segments)) + _segment(0xED, b"Photoshop 3.0\0" + resources) + coded[2:]


def jpeg_plain() -> bytes:
    return saved(Image.fromarray(pixels()), "JPEG")


MAKERS = (
    jpeg,
    jpeg_phone,
    jpeg_with_maps,
    jpeg_grey,
    jpeg_cmyk,
    jpeg_inks,
    jpeg_plain,
)
