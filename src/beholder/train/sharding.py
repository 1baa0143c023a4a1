"""One model's weights, gradients and optimizer state dealt out over processes (FSDP2: torch's `fully_shard`), and checkpoints
that each process writes its share of (DCP: torch's distributed checkpoints).

Layers of the main language part are gathered one at a time; all else, towers and connectors, is gathered once a step. So every
process takes part in the same exchanges whatever its batch holds: pictures of one size, of several, or none.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, distributed, nn

from beholder.errors import BeholderError, WeightsError
from beholder.model import Model
from beholder.train.collate import TrainBatch
from beholder.train.objectives import Objective
from beholder.train.recompute import layers_of
from beholder.train.stages import Plan

SHARES = "shares"  # folder of a distributed checkpoint inside one of ours


class Step(nn.Module):
    """An objective as a module's forward, around which weights are gathered."""

    def __init__(self, model: Model, objective: Objective) -> None:
        super().__init__()
        self.model, self.objective = model, objective

    def forward(self, item: TrainBatch) -> Tensor:
        return self.objective(self.model, item)


class Sharded:
    """A model whose weights are dealt out, in place, over all processes."""

    def __init__(self, model: Model, objective: Objective) -> None:
        """Raises `BeholderError` for a version of torch that cannot."""
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import FSDPModule, fully_shard

        if not hasattr(FSDPModule, "set_reduce_scatter_unused_params"):
            raise BeholderError(f"sharding needs torch 2.13 or later, this is {torch.__version__}")
        self.size = distributed.get_world_size()
        self.skeleton = _skeleton(model)
        self.step = Step(model, objective)
        mesh = init_device_mesh(model.device.type, (self.size,))
        main = "main" in model.languages
        for layer in layers_of(model.languages["main"]) if main else []:
            fully_shard(layer, mesh=mesh)
            layer.register_forward_pre_hook(_reached_backwards, prepend=True, with_kwargs=True)
        fully_shard(self.step, mesh=mesh, reshard_after_forward=False)
        assert isinstance(self.step, FSDPModule)
        self.step.set_reduce_scatter_unused_params(True)

    def loss(self, item: TrainBatch) -> Tensor:
        """The objective's loss, times the number of processes, as gradients come back as the mean over them."""
        loss: Tensor = self.step(item)
        return loss * self.size

    def plan(self, plan: Plan) -> Plan:
        """The plan with the parameters as they are dealt out."""
        groups = (
            replace(
                group, parameters={name: self.step.model.get_parameter(name) for name in group.parameters}
            )
            for group in plan.groups
        )
        return replace(plan, groups=tuple(groups))

    def whole(self) -> Model:
        """The model as it was, with all of its weights in every process."""
        values = {name: whole(value) for name, value in self.step.model.state_dict().items()}
        self.skeleton.load_state_dict(values, assign=True)
        for name, parameter in self.step.model.named_parameters():
            self.skeleton.get_parameter(name).requires_grad_(parameter.requires_grad)
        return self.skeleton


def _reached_backwards(
    _layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Lets gradients flow into a layer's inputs even where nothing before it trains, as under words alone: exchanges of
    gradients begin there, and must begin in the same order in all processes.
    """

    x = args[0]
    if torch.is_grad_enabled() and not x.requires_grad:
        args = (x.detach().requires_grad_(), *args[1:])
    return args, kwargs


def whole(value: Tensor) -> Tensor:
    """A dealt-out tensor's whole value, which all processes must ask for together; any other as it is."""
    if hasattr(value, "full_tensor"):
        full: Tensor = value.full_tensor()
        return full
    return value


def _skeleton(model: Model) -> Model:
    """A copy of the model's modules, without memory for its tensors."""
    empty = {
        id(tensor): nn.Parameter(torch.empty_like(tensor, device="meta"), tensor.requires_grad)
        if isinstance(tensor, nn.Parameter)
        else torch.empty_like(tensor, device="meta")
        for tensor in (*model.parameters(), *model.buffers())
    }
    return copy.deepcopy(model, empty)


def like(value: Tensor, target: Tensor) -> Tensor:
    """A whole value dealt out as `target` is; as it is where that is whole."""
    from torch.distributed.tensor import DTensor, distribute_tensor

    if not isinstance(target, DTensor):
        return value.to(target.device)
    if isinstance(value, DTensor):
        return value
    return distribute_tensor(value.to(target.device), target.device_mesh, target.placements)


def write_shares(folder: Path, tensors: Mapping[str, Tensor]) -> None:
    """Each process writes its share of dealt-out tensors; all processes call this together."""
    from torch.distributed.checkpoint.state_dict_saver import save

    save(dict(tensors), checkpoint_id=str(folder / SHARES))


def read_shares(folder: Path, tensors: Mapping[str, Tensor]) -> None:
    """Read what `write_shares` wrote into tensors, dealt out over any number of processes or whole, in place."""
    from torch.distributed.checkpoint.api import CheckpointException
    from torch.distributed.checkpoint.state_dict_loader import load

    together = distributed.is_available() and distributed.is_initialized()
    try:
        with warnings.catch_warnings(
            action="ignore", category=UserWarning
        ):  # one process may read what several wrote
            load(dict(tensors), checkpoint_id=str(folder / SHARES), no_dist=not together)
    except (CheckpointException, RuntimeError, OSError, KeyError) as error:
        raise WeightsError(f"{folder / SHARES}: {str(error).splitlines()[0]}") from None
