"""Import OpenCV only when it is needed."""

from __future__ import annotations

from types import ModuleType

from gsrcli.errors import GsrError

__all__ = ["load_cv2"]


def load_cv2() -> ModuleType:
    """Import and return ``cv2``.

    Raises:
        GsrError: it is not installed, or cannot be loaded, as on servers without libGL.
    """
    try:
        import cv2
    except ImportError as error:
        raise GsrError(
            f"OpenCV, which this picture needs, cannot be loaded: {error}",
            hint="pip install opencv-python-headless",
        ) from error
    return cv2
