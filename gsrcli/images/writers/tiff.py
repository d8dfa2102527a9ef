"""Encode TIFF files: 8 and 16 bits and floating point, compressed on all cores, with metadata.

Pillow does not support 16-bit colour, and OpenCV does not support metadata.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import BinaryIO

import numpy as np

from gsrcli.images.directories import PackedPage, Tags, Value, write_file
from gsrcli.images.exif import exif_tags
from gsrcli.images.metadata import COMMENT, Metadata, Text
from gsrcli.images.picture import Pixels
from gsrcli.images.strips import Strip, Strips, of_rows
from gsrcli.images.writers.blocks import DEFLATE_LEVEL, in_threads, rows_per_block
from gsrcli.images.writers.encoding import Encoding

__all__ = ["encode_tiff", "encode_tiff_pages"]

_DEFLATE, _DIFFERENCES, _FLOAT_DIFFERENCES = 8, 2, 3
_BLACK_IS_ZERO, _RGB, _STRAIGHT_ALPHA, _NO_UNIT, _INCH = 1, 2, 2, 1, 2
_UNSIGNED, _FLOAT = 1, 3

_DESCRIPTION = 270
_TEXT_TAGS = {"Title": 269, "Author": 315, "Copyright": 33432, "Software": 305}
_DESCRIPTIVE_KEYWORDS = (COMMENT, "Description")


def encode_tiff(file: BinaryIO, strips: Strips, encoding: Encoding) -> None:
    """Write a picture as a TIFF file of one page, with all of its metadata; above 4 GiB as a BigTIFF.

    The file is little-endian, in deflated strips of differences.
    """
    encode_tiff_pages(file, [strips], encoding)


def encode_tiff_pages(file: BinaryIO, pages: Iterable[Strips], encoding: Encoding) -> None:
    """Write pictures as the pages of a TIFF file; see :func:`encode_tiff`. They are taken one after the other."""
    write_file(file, map(_page, pages))


def _page(picture: Strips) -> PackedPage:
    """Return the directory of a page, and its strips, which are compressed as they are asked for."""
    floating, samples = picture.bits == 32, picture.raster.layers
    rows, (height, width) = rows_per_block(picture.raster), picture.size
    tags: Tags = {
        **_descriptive_tags(picture.metadata),
        256: _longs([width]),
        257: _longs([height]),
        258: _shorts([picture.bits] * samples),
        259: _shorts([_DEFLATE]),
        262: _shorts([_BLACK_IS_ZERO if picture.grey else _RGB]),
        277: _shorts([samples]),
        278: _longs([rows]),
        317: _shorts([_FLOAT_DIFFERENCES if floating else _DIFFERENCES]),
        339: _shorts([_FLOAT if floating else _UNSIGNED] * samples),
    }
    if picture.raster.alpha:
        tags[338] = _shorts([_STRAIGHT_ALPHA])
    if picture.colour.icc:
        tags[34675] = (7, len(picture.colour.icc), picture.colour.icc)
    return PackedPage(tags, _Chunks(picture, rows))


@dataclass(frozen=True)
class _Chunks:
    """The chunks of a page, of some rows each, which are compressed while they are iterated over."""

    strips: Strips
    rows: int

    def __iter__(self) -> Iterator[bytes]:
        return in_threads(_compressed, of_rows(self.strips, self.rows))


def _compressed(rows: Strip) -> bytes:
    layers = rows.layers
    differences = _float_differences(layers) if layers.dtype == np.float32 else _differences(layers)
    return zlib.compress(differences.data, DEFLATE_LEVEL)


def _differences(rows: Pixels) -> Pixels:
    """Return each pixel minus its left neighbour, ``(rows, W, C)``."""
    differences = rows.astype(f"<u{rows.dtype.itemsize}")
    differences[:, 1:] -= rows[:, :-1]
    return differences


def _float_differences(rows: Pixels) -> Pixels:
    """Return the differences of a row's highest bytes, then those of its next ones, … (Adobe's technical note 3)."""
    count, width, samples = rows.shape
    octets = np.ascontiguousarray(rows, ">f4").view(np.uint8).reshape(count, width * samples, 4)
    split = octets.transpose(0, 2, 1).reshape(count, 4 * width, samples)
    return _differences(split)


def _descriptive_tags(metadata: Metadata) -> Tags:
    """Return the tags of a picture's metadata."""
    tags: Tags = _with_texts(exif_tags(metadata.exif or b""), metadata.texts)
    if metadata.dpi:
        tags[282], tags[283] = (_rational(dpi) for dpi in metadata.dpi)
        tags[296] = _shorts([_INCH])
    elif metadata.aspect:
        tags[282], tags[283] = _rational(1.0), _rational(metadata.aspect)
        tags[296] = _shorts([_NO_UNIT])
    if metadata.xmp:
        tags[700] = (1, len(metadata.xmp), metadata.xmp)
    if metadata.iptc:
        tags[33723] = (7, len(metadata.iptc), metadata.iptc)
    return tags | (metadata.geo or {})


def _with_texts(tags: Tags, texts: Sequence[Text]) -> Tags:
    """Return tags with texts: each in its own tag, if there is one that EXIF leaves free, otherwise in the description.

    Texts other than comments are described as "Keyword: text".
    """
    tags, lines = dict(tags), list[str]()
    if _DESCRIPTION in tags:
        lines.append(_text_of(tags[_DESCRIPTION]))
    for keyword, text, *_ in texts:
        tag = _TEXT_TAGS.get(keyword)
        if tag is not None and tag not in tags:
            tags[tag] = _ascii(text)
        elif tag is None or _text_of(tags[tag]) != text:
            line = text if keyword in _DESCRIPTIVE_KEYWORDS else f"{keyword}: {text}"
            lines += [line] if line not in lines else []
    if lines:
        tags[_DESCRIPTION] = _ascii("\n".join(lines))
    return tags


def _text_of(value: Value | Tags) -> str:
    return value[2].split(b"\0")[0].decode(errors="replace") if isinstance(value, tuple) else ""


def _ascii(text: str) -> tuple[int, int, bytes]:
    encoded = text.replace("\0", " ").encode(errors="replace") + b"\0"
    return 2, len(encoded), encoded


def _shorts(values: Sequence[int]) -> tuple[int, int, bytes]:
    return 3, len(values), struct.pack(f"<{len(values)}H", *values)


def _longs(values: Sequence[int]) -> tuple[int, int, bytes]:
    return 4, len(values), struct.pack(f"<{len(values)}I", *values)


def _rational(value: float) -> tuple[int, int, bytes]:
    most = 2**32 - 1
    ratio = Fraction(value).limit_denominator(int(most / max(1.0, value)))
    return 5, 1, struct.pack("<II", *ratio.as_integer_ratio())
