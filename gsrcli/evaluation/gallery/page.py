"""Render an evaluation as one HTML page: its tables, its pictures and the places where the models differ.

The page is self-contained: style, script and pictures are inside. It makes no network requests, which its content
security policy forbids as well. All markup is in page.html.j2, where every text is escaped.
"""

from __future__ import annotations

import base64
import hashlib
import math
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib import resources
from typing import Any, cast

from jinja2 import Environment, PackageLoader, StrictUndefined, Template

from gsrcli.evaluation import scales
from gsrcli.evaluation.gallery import crops
from gsrcli.evaluation.gallery.archive import LONGEST_SIDE, QUALITY, Comparison, Gallery
from gsrcli.evaluation.report import METRICS, Metric

__all__ = ["render"]

Record = Mapping[str, Any]  # a row of a table, as a report's data has it


def render(gallery: Gallery, summary: Mapping[str, Any]) -> str:
    """Return the page; equal galleries and summaries give equal pages.

    Args:
        gallery: the pictures.
        summary: see :meth:`gsrcli.evaluation.report.ScoreReport.data`.
    """
    rows, means = summary["rows"], [*summary["means"], *summary["published"]]
    protocol = summary["protocol"] | {"scales": list(map(_scale, summary["protocol"]["scales"]))}
    script = _asset("page.js")
    comparisons = {f"shot-{number}": comparison for number, comparison in enumerate(gallery.comparisons, 1)}
    anchors = {_key(vars(comparison)): anchor for anchor, comparison in comparisons.items()}
    return _template().render(
        title=_title(summary["means"]),
        style=_asset("page.css"),
        script=script,
        script_digest="sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        protocol=_facts(protocol),
        environment=_facts(summary["environment"]),
        notes=summary["notes"],
        means={"columns": _mean_columns(means), "groups": _groups(means, lambda row: (row["dataset"], *row["scale"]))},
        choices=[(title, name, _distinct(column, rows)) for title, name, column in _CHOICES],
        rows={"columns": _row_columns(rows, anchors), "groups": _groups(rows, _key)},
        failures=list(map(_failure, summary["failures"])),
        crop_side=crops.SIDE,
        quality=QUALITY,
        longest_side=LONGEST_SIDE,
        megabytes=f"{gallery.budget / 1e6:.3g}",
        losses=_losses(gallery.comparisons),
        comparisons=comparisons.items(),
        score_columns=lambda scores: [_MODEL, *_score_columns(scores)],
    )


