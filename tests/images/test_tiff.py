"""TIFF files: every layout, depth and kind of colours, metadata, pages, damage, and what is written.

Files to read are made byte by byte, or by tifffile and Pillow, never by the encoder under test.
"""

from __future__ import annotations

import io
import itertools
import struct
import time
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import ExifTags, Image, ImageCms
from support.profiles import table_profile
from support.reading import damaged, noise, read
from support.writing import written

from gsrcli.errors import LimitError, PictureError
from gsrcli.images import Fate, Metadata, Picture, PictureFile, Text, read_picture, with_fate, write_picture
from gsrcli.images.writers import Encoding
from gsrcli.images.writers.tiff import encode_tiff_pages
from gsrcli.size import Size

tifffile = pytest.importorskip("tifffile")

BYTE, ASCII, SHORT, LONG, RATIONAL, UNDEFINED, DOUBLE = 1, 2, 3, 4, 5, 7, 12
KINDS = {BYTE: "B", SHORT: "H", LONG: "I", DOUBLE: "d", 16: "Q"}
NONE, LZW, JPEG, DEFLATE, PACKBITS, LZMA, ZSTANDARD = 1, 5, 7, 8, 32773, 34925, 50000
GREY, RGB, PALETTE, CMYK, LAB, ICCLAB = 1, 2, 3, 5, 8, 9


def tiff(*pages: tuple[dict[int, tuple[int, Any]], Sequence[bytes]], order: str = "<", big: bool = False) -> bytes:
    """Build a TIFF file byte by byte from pages: tags, as (kind, values or bytes), and strips."""
    word, counter, size = ("Q", "Q", 8) if big else ("I", "H", 4)
    mark = b"II" if order == "<" else b"MM"
    body = [mark + struct.pack(order + "HHHQ", 43, 8, 0, 16) if big else mark + struct.pack(order + "HI", 42, 8)]
    for number, (tags, strips) in enumerate(pages):
        at = sum(map(len, body)) + struct.calcsize(order + counter) + (4 + 2 * size) * len({*tags, 273, 279}) + size
        outside = [strip + b"\0" * (len(strip) % 2) for strip in strips]
        starts = [*itertools.accumulate(map(len, outside), initial=at)][: len(strips)]
        entries = []
        places = {273: (16 if big else LONG, starts), 279: (LONG, [len(strip) for strip in strips])}
        for tag, (kind, values) in sorted((places | tags).items()):
            if isinstance(values, bytes):
                count, data = len(values), values
            elif kind == RATIONAL:
                count = len(values)
                data = b"".join(struct.pack(order + "II", round(value * 1000), 1000) for value in values)
            else:
                count, data = len(values), struct.pack(f"{order}{len(values)}{KINDS[kind]}", *values)
            if len(data) > size:
                place = at + sum(map(len, outside))
                outside.append(data + b"\0" * (len(data) % 2))
                data = struct.pack(order + word, place)
            entries.append(struct.pack(f"{order}HH{word}{size}s", tag, kind, count, data))
        link = at + sum(map(len, outside)) if number + 1 < len(pages) else 0
        body += [struct.pack(order + counter, len(entries)), *entries, struct.pack(order + word, link), *outside]
        body = [b"".join(body)]
    return b"".join(body)


def layout(size: Size, samples: int, bits: int, photometric: int, **tags: Any) -> dict[int, tuple[int, Any]]:
    """Return the tags of a page in one strip; ``tags`` are t338=(SHORT, [2]), …"""
    return {
        256: (LONG, [size.width]),
        257: (LONG, [size.height]),
        258: (SHORT, [bits] * samples),
        259: (SHORT, [NONE]),
        262: (SHORT, [photometric]),
        277: (SHORT, [samples]),
        278: (LONG, [size.height]),
    } | {int(name[1:]): value for name, value in tags.items()}


def page(
    values: np.ndarray, photometric: int = GREY, order: str = "<", **tags: Any
) -> tuple[dict[int, Any], list[bytes]]:
    """Return an uncompressed page of ``(H, W, samples)`` in one strip."""
    kind = values.dtype.kind
    size = Size.of(values)
    described = layout(size, values.shape[2], 8 * values.dtype.itemsize, photometric, **tags)
    if kind != "u":
        described.setdefault(339, (SHORT, [{"i": 2, "f": 3}[kind]] * values.shape[2]))
    return described, [values.astype(values.dtype.newbyteorder(order)).tobytes()]


def packed(values: np.ndarray, bits: int) -> bytes:
    """Pack rows of samples, ``(H, N)``, the first into the highest bits."""
    wide = np.unpackbits(values.astype(">u4")[..., None].view(np.uint8), axis=2)[..., 32 - bits :]
    return np.packbits(wide.reshape(len(values), -1), axis=1).tobytes()


def compressed(rows: np.ndarray, compression: int) -> bytes:
    """Compress rows of bytes, ``(H, N)`` uint8; by Pillow as a grey picture where Python cannot."""
    if compression == NONE:
        return rows.tobytes()
    if compression == DEFLATE:
        return zlib.compress(rows.tobytes())
    file = io.BytesIO()
    name = {LZW: "tiff_lzw", PACKBITS: "packbits", LZMA: "lzma", ZSTANDARD: "zstd"}[compression]
    Image.fromarray(rows).save(file, "TIFF", compression=name, tiffinfo={278: len(rows)})
    with tifffile.TiffFile(io.BytesIO(file.getvalue())) as whole:
        tags = whole.pages[0].tags
        assert tags[259].value == compression
        (start,), (size,) = tags[273].value, tags[279].value
    return file.getvalue()[start : start + size]


def assert_pixels(picture: Picture, pixels: np.ndarray, alpha: np.ndarray | None = None) -> None:
    assert picture.pixels.dtype == pixels.dtype
    np.testing.assert_array_equal(picture.pixels, pixels)
    assert (picture.alpha is None) == (alpha is None)
    if alpha is not None:
        assert picture.alpha is not None
        assert picture.alpha.dtype == alpha.dtype
        np.testing.assert_array_equal(picture.alpha, alpha)


# Layouts


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("planar", [False, True])
@pytest.mark.parametrize("tile", [None, (16, 32)])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("big", [False, True])
def test_strips_tiles_and_planes(
    tmp_path: Path,
    order: str,
    planar: bool,
    tile: tuple[int, int] | None,
    dtype: Any,
    big: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if big:
        monkeypatch.setattr("gsrcli.images.readers.tiff.page._BAND_BYTES", 1)  # each row of chunks alone
    values = (noise(37, 41, 4, dtype=np.uint16) / 7).astype(dtype)
    alpha = values[..., 3] / 10000 if dtype == np.float32 else values[..., 3]
    stored = np.concatenate([values[..., :3], alpha[..., None]], axis=2)
    file = io.BytesIO()
    tifffile.imwrite(
        file,
        np.moveaxis(stored, 2, 0) if planar else stored,
        byteorder=order,
        bigtiff=big,
        photometric="rgb",
        planarconfig="separate" if planar else "contig",
        extrasamples=["unassalpha"],
        tile=tile,
        rowsperstrip=None if tile else 10,
    )
    assert_pixels(
        read(tmp_path, file.getvalue()), values[..., :3], np.clip(alpha, 0, 1) if dtype == np.float32 else alpha
    )


@pytest.mark.parametrize("compression", [NONE, LZW, DEFLATE, PACKBITS, LZMA, ZSTANDARD])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_compressions_of_bytes(tmp_path: Path, compression: int, dtype: Any) -> None:
    values = np.add.outer(np.arange(23), np.arange(3 * 17) // 3).astype(dtype).reshape(23, 17, 3)
    strips = [
        compressed(rows.astype(rows.dtype.newbyteorder(">")).reshape(len(rows), -1).view(np.uint8), compression)
        for rows in (values[:10], values[10:20], values[20:])
    ]
    tags, _ = page(values, RGB, t259=(SHORT, [compression]), t278=(LONG, [10]))
    assert_pixels(read(tmp_path, tiff((tags, strips), order=">")), values)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.uint32, np.float32])
