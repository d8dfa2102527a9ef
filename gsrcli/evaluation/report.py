"""Report the scores of an evaluation: as tables for people and papers, as data for programs, and as a plot."""

from __future__ import annotations

import itertools
import math
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from statistics import fmean, median
from typing import TYPE_CHECKING, Any

from gsrcli import plots
from gsrcli.errors import UsageError, nearest
from gsrcli.evaluation.cases import CaseResults, Result, ScoreFailure
from gsrcli.evaluation.datasets import Collection
from gsrcli.evaluation.methods import Network
from gsrcli.evaluation.published import Published, published
from gsrcli.evaluation.runner import Evaluation
from gsrcli.evaluation.scales import Scale, label
from gsrcli.runtime.files import encoded
from gsrcli.tables import Column, Table, to_csv

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["METRICS", "Mean", "Metric", "ScoreReport", "check_metrics"]


@dataclass(frozen=True)
class Metric:
    """The format of a metric's scores.

    Attributes:
        title: its name in papers.
        digits: decimals.
        sign: 1 where higher is better, -1 where lower is.
    """

    title: str
    digits: int
    sign: int

    def text(self, score: float | None) -> str:
        """Return a score as text; "" for None."""
        if score is None:
            return ""
        return "∞" if math.isinf(score) else f"{score:.{self.digits}f}"


METRICS = {
    "psnr": Metric("PSNR", 2, 1),
    "ssim": Metric("SSIM", 4, 1),
    "lpips": Metric("LPIPS", 4, -1),
    "lpips-vgg": Metric("LPIPS (VGG)", 4, -1),
    "dists": Metric("DISTS", 4, -1),
}


def check_metrics(given: Iterable[str]) -> tuple[str, ...]:
    """Return the names of metrics in lower case, without repetitions.

    Raises:
        UsageError: there is no such metric.
    """
    names = tuple(dict.fromkeys(name.strip().lower() for name in given))
    for name in names:
        if name not in METRICS:
            raise UsageError(f"there is no metric called {name!r}", hint=f"try {nearest(name, METRICS)}")
    return names


@dataclass(frozen=True)
class Mean:
    """The mean scores of one model over the pictures of one dataset at one scale.

    Attributes:
        dataset: name of the dataset.
        scale: of the height and of the width.
        model: name of the model, or of a method that is only published.
        pictures: number of pictures; None for published means.
        scores: arithmetic means, by metric.
        seconds: median over the pictures; None where nothing was computed.
        memory_bytes: peak over the pictures; None where it is unknown.
        published: means that a paper reports of the same model, by metric.
        source: the paper and table.
    """

    dataset: str
    scale: Scale
    model: str
    pictures: int | None
    scores: Mapping[str, float]
    seconds: float | None = None
    memory_bytes: int | None = None
    published: Mapping[str, float] = field(default_factory=dict)
    source: str | None = None

    @property
    def title(self) -> str:
        """The model's name, marked if the means are published ones."""
        return f"{self.model} (published)" if self.pictures is None else self.model