def _template() -> Template:
    environment = Environment(
        loader=PackageLoader(__package__, ""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {
        "decibels": lambda psnr: "" if psnr is None else "∞" if psnr == math.inf else f"{psnr:.2f} dB",
        "percent": lambda part, whole: f"{part / whole:.4%}",
        "scale": _scale,
        "sizes": lambda comparison: _sizes(comparison.low_size, comparison.size),
    }
    return environment.get_template("page.html.j2")


def _asset(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text("utf-8")


# --- tables ---


@dataclass(frozen=True)
class _Column:
    """A column of a table.

    Attributes:
        title: its heading.
        text: returns the text of a cell.
        value: returns the number of a cell; None in columns of words.
        best: picks the number of a group to set in bold: ``max`` or ``min``.
        link: returns the anchor that a cell links to; None for no links.
    """

    title: str
    text: Callable[[Record], str]
    value: Callable[[Record], float | None] | None = None
    best: Callable[[list[float]], float] | None = None
    link: Callable[[Record], str | None] | None = None

    @property
    def order(self) -> str:
        """Order of the first click on the heading, which brings the best to the top."""
        return "descending" if self.best is max else "ascending"

    def number(self, record: Record) -> str:
        """Return the value as JavaScript's ``Number`` parses it; "" for None."""
        value = self.value(record) if self.value else None
        return "" if value is None else "Infinity" if value == math.inf else repr(float(value))

    def is_best(self, record: Record, group: Sequence[Record]) -> bool:
        """Return whether the text of a cell equals that of the best of several."""
        if self.value is None or self.best is None or self.value(record) is None or len(group) == 1:
            return False
        best = self.best([value for value in map(self.value, group) if value is not None])
        return self.text(record) in {self.text(other) for other in group if self.value(other) == best}


def _score_columns(records: Iterable[Record]) -> Iterator[_Column]:
    """Yield a column for each metric that was scored, followed by its published values."""
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


_DATASET = _Column("Dataset", lambda record: record["dataset"])
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
_CHOICES = (("Dataset", "dataset", _DATASET), ("Scale", "scale", _SCALE), ("Model (rows only)", "model", _MODEL))


def _cost_columns(records: Sequence[Record]) -> list[_Column]:
    return [column for name, column in _COSTS.items() if any(name in record for record in records)]


def _mean_columns(means: Sequence[Record]) -> list[_Column]:
    return [_DATASET, _SCALE, _PICTURES, _MODEL, *_score_columns(means), *_cost_columns(means)]


def _row_columns(rows: Sequence[Record], anchors: Mapping[Hashable, str]) -> list[_Column]:
    """Return the columns for the scores of each picture; its name links to the comparison, if there is one."""
    picture = _Column("Picture", lambda record: record["picture"], link=lambda record: anchors.get(_key(record)))
    return [_DATASET, picture, _SCALE, _SIZE, _MODEL, *_score_columns(rows), *_cost_columns(rows)]


def _groups(records: Iterable[Record], key: Callable[[Record], Hashable]) -> list[list[Record]]:
    """Group records by key, in the order of the first of each group."""
    groups: dict[Hashable, list[Record]] = {}
    for record in records:
        groups.setdefault(key(record), []).append(record)
    return list(groups.values())


def _key(record: Record) -> Hashable:
    """Return what a row and its comparison have in common."""
    return record["dataset"], record["picture"], tuple(record["scale"])


def _distinct(column: _Column, records: Iterable[Record]) -> list[str]:
    return list(dict.fromkeys(map(column.text, records)))


# --- texts ---


def _title(means: Sequence[Record]) -> str:
    if not means:
        return "Nothing could be scored"
    models, datasets, factors = (_enumeration(_distinct(column, means)) for column in (_MODEL, _DATASET, _SCALE))
    return f"{models} on {datasets} at {factors}"


def _enumeration(names: Sequence[str]) -> str:
    return ", ".join(names[:-1]) + (" and " if len(names) > 1 else "") + names[-1]


def _facts(facts: Mapping[str, Any]) -> list[tuple[str, str]]:
    return [(name.replace("_", " "), _plain(fact)) for name, fact in facts.items() if fact not in ([], None)]


def _plain(fact: object) -> str:
    """Return nested data as text."""
    if isinstance(fact, Mapping):
        parts = [f"{name}: {_plain(part)}" for name, part in fact.items() if part is not None]
        return ("; " if any(isinstance(part, Mapping) for part in fact.values()) else ", ").join(parts)
    if isinstance(fact, Iterable) and not isinstance(fact, str):
        return ", ".join(map(_plain, fact))
    if isinstance(fact, bool):
        return "yes" if fact else "no"
    return str(fact)


def _failure(failure: Record) -> str:
    what = f"{failure['dataset']}/{failure['picture']}"
    scale = f" {_scale(failure['scale'])}" if "scale" in failure else ""
    model = f", {failure['model']}" if "model" in failure else ""
    return f"{what}{scale}{model}: {failure['message']}"


def _losses(comparisons: Sequence[Comparison]) -> list[tuple[str, str]]:
    """Return what was given up for the budget, and the names of the comparisons concerned."""
    losses = {
        f"with full pictures as WebP of quality {QUALITY}, not lossless; judge fine detail by the crops": [
            each.name for each in comparisons if each.pictures and not each.lossless
        ],
        "without full pictures": [each.name for each in comparisons if not each.pictures],
        "without crops": [each.name for each in comparisons if each.crops is None],
    }
    return [(f"{len(names)} of {len(comparisons)} {what}", ", ".join(names)) for what, names in losses.items() if names]


def _scale(scale: Sequence[float]) -> str:
    return f"×{scales.label((scale[0], scale[1]))}"


def _sizes(low: Sequence[int], high: Sequence[int]) -> str:
    return f"{low[1]}×{low[0]} → {high[1]}×{high[0]}"
