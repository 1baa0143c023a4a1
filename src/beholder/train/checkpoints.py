"""Checkpoints of a run, and the file of what was trained.

A stage's folder holds `checkpoint-STEP` folders: the newest ones, and `best`, which had the lowest held-out loss.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from beholder.cards.schema import Stage
from beholder.errors import WeightsError
from beholder.files import atomic_folder
from beholder.parts.adapters.apply import IN_MAPS, adapter_tensors
from beholder.train.processes import ALONE, World
from beholder.train.sharding import SHARES, like, read_shares, write_shares
from beholder.train.stages import Plan, trains
from beholder.weights.files import open_weights, write_safetensors

CHECKPOINT = "checkpoint"
BEST = "best"
STATE = "state.json"
MOMENTS = ("exp_avg", "exp_avg_sq")  # what AdamW keeps of each value
KEPT = 2  # newest checkpoints that stay
SAME = ("batch", "accumulate", "seed")  # of a stage, without which the samples would be others


@runtime_checkable
class Stateful(Protocol):
    """What a run carries along beside parameters: an average, a queue of an objective."""

    def state_dict(self) -> Mapping[str, Tensor]: ...

    def load_state_dict(self, state: Mapping[str, Tensor]) -> object: ...


@dataclass(frozen=True)
class Progress:
    """Steps taken, training seconds spent, samples seen, steps left out as their gradients were no numbers, seconds spent
    waiting for data, and the lowest held-out loss so far.
    """

    step: int = 0
    seconds: float = 0.0
    samples: int = 0
    skipped: int = 0
    waited: float = 0.0
    best: float | None = None

    def after(self, seconds: float, samples: int, *, waited: float = 0.0, skipped: bool = False) -> Progress:
        """One step later."""
        return replace(
            self,
            step=self.step + 1,
            seconds=self.seconds + seconds,
            samples=self.samples + samples,
            skipped=self.skipped + skipped,
            waited=self.waited + waited,
        )


@dataclass(frozen=True)
class Carried:
    """All that a checkpoint holds but its progress. others: name -> what else has a state. samples: of the data set."""

    plan: Plan
    optimizer: torch.optim.Optimizer
    samples: int
    others: Mapping[str, Stateful]


def checkpoints(folder: Path) -> list[Path]:
    """The whole checkpoints of a stage's folder, the newest first."""
    found = [path for path in folder.glob(f"{CHECKPOINT}*") if (path / STATE).exists()]
    return sorted(found, key=lambda path: _state(path)["step"], reverse=True)


def save_checkpoint(
    folder: Path, carried: Carried, progress: Progress, world: World = ALONE, *, best: bool = False
) -> None:
    """Add a checkpoint and remove those before the last two; a reader sees each whole or not at all. best: also keep it as
    `best`. Dealt-out weights are written by all processes together, which all call this; else the first one writes. Raises
    `DiskError` where it cannot be written; those there are stay as they are.
    """
    path = folder / f"{CHECKPOINT}-{progress.step:08d}"
    files = _files(carried)
    shares = folder / f".{path.name}.shares"
    if world.shards:
        write_shares(shares, _flat(files))
    if not world.leads:
        return
    with atomic_folder(path, may_replace=lambda path: (path / STATE).exists()) as target:
        if world.shards:
            (shares / SHARES).replace(target / SHARES)
            shares.rmdir()
        for name, tensors in {} if world.shards else files.items():
            write_safetensors(target / f"{name}.safetensors", tensors)
        same = {field: getattr(carried.plan.stage, field) for field in SAME}
        state = {
            "stage": carried.plan.stage.name,
            "same": {**same, "samples": carried.samples},
            **asdict(progress),
        }
        (target / STATE).write_text(json.dumps(state) + "\n", encoding="utf-8")
    if best:
        with atomic_folder(folder / BEST, may_replace=lambda path: (path / STATE).exists()) as target:
            shutil.copytree(path, target, dirs_exist_ok=True)
    for old in checkpoints(folder)[KEPT:]:
        shutil.rmtree(old)


def _files(carried: Carried) -> dict[str, dict[str, Tensor]]:
    """What a checkpoint holds, by file: `trained` parameters, moments of the `optimizer`, and what else has a state."""
    moments = {
        f"{name}:{key}": torch.as_tensor(value).contiguous()
        for name, parameter in carried.plan.trained.items()
        for key, value in carried.optimizer.state.get(parameter, {}).items()
    }
    files = {
        "trained": {name: value.detach() for name, value in carried.plan.trained.items()},
        "optimizer": moments,
    }
    for name, other in carried.others.items():
        files[name] = {key: value.contiguous() for key, value in other.state_dict().items()}
    return files


