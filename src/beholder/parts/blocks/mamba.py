"""Mamba's mixer: a state space model whose step size, input and output maps depend on the token (2312.00752).

B rows, T positions, D width, C inner channels, N state per channel, R rank of the step sizes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from beholder.parts.blocks.activations import activation
from beholder.parts.blocks.norms import Norm
from beholder.parts.blocks.recurrence import (
    CausalConv,
    RecurrentConfig,
    RecurrentMixer,
    scan,
    step_bias,
    wide,
    zero_padding,
)
from beholder.parts.blocks.step import NO_PARTS, Step

SEGMENT = 256  # positions whose states (B, T, C, N) are held at once


@dataclass(frozen=True)
class Mamba(RecurrentConfig):
    """inner: channels that have a state of `state` numbers each. rank: of the map that gives each channel's step size.
    conv: width of the causal convolution. inner_norm: of step sizes, input and output maps (Falcon Mamba 2410.05355,
    Jamba 2403.19887).
    """

    inner: int
    rank: int
    state: int = 16
    conv: int = 4
    act: str = "silu"
    bias: bool = False
    conv_bias: bool = True
    inner_norm: Norm | None = None

    def tiny(self) -> Mamba:
        return super().tiny().but(inner=64, rank=4, state=8)

    def build(self, dim: int, index: int = 0) -> MambaMixer:
        return MambaMixer(self, dim, index)


class MambaMixer(RecurrentMixer):
    """h_t = exp(d_t A) h_(t-1) + d_t B_t x_t, y_t = C_t h_t + D x_t, gated by a second branch."""

    def __init__(self, config: Mamba, dim: int, index: int) -> None:
        super().__init__(index)
        self.config = config
        inner, state = config.inner, config.state
        self.input = nn.Linear(dim, 2 * inner, bias=config.bias)
        self.conv = CausalConv(inner, config.conv, bias=config.conv_bias)
        self.select = nn.Linear(inner, config.rank + 2 * state, bias=False)
        self.dt = nn.Linear(config.rank, inner)
        self.a_log = nn.Parameter(torch.arange(1.0, state + 1).log().repeat(inner, 1))
        self.skip = nn.Parameter(torch.ones(inner))
        self.output = nn.Linear(inner, dim, bias=config.bias)
        norm = config.inner_norm
        self.dt_norm, self.b_norm, self.c_norm = (
            norm.build(width) if norm else None for width in (config.rank, state, state)
        )
        self.act = activation(config.act)
        with torch.no_grad():
            self.dt.bias.copy_(step_bias(inner))

    def forward(self, x_BTD: Tensor, step: Step, parts: Mapping[str, nn.Module] = NO_PARTS) -> Tensor:
        memory = self.memory(step, parts)
        x_BTC, gate_BTC = self.input(x_BTD).chunk(2, -1)
        x_BTC = self.act(self.conv(x_BTC, memory, step.lengths))
        dt_BTC, in_BTN, out_BTN = self._selected(x_BTC)
        dt_BTC = zero_padding(dt_BTC, step.lengths)
        y_BTC = self._states(wide(x_BTC), dt_BTC, in_BTN, out_BTN, memory) + x_BTC * self.skip
        return self.output((y_BTC * F.silu(gate_BTC)).to(x_BTD.dtype))

    def _selected(self, x_BTC: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Step sizes (B, T, C), input and output maps (B, T, N)."""
        state = self.config.state
        dt_BTR, in_BTN, out_BTN = self.select(x_BTC).split((self.config.rank, state, state), -1)
        if self.dt_norm is not None and self.b_norm is not None and self.c_norm is not None:
            dt_BTR, in_BTN, out_BTN = self.dt_norm(dt_BTR), self.b_norm(in_BTN), self.c_norm(out_BTN)
        return F.softplus(wide(self.dt(dt_BTR))), wide(in_BTN), wide(out_BTN)

    def _states(
        self, x_BTC: Tensor, dt_BTC: Tensor, in_BTN: Tensor, out_BTN: Tensor, memory: dict[str, Tensor]
    ) -> Tensor:
        """What the states give, (B, T, C); `memory["state"]` holds the last ones, (B, C, N)."""
        rows, length, inner = x_BTC.shape
        rates_CN = -wide(self.a_log).exp()
        state_BCN = memory.get("state", x_BTC.new_zeros(rows, inner, self.config.state))
        pieces = []
        for at in range(0, length, SEGMENT):
            now = slice(at, at + SEGMENT)
            decay_BTCN = (dt_BTC[:, now, :, None] * rates_CN).exp()
            added_BTCN = (dt_BTC[:, now] * x_BTC[:, now])[..., None] * in_BTN[:, now, None]
            states_BTCN = scan(decay_BTCN, added_BTCN, state_BCN)
            pieces.append((states_BTCN @ out_BTN[:, now, :, None])[..., 0])
            state_BCN = states_BTCN[:, -1]
        memory["state"] = state_BCN.clone()
        return torch.cat(pieces, 1)
