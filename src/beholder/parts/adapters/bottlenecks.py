"""Bottleneck adapters (1902.00751): behind a matrix, y + up(act(down(y))), where `up` is 0 at first.

O outputs, R width of the bottleneck.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn
from torch.nn import functional as F

from beholder.errors import BeholderError
from beholder.parts.adapters.base import AdaptedLinear, LinearAdapter
from beholder.parts.blocks.activations import activation


@dataclass(frozen=True)
class BottleneckAdapter(LinearAdapter):
    """The paper's stand behind the last matrix of attention and of the MLP: `*.attn.out.weight` and `*.mlp.down.weight`."""

    rank: int = 64
    act: str = "gelu"

    kind: ClassVar[str] = "bottleneck"
    leaves: ClassVar[tuple[str, ...]] = (
        "bottleneck_down",
        "bottleneck_down_bias",
        "bottleneck_up",
        "bottleneck_up_bias",
    )

    def __post_init__(self) -> None:
        if self.rank < 1:
            raise BeholderError(f"bottlenecks of {self.rank} channels; there must be at least 1")

    def build(self, base: nn.Module, name: str) -> BottleneckLinear:
        return BottleneckLinear(base, self)


class BottleneckLinear(AdaptedLinear):
    """(..., I) -> (..., O)."""

    leaves = BottleneckAdapter.leaves
    kind = BottleneckAdapter.kind

    def __init__(self, base: nn.Module, config: BottleneckAdapter) -> None:
        super().__init__(base)
        self.act = activation(config.act)
        self.bottleneck_down = self.new(config.rank, self.out_features)
        self.bottleneck_down_bias = self.new(config.rank)
        self.bottleneck_up = self.new(self.out_features, config.rank)
        self.bottleneck_up_bias = self.new(self.out_features)
        nn.init.kaiming_uniform_(self.bottleneck_down, a=5**0.5)

    def adapt(self, x: Tensor, y: Tensor) -> Tensor:
        low = F.linear(y, self.bottleneck_down.to(y.dtype), self.bottleneck_down_bias.to(y.dtype))
        return y + F.linear(
            self.act(low), self.bottleneck_up.to(y.dtype), self.bottleneck_up_bias.to(y.dtype)
        )
