"""An evaluation to look at: one HTML page with its tables, its pictures and the places where the models differ.

The page is complete: style, script and pictures are inside. It opens from a disk and asks nothing of any network, which
its content security policy forbids as well. All markup is made by :func:`_tag`, which escapes what it is given.
"""

from __future__ import annotations

import base64
import hashlib
import io
import itertools
import math
from collections import deque
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from html import escape
from importlib import resources
from string import Template
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from gsrcli.evaluation import scales
from gsrcli.evaluation.methods import INTERPOLATIONS
from gsrcli.evaluation.report import METRICS, Metric
from gsrcli.evaluation.runner import Row
from gsrcli.evaluation.versions import Shot
from gsrcli.images.picture import Pixels
from gsrcli.metrics.psnr_ssim import psnr

__all__ = ["Gallery"]

Heights = npt.NDArray[np.float32]
Record = Mapping[str, Any]  # a row of a table, as a report's data has it

_LOW, _BICUBIC, _ORIGINAL = "LR, nearest", "bicubic", "original"
_CROP = 48  # pixels a side
_BY_DIFFERENCE, _BY_ERROR = 2, 1  # crops of a picture
_QUALITY = 90
_WEBP_SIDE = 16383  # pixels; a longer side does not fit into the format


class Gallery:
    """Collects the pictures of an evaluation as it goes, compressed.

    Everything is lossless while it fits into the budget. Beyond that the full pictures of the earliest shots become
    WebP of quality 90, as many as it takes; when that is not enough the latest are left out, and at last their crops.
    The page tells which.

    Args:
        budget: bytes that the embedded pictures may take. Tables and text come on top.
    """

    def __init__(self, budget: int = 60_000_000) -> None:
        self.budget = budget
        self._exhibits: list[_Exhibit] = []
        self._weight = 0
        self._full = False
        self._sacrifices = [
            _Sacrifice(_Exhibit.lose_exactness),
            _Sacrifice(_Exhibit.lose_pictures, latest_first=True),
            _Sacrifice(_Exhibit.lose_crops, latest_first=True),
        ]

    def add(self, shot: Shot, rows: Iterable[Row]) -> None:
        """Take in a shot, with the rows that score it; rows of other scales are passed over.

        Raises:
            ValueError: a restored picture is not as large as the original.
        """
        for name, picture in shot.restored.items():
            if picture.shape != shot.original.shape:
                raise ValueError(f"{name} made {picture.shape} of what was {shot.original.shape}")
        scores: list[Record] = [{"model": row.model, "scores": row.scores} for row in rows if row.scale == shot.scale]
        exhibit = _Exhibit.of(shot, scores, whole=not self._full)
        self._exhibits.append(exhibit)
        self._weight += exhibit.weight
        for sacrifice in self._sacrifices:
            sacrifice.enlist(exhibit)
        self._keep_budget()

    def _keep_budget(self) -> None:
        """Give up first what matters least."""
        exactness, *wholeness = self._sacrifices
        self._weight -= exactness.spare(self._weight - self.budget)
        for sacrifice in wholeness:
            self._full |= self._weight > self.budget
            self._weight -= sacrifice.spare(self._weight - self.budget)

    def page(self, summary: Mapping[str, Any]) -> str:
        """The whole page, which depends on the summary and the pictures alone.

        Args:
            summary: see :meth:`gsrcli.evaluation.report.Report.data`.
        """
        rows, means = summary["rows"], summary["means"]
        protocol = summary["protocol"] | {"scales": list(map(_scale, summary["protocol"]["scales"]))}
        script = _asset("page.js")
        anchors = {_key(vars(exhibit)): f"shot-{number}" for number, exhibit in enumerate(self._exhibits, 1)}
        return Template(_asset("page.html")).substitute(
            script_digest="sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
            title=escape(_title(means)),
            style=_asset("page.css"),
            facts=_facts("Protocol", protocol) + _facts("Environment", summary["environment"]),
            notes=_list(summary["notes"]),
            means=_means_table([*means, *summary["published"]]),
            filter=_filter_form(rows),
            rows=_rows_table(rows, anchors),
            failures=_list(map(_failure, summary["failures"])),
            crop=str(_CROP),
            losses=self._losses(),
            comparisons="\n".join(map(_article, self._exhibits, anchors.values())),
            script=script,
        )

    def _losses(self) -> _Html:
        """What the budget took."""
        lossy = [each for each in self._exhibits if each.pictures and not each.lossless]
        missing = [each for each in self._exhibits if not each.pictures]
        bare = [each for each in self._exhibits if each.crops is None]
        losses = [
            (lossy, f"with full pictures as WebP of quality {_QUALITY}, not lossless; judge fine detail by the crops"),
            (missing, "without full pictures"),
            (bare, "without crops"),
        ]
        told = [
            _tag(
                "details",
                _tag("summary", f"{len(some)} of {len(self._exhibits)} {what}"),
                _tag("p", ", ".join(each.name for each in some)),
            )
            for some, what in losses
            if some
        ]
        limits = f"A page takes up to {self.budget / 1e6:.3g} MB of pictures, of up to {_WEBP_SIDE} pixels a side."
        return _Html("".join([_tag("p", limits if told else "All pictures are lossless."), *told]))


