"""Files of every format that can be read, with everything that the format can carry, made without this package.

Words such as Exif-Artist stand for what carries them, so that they can be looked for in any file.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from support.carriers import heif, jpeg, others, png, tiff
from support.carriers.parts import DURATIONS, LIGHT, MASTERING
from support.carriers.shown import SHOWN, Shown

__all__ = ["CARRIERS", "DURATIONS", "LIGHT", "MASTERING", "SHOWN", "Shown"]

CARRIERS: Mapping[str, Callable[[], bytes]] = {
    maker.__name__: maker for module in (png, jpeg, tiff, heif, others) for maker in module.MAKERS
}
