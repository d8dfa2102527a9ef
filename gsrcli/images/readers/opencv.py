"""Decode 16-bit colour, of which Pillow would keep 8 bits."""

from __future__ import annotations

import numpy as np

from gsrcli.errors import PictureError
from gsrcli.images.opencv import load_cv2, quiet_opencv
from gsrcli.images.picture import Pixels
from gsrcli.images.readers.source import DAMAGED

__all__ = ["decode_sixteen_bits"]


def decode_sixteen_bits(data: bytes) -> Pixels:
    """Decode a file of 16-bit colour as ``(H, W, 3 or 4)``: red, green, blue, and a fourth channel.

    Raises:
        PictureError: the file is damaged.
        GsrError: OpenCV cannot be loaded.
    """
    cv2 = load_cv2()
    with quiet_opencv():
        decoded = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if decoded is None or decoded.dtype != np.uint16 or decoded.ndim != 3 or decoded.shape[2] not in (3, 4):
        raise PictureError(DAMAGED)
    turned: Pixels = decoded[..., [2, 1, 0, 3][: decoded.shape[2]]]
    return turned