# --- what is kept of a shot ---


class _Sacrifice:
    """One way to save bytes, and the exhibits that it has not been done to; once done, it is done for good.

    Args:
        do: what an exhibit loses.
        latest_first: which exhibit is the next: the latest, or else the earliest.
    """

    def __init__(self, do: Callable[[_Exhibit], None], *, latest_first: bool = False) -> None:
        self._do = do
        self._waiting: deque[_Exhibit] = deque()
        self._next = self._waiting.pop if latest_first else self._waiting.popleft

    def enlist(self, exhibit: _Exhibit) -> None:
        """Take in a later exhibit."""
        self._waiting.append(exhibit)

    def spare(self, excess: int) -> int:
        """Save that many bytes, or what can be saved; gives how many they were."""
        spared = 0
        while self._waiting and spared < excess:
            exhibit = self._next()
            before = exhibit.weight
            self._do(exhibit)
            spared += before - exhibit.weight
        return spared


@dataclass(frozen=True)
class _Tile:
    """A compressed picture and whose it is; of crops also how near it comes to the original, in dB of RGB."""

    label: str
    content: bytes
    psnr: float | None = None

    @property
    def weight(self) -> int:
        """Bytes on the page."""
        return 4 * math.ceil(len(self.content) / 3)

    @property
    def uri(self) -> str:
        return "data:image/webp;base64," + base64.b64encode(self.content).decode()


@dataclass(frozen=True)
class _Window:
    """A part of a picture, in pixels from its top left, and why it is worth a look."""

    left: int
    top: int
    width: int
    height: int
    reason: str

    def of(self, picture: Pixels) -> Pixels:
        return picture[self.top : self.top + self.height, self.left : self.left + self.width]


