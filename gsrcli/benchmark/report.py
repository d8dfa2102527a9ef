"""Report the times of a benchmark as a table for people, as data for programs, and as a plot."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from gsrcli import plots
from gsrcli.benchmark.ceilings import Ceilings
from gsrcli.benchmark.drawing import DrawingMeasurement
from gsrcli.benchmark.pipeline import PipelineMeasurement
from gsrcli.benchmark.plan import Setting
from gsrcli.errors import GsrError
from gsrcli.rasterizer import EPSILON
from gsrcli.runtime.hardware import environment
from gsrcli.runtime.timing import Clock, Timing
from gsrcli.tables import Column, Table, to_csv

__all__ = ["Measurement", "TimingReport"]


_STYLES = {
    "total": "o-",
    "rasterizer": "o--",
    "paper, A100": "x:",
    "gsrcli": "o-",
    "gsrcli, shuffled": "o--",
    "published": "x-.",
    "torch": "x:",
}

Measurement = PipelineMeasurement | DrawingMeasurement


@dataclass(frozen=True)
class TimingReport:
    """The measurements of a finished benchmark.

    Attributes:
        environment: see :func:`gsrcli.runtime.hardware.environment`.
        protocol: how the measurements were made.
        ceilings: best rates of the device.
        rows: one or more measurements, all of one type.
    """

    environment: dict[str, Any]
    protocol: dict[str, Any]
    ceilings: Ceilings
    rows: Sequence[Measurement]

    @staticmethod
    def of(
        names: Sequence[str], scales: Sequence[float], setting: Setting, rows: Sequence[Measurement]
    ) -> TimingReport:
        """Make the report of measurements that were just taken.

        Raises:
            GsrError: nothing was measured.
        """
        if not rows:
            raise GsrError("nothing could be measured", hint="try larger --scales, or a smaller --side")
        drawing = setting.workload == "rasterizer"
        protocol: dict[str, Any] = {
            "measured": setting.workload,
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
        return TimingReport(environment(setting.device), protocol, setting.ceilings, rows)

    def data(self) -> dict[str, Any]:
        """Return plain data, without entries that are None."""
        return {
            "environment": self.environment,
            "protocol": self.protocol,
            "ceilings": dataclasses.asdict(self.ceilings),
            "rows": [_flat(row) for row in self.rows],
            "notes": self.notes(),
        }

    def text(self) -> str:
        """Return the environment, an aligned table, and notes."""
        facts, protocol, precision = self.environment, self.protocol, self.ceilings.precision
        columns = _DRAWING if isinstance(self.rows[0], DrawingMeasurement) else _PIPELINE
        ceilings = [
            f"a matrix product reaches {self.ceilings.matmul_flop_per_s / 1e12:.3g} TFLOP/s in {precision}",
            f"a copy {self.ceilings.copy_bytes_per_s / 1e9:.3g} GB/s",
        ]
        return "\n".join(
            (
                f"{facts['device']}, torch {facts['torch']}, {facts['threads']} CPU threads, {precision}: "
                f"medians of {protocol['repeats']} by {protocol['clock']}, spread: their interquartile range",
                f"\n{Table.of(columns, self.rows).text()}\n",
                f"{', '.join(ceilings)}.",
                *self.notes(),
            )
        )

    def notes(self) -> list[str]:
        """Return notes for reading the numbers."""
        random = sorted({row.model for row in self.rows if row.weights == "random"})
        notes = [
            f"{name} *: random weights. The network takes as long as a trained one, but its Gaussians have other "
            "sizes, so pairs and drawing times differ."
            for name in random
        ]
        others = {(row.model, row.precision) for row in self.rows if isinstance(row, PipelineMeasurement)}
        notes += [
            f"{name}: the network runs in {precision}."
            for name, precision in sorted(others)
            if precision != self.ceilings.precision
        ]
        if "memory" in self.protocol:
            notes.append(f"memory: {self.protocol['memory']}.")
        elif self.protocol["clock"].startswith("processor"):
            notes.append("G pairs/s: per core.")
        if "cuda" in self.environment and self.ceilings.fp32_instructions_per_s is None:
            notes.append("no arithmetic floor: the GPU's clock rate is unknown.")
        failures = {row.graph_failure for row in self.rows if isinstance(row, PipelineMeasurement)} - {None}
        return notes + [f"no CUDA graph of the network: {failure}" for failure in sorted(map(str, failures))]

    def csv(self) -> bytes:
        """Return the measurements as CSV."""
        rows = [_flat(row) for row in self.rows]
        headings = list(dict.fromkeys(name for row in rows for name in row))
        return to_csv(headings, [[row.get(name) for name in headings] for row in rows])

    def plot(self, suffix: str) -> bytes:
        """Plot the times by scale, or the rates for rasterizers; see :func:`gsrcli.plots.encode`."""
        figure, (axes,) = plots.panels(1, 7, 4.5)
        labels = list(dict.fromkeys(map(_label, self.rows)))
        for (label, name), points in self._lines().items():
            x, y = zip(*sorted(points), strict=True)
            axes.plot(x, y, _STYLES[name], color=f"C{labels.index(label)}", label=plots.literal(f"{label}: {name}"))
        plots.label_scales(axes, {scale: f"{scale:g}" for scale in sorted({row.scale for row in self.rows})})
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_formatter("")
        height, width = self.protocol["output"]
        drawing = isinstance(self.rows[0], DrawingMeasurement)
        axes.set_ylabel("G pairs/s, forward" if drawing else f"ms to {width}×{height} pixels")
        title = f"{self.environment['device']}, {self.ceilings.precision}"
        axes.set_title(plots.literal(title), fontsize="medium")
        axes.grid(alpha=0.3, which="both")
        axes.legend(fontsize="small")
        return plots.encode(figure, suffix)

    def _lines(self) -> dict[tuple[str, str], list[tuple[float, float]]]:
        """Return points (scale, value) by model and name of the line."""
        lines: dict[tuple[str, str], list[tuple[float, float]]] = {}
        for row in self.rows:
            values: dict[str, float | None]
            if isinstance(row, DrawingMeasurement):
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


def _flat(row: Measurement) -> dict[str, Any]:
    """Return numbers and texts by name, and with each time in milliseconds its interquartile range."""
    entries: dict[str, Any] = {}
    for field in dataclasses.fields(row):
        value = getattr(row, field.name)
        if isinstance(value, Timing):
            entries |= {field.name: value.median, f"{field.name.removesuffix('_ms')}_iqr_ms": value.spread}
        elif value is not None:
            entries[field.name] = value
    return entries


def _label(row: Measurement) -> str:
    return row.model if row.weights == "trained" else f"{row.model} *"


def _number(value: float | None, digits: int = 3) -> str | None:
    """Format a number without an exponent, to ``digits`` significant digits."""
    if value is None:
        return None
    return f"{value:.0f}" if value >= 10**digits else f"{value:.{digits}g}"


def _over_floor(row: Measurement, timing: Timing) -> str | None:
    """Return a time as a multiple of the least possible time, or None if that is unknown."""
    if row.arithmetic_floor_ms is None:
        return None
    return _number(timing.median / max(row.arithmetic_floor_ms, row.traffic_floor_ms))


def _share(fraction: float | None) -> str | None:
    return None if fraction is None else f"{fraction:.0%}"


def _ms(timing: Timing | None) -> str | None:
    return None if timing is None else _number(timing.median)


_PIPELINE: tuple[Column[Any], ...] = (
    Column("model", _label, left=True),
    Column("scale", lambda row: f"×{row.scale:g}"),
    Column("encoder\nms", lambda row: _ms(row.encoder_ms)),
    Column("decoder\nms", lambda row: _ms(row.decoder_ms)),
    Column("network\nms", lambda row: _ms(row.network_ms)),
    Column("CUDA graph\nms", lambda row: _ms(row.graph_ms)),
    Column("of peak\nFLOP/s", lambda row: _share(row.network_efficiency)),
    Column("rasterizer\nms", lambda row: _ms(row.rasterizer_ms)),
    Column("times its\nfloor", lambda row: _over_floor(row, row.rasterizer_ms)),
    Column("M pairs", lambda row: _number(row.pairs / 1e6)),
    Column("G pairs/s", lambda row: _number(row.pairs_per_s / 1e9)),
    Column("total\nms", lambda row: _ms(row.total_ms)),
    Column("spread\nms", lambda row: _number(row.total_ms.spread, 2)),
    Column("memory\nMB", lambda row: _number(row.memory_bytes and row.memory_bytes / 1e6)),
    Column("paper, A100\nms", lambda row: _number(row.paper_a100_ms)),
    Column("paper, A100\nMB", lambda row: _number(row.paper_a100_mb)),
)


def _speedup(row: DrawingMeasurement, stage: str, against: str) -> str | None:
    value = getattr(row, f"{stage}_over_{against}")
    return None if value is None or row.backend == against else f"{_number(value)}×"


_DRAWING: tuple[Column[Any], ...] = (
    Column("field", _label, left=True),
    Column("scale", lambda row: f"×{row.scale:g}"),
    Column("drawn by", lambda row: row.backend),
    Column("order", lambda row: row.order),
    Column("size", lambda row: f"{row.width}x{row.height}"),
    Column("M pairs", lambda row: _number(row.pairs / 1e6)),
    Column("forward\nms", lambda row: _ms(row.forward_ms)),
    Column("spread\nms", lambda row: _number(row.forward_ms.spread, 2)),
    Column("G pairs/s", lambda row: _number(row.forward_pairs_per_s / 1e9)),
    Column("vs.\ntorch", lambda row: _speedup(row, "forward", "torch")),
    Column("vs.\npublished", lambda row: _speedup(row, "forward", "published")),
    Column("times its\nfloor", lambda row: _over_floor(row, row.forward_ms)),
    Column("backward\nms", lambda row: _ms(row.backward_ms)),
    Column("spread\nms", lambda row: _number(row.backward_ms.spread, 2)),
    Column("G pairs/s", lambda row: _number(row.backward_pairs_per_s / 1e9)),
    Column("vs.\ntorch", lambda row: _speedup(row, "backward", "torch")),
    Column("vs.\npublished", lambda row: _speedup(row, "backward", "published")),
    Column("largest\nerror", lambda row: f"{row.error:.1e}"),
)