@pytest.mark.parametrize("samples", [1, 3])
def test_horizontal_differences(tmp_path: Path, dtype: Any, samples: int) -> None:
    """They are differences of bits as integers, whatever these stand for."""
    if dtype == np.float32:
        values = np.random.default_rng(0).normal(size=(9, 14, samples)).astype(np.float32)
    else:
        values = noise(9, 14, samples, dtype=dtype)
    differences = values.view(f"u{values.dtype.itemsize}").copy()
    differences[:, 1:] -= differences[:, :-1].copy()
    tags, _ = page(values, RGB if samples == 3 else GREY, t317=(SHORT, [2]), t259=(SHORT, [DEFLATE]))
    picture = read(tmp_path, tiff((tags, [zlib.compress(differences.tobytes())])))
    if dtype == np.uint32:
        expected = (values >> 16).astype(np.uint16) if samples == 3 else values.astype(np.float32)
    else:
        expected = values
    assert_pixels(picture, expected)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("order", ["<", ">"])
def test_differences_of_floating_point(tmp_path: Path, dtype: Any, order: str) -> None:
    values = np.random.default_rng(0).normal(size=(9, 14, 3)).astype(dtype)
    size = values.dtype.itemsize
    rows = []
    for row in values:
        planes = np.frombuffer(row.astype(f">f{size}").tobytes(), np.uint8).reshape(-1, size).T.reshape(-1, 3)
        rows.append(np.concatenate([planes[:1], planes[1:] - planes[:-1]]).tobytes())
    tags, _ = page(values, RGB, t317=(SHORT, [3]), t259=(SHORT, [DEFLATE]))
    picture = read(tmp_path, tiff((tags, [zlib.compress(b"".join(rows))]), order=order))
    assert_pixels(picture, values.astype(np.float32))


@pytest.mark.parametrize("bits", [1, 2, 3, 4, 5, 6, 7, 10, 12, 14])
@pytest.mark.parametrize(("photometric", "samples"), [(0, 1), (GREY, 1), (GREY, 2), (RGB, 3)])
def test_other_depths_are_scaled(tmp_path: Path, bits: int, photometric: int, samples: int) -> None:
    top = 2**bits - 1
    values = np.random.default_rng(0).integers(0, top, (5, 9, samples), endpoint=True)
    data = packed(values.reshape(5, -1), bits)
    for order in "<>":
        picture = read(tmp_path, tiff((layout(Size(5, 9), samples, bits, photometric), [data]), order=order))
        dtype = np.uint8 if bits <= 8 else np.uint16
        scaled = np.rint(values * (np.iinfo(dtype).max / top)).astype(dtype)
        if photometric == 0:
            scaled = np.rint((top - values) * (np.iinfo(dtype).max / top)).astype(dtype)
        assert_pixels(picture, scaled[..., : samples if samples != 2 else 1], scaled[..., 1] if samples == 2 else None)


def test_bits_in_reverse(tmp_path: Path) -> None:
    values = noise(4, 16, 1)
    reversed_bits = np.packbits(np.unpackbits(values[..., 0].copy()).reshape(-1, 8)[:, ::-1], axis=1).reshape(4, 16, 1)
    tags, strips = page(reversed_bits, t266=(SHORT, [2]))
    assert_pixels(read(tmp_path, tiff((tags, strips))), values)


@pytest.mark.parametrize("dtype", [np.int8, np.int16, np.int32, np.uint32, np.int64])
def test_integers_without_a_range_keep_their_numbers(tmp_path: Path, dtype: Any) -> None:
    values = noise(6, 5, 1, dtype=dtype)
    picture = read(tmp_path, tiff(page(values)))
    assert_pixels(picture, values.astype(np.float32))
    assert "floating point" in with_fate(Fate.CONVERTED, picture.ledger)[0]
    if np.issubdtype(dtype, np.signedinteger):
        inverted = read(tmp_path, tiff(page(values, 0)))
        assert_pixels(inverted, (-1 - values.astype(object)).astype(np.float32))


@pytest.mark.parametrize(("dtype", "bits"), [(np.float16, 16), (np.float32, 32), (np.float64, 64)])
@pytest.mark.parametrize("order", ["<", ">"])
def test_floating_point(tmp_path: Path, dtype: Any, bits: int, order: str) -> None:
    values = np.random.default_rng(0).normal(0, 100, (6, 5, 3)).astype(dtype)
    picture = read(tmp_path, tiff(page(values, RGB, order), order=order))
    assert_pixels(picture, values.astype(np.float32))
    assert bool(with_fate(Fate.CONVERTED, picture.ledger)) == (bits == 64)


def test_24_bit_floating_point(tmp_path: Path) -> None:
    """1.5, −2, the smallest number and 0: a bit of sign, seven of exponent, sixteen of fraction."""
    numbers = [0x3F8000, 0xC00000, 0x000001, 0x000000]
    data = b"".join(number.to_bytes(3, "little") for number in numbers)
    tags = layout(Size(2, 2), 1, 24, GREY, t339=(SHORT, [3]))
    picture = read(tmp_path, tiff((tags, [data])))
    np.testing.assert_array_equal(picture.pixels.ravel(), np.float32([1.5, -2, 2**-16 * 2**-62, 0]))


# Colours and alpha


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize(
    ("extra", "samples", "alpha_at", "lost"),
    [
        ([2], 4, 3, None),
        ([0], 4, None, "extra channel"),
        ([], 4, 3, None),
        ([], 5, None, "2 extra channels"),
        ([2, 2], 5, 3, "extra channel"),
        ([0, 2, 0], 6, 4, "2 extra channels"),
    ],
)
def test_extra_samples(
    tmp_path: Path, dtype: Any, extra: list[int], samples: int, alpha_at: int | None, lost: str | None
) -> None:
    values = noise(7, 6, samples, dtype=np.uint8).astype(dtype)
    if dtype == np.float32:
        values /= 255
    tags = {"t338": (SHORT, extra)} if extra else {}
    picture = read(tmp_path, tiff(page(values, RGB, **tags)))
    assert_pixels(picture, values[..., :3], None if alpha_at is None else values[..., alpha_at])
    assert with_fate(Fate.LOST, picture.ledger) == ([lost] if lost else [])


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_grey_with_alpha_stays_grey(tmp_path: Path, dtype: Any) -> None:
    values = noise(7, 6, 2).astype(dtype) / (255 if dtype == np.float32 else dtype(1))
    values = values.astype(dtype)
    picture = read(tmp_path, tiff(page(values, t338=(SHORT, [2]))))
    assert_pixels(picture, values[..., :1], values[..., 1])


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_premultiplied_alpha_is_divided_out(tmp_path: Path, dtype: Any) -> None:
    colours, alpha = np.random.default_rng(0).random((9, 8, 3)), np.random.default_rng(1).uniform(0.5, 1, (9, 8, 1))
    alpha[0] = 0
    top = 1 if dtype == np.float32 else np.iinfo(dtype).max
    stored = np.concatenate([colours * alpha, alpha], axis=2) * top
    stored = stored.astype(dtype) if dtype == np.float32 else np.rint(stored).astype(dtype)
    picture = read(tmp_path, tiff(page(stored, RGB, t338=(SHORT, [1]))))
    assert np.abs(picture.pixels[1:] / top - colours[1:]).max() < (1e-6 if dtype == np.float32 else 2.6 / top)
    assert not picture.pixels[0].any()


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
@pytest.mark.parametrize("unit", [1, 256, 257])
def test_palettes_of_eight_bits(tmp_path: Path, bits: int, unit: int) -> None:
    """Colour maps hold 16 bits, into which programs put 8 in three ways."""
    colours = noise(1 << bits, 3)
    indices = np.random.default_rng(1).integers(0, 1 << bits, (5, 9))
    colour_map = (colours.T.astype(int) * unit).ravel().tolist()
    tags = layout(Size(5, 9), 1, bits, PALETTE, t320=(SHORT, colour_map))
    assert_pixels(read(tmp_path, tiff((tags, [packed(indices, bits)]))), colours[indices])


def test_palettes_of_sixteen_bits(tmp_path: Path) -> None:
    colours, indices = noise(256, 3, dtype=np.uint16), noise(5, 9, 1)
    tags, strips = page(indices, PALETTE, t320=(SHORT, colours.T.ravel().tolist()))
    assert_pixels(read(tmp_path, tiff((tags, strips))), colours[indices[..., 0]])


