"""What was scored: as tables for people and for papers, as data, and as a plot."""

from __future__ import annotations

import csv
import io
import itertools
import math
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from statistics import fmean, median
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from gsrcli.errors import UsageError, nearest
from gsrcli.evaluation.datasets import Collection
from gsrcli.evaluation.published import Published, published
from gsrcli.evaluation.restorers import Network
from gsrcli.evaluation.run import Evaluation, Failure, Outcome, Row
from gsrcli.evaluation.scales import Scale, label

__all__ = ["METRICS", "Mean", "Metric", "Report", "parse_metrics"]


@dataclass(frozen=True)
class Metric:
    """How scores are written.

    Attributes:
        title: what papers call it.
        digits: after the point.
        sign: 1 where more is better, -1 where less is.
    """

    title: str
    digits: int
    sign: int

    def text(self, score: float | None) -> str:
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


def parse_metrics(text: str) -> tuple[str, ...]:
    """The names of metrics in a list such as ``psnr,lpips``.

    Raises:
        UsageError: one is none.
    """
    names = tuple(dict.fromkeys(name.strip().lower() for name in text.split(",")))
    for name in names:
        if name not in METRICS:
            raise UsageError(f"there is no metric called {name!r}", hint=f"try {nearest(name, METRICS)}")
    return names


