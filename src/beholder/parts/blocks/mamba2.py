"""Mamba-2's mixer: a state space model with one decay per head, computed as attention in chunks (2405.21060).

B rows, T positions, D width, H heads, P head width, G groups that share input and output maps, N state width,
C = H P inner channels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from beholder.errors import BeholderError
from beholder.parts.blocks.activations import activation
from beholder.parts.blocks.norms import Norm
from beholder.parts.blocks.recurrence import (
    CausalConv,
    RecurrentConfig,
    RecurrentMixer,
    decayed_attention,
    step_bias,
    wide,
    zero_padding,
)
from beholder.parts.blocks.step import NO_PARTS, Step


@dataclass(frozen=True)
class Mamba2(RecurrentConfig):
    """num_groups: heads that share input and output maps, as query heads share keys. smallest, largest: bounds of step
    sizes. norm: of the gated output, in as many groups.
    """

    num_heads: int
    head_dim: int = 64
    state: int = 128
    num_groups: int = 1
    conv: int = 4
    act: str = "silu"
    bias: bool = False
    conv_bias: bool = True
    smallest: float = 0.0
    largest: float | None = None
    norm: Norm = Norm("rms", 1e-5)

    def __post_init__(self) -> None:
        if self.num_heads % self.num_groups:
            raise BeholderError(
                f"{self.num_heads} heads do not divide into {self.num_groups} groups; change one of them"
            )

    @property
    def inner(self) -> int:
        return self.num_heads * self.head_dim

    def tiny(self) -> Mamba2:
        groups = min(2, self.num_groups)
        return super().tiny().but(num_heads=8, head_dim=8, state=8, num_groups=groups)

    def build(self, dim: int, index: int = 0) -> Mamba2Mixer:
        return Mamba2Mixer(self, dim, index)


class Mamba2Mixer(RecurrentMixer):
    """h_t = exp(d_t A) h_(t-1) + d_t x_t B_t, y_t = h_t C_t + D x_t, gated and then normed."""

    def __init__(self, config: Mamba2, dim: int, index: int) -> None:
        super().__init__(index)
        self.config = config
        heads, inner, maps = config.num_heads, config.inner, config.num_groups * config.state
        self.input = nn.Linear(dim, 2 * inner + 2 * maps + heads, bias=config.bias)
        self.conv = CausalConv(inner + 2 * maps, config.conv, bias=config.conv_bias)
        self.dt_bias = nn.Parameter(step_bias(heads))
        self.a_log = nn.Parameter(torch.arange(1.0, heads + 1).log())
        self.skip = nn.Parameter(torch.ones(heads))
        self.norm = config.norm.build(inner // config.num_groups, config.num_groups)
        self.output = nn.Linear(inner, dim, bias=config.bias)
        self.act = activation(config.act)

    def forward(self, x_BTD: Tensor, step: Step, parts: Mapping[str, nn.Module] = NO_PARTS) -> Tensor:
        config, memory = self.config, self.memory(step, parts)
        maps = config.num_groups * config.state
        gate_BTC, mixed, dt_BTH = self.input(x_BTD).split(
            (config.inner, config.inner + 2 * maps, config.num_heads), -1
        )
        mixed = wide(self.act(self.conv(mixed, memory, step.lengths)))
        x_BTC, in_BTGN, out_BTGN = mixed.split((config.inner, maps, maps), -1)
        in_BTGN, out_BTGN = (x.unflatten(-1, (config.num_groups, -1)) for x in (in_BTGN, out_BTGN))
        x_BTHP = x_BTC.unflatten(-1, (config.num_heads, -1))
        dt_BTH = F.softplus(wide(dt_BTH + self.dt_bias)).clamp(config.smallest, config.largest)
        dt_BTH = zero_padding(dt_BTH, step.lengths)
        y_BTHP, memory["state"] = decayed_attention(
            out_BTGN,
            in_BTGN,
            x_BTHP * dt_BTH[..., None],
            -dt_BTH * wide(self.a_log).exp(),
            memory.get("state"),
        )
        y_BTC = (y_BTHP + x_BTHP * self.skip[:, None]).flatten(2) * F.silu(wide(gate_BTC))
        y_BTGC = self.norm(y_BTC.unflatten(-1, (config.num_groups, -1)))
        return self.output(y_BTGC.flatten(2).to(x_BTD.dtype))
