"""Batches made ahead of their use, in a thread."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

from beholder.data.samples import Dataset, items_at
from beholder.train.collate import TrainBatch

Collate = Callable[[Sequence[Any]], TrainBatch]


class Order(Protocol):
    """Which samples each batch of a run has, as a pure function of the batch's number."""

    def batches(self, first: int) -> Iterator[Sequence[int]]:
        """Numbers of the samples of batch `first`, of the next one, and so on without end."""
        ...


class Feed:
    """Batches in order; `waited` counts the seconds that were spent waiting for them."""

    def __init__(self, ready: queue.Queue[TrainBatch | BaseException]) -> None:
        self.ready, self.waited = ready, 0.0

    def take(self, count: int) -> list[TrainBatch]:
        """The next `count` batches. An error of the thread that makes them is raised where its batch is taken."""
        began = time.monotonic()
        items = [self.ready.get() for _ in range(count)]
        self.waited += time.monotonic() - began
        for item in items:
            if isinstance(item, BaseException):
                raise item
        return items  # type: ignore[return-value]


@contextmanager
def closing_feed(
    dataset: Dataset,
    collate: Collate,
    order: Order,
    first: int,
    ahead: int,
    *,
    every: int = 1,
    offset: int = 0,
) -> Iterator[Feed]:
    """Batches from number `first` on, of every `every` the one at `offset`, made in a thread up to `ahead` before they are
    asked for.
    """
    ready: queue.Queue[TrainBatch | BaseException] = queue.Queue(maxsize=ahead)
    closed = threading.Event()

    def put(item: TrainBatch | BaseException) -> None:
        while not closed.is_set():
            try:
                ready.put(item, timeout=0.2)
            except queue.Full:
                continue
            return

    def work() -> None:
        try:
            for number, indices in enumerate(order.batches(first)):
                if closed.is_set():
                    return
                if number % every == offset:
                    put(collate(items_at(dataset, indices)))
        except BaseException as error:  # noqa: BLE001  (handed to the training thread)
            while not closed.is_set():
                put(error)

    thread = threading.Thread(target=work, daemon=True, name="batches")
    thread.start()
    try:
        yield Feed(ready)
    finally:
        closed.set()
        thread.join()