@dataclass(frozen=True)
class Mean:
    """The means of one model over the pictures of one data set at one scale.

    Attributes:
        dataset: its name.
        scale: of the height and of the width.
        model: what was scored, or a method that is only published.
        pictures: over how many; None where they are published.
        scores: by metric, arithmetic means.
        seconds: for a picture, their median; None where nothing was computed.
        memory_bytes: the most in use; None where it is not known.
        published: what a paper reports of the same model, by metric.
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


@dataclass
class Report:
    """An evaluation, under way or over.

    Attributes:
        evaluation: what is scored how.
        collections: on which pictures.
        environment: see :func:`gsrcli.hardware.environment`.
        others: whether methods that are only published are shown too.
        rows: what was scored.
        failures: what could not be.
    """

    evaluation: Evaluation
    collections: Sequence[Collection]
    environment: Mapping[str, Any]
    others: bool = False
    rows: list[Row] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)

    def add(self, outcome: Outcome) -> None:
        self.rows += outcome.rows
        self.failures += outcome.failures

    @property
    def protocol(self) -> dict[str, Any]:
        """How it was measured: plain data, without what does not apply."""
        evaluation = self.evaluation
        return {
            "name": evaluation.protocol.name,
            "description": evaluation.protocol.description,
            "degradation": self._degradation,
            "rounded": evaluation.protocol.rounded,
            "self_ensemble": any(network.ensemble for network in self._networks),
            "precision": sorted({str(network.upscaler.dtype).removeprefix("torch.") for network in self._networks}),
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
            return "not used, all pictures were restored elsewhere"
        if self.evaluation.lows:
            return f"as given in {self.evaluation.lows.path}"
        return f"bicubic as {'MATLAB’s imresize' if self.evaluation.degradation == 'matlab' else 'Pillow'}, to 8 bits"

    @property
    def _networks(self) -> list[Network]:
        return [restorer for restorer in self.evaluation.restorers if isinstance(restorer, Network)]

    @property
    def heading(self) -> str:
        """One line that says how it was measured."""
        protocol = self.protocol
        return f"protocol {protocol['name']}: {protocol['description']}; LR: {protocol['degradation']}"

    def means(self) -> list[Mean]:
        """Of all that was scored, in the order of data sets, scales and models."""
        groups: dict[tuple[str, Scale, str], list[Row]] = {}
        for row in self.rows:
            groups.setdefault((row.dataset, row.scale, row.model), []).append(row)
        return [
            self._mean(collection, groups[collection.name, scale, model])
            for collection, scale in self._cases
            for model in self.evaluation.models
            if (collection.name, scale, model) in groups
        ]

    def _mean(self, collection: Collection, rows: Sequence[Row]) -> Mean:
        first = rows[0]
        seconds = [row.seconds for row in rows if row.seconds is not None]
        memory = [row.memory_bytes for row in rows if row.memory_bytes is not None]
        reported = self._reported(collection, first.scale) if len(rows) == len(collection.paths) else []
        same = next((entry for entry in reported if entry.model == first.model), None)
        return Mean(
            dataset=first.dataset,
            scale=first.scale,
            model=first.model,
            pictures=len(rows),
            scores={name: fmean(row.scores[name] for row in rows) for name in first.scores},
            seconds=median(seconds) if seconds else None,
            memory_bytes=max(memory, default=None),
            published=same.scores if same else {},
            source=same.source if same else None,
        )

    def quoted(self) -> list[Mean]:
        """What papers report of other methods, where it is asked for."""
        cases = self._cases if self.others else []
        reported = [entry for case in cases for entry in self._reported(*case)]
        return [_quoted(entry) for entry in reported if entry.model not in self.evaluation.models]

    @property
    def _cases(self) -> list[tuple[Collection, Scale]]:
        return list(itertools.product(self.collections, self.evaluation.scales))

    def _lines(self) -> list[Mean]:
        """What was scored, and at each scale of each data set what was not."""
        order = {(collection.name, scale): i for i, (collection, scale) in enumerate(self._cases)}
        return sorted([*self.means(), *self.quoted()], key=lambda mean: order[mean.dataset, mean.scale])

    def _reported(self, collection: Collection, scale: Scale) -> list[Published]:
        """What papers report of these pictures, all of them, at a scale."""
        if not collection.complete:
            return []
        wanted = (collection.name, scale, self.evaluation.protocol.name)
        return [entry for entry in published() if (entry.dataset, entry.scale, entry.protocol) == wanted]

    def notes(self) -> list[str]:
        """What the numbers do not say."""
        means = self.means()
        notes = []
        if sources := sorted({mean.source for mean in self._lines() if mean.source}):
            notes.append(f"published: {'; '.join(sources)}.")
        if any(mean.seconds is not None for mean in means):
            notes.append("s: of the median picture, from small to large in memory.")
        if any(mean.memory_bytes is not None for mean in means):
            on_cpu = self.evaluation.device.type == "cpu"
            whose = "by the whole process, which first gives back what it has freed, and within s asks for it anew"
            notes.append(f"MB: the most in use {whose if on_cpu else 'on the GPU, weights included'}.")
        if given := [folder.name for folder in self.evaluation.folders if not self.evaluation.protocol.rounded]:
            notes.append(f"as given, in 8 bits: {', '.join(given)}.")
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
                of = f" of its {known}" if known else ""
                notes.append(f"{collection.name}: {total}{of} pictures; published means are of all.")
        return notes if means else ["nothing could be scored."]

    def table(self) -> Table:
        """The means so far."""
        means = self._lines()
        columns: dict[str, list[str]] = {
            "dataset": [mean.dataset for mean in means],
            "scale": [f"×{label(mean.scale)}" for mean in means],
            "model": [mean.model for mean in means],
        }
        for name in self.evaluation.metrics:
            metric = METRICS[name]
            columns[metric.title] = [metric.text(mean.scores.get(name)) for mean in means]
            columns[f"{metric.title}\npublished"] = [metric.text(mean.published.get(name)) for mean in means]
        columns["pictures"] = ["published" if mean.pictures is None else f"{mean.pictures}" for mean in means]
        columns["s"] = ["" if mean.seconds is None else f"{mean.seconds:.4f}" for mean in means]
        columns["MB"] = ["" if mean.memory_bytes is None else f"{mean.memory_bytes / 1e6:.0f}" for mean in means]
        columns = {title: cells for title, cells in columns.items() if any(cells)}
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
        for title in columns:
            table.add_column(title, justify="left" if title in ("dataset", "model") else "right", no_wrap=True)
        for cells in zip(*columns.values(), strict=True):
            table.add_row(*cells)
        return table

    def text(self) -> str:
        """The table, how it was measured, and what to know about it."""
        buffer = io.StringIO()
        Console(file=buffer, width=400, color_system=None, markup=False).print(self.table())
        lines = [line.rstrip() for line in buffer.getvalue().splitlines()]
        precision = "".join(f", {dtype}" for dtype in self.protocol["precision"])
        ensemble = ", self-ensemble (+)" if self.protocol["self_ensemble"] else ""
        device = f"{self.environment['device']}, torch {self.environment['torch']}{precision}{ensemble}"
        return "\n".join((self.heading, device, "", *lines, "", *self.notes()))

    def data(self) -> dict[str, Any]:
        """Plain data; scores of equal pictures are infinite."""
        return {
            "protocol": self.protocol,
            "environment": dict(self.environment),
            "means": [_present(asdict(mean)) for mean in self.means()],
            "published": [_present(asdict(mean)) for mean in self.quoted()],
            "rows": [_present(asdict(row)) for row in self.rows],
            "failures": [_present(asdict(failure)) for failure in self.failures],
            "notes": self.notes(),
        }

    def json(self) -> dict[str, Any]:
        """The same for JSON, which knows no infinity: null in its place."""
        strict = _finite(self.data())
        assert isinstance(strict, dict)
        return strict

    def csv(self) -> bytes:
        """The rows as a table for programs."""
        text = io.StringIO(newline="")
        names = ["dataset", "picture", "scale_y", "scale_x", "model", "low_height", "low_width", "height", "width"]
        writer = csv.writer(text)
        names += [*self.evaluation.metrics, "seconds", "memory_bytes", "protocol", "degradation", "rounded", "measured"]
        writer.writerow(names)
        protocol, degradation = self.evaluation.protocol, self._degradation
        for row in self.rows:
            scores = (row.scores[name] for name in self.evaluation.metrics)
            sizes = (*row.low_size, *row.size)
            costs = (row.seconds, row.memory_bytes)
            how = (protocol.name, degradation, self.evaluation.rounded(row.model))
            measured = protocol.measured(row.dataset, row.scale)
            writer.writerow([row.dataset, row.picture, *row.scale, row.model, *sizes, *scores, *costs, *how, measured])
        return text.getvalue().encode()

    def markdown(self) -> bytes:
        """The means as papers set them: a line for each model, a column for each scale, the best in bold."""
        means = self._lines()
        titles = " / ".join(METRICS[name].title for name in self.evaluation.metrics)
        scales = self.evaluation.scales
        lines = [
            f"{titles}. {self.heading}.",
            "",
            f"| data set | model |{''.join(f' ×{label(scale)} |' for scale in scales)}",
            f"|---|---|{'---|' * len(scales)}",
        ]
        cells = {(mean.dataset, mean.model, mean.scale): mean for mean in means}
        for dataset, model in dict.fromkeys((mean.dataset, mean.model) for mean in means):
            found = [cells.get((dataset, model, scale)) for scale in scales]
            cited = " (published)" if all(mean is None or mean.pictures is None for mean in found) else ""
            written = (self._cell(mean, means) for mean in found)
            lines.append(
                f"| {_escaped(dataset)} | {_escaped(model)}{cited} |{''.join(f' {cell} |' for cell in written)}"
            )
        if notes := self.notes():
            lines += ["", *(f"- {_escaped(note)}" for note in notes)]
        return ("\n".join(lines) + "\n").encode()

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
            parts.append(f"**{text}**" if is_best else text)
        return " / ".join(parts)

    def plot(self, suffix: str) -> bytes:
        """PSNR by scale, a line for each model and a panel for each data set, as a picture of that kind."""
        from matplotlib.figure import Figure

        means = [mean for mean in self._lines() if math.isfinite(mean.scores.get("psnr", math.inf))]
        datasets = list(dict.fromkeys(mean.dataset for mean in means))
        models = list(dict.fromkeys(mean.model for mean in means))
        figure = Figure(figsize=(max(5, 4 * len(datasets)), 4.5), layout="constrained")
        panels = figure.subplots(1, max(1, len(datasets)), squeeze=False)[0]
        for axes, dataset in zip(panels, datasets, strict=False):
            for model in models:
                points = [mean for mean in means if (mean.dataset, mean.model) == (dataset, model)]
                points.sort(key=lambda mean: math.prod(mean.scale))
                x = [math.sqrt(math.prod(mean.scale)) for mean in points]
                style = "o-" if any(mean.pictures for mean in points) else "x:"
                axes.plot(
                    x, [mean.scores["psnr"] for mean in points], style, color=f"C{models.index(model)}", label=model
                )
            scales = sorted({mean.scale for mean in means if mean.dataset == dataset}, key=math.prod)
            axes.set_xscale("log")
            axes.set_xticks([math.sqrt(math.prod(scale)) for scale in scales], [f"×{label(scale)}" for scale in scales])
            axes.set_xticks([], minor=True)
            axes.set_title(dataset, fontsize="medium")
            axes.grid(alpha=0.3)
            axes.legend(fontsize="small")
        panels[0].set_ylabel("mean PSNR, dB")
        figure.suptitle("\n".join(textwrap.wrap(self.heading, 24 * len(panels) + 60)), fontsize="x-small")
        content = io.BytesIO()
        figure.savefig(content, format=suffix.removeprefix("."), dpi=150)
        return content.getvalue()


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


def _escaped(text: str) -> str:
    return text.replace("|", "\\|")