@dataclass
class _Exhibit:
    """A shot as the page will show it.

    Attributes:
        dataset, picture, scale: which.
        low_size, size: (height, width) of the LR picture and of the original.
        scores: one record per model.
        pictures: LR first, original last; empty where they take too much.
        crops: the same of each window; None where they take too much.
        lossless: whether all of the pictures are.
    """

    dataset: str
    picture: str
    scale: tuple[float, float]
    low_size: tuple[int, ...]
    size: tuple[int, ...]
    scores: list[Record]
    pictures: list[_Tile]
    crops: list[tuple[_Window, list[_Tile]]] | None
    lossless: bool = True

    @classmethod
    def of(cls, shot: Shot, scores: list[Record], whole: bool) -> _Exhibit:
        """Compressed without loss: crops, and where they are wanted and can be, whole pictures."""
        size = shot.original.shape[:2]
        models = {_BICUBIC: _enlarged(shot.low, size, Image.Resampling.BICUBIC)} | dict(shot.restored)
        enlarged = {_LOW: _enlarged(shot.low, size, Image.Resampling.NEAREST)} | models
        crops = [(window, _tiles(window, enlarged, shot.original)) for window in _windows(models, shot.original)]
        shown = [(_LOW, shot.low), *models.items(), (_ORIGINAL, shot.original)]
        with ThreadPoolExecutor() as pool:  # compression releases the interpreter's lock
            wanted = shown if whole and max(size) <= _WEBP_SIDE else []
            pictures = list(pool.map(lambda each: _Tile(each[0], _lossless(each[1])), wanted))
        return cls(shot.dataset, shot.picture, shot.scale, shot.low.shape[:2], size, scores, pictures, crops)

    @property
    def name(self) -> str:
        return f"{self.dataset}/{self.picture} {_scale(self.scale)}"

    @property
    def weight(self) -> int:
        """Bytes of its pictures and crops on the page."""
        return sum(tile.weight for tile in itertools.chain(self.pictures, *(tiles for _, tiles in self.crops or ())))

    def lose_exactness(self) -> None:
        """Of all pictures but the small LR one. Only once: what is lossy already would get worse."""
        self.pictures[1:] = [replace(tile, content=_lossy(tile.content)) for tile in self.pictures[1:]]
        self.lossless = False

    def lose_pictures(self) -> None:
        self.pictures.clear()

    def lose_crops(self) -> None:
        self.crops = None


def _tiles(window: _Window, enlarged: Mapping[str, Pixels], original: Pixels) -> list[_Tile]:
    truth = window.of(original)
    tiles = [
        _Tile(label, _lossless(part), psnr(torch.tensor(part) / 255, torch.tensor(truth) / 255))
        for label, part in ((label, window.of(picture)) for label, picture in enlarged.items())
    ]
    return [*tiles, _Tile(_ORIGINAL, _lossless(truth))]


def _enlarged(low: Pixels, size: tuple[int, ...], how: Image.Resampling) -> Pixels:
    return np.asarray(Image.fromarray(low).resize((size[1], size[0]), how))


def _lossless(picture: Pixels) -> bytes:
    return _webp(Image.fromarray(picture), lossless=True, quality=25, method=2)  # of 6; more takes long and saves 1 %


def _lossy(content: bytes) -> bytes:
    with Image.open(io.BytesIO(content)) as picture:
        return _webp(picture, quality=_QUALITY)


def _webp(picture: Image.Image, **options: Any) -> bytes:
    file = io.BytesIO()
    picture.save(file, "WEBP", **options)
    return file.getvalue()


# --- where to look ---


def _windows(models: Mapping[str, Pixels], original: Pixels) -> list[_Window]:
    """Windows apart from each other: where two models differ most, then where even the best of them errs most.

    Interpolations are no contenders beside two others: every model differs from them at every edge.
    """
    others = [name for name in models if name not in INTERPOLATIONS]
    contenders = others if len(others) > 1 else list(models)
    pairs = list(itertools.combinations(contenders, 2))
    size = (min(_CROP, original.shape[0]), min(_CROP, original.shape[1]))
    windows: list[_Window] = []
    if pairs:
        envelope = _envelope((_distance(models[a], models[b], size) for a, b in pairs), np.greater)
        windows = _peaks(*envelope, [f"{a} and {b} differ by" for a, b in pairs], size, _BY_DIFFERENCE, [])
    envelope = _envelope((_distance(models[name], original, size) for name in contenders), np.less)
    count = _BY_DIFFERENCE + _BY_ERROR - len(windows)
    even = "even " if len(contenders) > 1 else ""
    return windows + _peaks(*envelope, [f"{even}{name} is off by" for name in contenders], size, count, windows)


