"""Results from papers, to show beside measured ones; see ``published.toml``."""

from __future__ import annotations

import math
import tomllib
from collections.abc import Container, Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from gsrcli.evaluation.scales import Scale

__all__ = ["Published", "published"]


@dataclass(frozen=True)
class Published:
    """The mean scores of one method over a whole dataset.

    Attributes:
        dataset: name of the dataset.
        protocol: name of the protocol.
        scale: of the height and of the width.
        method: name of the method in the paper, and its encoder.
        scores: by metric.
        source: the paper and table.
        model: name of the same model here, with the same weights, if there is one.
    """

    dataset: str
    protocol: str
    scale: Scale
    method: str
    scores: dict[str, float]
    source: str
    model: str | None = None

    def only(self, metrics: Container[str]) -> Published:
        """Return the entry with the scores of these metrics only."""
        return replace(self, scores={metric: mean for metric, mean in self.scores.items() if metric in metrics})


@cache
def published() -> tuple[Published, ...]:
    """Return all entries of published.toml."""
    content = tomllib.loads(Path(__file__).with_name("published.toml").read_text(encoding="utf-8"))
    return tuple(entry for table in content["table"] for entry in _entries(**table))


def _entries(
    *, source: str, dataset: str, protocol: str, scales: list[float], ours: dict[str, str] | None = None, **metrics: Any
) -> Iterator[Published]:
    for i, scale in enumerate(scales):
        for method, values in metrics["psnr"].items():
            if len(values) != len(scales):
                raise ValueError(f"{source}, {dataset}: {method} has {len(values)} means for {len(scales)} scales")
            scores = {metric: by_method[method][i] for metric, by_method in metrics.items() if method in by_method}
            known = {metric: mean for metric, mean in scores.items() if not math.isnan(mean)}
            if known:
                model = (ours or {}).get(method)
                yield Published(dataset, protocol, (float(scale), float(scale)), method, known, source, model)
