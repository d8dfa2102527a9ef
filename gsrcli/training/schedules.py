"""Learning-rate schedules: the learning rate at each step, as a share of its peak."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import ClassVar

from gsrcli.training.config import TrainConfig

__all__ = ["Schedule"]

_HALVINGS = (0.5, 0.8, 0.9, 0.95)
"""At 250, 400, 450 and 475 thousand steps of 500 thousand (GSASR, arXiv:2501.06838, section 4.1)."""


@dataclass(frozen=True)
class Schedule:
    """The learning rate by step, and the step at which the run ends.

    Attributes:
        kind: ``wsd`` ("warm-up, stable, decay"), ``cosine`` or ``halving``.
        warmup: number of steps over which the rate grows from zero.
        fall: step at which the rate begins to decay, with wsd.
        end: total number of steps. In a run with a time limit both are NEVER until the decay begins; from then on the
            end is an estimate.
        span: number of steps in which the decaying rate would go from 1 to 0, if that is not ``end - fall``. In a run
            with a time limit, the rate goes from where the time has brought it to zero at the estimated end.
    """

    kind: str
    warmup: int
    fall: int
    end: int
    span: float | None = None

    NEVER: ClassVar[int] = 2**62

    @staticmethod
    def of(config: TrainConfig) -> Schedule:
        """Return the schedule with which a run starts."""
        if config.minutes:
            return Schedule(config.schedule, config.warmup, Schedule.NEVER, Schedule.NEVER)
        return Schedule(config.schedule, config.warmup, round(config.steps * (1 - config.decay)), config.steps)

    def rate(self, step: int) -> float:
        """Return the learning rate, in (0, 1], of the step that follows ``step`` steps."""
        return min((step + 1) / max(self.warmup, 1), self._after_warmup(step), 1.0)

    def _after_warmup(self, step: int) -> float:
        if self.kind == "cosine":
            done = (step - self.warmup) / max(1, self.end - self.warmup)
            return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(max(done, 0.0), 1.0)))
        if self.kind == "halving":
            return float(0.5 ** sum(step >= share * self.end for share in _HALVINGS))
        return 1.0 if step < self.fall else max(self.end - step, 1) / (self.span or max(self.end - self.fall, 1))

    def falling(self, step: int, rate: float, end: int) -> Schedule:
        """Return a schedule that decays from ``rate`` after ``step`` steps to zero at ``end``."""
        return replace(self, fall=min(self.fall, step), end=end, span=(end - step) / rate)

    def falls_at(self, step: int) -> bool:
        """Return whether, with wsd, the rate has begun to decay before this step."""
        return self.kind == "wsd" and step > self.fall