@dataclass
class ScoreReport:
    """The scores of an evaluation, in progress or finished.

    Attributes:
        evaluation: models, protocol and metrics.
        collections: the pictures.
        environment: see :func:`gsrcli.runtime.hardware.environment`.
        others: whether methods that are only published are shown too.
        results: the scores of each model on each picture, in the order in which they were computed.
        failures: what could not be scored.
        done: number of cases that the results and failures cover.
    """

    evaluation: Evaluation
    collections: Sequence[Collection]
    environment: Mapping[str, Any]
    others: bool = False
    results: list[Result] = field(default_factory=list)
    failures: list[ScoreFailure] = field(default_factory=list)
    done: int = 0

    def run(self) -> Iterator[CaseResults]:
        """Score the pictures; yield the results of each case after adding them.

        Raises:
            UsageError: two datasets have the same name.
            ModelError: the output of a model is not finite.
        """
        for results in self.evaluation.run(self.collections):
            self.add(results)
            yield results

    def add(self, results: CaseResults) -> None:
        """Add the results and failures of one or more cases."""
        self.results += results.results
        self.failures += results.failures
        self.done += results.count

    @property
    def cases(self) -> int:
        """Number of cases: each picture counts once for each scale."""
        return len(self.evaluation.scales) * sum(len(collection.paths) for collection in self.collections)

    @property
    def protocol(self) -> dict[str, Any]:
        """How the pictures are scored, as plain data."""
        evaluation = self.evaluation
        return {
            "name": evaluation.protocol.name,
            "description": evaluation.protocol.description,
            "degradation": self._degradation,
            "rounded": evaluation.protocol.rounded,
            "self_ensemble": any(network.ensemble for network in self._networks),
            "precision": sorted(set(self._precisions.values())),
            "metrics": list(evaluation.metrics),
            "scales": [list(scale) for scale in evaluation.scales],
            "models": evaluation.models,
            "datasets": {
                collection.name: {
                    "pictures": len(collection.paths),
                    "license": collection.dataset.license if collection.dataset else None,
                    "measured": {
                        label(scale): evaluation.protocol.measured(collection.name, scale)
                        for scale in evaluation.scales
                    },
                }
                for collection in self.collections
            },
        }

    @property
    def _degradation(self) -> str:
        if not self.evaluation.restorers:
            return "none, all pictures were restored elsewhere"
        if self.evaluation.lows:
            return f"as given in {self.evaluation.lows.path}"
        if self.evaluation.degradation == "photo":
            return "as in photographs, with blur, noise, sharpening and JPEG drawn by name and scale, to 8 bits"
        return f"bicubic as {'MATLAB’s imresize' if self.evaluation.degradation == 'matlab' else 'Pillow'}, to 8 bits"

    @property
    def _networks(self) -> list[Network]:
        return [restorer for restorer in self.evaluation.restorers if isinstance(restorer, Network)]

    @property
    def _precisions(self) -> dict[str, str]:
        """The precision of each network by its name; interpolations have none."""
        return {network.name: network.upscaler.precision for network in self._networks}

    @property
    def setup(self) -> str:
        """One line: the device, the version of torch, the precision."""
        precision = "".join(f", {dtype}" for dtype in self.protocol["precision"])
        ensemble = ", +: self-ensemble, the mean over eight flips and turns" if self.protocol["self_ensemble"] else ""
        return f"{self.environment['device']}, torch {self.environment['torch']}{precision}{ensemble}"

    @property
    def heading(self) -> str:
        """One line: the protocol, and how LR was made."""
        protocol = self.protocol
        return f"protocol {protocol['name']}: {protocol['description']}; LR: {protocol['degradation']}"

    def means(self) -> list[Mean]:
        """Return the means of all results, in the order of datasets, scales and models."""
        groups: dict[tuple[str, Scale, str], list[Result]] = {}
        for result in self.results:
            groups.setdefault((result.dataset, result.scale, result.model), []).append(result)
        return [
            self._mean(collection, groups[collection.name, scale, model])
            for collection, scale in self._groups
            for model in self.evaluation.models
            if (collection.name, scale, model) in groups
        ]

    def _mean(self, collection: Collection, results: Sequence[Result]) -> Mean:
        first = results[0]
        seconds = [result.seconds for result in results if result.seconds is not None]
        memory = [result.memory_bytes for result in results if result.memory_bytes is not None]
        whole = len(results) == len(collection.paths) and first.model in self._computed
        reported = self._reported(collection, first.scale) if whole else []
        same = next((entry for entry in reported if entry.model == first.model), None)
        return Mean(
            dataset=first.dataset,
            scale=first.scale,
            model=first.model,
            pictures=len(results),
            scores={name: fmean(result.scores[name] for result in results) for name in first.scores},
            seconds=median(seconds) if seconds else None,
            memory_bytes=max(memory, default=None),
            published=same.scores if same else {},
            source=same.source if same else None,
        )

    def quoted(self) -> list[Mean]:
        """Return the means that papers report of other methods, if these are to be shown."""
        cases = self._groups if self.others else []
        reported = [entry for case in cases for entry in self._reported(*case)]
        return [_quoted(entry) for entry in reported if entry.model not in self._computed]

    @property
    def _computed(self) -> set[str]:
        """Names of the models that ran here, on LR pictures that are known."""
        return {restorer.name for restorer in self.evaluation.restorers}

    @property
    def _downscaled_as_in_papers(self) -> bool:
        return self.evaluation.lows is None and self.evaluation.degradation == "matlab"

    @property
    def _groups(self) -> list[tuple[Collection, Scale]]:
        return list(itertools.product(self.collections, self.evaluation.scales))

    def _lines(self) -> list[Mean]:
        """Return the means of each dataset at each scale, followed by the published ones."""
        order = {(collection.name, scale): i for i, (collection, scale) in enumerate(self._groups)}
        return sorted([*self.means(), *self.quoted()], key=lambda mean: order[mean.dataset, mean.scale])

    def _reported(self, collection: Collection, scale: Scale) -> list[Published]:
        """Return the means that papers report of the same pictures, downscaled and scored in the same way."""
        if not (collection.complete and self._downscaled_as_in_papers):
            return []
        wanted = (collection.name, scale, self.evaluation.protocol.name)
        same = (entry for entry in published() if (entry.dataset, entry.scale, entry.protocol) == wanted)
        entries = (entry.only(self.evaluation.metrics) for entry in same)
        return [entry for entry in entries if entry.scores]

    def notes(self) -> list[str]:
        """Return what readers must know about the numbers."""
        return [*self._score_notes(), *self._cost_notes()]

    def _score_notes(self) -> list[str]:
        means = self.means()
        notes = []
        if self.done < self.cases:
            notes.append(
                f"stopped after {self.done} of {self.cases} pictures (one picture at two scales counts twice)."
            )
        if not means:
            notes.append("nothing could be scored.")
        if sources := sorted({mean.source for mean in self._lines() if mean.source}):
            notes.append(f"published: {'; '.join(sources)}.")
        if self.others:
            notes += self._limits_of_published()
        if given := [folder.name for folder in self.evaluation.folders if not self.evaluation.protocol.rounded]:
            notes.append(f"scored as given, in 8 bits: {', '.join(given)}.")
        for collection in self.collections:
            measured = self.protocol["datasets"][collection.name]["measured"]
            notes.append(f"{collection.name}: {'; '.join(f'×{scale} {words}' for scale, words in measured.items())}.")
            total = len(collection.paths)
            of_fewer: dict[int | None, list[str]] = {}
            for mean in means:
                if mean.dataset == collection.name and mean.pictures != total:
                    of_fewer.setdefault(mean.pictures, []).append(f"{mean.model} ×{label(mean.scale)}")
            for count, concerned in of_fewer.items():
                notes.append(f"{collection.name}, means of {count} of {total} pictures: {', '.join(concerned)}.")
            if collection.dataset and not collection.complete:
                known = collection.dataset.pictures
                notes.append(
                    f"{collection.name}: {total} pictures here, {known} in papers; published means are not shown."
                )
        return notes

    def _limits_of_published(self) -> list[str]:
        if not self._downscaled_as_in_papers:
            return ["published means are shown only where LR is made as by MATLAB’s imresize, as in most papers."]
        if folders := [folder.name for folder in self.evaluation.folders]:
            return [f"published: {', '.join(folders)} may have started from another LR than the papers."]
        return []

    def _cost_notes(self) -> list[str]:
        notes = []
        if any(result.seconds is not None for result in self.results):
            notes.append("s: median per picture, from LR to result in memory.")
        if any(result.memory_bytes is not None for result in self.results):
            on_cpu = self.evaluation.device.type == "cpu"
            process = "of the process; freed memory is returned to the system before each measurement, which adds to s"
            notes.append(f"MB: peak memory {process if on_cpu else 'on the GPU, weights included'}.")
        return notes

    def table(self) -> Table:
        """Return the means so far as a table."""
        columns = [
            Column[Mean]("dataset", lambda mean: mean.dataset, left=True),
            Column[Mean]("scale", lambda mean: f"×{label(mean.scale)}"),
            Column[Mean]("model", lambda mean: mean.model, left=True),
        ]
        for name in self.evaluation.metrics:
            columns += _score_columns(name, METRICS[name])
        return Table.of([*columns, *_COST_COLUMNS], self._lines())

    def text(self) -> str:
        """Return how the pictures were scored, the means as an aligned table, and notes."""
        return "\n".join((self.heading, self.setup, "", self.table().text(), "", *self.notes()))

    def data(self) -> dict[str, Any]:
        """Return plain data; the PSNR of equal pictures is infinite."""
        return {
            "protocol": self.protocol,
            "environment": dict(self.environment),
            "means": [_present(asdict(mean)) for mean in self.means()],
            "published": [_present(asdict(mean)) for mean in self.quoted()],
            "rows": [_present(asdict(result)) for result in self.results],
            "failures": [_present(asdict(failure)) for failure in self.failures],
            "notes": self.notes(),
        }

    def json(self) -> dict[str, Any]:
        """Return the same data for JSON, with null for infinity, which JSON lacks."""
        strict = _finite(self.data())
        assert isinstance(strict, dict)
        return strict

    def csv(self) -> bytes:
        """Return the scores of each picture as CSV."""
        named = ["dataset", "picture", "scale_y", "scale_x", "model", "low_height", "low_width", "height", "width"]
        costs = ["seconds", "memory_bytes", "precision", "device"]
        headings = [*named, *self.evaluation.metrics, *costs, "protocol", "degradation", "rounded", "measured"]
        protocol, degradation, precisions = self.evaluation.protocol, self._degradation, self._precisions
        rows = []
        for row in self.results:
            scores = (row.scores[name] for name in self.evaluation.metrics)
            sizes = (*row.low_size, *row.size)
            cost = (row.seconds, row.memory_bytes, precisions.get(row.model), self.environment["device"])
            how = (protocol.name, degradation, self.evaluation.rounded(row.model))
            measured = protocol.measured(row.dataset, row.scale)
            rows.append([row.dataset, row.picture, *row.scale, row.model, *sizes, *scores, *cost, *how, measured])
        return to_csv(headings, rows)

    def markdown(self) -> bytes:
        """Return the means in Markdown, as in papers: one row per model, one column per scale, the best in bold."""
        means = self._lines()
        titles = " / ".join(METRICS[name].title for name in self.evaluation.metrics)
        scales = self.evaluation.scales
        cells = {(mean.dataset, mean.title, mean.scale): mean for mean in means}
        table = Table(
            ["dataset", "model", *(f"×{label(scale)}" for scale in scales)],
            [
                [dataset, title, *(self._cell(cells.get((dataset, title, scale)), means) for scale in scales)]
                for dataset, title in dict.fromkeys((mean.dataset, mean.title) for mean in means)
            ],
        )
        lines = [f"{titles}. {self.heading}.", "", f"{self.setup}.", "", *table.markdown()]
        if notes := self._score_notes():
            lines += ["", *(f"- {note}" for note in notes)]
        return encoded("\n".join(lines) + "\n")

    def _cell(self, mean: Mean | None, means: Iterable[Mean]) -> str:
        if mean is None:
            return ""
        rivals = [rival for rival in means if (rival.dataset, rival.scale) == (mean.dataset, mean.scale)]
        parts = []
        for name in self.evaluation.metrics:
            metric = METRICS[name]
            text = metric.text(mean.scores.get(name)) or "–"
            best = max((metric.sign * rival.scores[name] for rival in rivals if name in rival.scores), default=None)
            is_best = len(rivals) > 1 and name in mean.scores and metric.sign * mean.scores[name] == best
            cited = f" (published {metric.text(mean.published[name])})" if name in mean.published else ""
            parts.append((f"**{text}**" if is_best else text) + cited)
        return " / ".join(parts)

    def plot(self, suffix: str) -> bytes:
        """Return the figure as a file; see :func:`gsrcli.plots.encode`."""
        return plots.encode(self.figure(), suffix)

    def figure(self) -> Figure:
        """Plot PSNR by scale: a panel for each dataset, a line for each model and each method published at several."""
        lines = self._plotted()
        datasets = list(dict.fromkeys(dataset for dataset, _ in lines))
        styles = _styles({title: points[0].pictures is not None for (_, title), points in lines.items()})
        width = 4 * max(1, len(datasets)) + 1.2 + 0.07 * max(map(len, styles), default=0)
        figure, panels = plots.panels(max(1, len(datasets)), width, max(4.5, 1.5 + 0.2 * len(styles)))
        handles = {}
        for (dataset, title), points in lines.items():
            x = [math.sqrt(math.prod(mean.scale)) for mean in points]
            y = [mean.scores["psnr"] for mean in points]
            (handles[title],) = panels[datasets.index(dataset)].plot(x, y, **styles[title])
        for axes, dataset in zip(panels, datasets, strict=False):
            scales = {mean.scale for (where, _), points in lines.items() if where == dataset for mean in points}
            axes.set_xscale("log")
            plots.label_scales(axes, {math.sqrt(math.prod(scale)): label(scale) for scale in scales})
            axes.set_title(plots.literal(dataset), fontsize="medium")
            axes.grid(alpha=0.3)
        panels[0].set_ylabel("mean PSNR, dB")
        if handles:
            legend = list(handles.values()), [plots.literal(title) for title in handles]
            figure.legend(*legend, loc="outside right upper", fontsize="small", handlelength=3)
        heading = textwrap.wrap(plots.literal(self.heading), 75 * len(panels))
        figure.suptitle("\n".join(heading), fontsize="x-small", x=0.01, horizontalalignment="left")
        return figure

    def _plotted(self) -> dict[tuple[str, str], list[Mean]]:
        """Return finite means by dataset and title, by growing scale; published ones only at several scales."""
        lines: dict[tuple[str, str], list[Mean]] = {}
        for mean in sorted([*self.means(), *self.quoted()], key=lambda mean: math.prod(mean.scale)):
            if math.isfinite(mean.scores.get("psnr", math.inf)):
                lines.setdefault((mean.dataset, mean.title), []).append(mean)
        order = [collection.name for collection in self.collections]
        shown = [(key, points) for key, points in lines.items() if points[0].pictures is not None or len(points) > 1]
        return dict(sorted(shown, key=lambda line: order.index(line[0][0])))