def _distance(first: Pixels, second: Pixels, size: tuple[int, int]) -> Heights:
    """Mean absolute difference in every window of a size, by its top left: from an integral image."""
    difference = np.abs(first.astype(np.int16) - second).sum(2, dtype=np.int32)
    integral = np.zeros((difference.shape[0] + 1, difference.shape[1] + 1), np.int64)
    difference.cumsum(0, out=integral[1:, 1:]).cumsum(1, out=integral[1:, 1:])
    height, width = size
    sums = (
        integral[height:, width:]
        - integral[:-height, width:]
        - integral[height:, :-width]
        + integral[:-height, :-width]
    )
    return (sums / (3 * height * width)).astype(np.float32)


def _envelope(maps: Iterable[Heights], beats: np.ufunc) -> tuple[Heights, npt.NDArray[np.intp]]:
    """The one that beats all others at every place, and its index."""
    remaining = iter(maps)
    best = next(remaining)
    which = np.zeros(best.shape, np.intp)
    for index, challenger in enumerate(remaining, 1):
        wins = beats(challenger, best)
        best[wins], which[wins] = challenger[wins], index
    return best, which


def _peaks(
    heights: Heights,
    which: npt.NDArray[np.intp],
    reasons: Sequence[str],
    size: tuple[int, int],
    count: int,
    taken: Iterable[_Window],
) -> list[_Window]:
    """The highest windows that overlap neither each other nor those taken; fewer where nothing else stands out."""
    height, width = size
    heights = heights.copy()

    def clear(left: int, top: int) -> None:
        heights[max(0, top - height + 1) : top + height, max(0, left - width + 1) : left + width] = 0

    for window in taken:
        clear(window.left, window.top)
    peaks: list[_Window] = []
    while len(peaks) < count and heights.any():
        top, left = map(int, np.unravel_index(heights.argmax(), heights.shape))
        reason = f"{reasons[which[top, left]]} {heights[top, left]:.1f} of 255 on average"
        peaks.append(_Window(left, top, width, height, reason))
        clear(left, top)
    return peaks


# --- tables ---


@dataclass(frozen=True)
class _Column:
    """A column of a table.

    Attributes:
        title: its heading.
        text: what a cell shows.
        value: the number that it stands for; None in columns of words.
        best: which number of a group is bold, and is sorted to the top first.
    """

    title: str
    text: Callable[[Record], str]
    value: Callable[[Record], float | None] | None = None
    best: Callable[[list[float]], float] | None = None

    def heading(self, sortable: bool) -> _Html:
        css = "number" if self.value else None
        if not sortable:
            return _tag("th", self.title, scope="col", class_=css)
        first = "descending" if self.best is max else "ascending"
        return _tag("th", _tag("button", self.title, type="button", data_first=first), scope="col", class_=css)

    def cell(self, record: Record, group: Sequence[Record]) -> _Html:
        text: str = self.text(record)
        if self.value is None:
            return _tag("td", text)
        value = self.value(record)
        if self.best and value is not None and len(group) > 1:
            best = self.best([other for other in map(self.value, group) if other is not None])
            rivals = {self.text(other) for other in group if self.value(other) == best}
            text = _tag("b", text) if text in rivals else text  # all that look like the best
        return _tag("td", text, class_="number", data_value=_number(value))


def _number(value: float | None) -> str:
    """For JavaScript."""
    return "" if value is None else "Infinity" if value == math.inf else repr(float(value))


def _metrics(records: Iterable[Record]) -> Iterator[_Column]:
    """The scores that there are, each followed by what is published of it."""

    for name, metric in METRICS.items():
        for kind, title, best in (
            ("scores", metric.title, max if metric.sign > 0 else min),
            ("published", "published", None),
        ):
            if any(name in record.get(kind, {}) for record in records):
                yield _Column(title, partial(_score_text, metric, kind, name), partial(_score, kind, name), best)


def _score(kind: str, name: str, record: Record) -> float | None:
    return cast("float | None", record.get(kind, {}).get(name))


def _score_text(metric: Metric, kind: str, name: str, record: Record) -> str:
    return metric.text(_score(kind, name, record))


