"""RecurrentGemma's recurrent block: a real-gated linear recurrent unit behind a causal convolution (Griffin, 2402.19427).

B rows, T positions, D width, C channels, H blocks of gates, K = C / H.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from beholder.errors import BeholderError
from beholder.parts.blocks.activations import activation
from beholder.parts.blocks.recurrence import (
    CausalConv,
    RecurrentConfig,
    RecurrentMixer,
    real_tokens,
    scan,
    wide,
)
from beholder.parts.blocks.step import NO_PARTS, Step

SHARPNESS = 8.0  # the constant c of section 2.4
SMALLEST = 1e-12  # of 1 - a^2, whose square root has an unbounded slope at 0


@dataclass(frozen=True)
class RgLru(RecurrentConfig):
    """inner: channels. num_blocks: of the gates' block-diagonal maps. conv: width of the causal convolution."""

    inner: int
    num_blocks: int
    conv: int = 4
    act: str = "gelu_tanh"

    def __post_init__(self) -> None:
        if self.inner % self.num_blocks:
            raise BeholderError(f"{self.inner} channels do not divide into {self.num_blocks} blocks of gates")

    def tiny(self) -> RgLru:
        return super().tiny().but(inner=32, num_blocks=4)

    def build(self, dim: int, index: int = 0) -> RgLruMixer:
        return RgLruMixer(self, dim, index)


class BlockDiagonal(nn.Module):
    """A linear map for each block of channels, (B, T, C) -> (B, T, C)."""

    def __init__(self, num_blocks: int, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(num_blocks, width, width).normal_(std=0.1 * width**-0.5))
        self.bias = nn.Parameter(torch.zeros(num_blocks, width))

    def forward(self, x_BTC: Tensor) -> Tensor:
        x_BTHK = x_BTC.unflatten(-1, self.bias.shape)
        return (torch.einsum("bthk,hkm->bthm", x_BTHK, self.weight) + self.bias).flatten(2)


class RgLruMixer(RecurrentMixer):
    """h_t = a_t h_(t-1) + sqrt(1 - a_t^2) (i_t x_t) with a_t = exp(-8 r_t softplus(rate)); i, r are gates of x. The first
    token of a text comes in whole and forgets what was before.
    """

    def __init__(self, config: RgLru, dim: int, index: int) -> None:
        super().__init__(index)
        inner, width = config.inner, config.inner // config.num_blocks
        self.x = nn.Linear(dim, inner)
        self.y = nn.Linear(dim, inner)
        self.conv = CausalConv(inner, config.conv)
        self.input_gate = BlockDiagonal(config.num_blocks, width)
        self.recurrent_gate = BlockDiagonal(config.num_blocks, width)
        # a^8 starts between 0.9 and 0.999 (section 2.4)
        squares_C = torch.empty(inner).uniform_(0.9**2 + 1e-8, 0.999**2 + 1e-8)
        self.rate = nn.Parameter(torch.log(torch.expm1(-0.5 * torch.log(squares_C))))
        self.output = nn.Linear(inner, dim)
        self.act = activation(config.act)

    def forward(self, x_BTD: Tensor, step: Step, parts: Mapping[str, nn.Module] = NO_PARTS) -> Tensor:
        memory = self.memory(step, parts)
        gate_BTC = self.act(self.y(x_BTD))
        x_BTC = self.conv(self.x(x_BTD), memory, step.lengths)
        decay_BTC, added_BTC = self._recurrence(x_BTC, step)
        start_BC = memory.get("state", added_BTC.new_zeros(added_BTC.shape[0], added_BTC.shape[2]))
        states_BTC = scan(decay_BTC, added_BTC, start_BC)
        memory["state"] = states_BTC[:, -1].clone()
        return self.output(states_BTC.to(x_BTD.dtype) * gate_BTC)

    def _recurrence(self, x_BTC: Tensor, step: Step) -> tuple[Tensor, Tensor]:
        """What the state is multiplied by and what is added to it, (B, T, C) each."""
        assert step.positions is not None
        gated_BTC = wide(x_BTC * torch.sigmoid(self.input_gate(x_BTC)))
        log_BTC = -SHARPNESS * wide(torch.sigmoid(self.recurrent_gate(x_BTC))) * F.softplus(wide(self.rate))
        room_BTC = (1 - (2 * log_BTC).exp()).clamp(min=SMALLEST).sqrt()
        first_BT1 = (step.positions == 0)[..., None]
        decay_BTC = log_BTC.exp().masked_fill(first_BT1, 0.0)
        added_BTC = gated_BTC * room_BTC.masked_fill(first_BT1, 1.0)
        real_BT = real_tokens(x_BTC, step.lengths)
        if real_BT is None:
            return decay_BTC, added_BTC
        padding_BT1 = ~real_BT[..., None]
        return decay_BTC.masked_fill(padding_BT1, 1.0), added_BTC.masked_fill(padding_BT1, 0.0)
