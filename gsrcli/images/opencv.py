"""OpenCV, imported only where it is needed."""

from __future__ import annotations

from types import ModuleType

from gsrcli.errors import GsrError

__all__ = ["load_cv2"]


def load_cv2() -> ModuleType:
    """The ``cv2`` module.

    Raises:
        GsrError: it is not installed, or (as on servers without libGL) cannot be loaded.
    """
    try:
        import cv2
    except ImportError as error:
        raise GsrError(
            f"OpenCV, which this picture needs, cannot be loaded: {error}",
            hint="pip install opencv-python-headless",
        ) from error
    return cv2
