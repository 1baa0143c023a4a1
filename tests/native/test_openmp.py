"""Threads of products: given back, and none for a thread that computes by itself."""

from __future__ import annotations

import threading

import torch

from beholder.native import openmp


def in_a_thread(work) -> list[int]:
    seen: list[int] = []

    def run() -> None:
        work()
        torch.randn(300, 300) @ torch.randn(300, 300)
        seen.append(torch.get_num_threads())

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    return seen


def test_a_thread_by_itself_leaves_others_theirs() -> None:
    before = torch.get_num_threads()
    alone = in_a_thread(openmp.alone)
    assert alone == [1 if openmp.parallel() is not None else before]
    assert torch.get_num_threads() == before and in_a_thread(lambda: None) == [before]


def test_products_go_on_after_threads_are_given_back() -> None:
    x = torch.randn(400, 400)
    wanted = x @ x
    for _ in range(3):
        assert openmp.give_back() == (openmp.parallel() is not None)
        assert torch.allclose(x @ x, wanted)
