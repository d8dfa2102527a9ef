"""What was measured: as tables for people, as data, and as a plot."""

from __future__ import annotations

import csv
import dataclasses
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from gsrcli.benchmark.ceilings import Ceilings
from gsrcli.benchmark.drawing import DrawingRow
from gsrcli.benchmark.pipeline import PipelineRow
from gsrcli.benchmark.plan import Setting
from gsrcli.errors import GsrError
from gsrcli.rasterizer import EPSILON
from gsrcli.runtime.hardware import environment
from gsrcli.runtime.timing import Clock, Timing

__all__ = ["Report", "Row"]


_STYLES = {
    "total": "o-",
    "rasterizer": "o--",
    "paper, A100": "x:",
    "gsrcli": "o-",
    "gsrcli, shuffled": "o--",
    "published": "x-.",
    "torch": "x:",
}

Row = PipelineRow | DrawingRow
Column = tuple[str, Callable[[Any], str | None]]


@dataclass(frozen=True)
class Report:
    """A finished run.

    Attributes:
        environment: see :func:`gsrcli.runtime.hardware.environment`.
        protocol: what was measured how.
        ceilings: what the device does at best.
        rows: at least one, all of one type.
    """

    environment: dict[str, Any]
    protocol: dict[str, Any]
    ceilings: Ceilings
    rows: Sequence[Row]

    @staticmethod
    def of(names: Sequence[str], scales: Sequence[float], setting: Setting, rows: Sequence[Row]) -> Report:
        """The report of a run that is just over.

        Raises:
            GsrError: nothing was measured.
        """
        if not rows:
            raise GsrError("nothing could be measured", hint="try larger --scales, or a smaller --side")
        drawing = setting.what == "rasterizer"
        protocol: dict[str, Any] = {
            "measured": setting.what,
            "models": list(names),
            "scales": list(scales),
            "output": [setting.side, setting.side],
            "batch": 1,
            "picture": "synthetic" if setting.picture is None else setting.picture.name,
            "precision": setting.precision,
            "repeats": setting.repeats,
            "clock": Clock(setting.device, processor=drawing).name,
            "pair": f"a Gaussian and a pixel with exp(-q/2) >= 1/{1 / EPSILON:g}",
        }
        if not drawing:
            protocol["memory"] = f"peak of the {'tensors' if setting.device.type == 'cuda' else 'process'}"
        return Report(environment(setting.device), protocol, setting.ceilings, rows)

    def data(self) -> dict[str, Any]:
        """Plain data, without what is None."""
        return {
            "environment": self.environment,
            "protocol": self.protocol,
            "ceilings": dataclasses.asdict(self.ceilings),
            "rows": [_flat(row) for row in self.rows],
            "notes": self.notes(),
        }

    def text(self) -> str:
        """The table, and what to know about it."""
        facts, protocol, precision = self.environment, self.protocol, self.ceilings.precision
        ceilings = [
            f"a matrix product reaches {self.ceilings.matmul_flop_per_s / 1e12:.3g} TFLOP/s in {precision}",
            f"a copy {self.ceilings.copy_bytes_per_s / 1e9:.3g} GB/s",
        ]
        return "\n".join(
            (
                f"{facts['device']}, torch {facts['torch']}, {facts['threads']} CPU threads, {precision}: "
                f"medians of {protocol['repeats']} by {protocol['clock']}, spread: their interquartile range",
                f"\n{_table(self.rows)}\n",
                f"{', '.join(ceilings)}.",
                *self.notes(),
            )
        )

    def notes(self) -> list[str]:
        """What the numbers do not say."""
        random = sorted({row.model for row in self.rows if row.weights == "random"})
        notes = [
            f"{name} *: random weights. The network takes as long as a trained one, but its Gaussians are of other "
            "sizes: pairs and drawing times differ."
            for name in random
        ]
        others = {(row.model, row.precision) for row in self.rows if isinstance(row, PipelineRow)}
        notes += [
            f"{name}: its network is computed in {precision}."
            for name, precision in sorted(others)
            if precision != self.ceilings.precision
        ]
        if "memory" in self.protocol:
            notes.append(f"memory: {self.protocol['memory']}.")
        elif self.protocol["clock"].startswith("processor"):
            notes.append("G pairs/s: of one core.")
        if "cuda" in self.environment and self.ceilings.fp32_instructions_per_s is None:
            notes.append("no arithmetic floor: the GPU's clock is not known.")
        failures = {row.graph_failure for row in self.rows if isinstance(row, PipelineRow)} - {None}
        return notes + [f"no CUDA graph of the network: {failure}" for failure in sorted(map(str, failures))]

    def csv(self) -> bytes:
        """The rows as a table for programs."""
        rows = [_flat(row) for row in self.rows]
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, list(dict.fromkeys(key for row in rows for key in row)))
        writer.writeheader()
        writer.writerows(rows)
        return text.getvalue().encode()

    def plot(self, suffix: str) -> bytes:
        """The times, or for rasterizers the rates, by scale, as a picture of a kind, ``.png`` or ``.svg``."""
        from matplotlib.figure import Figure

        figure = Figure(figsize=(7, 4.5), layout="constrained")
        axes = figure.subplots()
        labels = list(dict.fromkeys(map(_label, self.rows)))
        for (label, name), points in self._lines().items():
            x, y = zip(*sorted(points), strict=True)
            axes.plot(x, y, _STYLES[name], color=f"C{labels.index(label)}", label=f"{label}: {name}")
        scales = sorted({row.scale for row in self.rows})
        axes.set_xticks(scales, [f"×{scale:g}" for scale in scales])
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_formatter("")
        height, width = self.protocol["output"]
        drawing = isinstance(self.rows[0], DrawingRow)
        axes.set_ylabel("G pairs/s, forward" if drawing else f"ms to {width}×{height} pixels")
        axes.set_title(f"{self.environment['device']}, {self.ceilings.precision}", fontsize="medium")
        axes.grid(alpha=0.3, which="both")
        axes.legend(fontsize="small")
        content = io.BytesIO()
        figure.savefig(content, format=suffix.removeprefix("."), dpi=150)
        return content.getvalue()

    def _lines(self) -> dict[tuple[str, str], list[tuple[float, float]]]:
        """Points (scale, value) by the model and the name of their line."""
        lines: dict[tuple[str, str], list[tuple[float, float]]] = {}
        for row in self.rows:
            values: dict[str, float | None]
            if isinstance(row, DrawingRow):
                drawn_by = row.backend if row.backend in _STYLES else "gsrcli"
                name = drawn_by if row.order == "picture" else f"{drawn_by}, {row.order}"
                values = {name: row.forward_pairs_per_s / 1e9}
            else:
                times = (row.total_ms.median, row.rasterizer_ms.median, row.paper_a100_ms)
                values = dict(zip(("total", "rasterizer", "paper, A100"), times, strict=True))
            for name, value in values.items():
                if value is not None:
                    lines.setdefault((_label(row), name), []).append((row.scale, value))
        return lines