def test_palettes_with_alpha(tmp_path: Path) -> None:
    values, colours = noise(5, 9, 2), noise(256, 3, dtype=np.uint16)
    tags, strips = page(values, PALETTE, t320=(SHORT, colours.T.ravel().tolist()), t338=(SHORT, [2]))
    picture = read(tmp_path, tiff((tags, strips)))
    assert_pixels(picture, colours[values[..., 0]], values[..., 1].astype(np.uint16) * 257)


def test_deep_cmyk_without_a_profile(tmp_path: Path) -> None:
    inks = noise(7, 6, 4, dtype=np.uint16)
    picture = read(tmp_path, tiff(page(inks, CMYK)))
    left = 65535 - inks.astype(np.int64)
    assert_pixels(picture, (left[..., :3] * left[..., 3:] // 65535).astype(np.uint16))
    assert with_fate(Fate.CONVERTED, picture.ledger) == ["CMYK to sRGB"]


def cmyk_table() -> bytes:
    """Build a profile with a table of 2⁴ colours, between which L* and a* run linearly."""
    cyan, magenta, yellow, black = np.mgrid[:2, :2, :2, :2]
    return table_profile(b"CMYK", np.stack([100 - 18.75 * cyan - 75 * black, 32 * magenta, 0 * yellow], axis=-1))


def test_deep_cmyk_through_its_profile(tmp_path: Path) -> None:
    """Colours of 8 bits are those of LittleCMS, and between them there are more."""
    profile = cmyk_table()
    eight = noise(16, 16, 4)
    transform = ImageCms.buildTransform(
        ImageCms.ImageCmsProfile(io.BytesIO(profile)),
        ImageCms.createProfile("sRGB"),
        "CMYK",
        "RGB",
        ImageCms.Intent.RELATIVE_COLORIMETRIC,
        ImageCms.Flags.BLACKPOINTCOMPENSATION | ImageCms.Flags.NOOPTIMIZE,
    )
    expected = np.asarray(transform.apply(Image.fromarray(eight, "CMYK"))).astype(int)
    for values, unit in ((eight, 1), (eight.astype(np.uint16) * 257, 257)):
        picture = read(tmp_path, tiff(page(values, CMYK, t34675=(UNDEFINED, profile))))
        assert picture.colour.icc is None
        assert with_fate(Fate.CONVERTED, picture.ledger) == ["CMYK to sRGB through its profile"]
        differences = np.abs(picture.pixels / unit - expected)
        assert differences.max() <= (3 if unit == 1 else 1)
        assert differences.mean() < 0.3
    ramp = np.zeros((1, 4000, 4), np.uint16)
    ramp[..., 3] = np.linspace(0, 65535, 4000)
    grey = read(tmp_path, tiff(page(ramp, CMYK, t34675=(UNDEFINED, profile)))).pixels[0, :, 1].astype(int)
    assert len(np.unique(grey)) > 2000
    assert np.diff(grey).max() <= 0


def lab_to_srgb(lab: np.ndarray) -> np.ndarray:
    """Convert with scikit-image, whose D50 differs in the fourth digit."""
    color = pytest.importorskip("skimage.color")
    xyz = color.lab2xyz(lab, illuminant="D50")
    bradford = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])
    from_white, to_white = (
        bradford @ color.colorconv.xyz_tristimulus_values(illuminant=name, observer="2", dtype=np.float64)
        for name in ("D50", "D65")
    )
    adapted = xyz @ (np.linalg.inv(bradford) @ np.diag(to_white / from_white) @ bradford).T
    return color.xyz2rgb(adapted)


