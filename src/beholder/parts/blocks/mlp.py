"""The feed-forward half of a transformer layer."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from beholder.config import Config
from beholder.parts.blocks.activations import activation


@dataclass(frozen=True)
class FeedForward(Config):
    """hidden: inner width. gated: down(act(gate(x)) * up(x)) (GLU variants, 2002.05202), else down(act(up(x)))."""

    hidden: int
    act: str = "gelu"
    gated: bool = False
    bias: bool = True

    def tiny(self) -> FeedForward:
        return self.but(hidden=48)

    def build(self, dim: int) -> FeedForwardLayer:
        return FeedForwardLayer(self, dim)


class FeedForwardLayer(nn.Module):
    """(..., dim) -> (..., dim)."""

    def __init__(self, config: FeedForward, dim: int) -> None:
        super().__init__()
        self.gate = nn.Linear(dim, config.hidden, bias=config.bias) if config.gated else None
        self.up = nn.Linear(dim, config.hidden, bias=config.bias)
        self.down = nn.Linear(config.hidden, dim, bias=config.bias)
        self.act = activation(config.act)

    def forward(self, x: Tensor) -> Tensor:
        if self.gate is not None:
            return self.down(self.act(self.gate(x)) * self.up(x))
        return self.down(self.act(self.up(x)))