_DATASET = _Column("Data set", lambda record: record["dataset"])
_MODEL = _Column("Model", lambda record: record["model"])
_SCALE = _Column("Scale", lambda record: _scale(record["scale"]), lambda record: math.prod(record["scale"]))
_SIZE = _Column(
    "Size", lambda record: _sizes(record["low_size"], record["size"]), lambda record: math.prod(record["size"])
)
_PICTURES = _Column(
    "Pictures", lambda record: str(record.get("pictures", "published")), lambda record: record.get("pictures")
)
_COSTS = {
    "seconds": _Column(
        "s",
        lambda record: f"{record['seconds']:.3g}" if "seconds" in record else "",
        lambda record: record.get("seconds"),
    ),
    "memory_bytes": _Column(
        "MB",
        lambda record: f"{record['memory_bytes'] / 1e6:.0f}" if "memory_bytes" in record else "",
        lambda record: record.get("memory_bytes"),
    ),
}


def _costs(records: Sequence[Record]) -> list[_Column]:
    return [column for name, column in _COSTS.items() if any(name in record for record in records)]


def _means_table(means: Sequence[Record]) -> _Html:
    columns = [_DATASET, _SCALE, _PICTURES, _MODEL, *_metrics(means), *_costs(means)]
    table = _table(columns, means, lambda record: (record["dataset"], tuple(record["scale"])))
    return _scrolling(table, "Means over each data set")


def _rows_table(rows: Sequence[Record], anchors: Mapping[Hashable, str]) -> _Html:
    """Every score of every picture; its name leads to the comparison, where there is one."""

    def link(record: Record) -> str:
        anchor = anchors.get(_key(record))
        return _tag("a", record["picture"], href=f"#{anchor}") if anchor else record["picture"]

    columns = [_DATASET, _Column("Picture", link), _SCALE, _SIZE, _MODEL, *_metrics(rows), *_costs(rows)]
    return _scrolling(_table(columns, rows, _key, marked=True), "Scores of each picture")


def _table(
    columns: Sequence[_Column],
    records: Iterable[Record],
    group: Callable[[Record], Hashable],
    *,
    sortable: bool = True,
    marked: bool = False,
) -> _Html:
    """A row for each record, those of a group together; the filter can hide rows that are marked."""
    groups: dict[Hashable, list[Record]] = {}
    for record in records:
        groups.setdefault(group(record), []).append(record)
    body = [
        _tag(
            "tr",
            *(column.cell(record, members) for column in columns),
            class_="first" if record is members[0] else None,
            **(_marks(record) | {"data_model": record["model"]} if marked else {}),
        )
        for members in groups.values()
        for record in members
    ]
    head = _tag("tr", *(column.heading(sortable) for column in columns))
    return _tag("table", _tag("thead", head), _tag("tbody", *body))


def _scrolling(table: _Html, label: str) -> _Html:
    return _tag("div", table, class_="scroll", tabindex=0, role="region", aria_label=label)


def _filter_form(rows: Sequence[Record]) -> _Html:
    """Narrows rows and comparisons alike, by what _marks says of them."""

    def choice(title: str, name: str, column: _Column) -> _Html:
        options = [_tag("option", text, value=text) for text in dict.fromkeys(map(column.text, rows))]
        return _tag("label", title, _tag("select", _tag("option", "all", value=""), *options, name=name))

    return _tag(
        "form",
        _tag("label", "Picture", _tag("input", type="search", name="picture", placeholder="part of a name")),
        choice("Data set", "dataset", _DATASET),
        choice("Scale", "scale", _SCALE),
        choice("Model (rows only)", "model", _MODEL),
        _tag("output", aria_live="polite"),
        autocomplete="off",
        role="search",
        aria_label="Filter pictures and comparisons",
    )


# --- the rest of the page ---


def _title(means: Sequence[Record]) -> str:
    if not means:
        return "Nothing could be scored"
    models, datasets, factors = (list(dict.fromkeys(map(column.text, means))) for column in (_MODEL, _DATASET, _SCALE))
    return f"{_enumeration(models)} on {_enumeration(datasets)} at {_enumeration(factors)}"


