"""How to encode a picture."""

from __future__ import annotations

from dataclasses import dataclass

from gsrcli.errors import UsageError
from gsrcli.images.description import Description
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

    def without_loss(self, picture: Description, form: str) -> bool:
        """Return whether to write without loss a format that can be either, given its name.

        That is if it is asked for, and, unless a quality is asked for, if the picture comes from such a file.
        """
        origin = picture.origin
        from_lossless = origin is not None and origin.format == form and origin.lossless
        return self.lossless or (self.quality is None and from_lossless)
