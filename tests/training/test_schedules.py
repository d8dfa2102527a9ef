"""Schedules: what they come to over a run, and that they never leave (0, 1]."""

from __future__ import annotations

import dataclasses
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gsrcli.errors import UsageError
from gsrcli.training.config import TrainConfig
from gsrcli.training.schedules import Schedule

KINDS = ("wsd", "cosine", "halving")


def rates(**settings: object) -> list[float]:
    config = TrainConfig(**settings)  # type: ignore[arg-type]
    schedule = Schedule.of(config)
    return [schedule.rate(step) for step in range(config.steps)]


@given(
    kind=st.sampled_from(KINDS),
    steps=st.integers(1, 300),
    warmup=st.integers(0, 400),
    decay=st.floats(0, 1),
)
def test_rates_are_above_zero_and_fall_once_they_are_warm(kind: str, steps: int, warmup: int, decay: float) -> None:
    found = rates(schedule=kind, steps=steps, warmup=warmup, decay=decay)
    assert all(0 < rate <= 1 for rate in found)
    cold = rates(schedule=kind, steps=steps, warmup=0, decay=decay) if kind != "cosine" else [1.0] * steps
    ramp = [(step + 1) / warmup for step in range(min(warmup, steps))]
    assert found[:warmup] == pytest.approx([min(pair) for pair in zip(ramp, cold, strict=False)])
    assert found[warmup:] == sorted(found[warmup:], reverse=True)
    if warmup < steps and kind == "cosine":
        assert found[warmup] == 1


def test_a_run_shorter_than_its_warm_up_ends_with_its_rate_fallen() -> None:
    found = rates(schedule="wsd", steps=100, warmup=300, decay=0.25)
    assert max(found) == found[92] == pytest.approx(93 / 300)  # where what grows meets what falls
    assert found[-1] == pytest.approx(1 / 25)


def test_wsd_is_constant_and_then_falls_to_zero_in_a_line() -> None:
    found = rates(schedule="wsd", steps=100, warmup=10, decay=0.25)
    assert found[9:76] == [1] * 67
    assert found[75:] == pytest.approx([1 - step / 25 for step in range(25)])


def test_without_a_decay_wsd_stays_constant() -> None:
    assert rates(schedule="wsd", steps=50, warmup=0, decay=0.0) == [1] * 50


def test_cosine_is_half_a_wave_down_to_a_hundredth() -> None:
    found = rates(schedule="cosine", steps=110, warmup=10)
    assert found[10:] == pytest.approx([0.01 + 0.99 * (1 + math.cos(math.pi * step / 100)) / 2 for step in range(100)])
    assert found[60] == pytest.approx(0.505)
    assert found[-1] < 0.011


def test_halving_halves_where_gsasr_was_halved() -> None:
    """Its paper: 500 thousand steps, and the rate halved at 250, 400, 450 and 475 thousand."""
    schedule = Schedule.of(TrainConfig(schedule="halving", steps=500_000, warmup=2000))
    at = (2000, 249_999, 250_000, 399_999, 400_000, 450_000, 474_999, 475_000, 499_999)
    assert [schedule.rate(step) for step in at] == [1, 1, 1 / 2, 1 / 2, 1 / 4, 1 / 8, 1 / 8, 1 / 16, 1 / 16]


@pytest.mark.parametrize("kind", ["cosine", "halving"])
def test_only_a_rate_that_can_begin_to_fall_at_any_step_ends_by_time(kind: str) -> None:
    with pytest.raises(UsageError, match="wsd"):
        TrainConfig(schedule=kind, minutes=5.0)  # type: ignore[arg-type]


def test_a_run_that_ends_by_time_keeps_its_rate_until_its_end_is_known() -> None:
    schedule = Schedule.of(TrainConfig(minutes=5.0, warmup=10))
    assert [schedule.rate(step) for step in (0, 9, 10, 10**6, 10**12)] == pytest.approx([0.1, 1, 1, 1, 1])
    assert not schedule.falls_at(10**12)
    known = dataclasses.replace(schedule, fall=1000, end=1200)
    found = [known.rate(step) for step in range(1000, 1200)]
    assert found == sorted(found, reverse=True)
    assert found[-1] < 0.1
    assert min(known.rate(step) for step in range(1200, 1300)) > 0  # should it take longer


def test_it_knows_when_a_rate_has_begun_to_fall() -> None:
    schedule = Schedule.of(TrainConfig(steps=100, warmup=10, decay=0.25))
    assert [step for step in range(100) if schedule.falls_at(step)] == list(range(76, 100))
    assert [schedule.rate(step) < 1 for step in range(10, 100)] == [schedule.falls_at(step) for step in range(10, 100)]
    cosine = Schedule.of(TrainConfig(schedule="cosine", steps=100, warmup=10))
    assert not any(cosine.falls_at(step) for step in range(100))


@given(step=st.integers(20, 10**6), rate=st.floats(0.01, 1), more=st.integers(1, 10**4))
def test_a_rate_that_falls_from_where_it_is_reaches_zero_at_the_new_end(step: int, rate: float, more: int) -> None:
    schedule = Schedule.of(TrainConfig(minutes=5.0, warmup=10)).falling(20, 1.0, 10**6)
    bent = schedule.falling(step, rate, step + more)
    assert (bent.fall, bent.end) == (20, step + more)
    found = [bent.rate(step + done) for done in range(more)]
    assert found == pytest.approx([rate * (1 - done / more) for done in range(more)])
