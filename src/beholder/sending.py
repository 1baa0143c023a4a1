"""From the processor's memory to where a model is, without waiting for it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor


def send(given: Tensor, device: torch.device) -> Tensor:
    """The tensor on `device`. What goes to a GPU goes by way of memory that it reads by itself, while the processor goes on."""
    if given.device == device or device.type != "cuda" or given.device.type != "cpu":
        return given.to(device)
    return given.pin_memory().to(device, non_blocking=True)


def sent(values: Sequence[Any], device: torch.device) -> Tensor:
    """Numbers as a tensor on `device`."""
    return send(torch.tensor(values), device)


def send_all(value: Any, device: torch.device) -> Any:
    """A batch, or anything else that holds tensors in dataclasses, mappings and sequences, with all of them on `device`."""
    if isinstance(value, Tensor):
        return send(value, device)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        old = {field.name: getattr(value, field.name) for field in dataclasses.fields(value) if field.init}
        new = {name: send_all(held, device) for name, held in old.items()}
        return dataclasses.replace(value, **new) if any(new[name] is not old[name] for name in old) else value
    if isinstance(value, Mapping):
        return {name: send_all(held, device) for name, held in value.items()}
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(send_all(held, device) for held in value))
    if isinstance(value, (list, tuple)):
        return type(value)(send_all(held, device) for held in value)
    return value
