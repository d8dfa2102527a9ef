"""Import OpenCV only when it is needed, and keep it quiet."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

from gsrcli.errors import GsrError
from gsrcli.runtime.native import native_output

__all__ = ["load_cv2", "opencv_has_avif", "quiet_opencv"]


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


@contextmanager
def quiet_opencv() -> Iterator[None]:
    """Keep the messages of OpenCV, and of the libraries within, off the terminal."""
    logging = load_cv2().utils.logging
    with native_output():  # one thread at a time: the level belongs to the process
        level = logging.setLogLevel(logging.LOG_LEVEL_SILENT)
        try:
            yield
        finally:
            logging.setLogLevel(level)


def opencv_has_avif() -> bool:
    """Return whether this build of OpenCV reads and writes AVIF."""
    lines = load_cv2().getBuildInformation().splitlines()
    return any(line.strip().startswith("AVIF:") and " NO" not in line for line in lines)
