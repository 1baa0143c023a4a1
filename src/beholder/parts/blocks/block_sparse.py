"""Phi-3-small's layers (2404.14219, section 2): attention to near blocks of tokens and to every few blocks further back, and an
MLP that multiplies bounded halves. Numbers as in modeling_phi3_small.py of microsoft/Phi-3-small-8k-instruct.

B rows, H heads, T tokens, S keys.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from beholder.parts.blocks.activations import activation
from beholder.parts.blocks.attention import Attention, SelfAttention
from beholder.parts.blocks.step import Mlp, MlpConfig, Step


@dataclass(frozen=True)
class BlockSparse(Attention):
    """A token sees its own block of `block` tokens, the `near` - 1 before it, and of those before them one in `stride`, which
    ones depends on the head.
    """

    block: int = 64
    near: int = 16
    stride: int = 8

    def tiny(self) -> BlockSparse:
        small = super().tiny()
        assert isinstance(small, BlockSparse)
        return small.but(block=2, near=2, stride=3)

    def build(self, dim: int, index: int = 0) -> BlockSparseAttention:
        return BlockSparseAttention(self, dim, index)


class BlockSparseAttention(SelfAttention):
    """(B, T, D) -> (B, T, D)."""

    config: BlockSparse

    def _bias(self, step: Step) -> Tensor | None:
        """(B, H, T, S): minus infinity where a head does not look."""
        config, shared = self.config, super()._bias(step)
        assert step.positions is not None
        blocks_B1T1 = (step.positions // config.block)[:, None, :, None]
        blocks_B11S = (step.key_positions() // config.block)[:, None, None]
        heads_H = torch.arange(config.num_heads, device=blocks_B11S.device)
        shift_H11 = (heads_H * max(1, config.stride // config.num_heads))[:, None, None]
        far = (blocks_B11S + shift_H11 + 1) % config.stride == 0
        seen_BHTS = far | (blocks_B1T1 - blocks_B11S < config.near)
        bias_BHTS = torch.zeros(seen_BHTS.shape, device=seen_BHTS.device)
        bias_BHTS = bias_BHTS.masked_fill(~seen_BHTS, float("-inf"))
        return bias_BHTS if shared is None else bias_BHTS + shared


@dataclass(frozen=True)
class BoundedGlu(MlpConfig):
    """down(act(gate(x)) * (up(x) + 1)), gate(x) at most `limit` and up(x) at most `limit` away from 0."""

    hidden: int
    act: str = "quick_gelu"
    limit: float = 20.0

    def tiny(self) -> BoundedGlu:
        return self.but(hidden=48)

    def build(self, dim: int) -> BoundedGluLayer:
        return BoundedGluLayer(self, dim)


class BoundedGluLayer(Mlp):
    """(..., dim) -> (..., dim)."""

    def __init__(self, config: BoundedGlu, dim: int) -> None:
        super().__init__()
        self.limit, self.act = config.limit, activation(config.act)
        self.gate = nn.Linear(dim, config.hidden)
        self.up = nn.Linear(dim, config.hidden)
        self.down = nn.Linear(config.hidden, dim)

    def forward(self, x: Tensor, step: Step | None = None) -> Tensor:
        gate, up = self.gate(x).clamp(max=self.limit), self.up(x).clamp(-self.limit, self.limit)
        return self.down(self.act(gate) * (up + 1))
