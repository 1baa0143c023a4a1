"""Low-rank adapters (LoRA, 2106.09685) put on the linear layers of a built model, and merged into them again.

I inputs, O outputs, R rank.
"""

from __future__ import annotations

from fnmatch import fnmatchcase

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from beholder.errors import BeholderError

SUFFIXES = ("lora_a", "lora_b")


class AdaptedLinear(nn.Linear):
    """A linear layer that owns its old weight and a low-rank change of it: x (W + alpha / R * B A)' + bias."""

    lora_a: nn.Parameter
    lora_b: nn.Parameter

    def __init__(self, base: nn.Linear, rank: int, alpha: float) -> None:
        nn.Module.__init__(self)
        self.in_features, self.out_features = base.in_features, base.out_features
        self.weight, self.bias = base.weight, base.bias
        self.scaling = alpha / rank
        device = base.weight.device
        self.lora_a = nn.Parameter(torch.empty(rank, base.in_features, device=device, dtype=torch.float32))
        self.lora_b = nn.Parameter(torch.zeros(base.out_features, rank, device=device, dtype=torch.float32))
        nn.init.kaiming_uniform_(self.lora_a, a=5**0.5)

    def forward(self, x: Tensor) -> Tensor:
        low = F.linear(x, self.lora_a.to(x.dtype))
        return F.linear(x, self.weight, self.bias) + F.linear(low, (self.lora_b * self.scaling).to(x.dtype))

    def change(self) -> Tensor:
        """What the adapter adds to the weight, (O, I) in float32."""
        return self.scaling * (self.lora_b.float() @ self.lora_a.float())


def apply_adapters(model: nn.Module, pattern: str, rank: int, alpha: float | None = None) -> list[str]:
    """Put adapters on the linear layers whose weight's name matches `pattern` (as in `fnmatch`), in place; returns the
    layers' names. A new adapter changes nothing. alpha: 2 * rank where None. Layers that have one already keep it.

    Raises `BeholderError` when no linear layer matches.
    """
    if rank < 1:
        raise BeholderError(f"adapters of rank {rank}; it must be at least 1")
    names = [
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and fnmatchcase(f"{name}.weight", pattern)
    ]
    if not names:
        raise BeholderError(f"adapters: no linear layer's weight matches {pattern!r}")
    for name in names:
        base = model.get_submodule(name)
        if not isinstance(base, AdaptedLinear):
            assert isinstance(base, nn.Linear)
            _replace(model, name, AdaptedLinear(base, rank, 2.0 * rank if alpha is None else alpha))
    return names


@torch.no_grad()
def merge_adapters(model: nn.Module) -> int:
    """Add every adapter's change to its layer's weight and take the adapter off, in place; returns how many."""
    adapted = adapters(model)
    for name, layer in adapted.items():
        bias = layer.bias is not None
        plain = nn.Linear(layer.in_features, layer.out_features, bias=bias, device="meta")
        changed_OI = layer.weight.float() + layer.change()
        plain.weight = nn.Parameter(
            changed_OI.to(layer.weight.dtype), requires_grad=layer.weight.requires_grad
        )
        plain.bias = layer.bias
        _replace(model, name, plain.train(layer.training))
    return len(adapted)


def adapters(model: nn.Module) -> dict[str, AdaptedLinear]:
    """The adapted layers by name."""
    return {name: module for name, module in model.named_modules() if isinstance(module, AdaptedLinear)}


def adapter_tensors(model: nn.Module) -> dict[str, Tensor]:
    """`<layer>.lora_a` (R, I) and `<layer>.lora_b` (O, R), the latter with alpha / R multiplied in, so that the change
    of a weight is their product and no other number is needed.
    """
    tensors = {}
    for name, layer in adapters(model).items():
        tensors[f"{name}.lora_a"] = layer.lora_a.detach()
        tensors[f"{name}.lora_b"] = layer.lora_b.detach() * layer.scaling
    return tensors


def _replace(model: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, child = name.rpartition(".")
    setattr(model.get_submodule(parent), child, module)