def test_lab(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    lab = np.stack(
        [random.uniform(0, 100, (9, 8)), random.uniform(-30, 30, (9, 8)), random.uniform(-30, 30, (9, 8))], 2
    )
    expected = lab_to_srgb(lab)
    stored = {
        (8, LAB): np.concatenate([lab[..., :1] * 2.55, lab[..., 1:] % 256], axis=2),
        (16, LAB): np.concatenate([lab[..., :1] * 655.35, lab[..., 1:] * 256 % 65536], axis=2),
        (8, ICCLAB): np.concatenate([lab[..., :1] * 2.55, lab[..., 1:] + 128], axis=2),
        (16, ICCLAB): np.concatenate([lab[..., :1] * 652.8, lab[..., 1:] * 256 + 32768], axis=2),
        (32, LAB): lab,
    }
    for (bits, photometric), values in stored.items():
        dtype = np.dtype(np.float32 if bits == 32 else f"u{bits // 8}")
        values = values.astype(dtype) if bits == 32 else (np.rint(values) % 2**bits).astype(dtype)
        picture = read(tmp_path, tiff(page(values, photometric, ">"), order=">"))
        assert picture.pixels.dtype == dtype
        top = 1 if bits == 32 else 2**bits - 1
        assert np.abs(picture.pixels / top - expected).max() < (0.012 if bits == 8 else 0.002), (bits, photometric)
        assert with_fate(Fate.CONVERTED, picture.ledger) == ["Lab to sRGB"]
    signed = np.rint(np.concatenate([lab[..., :1] * 655.35, lab[..., 1:] * 256], axis=2)).astype(np.int64)
    tags, strips = page((signed % 65536).astype(np.uint16), LAB, t339=(SHORT, [2] * 3))  # as some declare them
    assert np.abs(read(tmp_path, tiff((tags, strips))).pixels / 65535 - expected).max() < 0.002


def test_white_and_grey_in_lab_are_neutral(tmp_path: Path) -> None:
    values = np.zeros((1, 256, 3), np.uint16)
    values[..., 0] = np.arange(256) * 257
    pixels = read(tmp_path, tiff(page(values, LAB))).pixels.astype(int)
    assert np.ptp(pixels, axis=2).max() <= 1
    assert pixels[0, 0].tolist() == [0, 0, 0]
    assert pixels[0, 255].tolist() == [65535] * 3


def test_ycbcr(tmp_path: Path) -> None:
    values = noise(8, 8, 3)
    picture = read(tmp_path, tiff(page(values, 6, t530=(SHORT, [1, 1]))))
    expected = np.asarray(Image.fromarray(values, "YCbCr").convert("RGB")).astype(int)
    assert np.abs(picture.pixels - expected).max() <= 2
    with pytest.raises(PictureError, match="16-bit YCbCr is not supported"):
        read(tmp_path, tiff(page(values.astype(np.uint16), 6)))


@pytest.mark.parametrize(
    ("dtype", "kind"), [("i1", "signed integers"), ("i2", "signed integers"), ("f4", "floating-point values")]
)
def test_kinds_of_cmyk_that_are_not_supported_are_named(tmp_path: Path, dtype: str, kind: str) -> None:
    with pytest.raises(PictureError, match=f"CMYK of {kind} is not supported"):
        read(tmp_path, tiff(page(np.ones((2, 2, 4), dtype), 5)))


@pytest.mark.parametrize(("across", "down"), [(1, 1), (2, 1), (2, 2), (4, 2)])
@pytest.mark.parametrize("fill_order", [1, 2])
def test_subsampled_ycbcr_without_compression(tmp_path: Path, across: int, down: int, fill_order: int) -> None:
    """Units hold the brightness of some pixels, and the colour of all of them."""
    brightness, colours = noise(8, 16), noise(8 // down, 16 // across, 2)
    units = brightness.reshape(8 // down, down, 16 // across, across).swapaxes(1, 2).reshape(*colours.shape[:2], -1)
    stored = np.dstack([units, colours]).astype(np.uint8)
    if fill_order == 2:
        stored = np.packbits(np.unpackbits(stored).reshape(-1, 8)[:, ::-1])
    tags = layout(Size(8, 16), 3, 8, 6, t266=(SHORT, [fill_order]), t530=(SHORT, [across, down]))
    whole = np.dstack([brightness, colours.repeat(down, axis=0).repeat(across, axis=1)])
    expected = np.asarray(Image.fromarray(whole, "YCbCr").convert("RGB")).astype(int)
    picture = read(tmp_path, tiff((tags, [stored.tobytes()])))
    assert np.abs(picture.pixels - expected).max() <= 2
    assert picture.ledger == ()
    cut = read(tmp_path, tiff((tags | {279: (LONG, [9999])}, [stored.tobytes()[: stored.size // 2]])))
    assert [str(entry) for entry in cut.ledger] == ["pixels in places"]
    assert np.abs(cut.pixels[:4] - expected[:4]).max() <= 2


@pytest.mark.parametrize("subsampling", [0, 2])
@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
def test_jpeg_in_tiff(tmp_path: Path, mode: str, subsampling: int) -> None:
    y, x = np.mgrid[:100, :120]
    channels = {"L": 1, "RGB": 3, "CMYK": 4}[mode]
    values = np.stack([(x + (c + 1) * y) % 256 for c in range(channels)], axis=2).astype(np.uint8) // 3
    image = Image.fromarray(values if channels > 1 else values[..., 0], mode)
    file = io.BytesIO()
    image.save(file, "TIFF", compression="jpeg", quality=90, subsampling=subsampling, tiffinfo={278: 32})
    picture = read(tmp_path, file.getvalue())
    with Image.open(file) as decoded:
        expected = np.asarray(decoded.convert("RGB" if mode == "CMYK" else mode)).reshape(*picture.pixels.shape)
    assert np.abs(picture.pixels.astype(int) - expected).max() <= 1
    assert picture.origin is not None
    assert not picture.origin.lossless


def jpeg_strip(values: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(values).save(file, "JPEG", quality=95)
    return file.getvalue()


def test_damage_in_a_jpeg_strip_is_told(tmp_path: Path) -> None:
    values = noise(64, 48, 3)
    stream = jpeg_strip(values)
    tags = layout(Size(64, 48), 3, 8, 6, t259=(SHORT, [JPEG]))
    assert read(tmp_path, tiff((tags, [stream]))).ledger == ()
    damaged = read(tmp_path, tiff((tags, [stream[: len(stream) // 2] + bytes(len(stream) // 2)])))
    assert with_fate(Fate.DAMAGED, damaged.ledger) == ["pixels in places"]


def test_jpeg_of_another_depth_is_named(tmp_path: Path) -> None:
    stream = bytearray(jpeg_strip(noise(16, 16, 3)))
    stream[stream.index(b"\xff\xc0") + 4] = 12
    tags = layout(Size(16, 16), 3, 8, 6, t259=(SHORT, [JPEG]))
    with pytest.raises(PictureError, match="12-bit JPEG is not supported"):
        read(tmp_path, tiff((tags, [bytes(stream)])))


def test_a_small_strip_that_holds_a_huge_jpeg(tmp_path: Path) -> None:
    stream = bytearray(jpeg_strip(noise(16, 16, 3)))
    at = stream.index(b"\xff\xc0")
    stream[at + 5 : at + 9] = b"\xff\xff\xff\xff"
    tags = layout(Size(16, 16), 3, 8, 6, t259=(SHORT, [JPEG]))
    with pytest.raises(PictureError, match="damaged"):
        read(tmp_path, tiff((tags, [bytes(stream)])))


def test_webp_in_tiff(tmp_path: Path) -> None:
    values = noise(20, 30, 3)
    file = io.BytesIO()
    Image.fromarray(values).save(file, "WEBP", lossless=True)
    tags = layout(Size(20, 30), 3, 8, RGB, t259=(SHORT, [50001]))
    assert_pixels(read(tmp_path, tiff((tags, [file.getvalue()]))), values)


@pytest.mark.parametrize(
    ("tags", "words"),
    [
        ({"t259": (SHORT, [34712])}, "compression JPEG 2000"),
        ({"t259": (SHORT, [34887])}, "compression LERC"),
        ({"t259": (SHORT, [50002])}, "compression JPEG XL"),
        ({"t262": (SHORT, [32845])}, "LogLuv"),
        ({"t262": (SHORT, [10])}, "ITU Lab"),
        ({"t339": (SHORT, [6])}, "complex numbers"),
        ({"t258": (SHORT, [8, 16, 8])}, "different kinds"),
    ],
)
def test_what_is_not_supported_is_named(tmp_path: Path, tags: dict[str, Any], words: str) -> None:
    values = noise(4, 4, 3)
    with pytest.raises(PictureError, match=words) as failure:
        read(tmp_path, tiff(page(values, RGB, **tags)))
    assert "damaged" not in str(failure.value)


# Numbers without a value


def test_pixels_without_data_become_transparent(tmp_path: Path) -> None:
    heights = np.arange(20, dtype=np.float32).reshape(4, 5, 1)
    heights[0, 0], heights[1, 1], heights[2, 2] = np.nan, np.inf, -9999
    picture = read(tmp_path, tiff(page(heights, t42113=(ASCII, b"-9999\0"))))
    alpha = np.ones((4, 5), np.float32)
    alpha[0, 0] = alpha[1, 1] = alpha[2, 2] = 0
    assert picture.alpha is not None
    np.testing.assert_array_equal(picture.alpha, alpha)
    np.testing.assert_array_equal(picture.pixels[alpha > 0], heights[alpha > 0])
    assert with_fate(Fate.CONVERTED, picture.ledger) == ["3 pixels without data to transparency"]
    assert picture.metadata.geo is None  # the number stands for nothing any more
    with pytest.raises(PictureError, match="none of its pixels"):
        read(tmp_path, tiff(page(np.full((2, 2, 1), np.nan, np.float32))))


def test_the_number_for_no_data_stays_with_integers(tmp_path: Path) -> None:
    tags = {"t42113": (ASCII, b"0\0")}
    geo = read(tmp_path, tiff(page(noise(4, 5, 3), RGB, **tags))).metadata.geo
    assert geo == {42113: (2, 2, b"0\0")}


def test_no_data_in_other_integers_become_transparent(tmp_path: Path) -> None:
    """Where pixels are other numbers than in the file, no number stands for no data."""
    values = np.arange(16, dtype=np.uint8).reshape(4, 4)
    tags = {"t42113": (ASCII, b"7\0")}
    colours = (SHORT, noise(3, 16, dtype=np.uint16).ravel().tolist())
    for kind in (GREY, PALETTE):
        described = layout(Size(4, 4), 1, 4, kind, **tags, **({"t320": colours} if kind == PALETTE else {}))
        picture = read(tmp_path, tiff((described, [packed(values, 4)])))
        assert picture.alpha is not None
        np.testing.assert_array_equal(picture.alpha == 0, values == 7)
        assert picture.alpha.max() == (65535 if kind == PALETTE else 255)
        assert with_fate(Fate.CONVERTED, picture.ledger) == ["1 pixel without data to transparency"]
        assert picture.metadata.geo is None
        none = read(tmp_path, tiff((described, [packed(values & 3, 4)])))
        assert (none.alpha, none.metadata.geo, none.ledger) == (None, None, ())


# Pages, camera raw


def test_pages_have_their_own_size_and_metadata(tmp_path: Path) -> None:
    first, second = noise(5, 7, 3), noise(9, 4, 1, dtype=np.uint16)
    reduced, mask = noise(2, 3, 3), noise(5, 7, 1)
    data = tiff(
        page(first, RGB, t270=(ASCII, b"one\0"), t282=(RATIONAL, [72]), t283=(RATIONAL, [72])),
        page(reduced, RGB, t254=(LONG, [1])),
        page(mask, 4, t254=(LONG, [4])),
        page(reduced, RGB, t255=(SHORT, [2])),
        page(second, GREY, t270=(ASCII, b"two\0"), t274=(SHORT, [6])),
    )
    path = tmp_path / "pages.tif"
    path.write_bytes(data)
    file = PictureFile(path)
    assert (file.count, file.size, file.animated) == (2, Size(5, 7), False)
    one, two = file.picture(0), file.picture(1)
    assert_pixels(one, first, mask[..., 0])
    assert_pixels(two, np.rot90(second, -1))
    assert one.metadata.exif is not None
    assert two.metadata.exif is not None
    assert b"one" in one.metadata.exif
    assert b"two" in two.metadata.exif
    assert (one.metadata.dpi, two.metadata.dpi) == ((72, 72), None)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_masks_are_transparency(tmp_path: Path, dtype: Any) -> None:
    values, opaque = noise(5, 7, 3).astype(dtype), noise(5, 7) > 99
    bits = packed(opaque, 1)
    mask = layout(Size(5, 7), 1, 1, 4, t254=(LONG, [4])), [bits]
    white = 1 if dtype == np.float32 else np.iinfo(dtype).max
    assert_pixels(read(tmp_path, tiff(page(values, RGB), mask)), values, (opaque * white).astype(dtype))
    other = layout(Size(2, 7), 1, 1, 4, t254=(LONG, [4])), [bits]
    picture = read(tmp_path, tiff(page(values, RGB), other))
    assert picture.alpha is None
    assert with_fate(Fate.LOST, picture.ledger) == ["transparency mask"]


def test_a_mask_hides_more_than_alpha_and_nodata_do(tmp_path: Path) -> None:
    opaque, alpha, heights = noise(5, 7) > 99, noise(5, 7), noise(5, 7, 1).astype(np.float32)
    mask = layout(Size(5, 7), 1, 1, 4, t254=(LONG, [4])), [packed(opaque, 1)]
    values = np.dstack([noise(5, 7, 3), alpha])
    assert_pixels(read(tmp_path, tiff(page(values, RGB, t338=(SHORT, [2])), mask)), values[..., :3], opaque * alpha)
    nodata = page(heights, t42113=(ASCII, b"%d\0" % heights[0, 0, 0]))
    picture = read(tmp_path, tiff(nodata, mask))
    there = opaque & (heights[..., 0] != heights[0, 0, 0])
    np.testing.assert_array_equal(picture.alpha, there.astype(np.float32))


@pytest.mark.parametrize(
    ("tags", "name"),
    [
        ({"t50706": (BYTE, [1, 4, 0, 0])}, r"\(DNG\)"),
        ({"t271": (ASCII, b"NIKON CORPORATION\0"), "t262": (SHORT, [32803])}, r"\(NEF\)"),
        ({"t271": (ASCII, b"SONY\0"), "t259": (SHORT, [32767])}, r"\(ARW\)"),
        ({"t262": (SHORT, [34892])}, "camera raw"),
    ],
)
def test_camera_raw_files_are_refused(tmp_path: Path, tags: dict[str, Any], name: str) -> None:
    """A preview in front does not make them pictures."""
    sensor = page(noise(6, 6, 1, dtype=np.uint16), **tags)
    for pages in ((sensor,), (page(noise(5, 7, 3), RGB, t254=(LONG, [1])), sensor)):
        with pytest.raises(PictureError, match=name) as failure:
            read(tmp_path, tiff(*pages))
        assert "develop" in (failure.value.hint or "")


def test_camera_raw_values_in_a_subdirectory(tmp_path: Path) -> None:
    values = noise(5, 7, 3)
    sensor = struct.pack("<HHHII", 1, 262, 3, 1, 32803) + bytes(4)
    for make, refused in ((b"NIKON\0", True), (b"NIKON\0", False)):
        plain = tiff(page(values, RGB, t271=(ASCII, make), t330=(LONG, [0])))
        data = plain.replace(struct.pack("<HHII", 330, 4, 1, 0), struct.pack("<HHII", 330, 4, 1, len(plain)))
        if not refused:  # a subdirectory with a thumbnail
            assert_pixels(read(tmp_path, data + sensor.replace(struct.pack("<I", 32803), struct.pack("<I", 2))), values)
            continue
        with pytest.raises(PictureError, match=r"NEF"):
            read(tmp_path, data + sensor)


@pytest.mark.parametrize("order", ["<", ">"])
def test_raw_files_of_phase_one_have_their_values_where_no_directory_refers_to(tmp_path: Path, order: str) -> None:
    start, sensor = (b"II*\0", b"IIIICwaR") if order == "<" else (b"MM\0*", b"MMMMRawC")
    tags = {256: 1, 257: 1, 258: 8, 262: 1, 273: 8, 279: 1}
    directory = struct.pack(order + "H", len(tags))
    directory += b"".join(struct.pack(order + "HHIHxx", tag, 3, 1, value) for tag, value in tags.items()) + bytes(4)
    preview = start + struct.pack(order + "I", 16) + sensor
    with pytest.raises(PictureError, match=r"camera raw file \(IIQ\)"):
        read(tmp_path, preview + directory)
    assert read(tmp_path, preview.replace(b"w", b"I") + directory).size == Size(1, 1)  # a picture of such values


@pytest.mark.parametrize(("magic", "name"), [(b"IIRO\x08\0\0\0", "ORF"), (b"IIU\0\x18\0\0\0", "RW2")])
def test_raw_files_that_are_nearly_tiff(tmp_path: Path, magic: bytes, name: str) -> None:
    with pytest.raises(PictureError, match=name):
        read(tmp_path, magic + bytes(100))


# Metadata


def test_resolution_by_unit(tmp_path: Path) -> None:
    for unit, dpi, aspect in ((2, (300, 150), None), (3, (762, 381), None), (1, None, 0.5), (None, (300, 150), None)):
        tags = {"t282": (RATIONAL, [300]), "t283": (RATIONAL, [150])}
        if unit:
            tags["t296"] = (SHORT, [unit])
        metadata = read(tmp_path, tiff(page(noise(4, 4, 1), **tags))).metadata
        assert metadata.dpi == (None if dpi is None else pytest.approx(dpi))
        assert metadata.aspect == aspect
        turned = read(tmp_path, tiff(page(noise(4, 4, 1), t274=(SHORT, [6]), **tags))).metadata
        assert turned.dpi == (None if dpi is None else pytest.approx(dpi[::-1]))
        assert turned.aspect == (None if aspect is None else 1 / aspect)


def test_primaries_of_rgb(tmp_path: Path) -> None:
    """Programs write those of sRGB, which say nothing, to all files."""
    srgb, p3 = ([0.64, 0.33, 0.3, 0.6, 0.15, 0.06], [0.68, 0.32, 0.265, 0.69, 0.15, 0.06])
    for primaries, photometric, kept in ((srgb, RGB, False), (p3, RGB, True), (p3, CMYK, False)):
        tags = {"t318": (RATIONAL, [0.313, 0.329]), "t319": (RATIONAL, primaries)}
        colour = read(tmp_path, tiff(page(noise(4, 4, 3 + (photometric == CMYK)), photometric, **tags))).colour
        assert (colour.chromaticities is not None) == kept
        if colour.chromaticities:
            assert colour.chromaticities.green == pytest.approx((0.265, 0.69))
    tags["t34675"] = (UNDEFINED, b"profile")
    assert read(tmp_path, tiff(page(noise(4, 4, 3), RGB, **tags))).colour.chromaticities is None


def iptc_datasets(title: bytes = b"title") -> bytes:
    return b"\x1c\x02\x05" + struct.pack(">H", len(title)) + title


def resource(number: int, data: bytes) -> bytes:
    return b"8BIM" + struct.pack(">HHI", number, 0, len(data)) + data + b"\0" * (len(data) % 2)


def test_iptc(tmp_path: Path) -> None:
    datasets = iptc_datasets(b"a title 12")
    assert len(datasets) % 4 == 3
    longs = datasets + b"\0"
    photoshop = resource(1005, bytes(16)) + resource(0x0404, datasets)
    words = lambda order: (LONG, list(struct.unpack(f"{order}{len(longs) // 4}I", longs)))  # noqa: E731
    for order in "<>":
        for tags in (
            {"t33723": (UNDEFINED, datasets)},
            {"t33723": words(order)},
            {"t33723": words("<" if order == ">" else ">")},
            {"t34377": (BYTE, photoshop)},
        ):
            picture = read(tmp_path, tiff(page(noise(4, 4, 1), **tags), order=order))
            assert picture.metadata.iptc is not None
            assert picture.metadata.iptc.rstrip(b"\0") == datasets
            assert picture.ledger == ()


def test_what_photoshop_adds_is_named(tmp_path: Path) -> None:
    tags = {
        "t34377": (BYTE, resource(2000, bytes(26))),
        "t37724": (UNDEFINED, b"Adobe Photoshop Document Data Block\0"),
    }
    picture = read(tmp_path, tiff(page(noise(4, 4, 1), **tags)))
    assert with_fate(Fate.LOST, picture.ledger) == ["clipping path", "Photoshop layers"]


def test_tags_that_have_no_place_are_named(tmp_path: Path) -> None:
    tags: dict[str, Any] = {f"t{tag}": (ASCII, b"word\0") for tag in (333, *range(65000, 65006))}
    tags |= {"t301": (SHORT, [0] * 256), "t287": (RATIONAL, [2.5]), "t59932": (UNDEFINED, bytes(9))}
    picture = read(tmp_path, tiff(page(noise(4, 4, 1), **tags)))
    assert with_fate(Fate.LOST, picture.ledger) == [
        "names of inks",
        "offset on the page",
        "transfer function",
        "TIFF tags 65000, 65001, 65002, 65003 and 2 more",
    ]
    harmless = {"t287": (RATIONAL, [0.0]), "t280": (SHORT, [0]), "t281": (SHORT, [255]), "t32995": (SHORT, [1])}
    assert read(tmp_path, tiff(page(noise(4, 4, 1), **harmless))).ledger == ()


@pytest.mark.parametrize(
    ("text", "lost"),
    [
        (b'<?xml version="1.0"?><!-- c --><OME xmlns="o"><Pixels SizeX="4"/></OME>', "OME-XML description"),
        (b"ImageJ=1.53t\nimages=3\nunit=micron\n", "ImageJ description"),
        (b'<MetaData><prop id="pixel-size-x" value="4"/></MetaData>', "MetaMorph description"),
        (b"a plain text", None),
    ],
)
def test_descriptions_that_would_be_stale_are_dropped(tmp_path: Path, text: bytes, lost: str | None) -> None:
    picture = read(tmp_path, tiff(page(noise(4, 4, 1), t270=(ASCII, text + b"\0"))))
    assert with_fate(Fate.LOST, picture.ledger) == ([lost] if lost else [])
    assert (picture.metadata.exif is not None and text in picture.metadata.exif) == (lost is None)


def doubles(*numbers: float) -> tuple[int, list[float]]:
    return DOUBLE, list(numbers)


@pytest.mark.parametrize("point", [False, True])
@pytest.mark.parametrize("matrix", [False, True])
def test_maps_cover_the_same_ground_when_enlarged(tmp_path: Path, point: bool, matrix: bool) -> None:
    tags: dict[str, Any] = {"t34735": (SHORT, [1, 1, 0, 1, 1025, 0, 1, 1 + point]), "t34737": (ASCII, b"WGS 84|\0")}
    if matrix:
        tags["t34264"] = doubles(10, 2, 0, 500, 1, -10, 0, 4200, 0, 0, 0, 0, 0, 0, 0, 1)
    else:
        tags |= {"t33550": doubles(10, 10, 0), "t33922": doubles(3, 4, 0, 500, 4200, 0)}
    picture = read(tmp_path, tiff(page(noise(20, 30, 1), **tags)))
    enlarged = picture.enlarged(noise(50, 90, 1))

    def ground(metadata: Metadata, x: float, y: float) -> np.ndarray:
        """Return where a corner lies, counted in pixels from the outer corner of the first."""
        assert metadata.geo is not None
        values = {
            tag: struct.unpack(f"<{len(value[2]) // 8}d", value[2])
            for tag, value in metadata.geo.items()
            if isinstance(value, tuple) and value[0] == DOUBLE
        }
        i, j = (x - 0.5, y - 0.5) if point else (x, y)
        if matrix:
            return np.array(values[34264]).reshape(4, 4)[:2] @ [i, j, 0, 1]
        (a, b, _), tie = values[33550], values[33922]
        return np.array([tie[3] + (i - tie[0]) * a, tie[4] - (j - tie[1]) * b])

    for x, y in ((0, 0), (1, 0), (0, 1), (1, 1)):
        np.testing.assert_allclose(
            ground(enlarged.metadata, 90 * x, 50 * y), ground(picture.metadata, 30 * x, 20 * y), rtol=1e-12
        )
    write_picture(enlarged, tmp_path / "map.tif")
    assert read_picture(tmp_path / "map.tif").metadata.geo == enlarged.metadata.geo
    with tifffile.TiffFile(tmp_path / "map.tif") as file:
        assert file.pages[0].tags[34737].value == "WGS 84|"


def test_turned_maps_lose_their_place(tmp_path: Path) -> None:
    tags = {"t33550": doubles(1, 1, 0), "t274": (SHORT, [3])}
    picture = read(tmp_path, tiff(page(noise(4, 4, 1), **tags)))
    assert picture.metadata.geo is None
    assert with_fate(Fate.LOST, picture.ledger) == ["GeoTIFF tags"]


@pytest.mark.parametrize("order", ["<", ">"])
def test_bad_metadata_cost_no_more_than_themselves(tmp_path: Path, order: str) -> None:
    values = noise(4, 4, 3)
    data = tiff(page(values, RGB, t700=(BYTE, b"<x:xmpmeta/>"), t34675=(UNDEFINED, b"icc profile"),
                     t315=(ASCII, b"somebody\0")), order=order)  # fmt: skip
    for tag, kind, what in ((700, BYTE, "XMP"), (34675, UNDEFINED, "colour profile"), (315, ASCII, "EXIF (1 tags)")):
        entry = struct.pack(order + "HH", tag, kind)
        at = data.index(entry)
        broken = data[: at + 8] + struct.pack(order + "I", 1 << 30) + data[at + 12 :]
        picture = read(tmp_path, broken)
        assert_pixels(picture, values)
        assert with_fate(Fate.DAMAGED, picture.ledger) == [what]


# Damage and bounded work


def fax(values: np.ndarray, compression: str) -> tuple[dict[int, Any], bytes]:
    """Return a page and the fax stream of a black and white picture."""
    file = io.BytesIO()
    Image.fromarray(values).save(file, "TIFF", compression=compression, tiffinfo={278: len(values)})
    with tifffile.TiffFile(io.BytesIO(file.getvalue())) as whole:
        tags = whole.pages[0].tags
        (start,), (size,) = tags[273].value, tags[279].value
        described = layout(Size.of(values), 1, 1, int(tags[262].value), t259=(SHORT, [int(tags[259].value)]))
    return described, file.getvalue()[start : start + size]


def told(tmp_path: Path, data: bytes) -> str:
    """Return what reading says of damage."""
    try:
        return "".join(f"damaged {what}" for what in with_fate(Fate.DAMAGED, read(tmp_path, data).ledger))
    except PictureError as error:
        return str(error)


def test_damaged_fax_pages_are_told_and_nothing_is_printed(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    values = np.random.default_rng(0).random((60, 80)) < 0.3
    for compression in ("group3", "group4", "tiff_ccitt"):
        tags, stream = fax(values, compression)
        picture = read(tmp_path, tiff((tags, [stream])))
        assert_pixels(picture, np.where(values, 255, 0).astype(np.uint8)[..., None])
        assert picture.ledger == ()
        for share in (0, 0.1, 0.5, 0.9):
            assert "damaged" in told(tmp_path, tiff((tags, [stream[: int(len(stream) * share) + 1]]))), compression
        garbled = stream[:100] + bytes([0, 0x81] * 10) + stream[120:]
        assert told(tmp_path, tiff((tags, [garbled]))) == "damaged pixels in places", compression
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("compression", [LZW, PACKBITS, ZSTANDARD, LZMA])
def test_a_page_is_refused_if_its_only_strip_is_damaged(
    tmp_path: Path, compression: int, capfd: pytest.CaptureFixture[str]
) -> None:
    rows = noise(40, 100) // 16
    stream = compressed(rows, compression)
    tags, _ = page(rows[..., None], t259=(SHORT, [compression]))
    whole = tiff((tags, [stream]))
    assert_pixels(read(tmp_path, whole), rows[..., None])
    for broken in (whole[: -len(stream) // 8], whole[: -len(stream) // 2], tiff((tags, [stream[: len(stream) // 2]]))):
        with pytest.raises(PictureError, match="damaged or cut short"):
            read(tmp_path, broken)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("compression", [NONE, LZW, DEFLATE, PACKBITS, ZSTANDARD, LZMA])
def test_sound_strips_of_a_damaged_page_are_read(
    tmp_path: Path, compression: int, capfd: pytest.CaptureFixture[str]
) -> None:
    rows = noise(43, 30, 3)
    strips = [compressed(rows[top : top + 4].reshape(-1, 90), compression) for top in range(0, 43, 4)]
    tags = layout(Size(43, 30), 3, 8, RGB, t259=(SHORT, [compression]), t278=(SHORT, [4]))
    sound = tiff((tags, strips))
    assert read(tmp_path, sound).ledger == ()

    starts = [sound.index(strip) for strip in strips]
    for first in range(1, 11):
        places = [*starts[:first], len(sound) - 5, *(len(sound) + 1000 * number for number in range(10 - first))]
        cut = read(tmp_path, tiff((tags | {273: (LONG, places)}, strips)))
        assert damaged(cut) == ["pixels in places"]
        np.testing.assert_array_equal(cut.pixels[: 4 * first], rows[: 4 * first])
        assert not cut.pixels[4 * first + 4 :].any()
    with pytest.raises(PictureError, match="damaged or cut short"):
        read(tmp_path, tiff((tags | {273: (LONG, [len(sound) - 5] * 11)}, strips)))

    if compression != NONE:
        garbled = tiff((tags, [strip[:9] if number in (0, 5, 6) else strip for number, strip in enumerate(strips)]))
        picture = read(tmp_path, garbled)
        assert damaged(picture) == ["pixels in places"]
        for top in range(0, 43, 4):
            if top not in (0, 20, 24):
                np.testing.assert_array_equal(picture.pixels[top : top + 4], rows[top : top + 4])
            else:
                assert not picture.pixels[top + 1 : top + 4].any()

    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("reversed_bits", [False, True])
def test_deflate_streams_are_read_up_to_the_damage_and_checked(tmp_path: Path, *, reversed_bits: bool) -> None:
    rows = noise(80, 50)
    tags = layout(Size(80, 50), 1, 8, GREY, t259=(SHORT, [DEFLATE]), t266=(SHORT, [2 if reversed_bits else 1]))

    def page_of(stream: bytes) -> Picture:
        bits = np.unpackbits(np.frombuffer(stream, np.uint8)).reshape(-1, 8)[:, ::-1]
        return read(tmp_path, tiff((tags, [np.packbits(bits).tobytes() if reversed_bits else stream])))

    stream = zlib.compress(rows.tobytes())
    assert page_of(stream).ledger == ()
    assert page_of(stream + b"more").ledger == ()
    wrong = page_of(stream[:-1] + bytes([stream[-1] ^ 1]))
    assert damaged(wrong) == ["pixels in places"]
    np.testing.assert_array_equal(wrong.pixels[..., 0], rows)
    half = len(stream) // 2
    for broken in (stream[:half], stream[:half].ljust(len(stream), b"\0")):  # noise is stored as it is
        picture = page_of(broken)
        assert damaged(picture) == ["pixels in places"]
        np.testing.assert_array_equal(picture.pixels[:39, :, 0], rows[:39])


def test_much_damage_is_not_looked_for_long(tmp_path: Path) -> None:
    height = 20000
    tags = layout(Size(height, 8), 1, 8, GREY, t259=(SHORT, [ZSTANDARD]), t278=(SHORT, [1]))
    good = compressed(noise(1, 8), ZSTANDARD)
    data = tiff((tags, [good if row % 2 else good[::-1] for row in range(height)]))
    began = time.perf_counter()
    with pytest.raises(PictureError, match="damaged or cut short"):
        read(tmp_path, data)
    assert time.perf_counter() - began < 5


def test_sparse_tiles_are_black(tmp_path: Path) -> None:
    values = noise(16, 32, 1)
    tags = layout(Size(16, 32), 1, 8, GREY, t322=(SHORT, [16]), t323=(SHORT, [16]))
    del tags[278]
    data = tiff((tags, [values[:, :16].tobytes(), b""]))
    values[:, 16:] = 0
    offsets = struct.pack("<HHI", 273, LONG, 2)
    at = data.index(offsets)
    place = struct.unpack_from("<I", data, at + 8)[0]
    data = data[: place + 4] + bytes(4) + data[place + 8 :]
    assert_pixels(read(tmp_path, data), values)


def seconds(work: Callable[[], Any]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def test_tags_that_share_their_values(tmp_path: Path) -> None:
    """Copying each of them would make gigabytes."""
    entries = 400
    plain = tiff(page(noise(4, 4, 1), t34665=(LONG, [0])))
    at = len(plain)
    values_at = at + 2 + entries * 12 + 4
    directory = struct.pack("<H", entries) + b"".join(
        struct.pack("<HHII", 36864 + number, UNDEFINED, 100_000, values_at) for number in range(entries)
    )
    data = plain.replace(struct.pack("<HHII", 34665, LONG, 1, 0), struct.pack("<HHII", 34665, LONG, 1, at))
    data += directory + bytes(4) + bytes(100_000)
    pictures = []
    assert seconds(lambda: pictures.append(read(tmp_path, data))) < 2
    exif = pictures[0].metadata.exif
    assert exif is not None
    assert len(exif) < 2 * len(data)
    assert with_fate(Fate.DAMAGED, pictures[0].ledger) == ["EXIF (399 tags)"]


def test_thousands_of_pages_and_endless_chains(tmp_path: Path) -> None:
    values = noise(4, 4, 1)
    data = tiff(*[page(values)] * 4000)
    path = tmp_path / "pages.tif"
    path.write_bytes(data)
    counts = []
    assert seconds(lambda: counts.append(PictureFile(path).count)) < 3
    assert counts == [4000]
    single = bytearray(tiff(page(values)))
    link = 8 + 2 + 12 * struct.unpack_from("<H", single, 8)[0]
    single[link : link + 4] = struct.pack("<I", 8)  # the directory links to itself
    looped = read(tmp_path, bytes(single))
    assert_pixels(looped, values)
    assert looped.ledger == ()


def test_pages_that_cannot_be_found_are_told(tmp_path: Path) -> None:
    values = noise(4, 4, 1)
    data = tiff(page(values), page(values), page(values))
    for cut in (data[: len(data) * 2 // 3 - 2], data[: len(data) * 2 // 3 + 30]):
        path = tmp_path / "cut.tif"
        path.write_bytes(cut)
        file = PictureFile(path)
        told_of = with_fate(Fate.DAMAGED, file.picture(0).ledger)
        assert told_of == ["list of pages (later ones cannot be found)"], file.count


def test_directories_that_overlap_do_not_multiply(tmp_path: Path) -> None:
    """Each of many directories would hold most of the file."""
    entry = struct.pack("<HHII", 30000, SHORT, 1, 0)
    count = 20000
    chain = bytearray(struct.pack("<H", count) + entry * (2 * count))
    data = bytearray(b"II*\0" + struct.pack("<I", 8)) + chain
    for number in range(count - 1):
        at = 8 + 12 * number
        struct.pack_into("<H", data, at, count)
        link = at + 2 + 12 * count
        struct.pack_into("<I", data, link, at + 12)
    path = tmp_path / "overlapping.tif"
    path.write_bytes(data)

    def work() -> None:
        with pytest.raises(PictureError):
            PictureFile(path)

    assert seconds(work) < 3


@pytest.mark.parametrize("compression", [NONE, LZW, DEFLATE, ZSTANDARD, 4])
def test_a_size_is_believed_as_far_as_the_file_could_hold_it(tmp_path: Path, compression: int) -> None:
    tags = layout(Size(20_000, 20_000), 3 if compression != 4 else 1, 16 if compression != 4 else 1, GREY)
    tags[259] = (SHORT, [compression])
    tags[256] = (LONG, [20_000 if compression != 4 else 10**7])
    tags[257] = (LONG, [20_000 if compression != 4 else 10**6])
    with pytest.raises(LimitError):
        PictureFile(_written(tmp_path, tiff((tags, [bytes(100)]))), max_pixels=None).picture()


def _written(tmp_path: Path, data: bytes) -> Path:
    path = tmp_path / "picture.tif"
    path.write_bytes(data)
    return path


# Writing


def varied(dtype: Any, channels: int, seed: int = 0) -> np.ndarray:
    if dtype == np.float32:
        return np.random.default_rng(seed).normal(0, 50, (33, 21, channels)).astype(np.float32)
    return noise(33, 21, channels, dtype=dtype, seed=seed)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("transparent", [False, True])
def test_written_pixels(tmp_path: Path, dtype: Any, channels: int, transparent: bool) -> None:
    """They are read by this package, and by libtiff as OpenCV or Pillow has it."""
    cv2 = pytest.importorskip("cv2")
    pixels = varied(dtype, channels)
    alpha = None
    if transparent:
        alpha = (
            (np.abs(varied(dtype, 1, 1)[..., 0]) % 1).astype(dtype)
            if dtype == np.float32
            else varied(dtype, 1, 1)[..., 0]
        )
    path = tmp_path / "out.tif"
    write_picture(Picture(pixels, alpha), path)
    assert_pixels(read_picture(path), pixels, alpha)
    if channels == 1 and transparent:
        if dtype == np.uint8:
            np.testing.assert_array_equal(np.asarray(Image.open(path)), np.dstack([pixels, alpha]))
        return
    if dtype == np.uint8:
        found = np.asarray(Image.open(path)).reshape(33, 21, -1)
    else:
        found = cv2.imread(str(path), cv2.IMREAD_UNCHANGED).reshape(33, 21, -1)
        found = found[..., [2, 1, 0, 3][: found.shape[2]]] if channels == 3 else found
    np.testing.assert_array_equal(found, pixels if alpha is None else np.dstack([pixels, alpha]))


def test_written_metadata(tmp_path: Path) -> None:
    metadata = Metadata(
        xmp=b"<x:xmpmeta/>",
        iptc=iptc_datasets(),
        texts=(
            Text("Title", "Café"),
            Text("Author", "Ann"),
            Text("Copyright", "© Ann"),
            Text("Software", "a program"),
            Text("Comment", "a comment"),
            Text("Warning", "hot"),
        ),
        aspect=0.9,
    )
    path = tmp_path / "out.tif"
    write_picture(Picture(noise(4, 4, 3), metadata=metadata), path)
    with tifffile.TiffFile(path) as file:
        tags = file.pages[0].tags
        assert tags[269].value == "Café"
        assert tags[315].value == "Ann"
        assert tags[33432].value == "© Ann"
        assert tags[305].value == "a program"
        assert tags[270].value == "a comment\nWarning: hot"
        assert tags[700].value == metadata.xmp
        assert tags[33723].value == metadata.iptc
        assert tags[296].value == 1
        (a, b), (c, d) = tags[282].value, tags[283].value
        assert (c / d) / (a / b) == pytest.approx(0.9)
    again = read_picture(path).metadata
    assert (again.xmp, again.iptc) == (metadata.xmp, metadata.iptc)
    assert again.aspect == pytest.approx(0.9)


@pytest.mark.parametrize("dpi", [0.001, 72.0, 299.9999, 1e6 / 3])
def test_any_resolution_can_be_written(tmp_path: Path, dpi: float) -> None:
    write_picture(Picture(noise(4, 4, 1), metadata=Metadata(dpi=(dpi, 72))), tmp_path / "out.tif")
    assert read_picture(tmp_path / "out.tif").metadata.dpi == pytest.approx((dpi, 72), rel=1e-6)


def test_texts_do_not_replace_those_of_exif(tmp_path: Path) -> None:
    exif = read(tmp_path, tiff(page(noise(4, 4, 1), t270=(ASCII, b"old\0"), t315=(ASCII, b"Eve\0")))).metadata.exif
    texts = (Text("Author", "Ann"), Text("Author", "Eve"), Text("Description", "old"), Text("Comment", "new"))
    path = tmp_path / "out.tif"
    write_picture(Picture(noise(4, 4, 3), metadata=Metadata(exif=exif, texts=texts)), path)
    with tifffile.TiffFile(path) as file:
        assert file.pages[0].tags[315].value == "Eve"
        assert file.pages[0].tags[270].value == "old\nAuthor: Ann\nnew"


@pytest.mark.parametrize("big", [False, True])
def test_written_pages(tmp_path: Path, big: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if big:
        monkeypatch.setattr("gsrcli.images.directories._MOST_CLASSIC_BYTES", 1000)
    pages = [Picture(noise(9 + n, 7, 3, seed=n), metadata=Metadata(dpi=(100 + n, 100))) for n in range(5)]
    taken = []

    def one_by_one() -> Any:
        for number, picture in enumerate(pages):
            taken.append(number)
            yield picture

    data = written(encode_tiff_pages, one_by_one(), Encoding())
    assert taken == [0, 1, 2, 3, 4]
    assert data[2] == (43 if big else 42)
    path = tmp_path / "pages.tif"
    path.write_bytes(data)
    with tifffile.TiffFile(path) as file:
        assert file.is_bigtiff == big
        assert [page.tags[297].value for page in file.pages] == [(n, 5) for n in range(5)]
        for n, found in enumerate(file.pages):
            np.testing.assert_array_equal(found.asarray(), pages[n].pixels)
    with Image.open(path) as image:
        assert image.n_frames == 5
    again = PictureFile(path)
    assert [again.picture(n).metadata.dpi for n in range(again.count)] == [picture.metadata.dpi for picture in pages]


def test_the_same_picture_makes_the_same_bytes_in_a_big_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    exif = read(tmp_path, tiff(page(noise(4, 4, 1), t315=(ASCII, b"Eve\0")))).metadata.exif
    picture = Picture(noise(40, 40, 3, dtype=np.uint16), metadata=Metadata(exif=exif))
    monkeypatch.setattr("gsrcli.images.directories._MOST_CLASSIC_BYTES", 0)
    path = tmp_path / "big.tif"
    write_picture(picture, path)
    assert path.read_bytes()[:4] == b"II+\0"
    again = read_picture(path)
    assert_pixels(again, picture.pixels)
    assert again.metadata.exif == exif


@pytest.mark.parametrize("endian", ["<", ">"])
def test_maker_notes_stay_where_their_offsets_count_from(tmp_path: Path, endian: str) -> None:
    tags, notes = Image.Exif(), b"odd notes of the maker" * 4 + b"\1"
    tags.endian = endian
    tags[ExifTags.Base.Make] = "Maker of cameras"
    tags.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.MakerNote] = notes
    photo, path, again = tmp_path / "photo.jpg", tmp_path / "photo.tif", tmp_path / "again.jpg"
    Image.fromarray(noise(40, 40, 3)).save(photo, exif=tags)
    at = tags.tobytes().removeprefix(b"Exif\0\0").index(notes)
    picture = read_picture(photo)
    write_picture(picture, path)
    assert path.read_bytes().index(notes) == at
    with Image.open(path) as image:
        assert image.getexif()[ExifTags.Base.Make] == "Maker of cameras"
        assert image.getexif().get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.MakerNote] == notes
        np.testing.assert_array_equal(np.asarray(image), picture.pixels)
    write_picture(read_picture(path), again)
    with Image.open(again) as image:
        block = image.info["exif"].removeprefix(b"Exif\0\0")
        assert block.index(notes) == at
        assert image.getexif().get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.MakerNote] == notes
    encoded = written(encode_tiff_pages, [picture, picture], Encoding())
    with Image.open(io.BytesIO(encoded)) as image:  # of two notes for one place, the first has it
        for number in range(2):
            image.seek(number)
            assert image.getexif().get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.MakerNote] == notes
            np.testing.assert_array_equal(np.asarray(image), picture.pixels)


@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize(
    ("tags", "certain"),
    [
        ({}, True),
        ({"t33723": (LONG, [0])}, True),
        ({"t65000": (ASCII, b"words\0")}, True),
        ({"t65000": (LONG, [1])}, False),
    ],
)
def test_what_follows_the_pages_is_named_where_that_is_certain(
    tmp_path: Path, tags: dict[str, Any], certain: bool, big: bool
) -> None:
    data = tiff(page(noise(5, 7, 3), RGB, **tags), page(noise(5, 7, 1)), big=big)
    path = tmp_path / "pages.tif"
    for more, named in ((b"", False), (bytes(99), False), (b"last", False), (b"something that follows\0", certain)):
        path.write_bytes(data + more)
        lost = [what for what in with_fate(Fate.LOST, PictureFile(path).picture().ledger) if "TIFF tag" not in what]
        assert lost == (["22 bytes after the picture"] if named else [])
