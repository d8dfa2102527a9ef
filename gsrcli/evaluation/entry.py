"""Evaluate what a configuration lists."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from gsrcli.errors import UsageError
from gsrcli.evaluation.config import EvalConfig
from gsrcli.evaluation.datasets import Dataset, check, collect
from gsrcli.evaluation.methods import load
from gsrcli.evaluation.protocols import PROTOCOLS
from gsrcli.evaluation.report import ScoreReport, check_metrics
from gsrcli.evaluation.runner import Evaluation
from gsrcli.evaluation.scales import as_scale
from gsrcli.evaluation.versions import Folder
from gsrcli.metrics.perceptual import METRICS as PERCEPTUAL
from gsrcli.metrics.perceptual import load_perceptual
from gsrcli.runtime.devices import pick_device
from gsrcli.runtime.hardware import environment
from gsrcli.weights.load import DEFAULT_MODEL

if TYPE_CHECKING:
    from gsrcli.download.http import Progress

__all__ = ["evaluate", "prepare"]


def evaluate(config: EvalConfig) -> ScoreReport:
    """Score models and return the scores, with what could not be scored in ``failures``.

    Raises:
        UsageError: a setting makes no sense.
        ModelError: a model does not exist, its weights are damaged, or its output is not finite.
        DownloadError: a dataset or weights cannot be downloaded.
        GsrError: a dataset must be requested from its authors.
    """
    report = prepare(config)
    for _ in report.run():
        pass
    return report


def prepare(
    config: EvalConfig, progress: Progress | None = None, announce: Callable[[Dataset], None] | None = None
) -> ScoreReport:
    """Load the models, find the pictures and return a report without scores, to be filled by its ``run``.

    Args:
        config: what is scored.
        progress: is called with the progress of downloads.
        announce: is called with each dataset before it is downloaded.

    Raises:
        UsageError, ModelError, DownloadError, GsrError: as for :func:`evaluate`.
    """
    if config.limit is not None and config.limit < 1:
        raise UsageError(f"invalid limit {config.limit}", hint="use a number of pictures from 1 up, or None")
    names = list(dict.fromkeys(map(str, config.datasets)))
    root = Path(config.data_root) if config.data_root else None
    for name in names:
        check(name, root)
    evaluation = _load(config, progress)
    collections = [collect(name, root, progress, announce).limited(config.limit) for name in names]
    return ScoreReport(evaluation, collections, environment(evaluation.device), config.published)


def _load(config: EvalConfig, progress: Progress | None) -> Evaluation:
    """Check the settings, then load the models and metrics."""
    if config.protocol not in PROTOCOLS:
        raise UsageError(f"unknown protocol {config.protocol!r}", hint=f"use {', '.join(PROTOCOLS)}")
    protocol = PROTOCOLS[config.protocol]
    metrics = check_metrics(config.metrics)
    perceptual = [name for name in metrics if name in PERCEPTUAL]
    scales = tuple(dict.fromkeys(map(as_scale, config.scales)))
    folders = [Folder.parse(str(text)) for text in config.restored]
    lows = Folder.at(Path(config.lr_dir)) if config.lr_dir else None
    models = config.models
    if models is None:
        models = () if folders else (DEFAULT_MODEL, "bicubic")
    device = pick_device(config.device)
    restorers = load(
        list(map(str, models)),
        device,
        config.precision,
        config.tile,
        rounded=protocol.rounded,
        ensemble=config.self_ensemble,
        report=progress,
        memory=config.memory,
    )
    return Evaluation(
        protocol=protocol,
        degradation=config.degradation,
        scales=scales,
        restorers=restorers,
        folders=folders,
        lows=lows,
        metrics=metrics,
        perceptual=load_perceptual(perceptual, device, progress) if perceptual else None,
        device=device,
    )