def _enumeration(names: Sequence[str]) -> str:
    return ", ".join(names[:-1]) + (" and " if len(names) > 1 else "") + names[-1]


def _facts(title: str, facts: Mapping[str, Any]) -> _Html:
    known = {name: fact for name, fact in facts.items() if fact not in ([], None)}
    pairs = ((_tag("dt", name.replace("_", " ")), _tag("dd", _plain(fact))) for name, fact in known.items())
    return _tag("section", _tag("h2", title), _tag("dl", *itertools.chain(*pairs)))


def _plain(fact: object) -> str:
    """Nested data in words."""
    if isinstance(fact, Mapping):
        parts = [f"{name}: {_plain(part)}" for name, part in fact.items() if part is not None]
        return ("; " if any(isinstance(part, Mapping) for part in fact.values()) else ", ").join(parts)
    if isinstance(fact, Iterable) and not isinstance(fact, str):
        return ", ".join(map(_plain, fact))
    if isinstance(fact, bool):
        return "yes" if fact else "no"
    return str(fact)


def _list(texts: Iterable[str]) -> _Html:
    items = [_tag("li", text) for text in texts]
    return _tag("ul", *items, class_="notes") if items else _Html()


def _failure(failure: Record) -> str:
    what = f"{failure['dataset']}/{failure['picture']}"
    scale = f" {_scale(failure['scale'])}" if "scale" in failure else ""
    model = f", {failure['model']}" if "model" in failure else ""
    return f"{what}{scale}{model}: {failure['message']}"


def _article(exhibit: _Exhibit, anchor: str) -> _Html:
    """A comparison: scores, the viewer, crops."""
    scores = _table([_MODEL, *_metrics(exhibit.scores)], exhibit.scores, lambda _: None, sortable=False)
    return _tag(
        "article",
        _tag(
            "header",
            _tag("h3", f"{exhibit.dataset} / {exhibit.picture} ", _tag("span", _scale(exhibit.scale), class_="scale")),
            _tag("p", f"{_sizes(exhibit.low_size, exhibit.size)} pixels"),
        ),
        _tag(
            "div",
            _viewer(exhibit) if exhibit.pictures else _tag("p", "Without full pictures: see above.", class_="quality"),
            _tag("div", scores, class_="scores"),
            class_="pair",
        ),
        *(_crop(window, tiles, located=bool(exhibit.pictures)) for window, tiles in exhibit.crops or ()),
        id=anchor,
        **_marks(vars(exhibit)),
    )


def _viewer(exhibit: _Exhibit) -> _Html:
    """Two of the pictures on top of each other, with a divider; at first bicubic and the first of the models."""
    height, width = exhibit.size
    labels = [tile.label for tile in exhibit.pictures]
    sides = {"left": 1, "right": 2}  # the original where there is no other model

    def choice(side: str) -> _Html:
        options = [_tag("option", label, selected=index == sides[side]) for index, label in enumerate(labels)]
        return _tag("label", side.capitalize(), _tag("select", *options, name=side, autocomplete="off"))

    def picture(index: int, tile: _Tile) -> _Html:
        classes = [*(["low"] if index == 0 else []), *(side for side, shown in sides.items() if shown == index)]
        alt = f"{exhibit.name}: {tile.label}"
        return _tag("img", src=tile.uri, alt=alt, class_=" ".join(classes) or None, decoding="async", draggable="false")

    def mark(window: _Window) -> _Html:
        fractions = zip(
            ("left", "top", "width", "height"),
            (window.left / width, window.top / height, window.width / width, window.height / height),
            strict=True,
        )
        return _tag("div", class_="mark", hidden=True, style=";".join(f"{k}:{v:.4%}" for k, v in fractions))

    zooms = [_tag("option", title, value=value) for value, title in _ZOOMS.items()]
    quality = "lossless" if exhibit.lossless else f"WebP quality {_QUALITY}, not lossless"
    return _tag(
        "div",
        _tag(
            "div",
            choice("left"),
            _tag(
                "button",
                "⇄",
                type="button",
                class_="swap",
                aria_label="Swap left and right",
                title="Swap left and right",
            ),
            choice("right"),
            _tag("label", "Zoom", _tag("select", *zooms, name="zoom", autocomplete="off")),
            _tag("span", quality, class_="quality" if exhibit.lossless else "quality lossy"),
            class_="controls",
        ),
        _tag(
            "div",
            _tag(
                "div",
                _tag(
                    "div",
                    *itertools.starmap(picture, enumerate(exhibit.pictures)),
                    *(mark(w) for w, _ in exhibit.crops or ()),
                    class_="canvas",
                ),
                class_="scroller",
                tabindex=0,
                role="group",
                aria_label=f"{exhibit.name}, scrolls when zoomed",
            ),
            _tag(
                "div",
                class_="handle",
                role="slider",
                tabindex=0,
                aria_label="Divider between left and right",
                aria_valuemin=0,
                aria_valuemax=100,
                aria_valuenow=50,
            ),
            *(_tag("span", labels[index], class_=f"tag {side}", aria_hidden="true") for side, index in sides.items()),
            class_="stage",
            style=f"--w:{width};--h:{height}",
        ),
        class_="viewer",
    )


