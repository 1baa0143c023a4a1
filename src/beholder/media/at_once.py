"""Several pictures at once, in threads that the whole program shares: Pillow's decoders and compiled resampling let each other
run. However many requests there are, no more than `PICTURES_AT_ONCE` are decoded or resized at a time, which bounds memory.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from functools import cache
from typing import Any, TypeVar

T = TypeVar("T")

PICTURES_AT_ONCE = min(os.cpu_count() or 1, 8)


@cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(PICTURES_AT_ONCE, thread_name_prefix="pictures")


if hasattr(os, "register_at_fork"):  # a child has none of its parent's threads
    os.register_at_fork(after_in_child=_pool.cache_clear)


def start(work: Callable[..., T], *columns: Iterable[Any]) -> list[Future[T]]:
    """`work` on the first of all columns, on the second, and so on, begun in that order, for a caller that does not wait. It
    must not itself call `every`.
    """
    return [_pool().submit(work, *items) for items in zip(*columns, strict=True)]


def every(work: Callable[..., T], *columns: Iterable[Any]) -> list[T]:
    """All results in order. Where some raise, the error of the first of them, when all others are done."""
    items = list(zip(*columns, strict=True))
    if len(items) == 1:
        return [work(*items[0])]  # a thread would only cost time
    futures = start(lambda item: work(*item), items)
    wait(futures)
    return [future.result() for future in futures]
