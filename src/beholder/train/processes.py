"""Several processes that train one model together: each takes its share of a step's batches."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import distributed, nn

from beholder.errors import BeholderError

BUCKET = 1 << 24  # values that are summed over processes at once


@dataclass(frozen=True)
class World:
    """Which process this is, `rank` of `size`. A world of one is alone and speaks to nobody. shards: weights are dealt out
    over the processes; else each has them all.
    """

    rank: int = 0
    size: int = 1
    shards: bool = False

    @property
    def leads(self) -> bool:
        """Whether this process writes files and reports."""
        return self.rank == 0

    def check_share(self, stage: str, accumulate: int) -> None:
        """Raises `BeholderError` where a step's batches cannot be dealt out evenly."""
        if accumulate % self.size:
            raise BeholderError(
                f"stage {stage}: {accumulate} batches a step cannot be dealt out to {self.size} processes; set "
                f"accumulate to a multiple of {self.size}"
            )

    @torch.no_grad()
    def sum_gradients(self, parameters: Sequence[nn.Parameter]) -> None:
        """Add up all processes' gradients, in place; one that has none adds nothing."""
        if self.size == 1 or self.shards:
            return
        start = 0
        while start < len(parameters):
            stop, values = start, 0
            while stop < len(parameters) and (stop == start or values + parameters[stop].numel() <= BUCKET):
                values += parameters[stop].numel()
                stop += 1
            bucket = parameters[start:stop]
            for parameter in bucket:
                if parameter.grad is None:
                    parameter.grad = torch.zeros_like(parameter)
            flat = torch.cat([p.grad.flatten().float() for p in bucket if p.grad is not None])
            distributed.all_reduce(flat)
            parts = flat.split([p.numel() for p in bucket])
            for parameter, part in zip(bucket, parts, strict=True):
                parameter.grad = part.view_as(parameter).to(parameter.dtype)
            start = stop

    def total(self, *values: float) -> tuple[float, ...]:
        """Each value summed over the processes."""
        if self.size == 1:
            return values
        summed = torch.tensor(values, dtype=torch.float64)
        distributed.all_reduce(summed)
        return tuple(summed.tolist())

    def wait(self) -> None:
        """Until all processes are here."""
        if self.size > 1:
            distributed.barrier()


ALONE = World()


def joined(*, shard: bool = False) -> World:
    """The world that `torchrun` started this process in, or a world of one; each process has its own GPU, where there are
    some. shard: deal weights out. Raises `BeholderError` where one process alone is to deal out.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        if shard:
            raise BeholderError(
                "shard=true deals weights out over processes, but there is one; start it with torchrun --nproc-per-node N"
            )
        return ALONE
    if not distributed.is_initialized():
        gpus = torch.cuda.is_available()
        if gpus:
            torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
        distributed.init_process_group("cpu:gloo,cuda:nccl" if gpus else "gloo")
    return World(distributed.get_rank(), distributed.get_world_size(), shard)
