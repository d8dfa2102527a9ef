"""Pictures to score, and their results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from gsrcli.errors import GsrError
from gsrcli.evaluation.scales import Scale, label
from gsrcli.images import Picture, make_folder, write_picture
from gsrcli.images.picture import Pixels
from gsrcli.size import Size

__all__ = ["Case", "CaseResults", "Result", "ScoreFailure"]


@dataclass(frozen=True, eq=False)
class Case:
    """One picture at one scale, with the pictures that models restored.

    Attributes:
        dataset: name of the dataset or folder.
        picture: name of the picture, unique in the dataset.
        scale: of the height and of the width.
        original: ``(H, W, 3)`` uint8, cropped to the size of the restored pictures.
        low: ``(h, w, 3)`` uint8, the input of the models.
        restored: ``(H, W, 3)`` uint8 by model, rounded to 8 bits; empty before the models run.
    """

    dataset: str
    picture: str
    scale: Scale
    original: Pixels
    low: Pixels
    restored: dict[str, Pixels] = field(default_factory=dict)

    @property
    def size(self) -> Size:
        """Height and width of the original and of the restored pictures."""
        return Size.of(self.original)

    def save(self, folder: Path) -> None:
        """Write the restored pictures to ``DATASET/MODEL/x2/PICTURE.png`` below a folder.

        :class:`gsrcli.evaluation.versions.Folder` finds them there again.

        Raises:
            PictureError: a file cannot be written.
        """
        for model, pixels in self.restored.items():
            place = folder / self.dataset / model / f"x{label(self.scale)}"
            make_folder(place)
            write_picture(Picture(pixels), place / f"{self.picture}.png")


@dataclass(frozen=True)
class Result:
    """The scores of one model on one picture at one scale.

    Attributes:
        dataset: name of the dataset or folder.
        picture: name of the picture, unique in the dataset.
        model: name of the model, interpolation or folder of restored pictures.
        scale: of the height and of the width, as requested.
        low_size: height and width of the LR picture.
        size: height and width of the restored picture.
        scores: by metric.
        seconds: from LR picture to restored picture, in memory; None if another program restored it.
        memory_bytes: peak memory, see :func:`gsrcli.runtime.memory.peak_memory`. None if it cannot be measured, if
            another program restored the picture, and for methods that run on another device than the models.
    """

    dataset: str
    picture: str
    model: str
    scale: Scale
    low_size: Size
    size: Size
    scores: Mapping[str, float]
    seconds: float | None = None
    memory_bytes: int | None = None


@dataclass(frozen=True)
class ScoreFailure:
    """A picture that could not be scored.

    Attributes:
        dataset: name of the dataset or folder.
        picture: name of the picture.
        scale: the scale at which it failed; None for all of them.
        model: the model that failed; None for all of them.
        message: what went wrong.
        hint: what to try.
    """

    dataset: str
    picture: str
    scale: Scale | None
    model: str | None
    message: str
    hint: str | None = None

    def __str__(self) -> str:
        where = f"{self.dataset}/{self.picture}" + (f" ×{label(self.scale)}" if self.scale else "")
        return f"{where}, {self.model}: {self.message}" if self.model else f"{where}: {self.message}"

    @classmethod
    def of(
        cls, error: Exception, dataset: str, picture: str, scale: Scale | None = None, model: str | None = None
    ) -> ScoreFailure:
        """Describe an exception; any that is not a GsrError means that memory ran out."""
        if isinstance(error, GsrError):
            return cls(dataset, picture, scale, model, str(error), error.hint)
        return cls(dataset, picture, scale, model, "memory ran out", "try a smaller --tile")


@dataclass(frozen=True, eq=False)
class CaseResults:
    """The results of one case.

    Attributes:
        results: one for each model that was scored.
        failures: one for each model that failed, or one for all.
        case: the pictures; None if nothing was restored.
        count: number of cases covered: one for each scale if the original cannot be read, otherwise 1.
    """

    results: Sequence[Result] = ()
    failures: Sequence[ScoreFailure] = ()
    case: Case | None = None
    count: int = 1
