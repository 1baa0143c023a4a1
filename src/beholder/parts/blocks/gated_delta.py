"""The two mixers of Qwen3-Next: gated delta nets (2412.06464) and attention with gated heads (2505.06708).

B rows, T positions, D width, J key heads, H value heads, R = H / J, K key width, P value width, L positions of one chunk.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from beholder.errors import BeholderError
from beholder.parts.blocks.activations import activation
from beholder.parts.blocks.attention import Attention, SelfAttention
from beholder.parts.blocks.norms import Norm
from beholder.parts.blocks.recurrence import (
    CHUNK,
    CausalConv,
    RecurrentConfig,
    RecurrentMixer,
    step_bias,
    wide,
    zero_padding,
)
from beholder.parts.blocks.step import NO_PARTS, Step

EPS = 1e-6  # official `l2norm`


@dataclass(frozen=True)
class GatedHeadAttention(Attention):
    """Attention whose heads are multiplied by a sigmoid of each token before they are joined."""

    def build(self, dim: int, index: int = 0) -> GatedHeadSelfAttention:
        return GatedHeadSelfAttention(self, dim, index)


class GatedHeadSelfAttention(SelfAttention):
    """(B, T, D) -> (B, T, D)."""

    def __init__(self, config: GatedHeadAttention, dim: int, index: int = 0) -> None:
        super().__init__(config, dim, index)
        self.gate = nn.Linear(dim, config.num_heads * self.head_dim, bias=config.qkv_bias)

    def forward(self, x_BTD: Tensor, step: Step, parts: Mapping[str, nn.Module] = NO_PARTS) -> Tensor:
        return self.merge(self.heads(x_BTD, step, parts) * torch.sigmoid(self.split(self.gate(x_BTD))))


@dataclass(frozen=True)
class GatedDelta(RecurrentConfig):
    """num_heads: of values, in groups of neighbours that share one of num_key_heads. norm: of each head before its gate.
    by_head: projections have the rows of one key head after the other (Qwen3-Next), or else those of queries, keys, values and
    gates, and of both rates, one after the other (Qwen3.5).
    """

    num_heads: int
    num_key_heads: int
    key_dim: int = 128
    value_dim: int = 128
    conv: int = 4
    act: str = "silu"
    norm: Norm = Norm("rms", 1e-6)
    by_head: bool = True

    def __post_init__(self) -> None:
        if self.num_heads % self.num_key_heads:
            raise BeholderError(
                f"{self.num_heads} value heads cannot share {self.num_key_heads} key heads evenly"
            )

    def tiny(self) -> GatedDelta:
        return super().tiny().but(num_heads=4, num_key_heads=2, key_dim=8, value_dim=8)

    def build(self, dim: int, index: int = 0) -> GatedDeltaMixer:
        return GatedDeltaMixer(self, dim, index)


class GatedDeltaMixer(RecurrentMixer):
    """S_t = a_t S_(t-1) + b_t k_t' (v_t - k_t a_t S_(t-1)), y_t = q_t S_t, with queries and keys of length 1."""

    def __init__(self, config: GatedDelta, dim: int, index: int) -> None:
        super().__init__(index)
        self.config = config
        keys, values = config.num_key_heads * config.key_dim, config.num_heads * config.value_dim
        self.input = nn.Linear(dim, 2 * keys + 2 * values, bias=False)
        self.rates = nn.Linear(dim, 2 * config.num_heads, bias=False)
        self.conv = CausalConv(2 * keys + values, config.conv, bias=False)
        self.dt_bias = nn.Parameter(step_bias(config.num_heads))
        self.a_log = nn.Parameter(torch.empty(config.num_heads).uniform_(0.01, 16).log())
        self.norm = config.norm.build(config.value_dim)
        self.output = nn.Linear(values, dim, bias=False)
        self.act = activation(config.act)

    def forward(self, x_BTD: Tensor, step: Step, parts: Mapping[str, nn.Module] = NO_PARTS) -> Tensor:
        memory = self.memory(step, parts)
        mixed, gate_BTHP = self._projected(x_BTD)
        q_BTHK, k_BTHK, v_BTHP = self._heads(wide(self.act(self.conv(mixed, memory, step.lengths))))
        strength_BTH, dt_BTH = self._rates(x_BTD)
        decay_BTH = -wide(self.a_log).exp() * F.softplus(dt_BTH + self.dt_bias)
        y_BTHP, memory["state"] = delta_attention(
            q_BTHK,
            k_BTHK,
            v_BTHP,
            zero_padding(decay_BTH, step.lengths),
            zero_padding(strength_BTH, step.lengths),
            memory.get("state"),
        )
        y_BTHP = self.norm(y_BTHP.to(x_BTD.dtype)) * F.silu(gate_BTHP)
        return self.output(y_BTHP.flatten(2))

    def _projected(self, x_BTD: Tensor) -> tuple[Tensor, Tensor]:
        """What the convolution sees, queries before keys before values, and the gates (B, T, H, P)."""
        config = self.config
        if not config.by_head:
            values = config.num_heads * config.value_dim
            mixed_BTC, gate_BTC = self.input(x_BTD).tensor_split((-values,), -1)
            return mixed_BTC, gate_BTC.unflatten(-1, (config.num_heads, -1))
        shared = config.num_heads // config.num_key_heads * config.value_dim
        mixed_BTJC = self.input(x_BTD).unflatten(-1, (config.num_key_heads, -1))
        *mixed, gate = mixed_BTJC.split((config.key_dim, config.key_dim, shared, shared), -1)
        return torch.cat([x.flatten(2) for x in mixed], -1), gate.reshape(
            *gate.shape[:2], -1, config.value_dim
        )

    def _heads(self, mixed: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values (B, T, H, width), queries and keys repeated for the values that share them."""
        config = self.config
        keys = config.num_key_heads * config.key_dim
        q, k, v = mixed.split((keys, keys, config.num_heads * config.value_dim), -1)
        q_BTHK, k_BTHK = (
            _unit(x.unflatten(-1, (config.num_key_heads, -1))).repeat_interleave(
                config.num_heads // config.num_key_heads, 2
            )
            for x in (q, k)
        )
        return q_BTHK * config.key_dim**-0.5, k_BTHK, v.unflatten(-1, (config.num_heads, -1))

    def _rates(self, x_BTD: Tensor) -> tuple[Tensor, Tensor]:
        """How much of each value is written (B, T, H), and step sizes before the softplus."""
        rates_BTJC = self.rates(x_BTD)
        if self.config.by_head:
            rates_BTJC = rates_BTJC.unflatten(-1, (self.config.num_key_heads, -1))
        strength, dt = (x.flatten(2) for x in wide(rates_BTJC).chunk(2, -1))
        return torch.sigmoid(strength), dt


def _unit(x: Tensor) -> Tensor:
    return x * torch.rsqrt(x.square().sum(-1, keepdim=True) + EPS)


def delta_attention(
    q_BTHK: Tensor,
    k_BTHK: Tensor,
    v_BTHP: Tensor,
    log_decay_BTH: Tensor,
    strength_BTH: Tensor,
    start_BHKP: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """The gated delta rule for each head: y (B, T, H, P) and the last state S (B, H, K, P).

    What each position of a chunk writes, u_i = b_i (v_i - k_i a_i S_(i-1)), depends on what those before it wrote: a
    triangular system (2412.06464, section 3.3). Then y and S are those of attention with decay.
    """
    rows, length, heads, width = v_BTHP.shape
    state = v_BTHP.new_zeros(rows, heads, k_BTHK.shape[-1], width) if start_BHKP is None else start_BHKP
    pieces = []
    for at in range(0, length, CHUNK):
        q, k, v = (x[:, at : at + CHUNK].transpose(1, 2) for x in (q_BTHK, k_BTHK, v_BTHP))
        total = log_decay_BTH[:, at : at + CHUNK].transpose(1, 2).cumsum(-1)[..., None]  # B H L 1
        strength = strength_BTH[:, at : at + CHUNK].transpose(1, 2)[..., None]
        later = torch.ones(total.shape[2], total.shape[2], dtype=torch.bool, device=v.device).triu(1)
        between = (total - total.transpose(-1, -2)).masked_fill(later, -math.inf).exp()  # B H L L
        past = total.exp()
        system = strength * (k @ k.transpose(-1, -2)) * between  # its diagonal counts as ones
        wanted = strength * (v - past * (k @ state))
        written = torch.linalg.solve_triangular(system, wanted, upper=False, unitriangular=True)
        pieces.append(((q @ k.transpose(-1, -2)) * between) @ written + past * (q @ state))
        end = total[:, :, -1:]
        state = end.exp() * state + (k * (end - total).exp()).transpose(-1, -2) @ written
    return torch.cat(pieces, 2).transpose(1, 2), state