def _score_columns(name: str, metric: Metric) -> list[Column[Mean]]:
    return [
        Column(metric.title, lambda mean: metric.text(mean.scores.get(name))),
        Column(f"{metric.title}\npublished", lambda mean: metric.text(mean.published.get(name))),
    ]


_COST_COLUMNS: list[Column[Mean]] = [
    Column("pictures", lambda mean: "published" if mean.pictures is None else f"{mean.pictures}"),
    Column("s", lambda mean: None if mean.seconds is None else f"{mean.seconds:.4f}"),
    Column("MB", lambda mean: None if mean.memory_bytes is None else f"{mean.memory_bytes / 1e6:.0f}"),
]


def _quoted(entry: Published) -> Mean:
    return Mean(entry.dataset, entry.scale, entry.method, None, entry.scores, source=entry.source)


def _present(record: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in record.items() if value is not None and value != {}}


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _finite(entry) for name, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _styles(titles: Mapping[str, bool]) -> dict[str, dict[str, Any]]:
    """Return the style of each line, no two of 80 alike; those measured here (True) stand out."""
    measured = itertools.cycle(itertools.product(("-", "-."), "osD^", range(10)))
    others = itertools.cycle(itertools.product((":", "--"), "x+12", range(10)))
    return {
        title: {"linestyle": line, "marker": marker, "color": f"C{colour}", "linewidth": 1.8 if is_measured else 1}
        for title, is_measured in titles.items()
        for line, marker, colour in [next(measured if is_measured else others)]
    }
