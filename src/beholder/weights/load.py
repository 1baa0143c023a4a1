"""Strict loading of published tensors into a built module; nothing is changed unless everything fits."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from beholder.errors import WeightsError
from beholder.speed.linears import is_packed
from beholder.weights.layout import Binding, to_own
from beholder.weights.lazy import LazyTensors, Shape


@dataclass(frozen=True)
class Place:
    """Where a tensor of a module's state lives."""

    name: str
    owner: nn.Module
    attribute: str
    tensor: Tensor

    def fill(self, values: Tensor) -> None:
        if isinstance(values, nn.Parameter):
            self.owner._parameters[self.attribute] = values
        else:
            self.owner._buffers[self.attribute] = values


def load_state(
    module: nn.Module,
    published: LazyTensors,
    bindings: Sequence[Binding],
    *,
    dtype: torch.dtype | None = None,
    device: torch.device | str = "cpu",
) -> None:
    """Fill every parameter and persistent buffer of `module` from `published`.

    `module` may be on the meta device: its tensors are replaced, not copied into, so no memory is used twice.
    `dtype` converts floating-point values; None keeps what is published. Shared parameters stay shared.
    Raises `Mismatch` (names and shapes, before any value is read) or `WeightsError`, and then leaves `module`
    as it was.
    """
    places = _places(module)
    shapes = {group[0].name: tuple(group[0].tensor.shape) for group in places}
    aliases = {place.name: group[0].name for group in places for place in group[1:]}
    tensors = to_own(published, bindings, shapes, aliases=aliases)
    values = {name: tensor.load(dtype).to(device).contiguous() for name, tensor in tensors.items()}
    for group in places:
        new = values[group[0].name]
        if isinstance(group[0].tensor, nn.Parameter):
            new = nn.Parameter(new, requires_grad=group[0].tensor.requires_grad and new.is_floating_point())
        for place in group:
            place.fill(new)
    _check_buffers(module)


def state_shapes(module: nn.Module) -> dict[str, Shape]:
    """Name and shape of every parameter and persistent buffer; a shared one under its first name only."""
    return {group[0].name: tuple(group[0].tensor.shape) for group in _places(module)}


def state_tensors(module: nn.Module) -> dict[str, Tensor]:
    """Name and detached values of every parameter and persistent buffer, as `state_shapes` lists them. Raises `WeightsError`
    for a module that is packed.
    """
    if is_packed(module):
        raise WeightsError(
            "its weights are packed for inference; load it again without a precision and save that"
        )
    return {group[0].name: group[0].tensor.detach() for group in _places(module)}


def _places(module: nn.Module) -> list[list[Place]]:
    """The places of a module's state, those of one shared tensor together, in order of first appearance."""
    groups: dict[int, list[Place]] = defaultdict(list)
    for place in _all_places(module):
        groups[id(place.tensor)].append(place)
    return list(groups.values())


def _all_places(module: nn.Module) -> Iterator[Place]:
    for prefix, owner in module.named_modules(remove_duplicate=False):
        dot = f"{prefix}." if prefix else ""
        persistent = {k: v for k, v in owner._buffers.items() if k not in owner._non_persistent_buffers_set}
        for attribute, tensor in {**owner._parameters, **persistent}.items():
            if tensor is not None:
                yield Place(dot + attribute, owner, attribute, tensor)


def _check_buffers(module: nn.Module) -> None:
    """Buffers outside the state have no values in a module built on the meta device."""
    left = [name for name, buffer in module.named_buffers() if buffer.is_meta]
    assert not left, f"these buffers are computed at build time and have no values now: {', '.join(left[:3])}"
