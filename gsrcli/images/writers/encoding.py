"""How to encode a picture."""

from __future__ import annotations

from dataclasses import dataclass

from gsrcli.errors import UsageError
from gsrcli.images.formats import default_quality

__all__ = ["Encoding"]


@dataclass(frozen=True)
class Encoding:
    """What the user asks of an encoder.

    Attributes:
        quality: quality of a lossy format, 1 to 100; None for its default.
        lossless: whether a format that can be either is written without loss.

    Raises:
        UsageError: the quality is out of range.
    """

    quality: int | None = None
    lossless: bool = False

    def __post_init__(self) -> None:
        if self.quality is not None and not 1 <= self.quality <= 100:
            raise UsageError(f"invalid quality {self.quality}: use a number from 1 to 100")

    def quality_in(self, form: str) -> int:
        """Return the quality for a lossy format, given its name."""
        return self.quality or default_quality(form)