def _flat(row: Row) -> dict[str, Any]:
    """Numbers and texts by name, times in milliseconds with their interquartile range beside them."""
    entries: dict[str, Any] = {}
    for field in dataclasses.fields(row):
        value = getattr(row, field.name)
        if isinstance(value, Timing):
            entries |= {field.name: value.median, f"{field.name.removesuffix('_ms')}_iqr_ms": value.spread}
        elif value is not None:
            entries[field.name] = value
    return entries


def _label(row: Row) -> str:
    return row.model if row.weights == "trained" else f"{row.model} *"


def _table(rows: Sequence[Row]) -> str:
    """The rows as a table as wide as it needs to be, without columns in which nothing stands."""
    columns = _DRAWING if isinstance(rows[0], DrawingRow) else _PIPELINE
    cells = {title: [cell(row) for row in rows] for title, cell in columns}
    cells = {title: column for title, column in cells.items() if any(column)}
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for i, title in enumerate(cells):
        table.add_column(title, justify="right" if i else "left", no_wrap=True)
    for entries in zip(*cells.values(), strict=True):
        table.add_row(*(entry or "" for entry in entries))
    text = io.StringIO()
    Console(file=text, width=400, color_system=None).print(table)
    return "\n".join(line.rstrip() for line in text.getvalue().splitlines())


