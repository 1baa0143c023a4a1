"""From the processor's memory to where a model is, without waiting for it."""

from __future__ import annotations

from collections.abc import Sequence
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
