"""A step's loss and gradients, from one or several batches."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from beholder.model import Model
from beholder.sending import send_all
from beholder.train.collate import TrainBatch

if TYPE_CHECKING:
    from beholder.train.objectives import Objective
    from beholder.train.sharding import Sharded

Gradients = Callable[[Sequence[TrainBatch], int], float]


@contextmanager
def gradients_of(
    model: Model,
    parameters: Sequence[nn.Parameter],
    objective: Objective,
    precision: torch.dtype,
    workers: int | None,
    sharded: Sharded | None = None,
) -> Iterator[Gradients]:
    """A function that takes batches and how many the whole step has, adds to each parameter's `grad` what they contribute to
    the gradient of the step's mean loss, and gives what they contribute to that loss.

    On a processor each batch goes to whichever thread is free, each on one core: as quick as one large batch on all cores,
    in less memory. Gradients are added in the batches' order, so the number of threads changes no result. Models that
    draw random numbers while they train (dropout), and processes that train together, take one batch at a time, as do steps of
    one batch.
    """
    place = model.device
    device = place.type

    def work(item: TrainBatch, count: int) -> tuple[float, tuple[Tensor | None, ...]]:
        there = send_all(item, place)
        with torch.autocast(device, precision, enabled=precision != torch.float32):
            loss = objective(model, there) / count
        return loss.item(), torch.autograd.grad(loss, parameters, allow_unused=True)

    def add(parts: Iterator[tuple[float, tuple[Tensor | None, ...]]]) -> float:
        total = 0.0
        for loss, gradients in parts:
            total += loss
            for parameter, gradient in zip(parameters, gradients, strict=True):
                if gradient is not None:
                    parameter.grad = gradient if parameter.grad is None else parameter.grad.add_(gradient)
        return total

    def dealt_out(items: Sequence[TrainBatch], count: int) -> float:
        assert sharded is not None
        total = 0.0
        for item in items:
            with torch.autocast(device, precision, enabled=precision != torch.float32):
                loss = sharded.loss(send_all(item, place)) / count
            loss.backward()
            total += loss.item() / sharded.size
        return total

    if sharded is not None:
        yield dealt_out
        return
    if device != "cpu" or draws(model) or workers == 1:
        yield lambda items, count: add(work(item, count) for item in items)
        return
    with one_core_each(workers) as pool:
        yield lambda items, count: add(pool.map(work, items, [count] * len(items)))


def draws(model: nn.Module) -> bool:
    """Whether the model draws random numbers while it trains: by dropout, or in a part that says so with `draws`."""
    return any(
        (isinstance(module, nn.Dropout) and module.p > 0) or getattr(module, "draws", False)
        for module in model.modules()
    )


@contextmanager
def one_core_each(workers: int | None) -> Iterator[ThreadPoolExecutor]:
    """Threads of which each computes on one core. So does the calling thread meanwhile: a product it shared among cores
    that are all busy would wait for them at every barrier.
    """
    count, threads = workers or max(1, len(os.sched_getaffinity(0))), torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with ThreadPoolExecutor(count, "train", initializer=torch.set_num_threads, initargs=(1,)) as pool:
            yield pool
    finally:
        torch.set_num_threads(threads)
