"""Checkpoints of a run, and the file of what was trained."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from beholder.cards.schema import Stage
from beholder.errors import WeightsError
from beholder.files import atomic_folder
from beholder.parts.blocks.lora import SUFFIXES, adapter_tensors
from beholder.train.stages import Plan, trains
from beholder.weights.files import open_weights, write_safetensors

CHECKPOINT = "checkpoint"
STATE = "state.json"


@dataclass(frozen=True)
class Progress:
    """Steps taken, training seconds spent, samples seen."""

    step: int = 0
    seconds: float = 0.0
    samples: int = 0

    def after(self, seconds: float, samples: int) -> Progress:
        """One step later."""
        return replace(
            self, step=self.step + 1, seconds=self.seconds + seconds, samples=self.samples + samples
        )


def save_checkpoint(folder: Path, plan: Plan, optimizer: torch.optim.Optimizer, progress: Progress) -> None:
    """Replace the run's checkpoint; a reader sees the old one or the new one."""
    moments = {}
    for name, parameter in plan.trained.items():
        for key, value in optimizer.state.get(parameter, {}).items():
            moments[f"{name}:{key}"] = torch.as_tensor(value).contiguous()
    with atomic_folder(folder / CHECKPOINT, may_replace=lambda path: (path / STATE).exists()) as target:
        write_safetensors(target / "trained.safetensors", {n: p.detach() for n, p in plan.trained.items()})
        write_safetensors(target / "optimizer.safetensors", moments)
        state = {"stage": plan.stage.name, **asdict(progress)}
        (target / STATE).write_text(json.dumps(state) + "\n", encoding="utf-8")


def load_checkpoint(folder: Path, plan: Plan, optimizer: torch.optim.Optimizer) -> Progress | None:
    """Put a run's checkpoint into the model's parameters and the optimizer; None where there is none.

    Raises `WeightsError` for a checkpoint of another stage or model.
    """
    source = folder / CHECKPOINT
    if not (source / STATE).exists():
        return None
    state = json.loads((source / STATE).read_text(encoding="utf-8"))
    if state.pop("stage") != plan.stage.name:
        raise WeightsError(f"{source} is not of stage {plan.stage.name}; choose another folder")
    saved = open_weights(source / "trained.safetensors")
    trained = plan.trained
    if saved.keys() != trained.keys():
        differ = sorted(saved.keys() ^ trained.keys())
        raise WeightsError(f"{source} does not fit: {len(differ)} names differ, first {differ[0]}")
    with torch.no_grad():
        for name, parameter in trained.items():
            parameter.copy_(saved[name].load())
    for key, value in open_weights(source / "optimizer.safetensors").items():
        name, _, moment = key.rpartition(":")
        optimizer.state[trained[name]][moment] = value.load().clone()
    return Progress(**state)


def trained_tensors(
    model: nn.Module, stages: tuple[Stage, ...], dtype: torch.dtype = torch.bfloat16
) -> dict[str, Tensor]:
    """What the stages change in a model: parameters by name, and adapters as in `adapter_tensors`."""
    tensors = {
        name: parameter.detach()
        for name, parameter in model.named_parameters()
        if name.rpartition(".")[2] not in SUFFIXES and any(trains(name, stage) for stage in stages)
    }
    return {name: tensor.to(dtype) for name, tensor in (tensors | adapter_tensors(model)).items()}
