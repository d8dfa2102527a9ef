"""Find the versions of an original by their names: its LR picture, and what programs restored from that."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from gsrcli.errors import PictureError, UsageError
from gsrcli.evaluation.scales import Scale, label
from gsrcli.images import INPUT_SUFFIXES, read_picture, to_eight_bits
from gsrcli.images.picture import Pixels

__all__ = ["Folder", "pictures_in", "read_rgb"]

_FACTOR = r"(?:x|srf[-_]?)(?P<y>\d+(?:\.\d+)?)(?:x(?P<x>\d+(?:\.\d+)?))?"
_ENDING = re.compile(rf"(?:[-_ .]?{_FACTOR}|[-_ .](?:lrbi|lr|hr|gt|sr|out|bicubic))$", re.IGNORECASE)
"""An ending that versions add to a picture's name, as in babyx2, baby_LRBI_x2 or img_001_SRF_2_LR."""


def pictures_in(folder: Path) -> list[Path]:
    """Return the pictures directly in a folder, sorted by name, without hidden files."""
    found = (p for p in folder.iterdir() if p.suffix.lower() in INPUT_SUFFIXES and not p.name.startswith("."))
    return sorted(p for p in found if p.is_file())


def read_rgb(path: Path) -> Pixels:
    """Read a picture as ``(H, W, 3)`` uint8: grey repeated, 16 bits rounded to 8, as in the papers' programs.

    Raises:
        PictureError: it cannot be read, or is transparent in places.
    """
    picture = read_picture(path)
    if not picture.opaque:
        raise PictureError(f"{path} is transparent in places, which cannot be scored")
    return to_eight_bits(np.repeat(picture.pixels, 3, axis=2) if picture.grey else picture.pixels)


@dataclass(frozen=True)
class Folder:
    """Versions of originals, found by their names.

    Attributes:
        name: name in tables.
        path: the folder. It may contain a folder for each dataset, and that one, or the folder itself, may contain a
            folder for each scale, called X2, x3.4, x2x3 (height first) or 2.
    """

    name: str
    path: Path

    @classmethod
    def parse(cls, text: str) -> Folder:
        """Return the folder at a path, or at the path in ``NAME=PATH``.

        Raises:
            UsageError: the folder does not exist.
        """
        name, equals, path = text.partition("=")
        if Path(text).is_dir() or not equals:
            return cls.at(Path(text))
        return cls(name, cls.at(Path(path)).path)

    @classmethod
    def at(cls, path: Path) -> Folder:
        """Return the folder at a path, named after the path.

        Raises:
            UsageError: the folder does not exist.
        """
        if not path.is_dir():
            raise UsageError(f"there is no folder {path}")
        return cls(path.resolve().name, path)

    def read(self, original: Path, dataset: Sequence[str], scale: Scale) -> Pixels:
        """Read the version of an original at a scale, as :func:`read_rgb` does.

        It has the original's name, or that with endings such as x2, _x2, _LR, _SR, _LRBI_x2 or _SRF_2_LR. Outside a
        folder for the scale, a name with the scale is preferred to the original's own name, which may well be that of
        the original itself.

        Args:
            original: path of the original.
            dataset: names of its dataset, in lower case.
            scale: scale of the version.

        Raises:
            PictureError: there is no version, there are several, or it cannot be read.
        """
        of_all_scales = _descend(self.path, dataset)
        place = _descend(of_all_scales, (f"x{label(scale)}", label(scale)))
        by_name = self._versions(place)
        root, own = _parse(original.stem)
        # Case.save writes a.png.png and a.webp.png for two originals that differ in their suffix alone.
        versions = by_name.get(original.name.lower()) or by_name.get(root, {})
        stem = original.stem.lower()
        exact = [path for path in versions if path.stem.lower() in (stem, original.name.lower())]
        fitting = [path for path, found in versions.items() if found in (None, scale)]
        labelled = [
            path
            for path, found in versions.items()
            # If the original's name has another scale, only names that begin with it are surely its versions.
            if found == scale and path not in exact and (own in (None, scale) or path.stem.lower().startswith(stem))
        ]
        fitting = (place == of_all_scales and labelled) or exact or fitting
        if not fitting:
            raise PictureError(f"{place} has no version of {original.name} for ×{label(scale)}")
        if len(fitting) > 1:
            raise PictureError(f"{place} has several versions of {original.name}: {', '.join(p.name for p in fitting)}")
        return read_rgb(fitting[0])

    def _versions(self, place: Path) -> dict[str, dict[Path, Scale | None]]:
        """Return the pictures in a folder, by the name of the original, with the scale in each one's name."""
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
    """Split a picture's name into the part before all endings, in lower case, and the scale, the last if several."""
    name, scale = stem, None
    while (ending := _ENDING.search(name)) and ending.start() > 0:
        if ending["y"] and scale is None:
            scale = float(ending["y"]), float(ending["x"] or ending["y"])
        name = name[: ending.start()]
    return name.lower(), scale


def _descend(folder: Path, names: Sequence[str]) -> Path:
    """Return the subfolder with one of these names (lower case), or the folder itself if there is none."""
    subfolders = (path for path in folder.iterdir() if path.name.lower() in names and path.is_dir())
    return next(subfolders, folder)