def _flat(files: Mapping[str, Mapping[str, Tensor]]) -> dict[str, Tensor]:
    return {f"{file}/{name}": value for file, tensors in files.items() for name, value in tensors.items()}


def load_checkpoint(folder: Path, carried: Carried) -> Progress | None:
    """Put a run's newest checkpoint into the model's parameters, the optimizer and what else is carried; None where there is
    none. One that is damaged is passed over for the one before.

    Raises `WeightsError` for a checkpoint of another stage, model or data set, and where all are damaged.
    """
    found = checkpoints(folder)
    damaged: list[str] = []
    for source in found:
        _check_same(source, carried)
        try:
            if (source / SHARES).exists():
                files = _read_shares(source, carried)
            else:
                files = {path.stem: _read(path) for path in sorted(source.glob("*.safetensors"))}
        except WeightsError as error:
            damaged.append(str(error))
            continue
        _put(source, carried, files)
        state = _state(source)
        return Progress(**{name: state[name] for name in Progress.__dataclass_fields__ if name in state})
    if damaged:
        raise WeightsError(f"no checkpoint of {folder} opens: {'; '.join(damaged)}; choose another folder")
    return None


def _check_same(source: Path, carried: Carried) -> None:
    stage, state = carried.plan.stage, _state(source)
    if state["stage"] != stage.name:
        raise WeightsError(f"{source} is not of stage {stage.name}; choose another folder")
    now = {**{field: getattr(stage, field) for field in SAME}, "samples": carried.samples}
    for field, value in state.get("same", {}).items():
        if now[field] != value:
            raise WeightsError(
                f"{source} was made with {field}={value}, this run has {field}={now[field]}, so it would go on with other "
                "samples; set it back or choose another folder"
            )


def _put(source: Path, carried: Carried, files: Mapping[str, Mapping[str, Tensor]]) -> None:
    saved, trained = files["trained"], carried.plan.trained
    if saved.keys() != trained.keys():
        differ = sorted(saved.keys() ^ trained.keys())
        raise WeightsError(f"{source} does not fit: {len(differ)} names differ, first {differ[0]}")
    with torch.no_grad():
        for name, parameter in trained.items():
            parameter.copy_(like(saved[name], parameter))
    for key, value in files["optimizer"].items():
        name, _, moment = key.rpartition(":")
        parameter = trained[name]
        carried.optimizer.state[parameter][moment] = like(value, parameter) if value.dim() else value
    for name, other in carried.others.items():
        if name not in files:
            raise WeightsError(f"{source} has no {name}; it is of a run without one: choose another folder")
        now = other.state_dict()
        other.load_state_dict(
            {key: like(value, now[key]) if key in now else value for key, value in files[name].items()}
        )


def _read_shares(source: Path, carried: Carried) -> dict[str, dict[str, Tensor]]:
    """What all processes wrote together, dealt out as this run deals it."""
    files = {
        name: {key: torch.empty_like(value) for key, value in tensors.items()}
        for name, tensors in _files(carried).items()
    }
    for name, parameter in carried.plan.trained.items():
        for moment in MOMENTS:
            files["optimizer"][f"{name}:{moment}"] = torch.zeros_like(parameter.detach())
        files["optimizer"][f"{name}:step"] = torch.tensor(0.0)
    read_shares(source, _flat(files))
    return files


def _read(path: Path) -> dict[str, Tensor]:
    return {name: value.load().clone() for name, value in open_weights(path).items()}


def _state(path: Path) -> dict[str, Any]:
    state: dict[str, Any] = json.loads((path / STATE).read_text(encoding="utf-8"))
    return state


def trained_tensors(
    model: nn.Module, stages: tuple[Stage, ...], dtype: torch.dtype = torch.bfloat16
) -> dict[str, Tensor]:
    """What the stages change in a model: parameters by name, and adapters as in `adapter_tensors`."""
    tensors = {
        name: parameter.detach()
        for name, parameter in model.named_parameters()
        if name.rpartition(".")[2] not in IN_MAPS and any(trains(name, stage) for stage in stages)
    }
    return {name: tensor.to(dtype) for name, tensor in (tensors | adapter_tensors(model)).items()}
