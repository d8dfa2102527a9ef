"""Decode more than 8 bits per channel, of which Pillow would keep 8."""

from __future__ import annotations

import numpy as np

from gsrcli.errors import PictureError
from gsrcli.images.opencv import load_cv2, quiet_opencv
from gsrcli.images.picture import Pixels
from gsrcli.images.readers.source import DAMAGED

__all__ = ["decode_sixteen_bits"]


def decode_sixteen_bits(data: bytes) -> Pixels:
    """Decode a file of more than 8 bits per channel as uint16 ``(H, W, 1, 3 or 4)``: grey, or RGB and alpha.

    Raises:
        PictureError: the file is damaged.
        GsrError: OpenCV cannot be loaded.
    """
    cv2 = load_cv2()
    with quiet_opencv():
        decoded = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if decoded is None or decoded.dtype != np.uint16:
        raise PictureError(DAMAGED)
    if decoded.ndim == 3:
        code = cv2.COLOR_BGRA2RGBA if decoded.shape[2] == 4 else cv2.COLOR_BGR2RGB
        cv2.cvtColor(decoded, code, decoded)
    whole: Pixels = decoded.reshape(*decoded.shape[:2], -1)
    return whole
