"""How the learning rate changes over a run: a share of its highest, by step."""

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
    """The steps at which the rate begins to fall, and the run ends.

    Attributes:
        kind: ``wsd`` ("warm-up, stable, decay"), ``cosine`` or ``halving``.
        warmup: steps over which the rate grows from zero.
        fall: the step at which a constant rate begins to fall, with wsd.
        end: steps in all; in a run that ends by time, NEVER until the rate falls, like ``fall``, and then an estimate.
        span: steps in which a falling rate would go from 1 to 0, if not ``end - fall``: a rate that falls by time
            is where the time has brought it, and heads for the estimated end.
    """

    kind: str
    warmup: int
    fall: int
    end: int
    span: float | None = None

    NEVER: ClassVar[int] = 2**62

    @staticmethod
    def of(config: TrainConfig) -> Schedule:
        """The schedule of a run from its beginning."""
        if config.minutes:
            return Schedule(config.schedule, config.warmup, Schedule.NEVER, Schedule.NEVER)
        return Schedule(config.schedule, config.warmup, round(config.steps * (1 - config.decay)), config.steps)

    def rate(self, step: int) -> float:
        """The rate of the step that comes after ``step`` steps, in (0, 1]."""
        return min((step + 1) / max(self.warmup, 1), self._after_warmup(step), 1.0)

    def _after_warmup(self, step: int) -> float:
        if self.kind == "cosine":
            done = (step - self.warmup) / max(1, self.end - self.warmup)
            return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(max(done, 0.0), 1.0)))
        if self.kind == "halving":
            return float(0.5 ** sum(step >= share * self.end for share in _HALVINGS))
        return 1.0 if step < self.fall else max(self.end - step, 1) / (self.span or max(self.end - self.fall, 1))

    def falling(self, step: int, rate: float, end: int) -> Schedule:
        """Return the schedule whose rate is ``rate`` after ``step`` steps, and from there falls to zero at ``end``."""
        return replace(self, fall=min(self.fall, step), end=end, span=(end - step) / rate)

    def falls_at(self, step: int) -> bool:
        """Whether a constant rate has begun to fall before this step."""
        return self.kind == "wsd" and step > self.fall
