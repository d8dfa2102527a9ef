"""Decode picture files."""

from __future__ import annotations

import io
import os
import threading
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, TiffImagePlugin, UnidentifiedImageError, features

from gsrcli.errors import GsrError, LimitError, PictureError
from gsrcli.images import metadata
from gsrcli.images.opencv import load_cv2
from gsrcli.images.picture import Picture, Pixels
from gsrcli.images.profile import to_srgb
from gsrcli.size import Size

__all__ = ["DEFAULT_MAX_PIXELS", "probe", "read_picture"]

DEFAULT_MAX_PIXELS = 500_000_000
"""Default limit on the size of inputs, because a file of a few bytes can claim any size."""

_READERS = [
    *("PNG", "JPEG", "TIFF", "BMP", "GIF"),
    *(name for name, feature in (("WEBP", "webp"), ("AVIF", "avif")) if features.check(feature)),
]
_MAX_XMP = 1 << 24
_TIFF_STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_STARTS = (*_TIFF_STARTS, b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF8", b"RIFF", b"BM")

# TIFF tags
_SUBFILE_TYPE, _BITS, _PHOTOMETRIC, _ORIENTATION = 254, 258, 262, 274
_PLANES, _EXTRA_SAMPLES, _SAMPLE_FORMAT = 284, 338, 339
_WHITE_IS_ZERO, _RGB = 0, 2
_PREMULTIPLIED, _STRAIGHT = 1, 2


def read_picture(path: str | os.PathLike[str], *, max_pixels: int | None = DEFAULT_MAX_PIXELS) -> Picture:
    """Decode a PNG, JPEG, WebP, TIFF, BMP, AVIF or single-frame GIF file, recognized by its content.

    The picture is turned upright and converted to grey or RGB: palettes are resolved, and CMYK and Lab are
    converted to sRGB through their colour profile. 16 bits per channel are kept; AVIF files of 10 and 12 bits
    are read as 8 bits.

    Args:
        path: the file; its name may contain any characters.
        max_pixels: largest picture to decode, in pixels; None for no limit.

    Raises:
        LimitError: the picture has more than ``max_pixels``.
        PictureError: the file is missing, unreadable, damaged, of an unsupported format, animated, has several
            pages, or its pixels are not 8- or 16-bit integers.
        GsrError: OpenCV, which decodes 16-bit colour, cannot be loaded.
    """
    with _reading(path), Path(path).open("rb") as file:
        data = file.read()
        with _unlimited_pillow(), _open(path, io.BytesIO(data), max_pixels) as image:
            _refuse_several_frames(path, image)
            orientation = _orientation(image)
            exif, xmp = _metadata(image, data)
            icc, dpi = _profile(image), _dpi(image, orientation)
            if _is_deep_colour(image, data):
                pixels, alpha = _decode_deep_colour(path, image, data)
            else:
                image.load()
                if image.format == "TIFF":
                    orientation = 1  # Pillow has turned it, as it does for no other format
                elif image.format == "PNG" and image.mode == "L":
                    _scale_transparent_value(image, bits=data[24])
                if image.mode in ("CMYK", "LAB"):
                    image, icc = to_srgb(image, icc), None
                pixels, alpha = _to_arrays(path, image)
        return Picture(
            pixels=_upright(pixels, orientation),
            alpha=None if alpha is None else _upright(alpha, orientation),
            icc=icc,
            exif=exif,
            xmp=xmp,
            dpi=dpi,
        )


def probe(path: str | os.PathLike[str], *, max_pixels: int | None = DEFAULT_MAX_PIXELS) -> Size:
    """Read the size of the upright picture from the header alone. Raises like `read_picture`."""
    with (
        _reading(path),
        Path(path).open("rb") as file,
        _unlimited_pillow(),
        _open(path, file, max_pixels) as image,
    ):
        _refuse_several_frames(path, image)
        size = _stored_size(image)
        return size.transposed if _orientation(image) > 4 else size


@contextmanager
def _reading(path: str | os.PathLike[str]) -> Iterator[None]:
    """Turn exceptions of the operating system and of decoders into a `PictureError` that names the file."""
    try:
        yield
    except (GsrError, MemoryError, AttributeError, NameError):  # the last two are bugs in this module
        raise
    except OSError as error:
        reason = error.strerror.lower() if error.strerror else "the file is damaged or cut short"
        raise PictureError(f"cannot read {path}: {reason}") from error
    except Exception as error:  # decoders raise nearly anything on malformed files
        raise PictureError(f"cannot read {path}: the file is damaged or cut short") from error


_lifting = threading.Lock()
_lifted_by = 0
_pillow_limit: int | None = None


@contextmanager
def _unlimited_pillow() -> Iterator[None]:
    """Disable Pillow's own limit while any thread decodes; ``max_pixels`` replaces it.

    Pillow's limit is one number for the whole process, and is also checked during decoding.
    """
    global _lifted_by, _pillow_limit
    with _lifting:
        if not _lifted_by:
            _pillow_limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        _lifted_by += 1
    try:
        yield
    finally:
        with _lifting:
            _lifted_by -= 1
            if not _lifted_by:
                Image.MAX_IMAGE_PIXELS = _pillow_limit


def _open(path: str | os.PathLike[str], file: BinaryIO, max_pixels: int | None) -> Image.Image:
    start = file.read(16)
    file.seek(0)
    if not start:
        raise PictureError(f"cannot read {path}: the file is empty")
    if start[:4] == b"RIFF" and max_pixels is not None:
        _check_pixels(path, _webp_canvas(file), max_pixels)  # Pillow allocates the canvas on opening
    try:
        image = Image.open(file, formats=_READERS)
    except UnidentifiedImageError as error:
        raise PictureError(f"cannot read {path}: {_why_unidentified(start, file)}") from error
    _check_pixels(path, Size.from_pillow(image.size), max_pixels)
    if image.format == "PNG":
        _add_late_metadata(image, file)
    return image


def _amount(pixels: int) -> str:
    return f"{pixels / 1e6:g} megapixels" if pixels >= 1e5 else f"{pixels} pixels"


def _check_pixels(path: str | os.PathLike[str], size: Size, max_pixels: int | None) -> None:
    if max_pixels is not None and size.area > max_pixels:
        raise LimitError(
            f"cannot read {path}: {size} is more than {_amount(max_pixels)}",
            hint=f"if you trust the file, add --max-pixels {size.area}",
        )


def _webp_canvas(file: BinaryIO) -> Size:
    """Return the canvas size in the extended header of a WebP file; (0, 0) without one, as sides then end at 16383."""
    head = file.read(30)
    file.seek(0)
    if head[12:16] != b"VP8X" or len(head) < 30:
        return Size(0, 0)
    width, height = (1 + int.from_bytes(head[at : at + 3], "little") for at in (24, 27))
    return Size(height, width)


def _why_unidentified(start: bytes, file: BinaryIO) -> str:
    if start[:4] in _TIFF_STARTS:
        file.seek(0)
        data = file.read()
        bits, sample_format = metadata.tiff_tag(data, _BITS), metadata.tiff_tag(data, _SAMPLE_FORMAT)
        if bits is not None:
            kind = {2: "signed", 3: "floating-point"}.get(sample_format or 1, "integer")
            return f"{bits}-bit {kind} pixels are not supported, or the file is damaged"
    if start.startswith(_STARTS) or start[4:12] in (b"ftypavif", b"ftypavis"):
        return "the file is damaged or cut short"
    supported = ", ".join(_READERS)
    return f"it is not a picture in a supported format ({supported})"


def _add_late_metadata(image: Image.Image, file: BinaryIO) -> None:
    """Add to ``image.info`` the EXIF and XMP that some programs write after the pixels of a PNG file.

    Pillow reads them only after it has decoded all pixels.
    """
    position = file.tell()
    file.seek(8)
    while len(head := file.read(8)) == 8 and head[4:] != b"IEND":
        length, name, start = int.from_bytes(head[:4], "big"), head[4:], file.tell()
        if name == b"eXIf":
            image.info.setdefault("exif", file.read(length))
        elif name == b"iTXt" and (packet := _xmp_in_text(file.read(length))):
            image.info.setdefault("xmp", packet)
        file.seek(start + length + 4)  # past the checksum
    file.seek(position)


def _xmp_in_text(chunk: bytes) -> bytes | None:
    """Return the XMP packet in an iTXt chunk: keyword, compression flag, method, language, translated keyword, text."""
    keyword, _, rest = chunk.partition(b"\0")
    fields = rest[2:].split(b"\0", 2)
    if keyword != b"XML:com.adobe.xmp" or len(fields) < 3:
        return None
    try:
        return zlib.decompressobj().decompress(fields[2], _MAX_XMP) if rest[0] else fields[2]
    except zlib.error:
        return None


def _refuse_several_frames(path: str | os.PathLike[str], image: Image.Image) -> None:
    if image.format == "MPO":
        return  # a JPEG photo followed by previews, depth or gain maps, as phones write it
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        pages = 0
        for frame in range(image.n_frames):
            image.seek(frame)
            # bit 0: a reduced copy of another page; bit 2: a transparency mask
            pages += not int(image.tag_v2.get(_SUBFILE_TYPE, 0)) & 5
        image.seek(0)
        if pages > 1:
            raise PictureError(f"cannot read {path}: it has {pages} pages", hint="split it into one file per page")
    elif getattr(image, "is_animated", False):
        raise PictureError(f"cannot read {path}: it is animated", hint="extract its frames first")


def _stored_size(image: Image.Image) -> Size:
    if isinstance(image, TiffImagePlugin.TiffImageFile):  # its .size is that of the upright picture
        tags = image.tag_v2
        return Size(int(tags[TiffImagePlugin.IMAGELENGTH]), int(tags[TiffImagePlugin.IMAGEWIDTH]))
    return Size.from_pillow(image.size)


def _exif_block(image: Image.Image) -> bytes | None:
    """Return the EXIF block of any format but TIFF."""
    block = image.info.get("exif")
    # Old versions of ImageMagick wrote EXIF to PNG files like this.
    if block is None and "Raw profile type exif" in image.info:
        block = bytes.fromhex("".join(str(image.info["Raw profile type exif"]).split("\n")[3:]))
    return block.removeprefix(b"Exif\0\0") if isinstance(block, bytes) else None


def _xmp_packet(image: Image.Image) -> bytes | None:
    packet = image.info.get("xmp") or image.info.get("XML:com.adobe.xmp")
    return packet.encode() if isinstance(packet, str) else packet if isinstance(packet, bytes) else None


def _orientation(image: Image.Image) -> int:
    """Return the orientation in EXIF, otherwise in XMP, 1 to 8; 1 if neither has one."""
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        tag = image.tag_v2.get(_ORIENTATION)
        exif = tag if isinstance(tag, int) and 1 <= tag <= 8 else None
    else:
        exif = metadata.exif_orientation(_exif_block(image) or b"")
    return exif or metadata.xmp_orientation(_xmp_packet(image) or b"") or 1


def _metadata(image: Image.Image, data: bytes) -> tuple[bytes | None, bytes | None]:
    """Return EXIF and XMP with orientation 1."""
    tiff = image.format == "TIFF"
    exif = metadata.exif_from_tiff(data) if tiff else metadata.exif_upright(_exif_block(image) or b"")
    xmp = _xmp_packet(image)
    return exif, metadata.xmp_upright(xmp) if xmp else None


def _profile(image: Image.Image) -> bytes | None:
    icc = image.info.get("icc_profile")
    return icc if isinstance(icc, bytes) and icc else None


def _dpi(image: Image.Image, orientation: int) -> tuple[float, float] | None:
    dpi = image.info.get("dpi")
    if not isinstance(dpi, tuple) or len(dpi) != 2:
        return None
    x, y = (float(value) for value in (dpi if orientation <= 4 else dpi[::-1]))
    return (x, y) if 0 < x < 65536 and 0 < y < 65536 else None  # some files contain nan and inf


def _is_deep_colour(image: Image.Image, data: bytes) -> bool:
    """Return whether several channels have 16 bits each, of which Pillow would keep 8."""
    if image.format == "PNG":
        bits = data[24]
    elif isinstance(image, TiffImagePlugin.TiffImageFile):
        bits = max(image.tag_v2.get(_BITS, (1,)))
    else:
        return False
    return bits > 8 and not image.mode.startswith("I")


def _decode_deep_colour(path: str | os.PathLike[str], image: Image.Image, data: bytes) -> tuple[Pixels, Pixels | None]:
    """Decode a 16-bit PNG or TIFF file with OpenCV; return pixels and alpha as stored, not turned."""
    grey = premultiplied = False
    has_alpha = True
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        tags = image.tag_v2
        if tags.get(_PHOTOMETRIC) != _RGB or tags.get(_PLANES, 1) != 1:
            kind = image.mode if tags.get(_PHOTOMETRIC) != _RGB else "separate colour planes"
            raise PictureError(
                f"cannot read {path}: 16-bit TIFF in {kind} is not supported", hint="save it as 16-bit RGB"
            )
        extra = tags.get(_EXTRA_SAMPLES, (_STRAIGHT,))[0]  # programs take an undeclared fourth channel for alpha
        has_alpha, premultiplied = extra in (_PREMULTIPLIED, _STRAIGHT), extra == _PREMULTIPLIED
        data = metadata.exif_upright(data) or data  # OpenCV would turn it
    else:
        grey = data[25] == 4  # grey and alpha, which OpenCV spreads over four channels
        image.verify()  # damage is reported here, without libpng's own messages on the terminal
    cv2 = load_cv2()
    level = cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    try:
        decoded = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    finally:
        cv2.utils.logging.setLogLevel(level)
    if decoded is None or decoded.dtype != np.uint16 or decoded.ndim != 3 or decoded.shape[2] not in (3, 4):
        raise PictureError(f"cannot read {path}: the file is damaged or cut short")
    pixels = decoded[..., :1] if grey else decoded[..., 2::-1]
    alpha = decoded[..., 3] if has_alpha and decoded.shape[2] == 4 else None
    if premultiplied and alpha is not None:
        pixels = _unmultiplied(pixels, alpha)
    return pixels, alpha


def _unmultiplied(pixels: Pixels, alpha: Pixels) -> Pixels:
    """Divide 16-bit colours by alpha, rounded; colours are 0 where alpha is 0."""
    wide, divisor = pixels.astype(np.uint32) * 65535, np.maximum(alpha, 1)[..., None].astype(np.uint32)
    straight: Pixels = np.minimum((wide + divisor // 2) // divisor, 65535).astype(np.uint16)
    return straight


def _to_arrays(path: str | os.PathLike[str], image: Image.Image) -> tuple[Pixels, Pixels | None]:
    """Return pixels and alpha of a loaded Pillow image: 8 bits of any mode, or 16-bit grey."""
    if image.mode.startswith("I;16"):
        return _deep_grey(image)
    if image.mode in ("1", "L", "LA", "La"):
        mode, channels = "L", 1
    elif image.mode in ("P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "YCbCr"):
        mode, channels = "RGB", 3
    else:  # "I" and "F"
        raise PictureError(f"cannot read {path}: signed, 32-bit and floating-point pixels are not supported")
    if not image.has_transparency_data:
        values = np.asarray(image.convert(mode))
        return values.reshape(*values.shape[:2], channels), None
    values = np.asarray(image.convert(mode + "A"))
    return values[..., :channels], values[..., channels]


def _scale_transparent_value(image: Image.Image, bits: int) -> None:
    """Scale the transparent value of a PNG in grey of 2 or 4 bits to 255, as Pillow does only with the pixels."""
    value = image.info.get("transparency")
    if value is not None and value < 2**bits < 256:
        image.info["transparency"] = value * 255 // (2**bits - 1)


def _deep_grey(image: Image.Image) -> tuple[Pixels, Pixels | None]:
    values = np.asarray(image).astype(np.uint16)[..., None]
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        top = 2 ** image.tag_v2[_BITS][0] - 1  # Pillow does not scale 12 bits
        if top < 65535:
            values = (values.astype(np.uint32) * 65535 // top).astype(np.uint16)
        if image.tag_v2.get(_PHOTOMETRIC) == _WHITE_IS_ZERO:
            values = 65535 - values
    key = image.info.get("transparency")
    return values, None if key is None else np.where(values[..., 0] == key, 0, 65535).astype(np.uint16)


def _upright(array: Pixels, orientation: int) -> Pixels:
    """Turn stored pixels upright; return them contiguous and writable."""
    if orientation > 4:
        array = array.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        array = array[:, ::-1]
    if orientation in (3, 4, 7, 8):
        array = array[::-1]
    return np.require(array, requirements=["C", "W"])  # Pillow's own memory is read-only
