"""Items handed from thread to thread."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from gsrcli.runtime.handover import Handover


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(1) as threads:
        yield threads


def test_items_arrive_in_order(pool: ThreadPoolExecutor) -> None:
    handover: Handover[int] = Handover()
    taken = pool.submit(list, handover)
    for number in range(100):
        handover.give(number)
    handover.end()
    assert taken.result(10) == list(range(100))


def test_the_giver_waits_until_an_item_is_taken(pool: ThreadPoolExecutor) -> None:
    handover: Handover[int] = Handover()
    giving = pool.submit(handover.give, 1)
    time.sleep(0.05)
    assert not giving.done()
    items = iter(handover)
    assert next(items) == 1
    giving.result(10)


def test_an_exception_of_the_giver_reaches_the_taker(pool: ThreadPoolExecutor) -> None:
    handover: Handover[int] = Handover()
    taken = pool.submit(list, handover)
    with handover.passing_errors():
        handover.give(1)
        raise ValueError("no more")
    assert handover.ended()
    assert handover.failed()
    with pytest.raises(ValueError, match="no more"):
        taken.result(10)


def test_a_taker_that_leaves_ends_it(pool: ThreadPoolExecutor) -> None:
    """The giver does not wait for ever, before or after."""
    handover: Handover[int] = Handover()

    def take_two() -> None:
        for number in handover:
            if number == 2:
                raise OSError("full")

    taking = pool.submit(take_two)
    for number in range(5):
        handover.give(number)
    assert isinstance(taking.exception(10), OSError)
    assert handover.ended()
    assert not handover.failed()


def test_an_end_in_the_middle_frees_both() -> None:
    handover: Handover[int] = Handover()
    giver = threading.Thread(target=handover.give, args=(1,))
    giver.start()
    time.sleep(0.05)
    handover.end(RuntimeError("interrupted"))
    giver.join(10)
    assert not giver.is_alive()
    with pytest.raises(RuntimeError, match="interrupted"):
        list(handover)


def test_the_first_end_counts() -> None:
    handover: Handover[int] = Handover()
    handover.end()
    handover.end(ValueError("too late"))
    assert list(handover) == []


def test_the_takers_waiting_is_measured(pool: ThreadPoolExecutor) -> None:
    handover: Handover[int] = Handover()
    taken = pool.submit(list, handover)
    time.sleep(0.1)
    handover.give(1)
    handover.end()
    taken.result(10)
    assert handover.waited >= 0.09