def _number(value: float | None, digits: int = 3) -> str | None:
    """Without an exponent, and with as many digits as mean something."""
    if value is None:
        return None
    return f"{value:.0f}" if value >= 10**digits else f"{value:.{digits}g}"


def _over_floor(row: Row, timing: Timing) -> str | None:
    """How many times the least that it can take, where that is known."""
    if row.arithmetic_floor_ms is None:
        return None
    return _number(timing.median / max(row.arithmetic_floor_ms, row.traffic_floor_ms))


def _ms(timing: Timing | None) -> str | None:
    return None if timing is None else _number(timing.median)


_PIPELINE: tuple[Column, ...] = (
    ("model", _label),
    ("scale", lambda row: f"×{row.scale:g}"),
    ("encoder\nms", lambda row: _ms(row.encoder_ms)),
    ("decoder\nms", lambda row: _ms(row.decoder_ms)),
    ("network\nms", lambda row: _ms(row.network_ms)),
    ("as a CUDA\ngraph ms", lambda row: _ms(row.graph_ms)),
    ("of matrix\nproduct", lambda row: None if row.network_efficiency is None else f"{row.network_efficiency:.0%}"),
    ("rasterizer\nms", lambda row: _ms(row.rasterizer_ms)),
    ("times its\nfloor", lambda row: _over_floor(row, row.rasterizer_ms)),
    ("M pairs", lambda row: _number(row.pairs / 1e6)),
    ("G pairs/s", lambda row: _number(row.pairs_per_s / 1e9)),
    ("total\nms", lambda row: _ms(row.total_ms)),
    ("spread\nms", lambda row: _number(row.total_ms.spread, 2)),
    ("memory\nMB", lambda row: _number(row.memory_bytes and row.memory_bytes / 1e6)),
    ("paper, A100\nms", lambda row: _number(row.paper_a100_ms)),
    ("paper, A100\nMB", lambda row: _number(row.paper_a100_mb)),
)


def _times(row: DrawingRow, stage: str, against: str) -> str | None:
    value = getattr(row, f"{stage}_over_{against}")
    return None if value is None or row.backend == against else f"{_number(value)}×"


_DRAWING: tuple[Column, ...] = (
    ("field", _label),
    ("scale", lambda row: f"×{row.scale:g}"),
    ("drawn by", lambda row: row.backend),
    ("order", lambda row: row.order),
    ("size", lambda row: f"{row.width}x{row.height}"),
    ("M pairs", lambda row: _number(row.pairs / 1e6)),
    ("forward\nms", lambda row: _ms(row.forward_ms)),
    ("spread\nms", lambda row: _number(row.forward_ms.spread, 2)),
    ("G pairs/s", lambda row: _number(row.forward_pairs_per_s / 1e9)),
    ("over\ntorch", lambda row: _times(row, "forward", "torch")),
    ("over\npublished", lambda row: _times(row, "forward", "published")),
    ("times its\nfloor", lambda row: _over_floor(row, row.forward_ms)),
    ("backward\nms", lambda row: _ms(row.backward_ms)),
    ("spread\nms ", lambda row: _number(row.backward_ms.spread, 2)),
    ("G pairs/s ", lambda row: _number(row.backward_pairs_per_s / 1e9)),
    ("over\ntorch ", lambda row: _times(row, "backward", "torch")),
    ("over\npublished ", lambda row: _times(row, "backward", "published")),
    ("largest\nerror", lambda row: f"{row.error:.1e}"),
)
