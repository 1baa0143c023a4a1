"""What losses over pairs need of other processes: their vectors, with gradients, all at once or one neighbour's at a time.

B rows of a process, W processes.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, distributed

from beholder.errors import BeholderError

_MEETING = threading.Lock()


def world() -> tuple[int, int]:
    """The number of this process and how many there are; (0, 1) without a process group."""
    if not (distributed.is_available() and distributed.is_initialized()):
        return 0, 1
    return distributed.get_rank(), distributed.get_world_size()


@contextmanager
def meeting() -> Iterator[None]:
    """While processes exchange something. Raises `BeholderError` where another thread of this one does so too: processes would
    meet in different orders.
    """
    if not _MEETING.acquire(blocking=False):
        raise BeholderError("two batches of one process meet other processes at once; train with workers=1")
    try:
        yield
    finally:
        _MEETING.release()


class _Gathered(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        rank, size = world()
        rows = [torch.empty_like(x) for _ in range(size)]
        with meeting():
            distributed.all_gather(rows, x.contiguous())
        ctx.own = slice(rank * len(x), (rank + 1) * len(x))
        return torch.cat(rows)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        summed = gradients[0].contiguous()
        with meeting():
            distributed.all_reduce(summed)
        return summed[ctx.own]


def gathered(x: Tensor, *, gradients: bool = True) -> Tensor:
    """All processes' rows (W B, ...) in their order; each must have as many. gradients: what the other processes' losses say
    of these rows comes back to them (OpenCLIP's `gather_with_grad`); else they are constants.
    """
    if world()[1] == 1:
        return x
    if gradients and x.requires_grad:
        given: Tensor = _Gathered.apply(x)
        return given
    return _Gathered.forward(_Nothing(), x.detach())


class _Nothing:
    """In place of what a function keeps for its backward."""

    own: slice


def _exchange(x: Tensor, step: int) -> Tensor:
    """What the process `step` before this one has of `x`, while this one's goes `step` on."""
    rank, size = world()
    x, received = x.contiguous(), torch.empty_like(x)
    operations = [
        distributed.P2POp(distributed.isend, x, (rank + step) % size),
        distributed.P2POp(distributed.irecv, received, (rank - step) % size),
    ]
    with meeting():
        for request in distributed.batch_isend_irecv(operations):
            request.wait()
    return received


class _Passed(torch.autograd.Function):
    @staticmethod
    def forward(_ctx: Any, x: Tensor) -> Tensor:
        return _exchange(x, 1)

    @staticmethod
    def backward(_ctx: Any, *gradients: Tensor) -> Tensor:
        return _exchange(gradients[0], -1)


def passed_on(x: Tensor) -> Tensor:
    """The rows of the process before this one, whose gradients go back to it, while this one's go to the next (SigLIP,
    2303.15343, figure 1).
    """
    given: Tensor = _Passed.apply(x)
    return given
