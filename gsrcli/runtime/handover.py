"""Hand items from one thread to another without a heap of them in between."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Generic, TypeVar

__all__ = ["Handover"]

Item = TypeVar("Item")


class Handover(Generic[Item]):
    """A handover of items between two threads: the giver waits until each has been taken.

    The taker iterates over it, once. An exception on either side ends it for both.

    Attributes:
        waited: seconds that the taker has waited.
    """

    def __init__(self) -> None:
        self.waited = 0.0
        self._items: list[Item] = []  # at most one
        self._error: Exception | None = None
        self._over = False
        self._changed = threading.Condition()

    def ended(self) -> bool:
        """Return whether nothing more is given or taken."""
        return self._over

    def failed(self) -> bool:
        """Return whether it was ended by an exception."""
        return self._error is not None

    def give(self, item: Item) -> None:
        """Give an item and wait until it is taken. Once the handover is over, it is dropped."""
        with self._changed:
            if self._over:
                return
            self._items.append(item)
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._over or not self._items)

    def end(self, error: Exception | None = None) -> None:
        """End the handover: the taker gets no more items, or this exception. Only the first call counts."""
        with self._changed:
            if not self._over:
                self._over, self._error = True, error
            self._changed.notify_all()

    @contextmanager
    def passing_errors(self) -> Iterator[None]:
        """Pass an exception raised in this context to the taker instead of raising it here."""
        try:
            yield
        except Exception as error:
            self.end(error)

    def __iter__(self) -> Iterator[Item]:
        try:
            while True:
                began = time.perf_counter()
                with self._changed:
                    self._changed.wait_for(lambda: self._over or bool(self._items))
                    self.waited += time.perf_counter() - began
                    if self._error is not None:
                        raise self._error
                    if not self._items:
                        return
                    item = self._items.pop()
                    self._changed.notify_all()
                yield item
                del item  # hold none while waiting for the next
        finally:
            self.end()
