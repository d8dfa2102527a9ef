"""Pictures that belong together by their names: an original, its small version, and what programs made of that."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from gsrcli.errors import PictureError, UsageError
from gsrcli.evaluation.scales import Scale, label
from gsrcli.images import INPUT_SUFFIXES, Picture, make_folder, read_picture, to_eight_bits, write_picture
from gsrcli.images.picture import Pixels

__all__ = ["Folder", "Shot", "pictures_in", "read_rgb", "save_shot"]

_FACTOR = r"(?:x|srf[-_]?)(?P<y>\d+(?:\.\d+)?)(?:x(?P<x>\d+(?:\.\d+)?))?"
_ENDING = re.compile(rf"(?:[-_ .]?{_FACTOR}|[-_ .](?:lrbi|lr|hr|gt|sr|out|bicubic))$", re.IGNORECASE)
"""What follows a picture's name in the names of its versions, as in babyx2, baby_LRBI_x2 or img_001_SRF_2_LR."""


@dataclass(frozen=True)
class Shot:
    """One picture at one scale, as every model restored it.

    Attributes:
        dataset: its name.
        picture: its name, unique in the dataset.
        scale: vertical and horizontal.
        original: (H, W, 3), 8 bits.
        low: (h, w, 3), 8 bits: what the models were given.
        restored: (H, W, 3), rounded to 8 bits, by name of the model.
    """

    dataset: str
    picture: str
    scale: tuple[float, float]
    original: Pixels
    low: Pixels
    restored: Mapping[str, Pixels]


def pictures_in(folder: Path) -> list[Path]:
    """The pictures directly in a folder, hidden files aside, sorted by name."""
    found = (p for p in folder.iterdir() if p.suffix.lower() in INPUT_SUFFIXES and not p.name.startswith("."))
    return sorted(p for p in found if p.is_file())


def read_rgb(path: Path) -> Pixels:
    """A picture as ``(H, W, 3)`` uint8, grey thrice and 16 bits rounded to 8, as the papers' programs have them.

    Raises:
        PictureError: it cannot be read, or has transparency.
    """
    picture = read_picture(path)
    if not picture.opaque:
        raise PictureError(f"{path} is transparent in places, and cannot be scored")
    return to_eight_bits(np.repeat(picture.pixels, 3, axis=2) if picture.grey else picture.pixels)


def save_shot(shot: Shot, folder: Path) -> None:
    """Write what was restored of a picture: ``SET/MODEL/x2/PICTURE.png``, as :class:`Folder` finds it again.

    Raises:
        PictureError: it cannot be written.
    """
    for model, pixels in shot.restored.items():
        place = folder / shot.dataset / model / f"x{label(shot.scale)}"
        make_folder(place)
        write_picture(Picture(pixels), place / f"{shot.picture}.png")


@dataclass(frozen=True)
class Folder:
    """Versions of originals, found by their names.

    Attributes:
        name: what it is called.
        path: the folder. It may have one for each data set in it, and in that, or in itself, one for each scale,
            called X2, x3.4, x2x3 (height first) or 2.
    """

    name: str
    path: Path

    @classmethod
    def parse(cls, text: str) -> Folder:
        """The folder that is written as its path, or as ``NAME=PATH``.

        Raises:
            UsageError: there is none.
        """
        name, equals, path = text.partition("=")
        if Path(text).is_dir() or not equals:
            name, path = Path(text).resolve().name, text
        if not Path(path).is_dir():
            raise UsageError(f"there is no folder {path}")
        return cls(name, Path(path))

    def read(self, original: Path, dataset: Sequence[str], scale: Scale) -> Pixels:
        """The version of an original at a scale; see :func:`read_rgb`.

        Its name is the original's, or that with endings such as x2, _x2, _LR, _SR, _LRBI_x2 or _SRF_2_LR. Where the
        folder is not one of the scale, a name that tells the scale goes before the original's own: that may well be
        the original.

        Args:
            original: its path.
            dataset: names of its data set, in lower case.
            scale: which version.

        Raises:
            PictureError: there is none, there are several, or it cannot be read.
        """
        of_all_scales = _descend(self.path, dataset)
        place = _descend(of_all_scales, (f"x{label(scale)}", label(scale)))
        versions = self._versions(place)
        root, own = _parse(original.stem)
        of_it = versions.get(original.name.lower()) or versions.get(root, {})  # as save_shot tells a.png from a.webp
        stem = original.stem.lower()
        exact = [path for path in of_it if path.stem.lower() in (stem, original.name.lower())]
        fitting = [path for path, told in of_it.items() if told in (None, scale)]
        telling = [
            path
            for path, told in of_it.items()
            # Where the original's name tells another scale, one that does not begin with it may well be another's.
            if told == scale and path not in exact and (own in (None, scale) or path.stem.lower().startswith(stem))
        ]
        fitting = (place == of_all_scales and telling) or exact or fitting
        if not fitting:
            raise PictureError(f"{place} has no version of {original.name} for ×{label(scale)}")
        if len(fitting) > 1:
            raise PictureError(f"{place} has several versions of {original.name}: {', '.join(p.name for p in fitting)}")
        return read_rgb(fitting[0])

    def _versions(self, place: Path) -> dict[str, dict[Path, Scale | None]]:
        """The pictures in a folder, by what they are versions of, with the scale that their names tell."""
        if place not in self._listed:
            listed: dict[str, dict[Path, Scale | None]] = {}
            for path in pictures_in(place):
                name, scale = _parse(path.stem)
                listed.setdefault(name, {})[path] = scale
            self._listed[place] = listed
        return self._listed[place]

    @cached_property
    def _listed(self) -> dict[Path, dict[str, dict[Path, Scale | None]]]:
        return {}


def _parse(stem: str) -> tuple[str, Scale | None]:
    """A picture's name without endings, in lower case, and the scale that they tell; of several, the last."""
    name, scale = stem, None
    while (ending := _ENDING.search(name)) and ending.start() > 0:
        if ending["y"] and scale is None:
            scale = float(ending["y"]), float(ending["x"] or ending["y"])
        name = name[: ending.start()]
    return name.lower(), scale


def _descend(folder: Path, names: Sequence[str]) -> Path:
    """The folder of one of these names, in lower case, in a folder, or itself where it has none."""
    subfolders = (path for path in folder.iterdir() if path.name.lower() in names and path.is_dir())
    return next(subfolders, folder)
