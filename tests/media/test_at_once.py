"""Several pictures at once: order, errors, how many at a time."""

from __future__ import annotations

import os
import threading
import time

import pytest

from beholder.media.at_once import PICTURES_AT_ONCE, every, start


def test_order_and_how_many_at_a_time():
    lock, running, most = threading.Lock(), 0, 0

    def work(number: int, word: str) -> str:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        time.sleep(0.002 * (number % 3))
        with lock:
            running -= 1
        return f"{number}{word}"

    results: list[list[str]] = []
    callers = [
        threading.Thread(target=lambda: results.append(every(work, range(20), "abcdefghijklmnopqrst")))
        for _ in range(3)
    ]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    want = [f"{number}{word}" for number, word in enumerate("abcdefghijklmnopqrst")]
    assert results == [want] * 3 and 1 <= most <= PICTURES_AT_ONCE
    assert every(work, [], []) == [] and every(work, [4], "x") == ["4x"]


def test_the_first_error_when_all_others_are_done():
    done: list[int] = []

    def work(number: int) -> None:
        if number in (3, 5):
            raise ValueError(f"image {number}")
        time.sleep(0.002)
        done.append(number)

    with pytest.raises(ValueError, match="image 3"):
        every(work, range(12))
    assert sorted(done) == [number for number in range(12) if number not in (3, 5)]


def test_a_caller_need_not_wait():
    gate = threading.Event()
    futures = start(lambda number: gate.wait(5) and number, [1, 2])
    assert not any(future.done() for future in futures)
    gate.set()
    assert [future.result() for future in futures] == [1, 2]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_forked_child_has_threads_of_its_own():
    assert every(abs, [-1, -2]) == [1, 2]
    child = os.fork()
    if child == 0:
        os._exit(0 if every(abs, [-3, -4]) == [3, 4] else 1)
    assert os.waitpid(child, 0)[1] == 0