_ZOOMS = {"fit": "fit", "1": "1:1", "2": "2:1", "4": "4:1", "8": "8:1"}


def _crop(window: _Window, tiles: Sequence[_Tile], located: bool) -> _Html:
    best = max(tile.psnr for tile in tiles if tile.psnr is not None)

    def figure(tile: _Tile) -> _Html:
        near = "" if tile.psnr is None else "∞" if tile.psnr == math.inf else f"{tile.psnr:.2f} dB"
        alt = f"{tile.label}: {_pixels((window.height, window.width))} pixels from ({window.left}, {window.top})"
        return _tag(
            "figure",
            _tag("img", src=tile.uri, alt=alt, width=window.width, height=window.height),
            _tag(
                "figcaption",
                _tag("span", tile.label, title=tile.label),
                _tag("span", _tag("b", near) if tile.psnr == best else near),
            ),
            class_="tile",
            style=f"--side:{window.width}",
        )

    place = f"At ({window.left}, {window.top})"
    button = _tag("button", "Show in picture", type="button", class_="locate", aria_label=f"{place}: show in picture")
    return _tag(
        "section",
        _tag("header", _tag("h4", place), _tag("p", window.reason), *([button] if located else [])),
        _tag("div", *map(figure, tiles), class_="tiles"),
        class_="crop",
    )


def _key(record: Record) -> Hashable:
    """What a row and its comparison have in common."""
    return record["dataset"], record["picture"], tuple(record["scale"])


def _marks(record: Record) -> dict[str, str]:
    """What the filter goes by."""
    return {"data_dataset": record["dataset"], "data_picture": record["picture"], "data_scale": _scale(record["scale"])}


def _scale(scale: Sequence[float]) -> str:
    return f"×{scales.label((scale[0], scale[1]))}"


def _sizes(low: Sequence[int], high: Sequence[int]) -> str:
    return f"{_pixels(low)} → {_pixels(high)}"


def _pixels(size: Sequence[int]) -> str:
    return f"{size[1]}×{size[0]}"


class _Html(str):
    """Markup, as against a text that is to be escaped."""


_VOID = {"img", "input"}


def _tag(name: str, /, *content: str, **attributes: object) -> _Html:
    """An element. Texts and attributes are escaped; an attribute that is None or False is left out."""
    pairs = "".join(
        f" {key.rstrip('_').replace('_', '-')}" + ("" if value is True else f'="{escape(str(value))}"')
        for key, value in attributes.items()
        if value is not None and value is not False
    )
    inside = "".join(part if isinstance(part, _Html) else escape(part, quote=False) for part in content)
    return _Html(f"<{name}{pairs}>" if name in _VOID else f"<{name}{pairs}>{inside}</{name}>")


def _asset(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text("utf-8")
