"""The record that scripts/gpu_sprint.py keeps: gpu.json, and gpu.md to read.

It is a list of entries, one for each stage of each call, with the machine and the commit. Entries are never removed.
"""

from __future__ import annotations

import functools
import json
import operator
from collections.abc import Callable
from pathlib import Path
from typing import Any

from gsrcli.tables import Column, Table

Facts = dict[str, Any]
PARTIAL = ".partial"


class Record:
    """The record in a folder, written after each row so that nothing is lost if the program ends.

    Args:
        folder: folder of gpu.json and gpu.md.
        before: a gpu.json to continue if the folder has none.
    """

    def __init__(self, folder: Path, before: Path | None = None) -> None:
        self.folder = folder
        found = next((path for path in (folder / "gpu.json", before) if path is not None and path.exists()), None)
        self.entries: list[Facts] = json.loads(found.read_text(encoding="utf-8"))["entries"] if found else []

    def begin(self, stage: str, machine: Facts) -> Facts:
        """Add an empty entry, which :meth:`write` saves."""
        entry = {"stage": stage, "machine": machine, "rows": []}
        self.entries.append(entry)
        return entry

    def add(self, entry: Facts, row: Facts) -> None:
        entry["rows"].append(row)
        self.write()

    def write(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        replace(self.folder / "gpu.json", json.dumps({"entries": self.entries}, indent=1) + "\n")
        replace(self.folder / "gpu.md", "\n".join(markdown(self.entries)) + "\n")


def replace(path: Path, content: str | bytes) -> None:
    """Replace a file in one rename, so that readers find either the old or the new content, complete."""
    partial = path.with_name(PARTIAL)
    partial.write_bytes(content.encode() if isinstance(content, str) else content)
    partial.replace(path)


# ---- Markdown ------------------------------------------------------------------------------------------


def markdown(entries: list[Facts]) -> list[str]:
    lines = ["# Measured on a GPU", "", "Written by `scripts/gpu_sprint.sh`; the full data are in `gpu.json`."]
    measured = together(entries, "measure")
    if measured is not None:
        lines += _section("Goals", measured)
        lines += Table(["goal", "wanted", "measured", "verdict"], goals(measured["rows"])).markdown()
        for kind, title, columns in _TABLES:
            if rows := [row for row in measured["rows"] if row["kind"] == kind]:
                lines += ["", f"## {title}", "", *table(rows, columns)]
        lines += [line for note in measured.get("notes", []) for line in ("", note)]
    for stage, title, columns in (("smoke", "Checks", _CHECKS), ("train", "Training", _VALIDATIONS)):
        if (entry := newest(entries, stage)) is not None:
            lines += [*_section(title, entry), *table(entry["rows"], columns), *_told(entry)]
    for stage, title in (("tests", "Tests of the GPU"), ("sanitizer", "compute-sanitizer")):
        if (entry := newest(entries, stage)) is not None:
            broken = [f"- {row['outcome']}: {row['name']}" for row in entry["rows"] if row["outcome"] != "PASSED"]
            lines += [*_section(title, entry), *broken, *_told(entry)]
    return [*lines, "", "## All calls", "", *table([_call(entry) for entry in entries], _CALLS)]


def newest(entries: list[Facts], stage: str) -> Facts | None:
    return next((entry for entry in reversed(entries) if entry["stage"] == stage), None)


def together(entries: list[Facts], stage: str) -> Facts | None:
    """Return the newest entry of a stage, with rows that it lacks from earlier ones of its commit and device."""
    last = newest(entries, stage)
    if last is None:
        return None
    rows: dict[tuple[Any, ...], Facts] = {}
    for entry in entries:
        if entry["stage"] == stage and _subject(entry) == _subject(last):
            rows |= {tuple(row.get(key) for key in _IDENTITY): row for row in entry["rows"]}
    return {**last, "rows": list(rows.values())}


_IDENTITY = ("kind", "model", "scale", "backend", "order")


def _subject(entry: Facts) -> tuple[Any, ...]:
    return tuple(entry["machine"].get(name) for name in ("commit", "device", "rehearsal"))


def _section(title: str, entry: Facts) -> list[str]:
    facts = entry["machine"]
    where = f"driver {facts.get('driver')}, torch {facts['torch']}, Python {facts['python']}"
    rehearsal = "**A rehearsal on a CPU, which says nothing about GPUs.** " if facts.get("rehearsal") else ""
    return [
        "",
        f"## {title}",
        "",
        f"{rehearsal}{facts['date']}, commit {facts['commit']}: {facts['device']}, {where}",
        "",
    ]


def _told(entry: Facts) -> list[str]:
    names = ("arguments", "steps", "samples_per_second", "first_loss", "last_loss", "ended", "counts", "error")
    told = [name for name in names if entry.get(name) not in (None, "")]
    return ["", *(f"- {name.replace('_', ' ')}: {_plain(entry[name])}" for name in told)]


def _plain(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value).strip().replace("\n", "\n  ")


def _call(entry: Facts) -> Facts:
    facts = entry["machine"]
    failed = [row["name"] for row in entry["rows"] if row.get("ok") is False]
    ended = [f"failed: {', '.join(failed)}"] if failed else []
    ended += [f"not reached: {', '.join(entry['not_reached'])}"] if entry.get("not_reached") else []
    ended += [entry["error"].strip().splitlines()[0]] if entry.get("error") else []
    device = f"{facts['device']}{', rehearsal' if facts.get('rehearsal') else ''}"
    result = "; ".join(ended) or "done"
    own = {"stage": entry["stage"], "rows": len(entry["rows"]), "took": entry.get("took", "?"), "result": result}
    return {"date": facts["date"], "commit": facts["commit"], "device": device, **own}


# ---- goals ---------------------------------------------------------------------------------------------


def goals(rows: list[Facts]) -> list[tuple[str, str, str, str]]:
    """Return the goals with what is wanted, what was measured, and the verdict."""
    drawn = {
        scale: [
            row
            for row in rows
            if (row["kind"], row.get("order"), row.get("scale")) == ("drawing", "picture", scale)
            and row["backend"] not in ("torch", "published")
        ]
        for scale in (2, 4)
    }
    floors = {
        scale: [(row["model"], _ratio(row["forward_ms"], row.get("arithmetic_floor_ms"))) for row in drawn[scale]]
        for scale in (2, 4)
    }
    over = {way: [(row["model"], row.get(f"{way}_over_published")) for row in drawn[4]] for way in _WAYS}
    shares = [
        (f"×{row['scale']:g}", _ratio(100 * row["rasterizer_ms"], row["total_ms"]))
        for row in rows
        if row["kind"] == "pipeline" and row["model"] == "gsasr-edsr"
    ]
    steps = [(_of(row), row.get("steps_per_second")) for row in rows if row["kind"] == "training"]
    return [
        _goal("forward, ×4, times the arithmetic floor", 5, operator.le, floors[4]),
        _goal("forward, ×2, times the arithmetic floor", 8, operator.le, floors[2]),
        _goal("forward, ×4, times as fast as the published algorithm", 100, operator.ge, over["forward"]),
        _goal("backward, ×4, times as fast as the published algorithm", 40, operator.ge, over["backward"]),
        _goal("drawing, % of gsasr-edsr's time", 5, operator.le, shares),
        _goal("training steps a second, 64 crops of 48×48 each", 100, operator.ge, steps),
    ]


_WAYS = ("forward", "backward")
Comparison = Callable[[float, float], bool]


def _goal(
    goal: str, wanted: float, reached: Comparison, values: list[tuple[str, float | None]]
) -> tuple[str, str, str, str]:
    asked = f"{'≥' if reached is operator.ge else '≤'} {wanted:g}"
    if not values:
        return goal, asked, "", "not measured"
    told = ", ".join(f"{of}: {'unknown' if value is None else f'{value:.3g}'}" for of, value in values)
    every = all(value is not None and reached(value, wanted) for _, value in values)
    return goal, asked, told, "reached" if every else "not reached"


def _of(row: Facts) -> str:
    return f"batch {row['batch']}"


def _ratio(a: float, b: float | None) -> float | None:
    return a / b if b else None


# ---- tables --------------------------------------------------------------------------------------------

Columns = tuple[tuple[str, str, str], ...]  # key, title, format


def table(rows: list[Facts], columns: Columns) -> list[str]:
    named = [Column[Facts](title, functools.partial(_cell, key, form)) for key, title, form in columns]
    return Table.of(named, rows).markdown()


def _cell(key: str, form: str, row: Facts) -> str | None:
    value = row.get(key)
    if value is None:
        return None
    if isinstance(value, dict):
        return ", ".join(f"{name}: {number:.4g}" for name, number in value.items())
    return form.format(value).strip()


_SUBJECT: Columns = (("model", "model", "{}"), ("weights", "weights", "{}"), ("scale", "scale", "×{:g}"))
_PIPELINE: Columns = (
    *_SUBJECT,
    ("output", "output side, pixels", "{}"),
    ("encoder_ms", "encoder ms", "{:.2f}"),
    ("decoder_ms", "decoder ms", "{:.2f}"),
    ("network_ms", "network ms", "{:.2f}"),
    ("graph_ms", "as a CUDA graph ms", "{:.2f}"),
    ("rasterizer_ms", "rasterizer ms", "{:.3f}"),
    ("total_ms", "total ms", "{:.2f}"),
    ("total_iqr_ms", "spread ms", "{:.2f}"),
    ("memory_bytes", "peak memory bytes", "{:.3g}"),
    ("pairs", "pairs", "{:.3g}"),
    ("paper_a100_ms", "paper on an A100 ms", "{}"),
    ("paper_a100_mb", "paper on an A100 MB", "{}"),
)
_DRAWING: Columns = (
    *_SUBJECT,
    ("backend", "drawn by", "{}"),
    ("order", "order", "{}"),
    ("height", "rows", "{}"),
    ("pairs", "pairs", "{:.3g}"),
    ("forward_ms", "forward ms", "{:.3f}"),
    ("arithmetic_floor_ms", "floor ms", "{:.3f}"),
    ("backward_ms", "backward ms", "{:.3f}"),
    ("forward_over_published", "forward, times the published", "{:.1f}"),
    ("backward_over_published", "backward, times the published", "{:.1f}"),
    ("forward_over_torch", "forward, times plain torch", "{:.1f}"),
    ("error", "largest error", "{:.1e}"),
)
_TRAINING: Columns = (
    ("batch", "batch", "{}"),
    ("patch", "crops", "{0}×{0}"),
    ("steps_per_second", "steps a second", "{:.1f}"),
    ("samples_per_second", "samples a second", "{:.0f}"),
    ("stages", "stages, seconds", "{}"),
)
_CHECKS: Columns = (
    ("name", "check", "{}"),
    ("ok", "works", "{}"),
    ("seconds", "seconds", "{:.2f}"),
    ("detail", "", "{}"),
)
_VALIDATIONS: Columns = (
    ("step", "step", "{}"),
    ("seconds", "seconds", "{:.0f}"),
    ("samples_per_second", "samples a second", "{:.0f}"),
    ("loss", "loss", "{:.5f}"),
    ("learning_rate", "learning rate", "{:.2e}"),
    ("psnr", "PSNR on Y, dB", "{}"),
)
_CALLS: Columns = tuple((name, name, "{}") for name in ("date", "commit", "device", "stage", "rows", "took", "result"))
_CEILINGS: Columns = (
    ("matmul_flop_per_s", "matrix product, FLOP/s", "{:.3g}"),
    ("copy_bytes_per_s", "copy, bytes/s", "{:.3g}"),
    ("fp32_instructions_per_s", "float32 instructions/s", "{:.3g}"),
)
_TABLES = (
    ("ceilings", "Peak rates of the device", _CEILINGS),
    ("pipeline", "Upscaling a picture", _PIPELINE),
    ("drawing", "Drawing alone", _DRAWING),
    ("training", "The training step", _TRAINING),
)
