"""What is known of a picture, whether its pixels are in memory or still to come."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple, Self, TypeVar

import numpy as np

from gsrcli.images.colour import Colour
from gsrcli.images.exif import exif_is_blank
from gsrcli.images.geo import geo_resized
from gsrcli.images.iptc import iptc_is_blank
from gsrcli.images.ledger import Feature, Ledger
from gsrcli.images.metadata import COMMENT, Metadata
from gsrcli.images.regions import enlarged_regions
from gsrcli.images.xmp import xmp_is_blank
from gsrcli.size import Size

__all__ = ["Description", "Origin", "Pictured", "Raster"]

_UNTAGGED, _SILENT = Colour(), Metadata()
_TYPES = (np.uint8, np.uint16, np.float32)


@dataclass(frozen=True)
class Origin:
    """How the file was encoded that a picture was read from.

    Attributes:
        format: name of the file format, as Pillow calls it.
        lossless: whether the file is known to hold the pixels exactly; of HEIC and JPEG 2000 it never is.
        quality: estimated quality of the JPEG file that it is, or was made from, 1 to 100; None for others.
        bits: bits per channel in the file, where they were spread over those of the pixels; otherwise None.
    """

    format: str
    lossless: bool = True
    quality: int | None = None
    bits: int | None = None


class Raster(NamedTuple):
    """The size and the type of a picture's pixels.

    Attributes:
        size: height and width.
        channels: number of colour channels: 1 (grey) or 3 (red, green, blue).
        dtype: uint8, uint16 or float32.
        alpha: whether there is an alpha channel as well.
    """

    size: Size
    channels: int
    dtype: np.dtype[Any]
    alpha: bool

    @property
    def layers(self) -> int:
        """Number of channels with alpha."""
        return self.channels + self.alpha

    def check(self) -> None:
        """Raise ValueError if there are no such pictures."""
        if 0 in self.size or self.channels not in (1, 3) or self.dtype not in _TYPES:
            shape = (*self.size, self.channels)
            raise ValueError(f"expected (H, W, 1 or 3) uint8, uint16 or float32, got {shape} {self.dtype}")


@dataclass(frozen=True, eq=False, kw_only=True)
class Description:
    """What is known of a picture besides its pixels.

    Attributes:
        colour: what the numbers mean.
        metadata: everything else that the file says.
        ledger: what reading could not keep as it was.
        origin: how the file was encoded, or None.
        duration: how long a frame of an animation is shown, in seconds; None for other pictures.
        alpha_is_data: whether alpha is a channel of its own, as in normal maps, and colours count where it is 0 too.
    """

    colour: Colour = _UNTAGGED
    metadata: Metadata = _SILENT
    ledger: Ledger = ()
    origin: Origin | None = None
    duration: float | None = None
    alpha_is_data: bool = False

    if TYPE_CHECKING:  # a dataclass would take them for the defaults of fields that subclasses make of them

        @property
        def raster(self) -> Raster:
            """The size and the type of the pixels."""

        @property
        def opaque(self) -> bool:
            """Whether all pixels are opaque, so that alpha can be dropped."""

        @property
        def extremes(self) -> tuple[float, float] | None:
            """The smallest and the largest colour that counts, of floating point; None for integers."""

        def converted(self, convert: Callable[[Any], Any]) -> Self:
            """Return the picture with its pixels, and what is said of them, converted, as a `Picture` to another."""

    @property
    def size(self) -> Size:
        return self.raster.size

    @property
    def channels(self) -> int:
        """Number of colour channels: 1 or 3."""
        return self.raster.channels

    @property
    def grey(self) -> bool:
        """Whether there is one colour channel."""
        return self.channels == 1

    @property
    def bits(self) -> int:
        """Bits per channel: 8, 16 or 32 (floating point)."""
        return 8 * self.raster.dtype.itemsize

    @property
    def bytes_per_pixel(self) -> int:
        """Bytes of all channels of a pixel, alpha included."""
        return self.raster.layers * self.bits // 8

    def features(self) -> list[Feature]:
        """Return what the picture carries, in the order of `Feature`; blocks and texts without content do not count."""
        colour, metadata = self.colour, self.metadata
        texts = [text for text in metadata.texts if not text.blank]
        comments = [text for text in texts if text.keyword == COMMENT]
        carried = {
            Feature.SIXTEEN_BITS: self.bits == 16,
            Feature.FLOAT: self.bits == 32,
            Feature.NARROW: colour.cicp and colour.cicp.known and not colour.cicp.full_range,
            Feature.TRANSPARENCY: not self.opaque,
            Feature.PROFILE: colour.icc,
            Feature.CICP: colour.cicp,
            Feature.GAMMA: colour.gamma or colour.chromaticities,
            Feature.HDR: colour.mastering or colour.light,
            Feature.EXIF: metadata.exif and not exif_is_blank(metadata.exif),
            Feature.XMP: metadata.xmp and not xmp_is_blank(metadata.xmp),
            Feature.IPTC: metadata.iptc and not iptc_is_blank(metadata.iptc),
            Feature.TEXT: len(texts) > len(comments),
            Feature.COMMENT: comments,
            Feature.RESOLUTION: metadata.dpi,
            Feature.ASPECT: metadata.aspect not in (None, 1),
            Feature.GEO: metadata.geo,
        }
        return [feature for feature in Feature if carried[feature]]

    def without_metadata(self) -> Self:
        """Return the picture without what tells about people, places and devices.

        Colour tags and the size of a pixel stay: they say how the picture looks.
        """
        return replace(self, metadata=Metadata(dpi=self.metadata.dpi, aspect=self.metadata.aspect))

    def metadata_enlarged(self, size: Size) -> Metadata:
        """Return the metadata of an enlargement to ``size``: they stay, scaled where they must be."""
        metadata, scale = self.metadata, size.scale_from(self.size)
        geo = metadata.geo and geo_resized(metadata.geo, scale)
        return replace(metadata, geo=geo, xmp=metadata.xmp and enlarged_regions(metadata.xmp, scale))

    def described(self) -> dict[str, Any]:
        """Return the attributes of a description, to make another one of the same picture with."""
        return {name: getattr(self, name) for name in Description.__dataclass_fields__}


Pictured = TypeVar("Pictured", bound=Description)
"""A `Picture`, or `Strips`."""
