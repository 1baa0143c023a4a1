"""Lightning attention: linear attention whose past decays at a fixed rate for each head (2401.04658; MiniMax-01 2501.08313).

B rows, T positions, D width, H heads, K head width.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from beholder.parts.blocks.activations import activation
from beholder.parts.blocks.norms import Norm
from beholder.parts.blocks.recurrence import (
    RecurrentConfig,
    RecurrentMixer,
    decayed_attention,
    wide,
    zero_padding,
)
from beholder.parts.blocks.step import NO_PARTS, Step


@dataclass(frozen=True)
class Lightning(RecurrentConfig):
    """depth: layers of the whole model; heads of late layers decay more slowly. tables: the block length for which a
    checkpoint holds tables of decays; they follow from the rest, and are kept only to be written out again.
    """

    num_heads: int
    head_dim: int
    depth: int
    act: str = "silu"
    norm: Norm = Norm("rms", 1e-6)
    tables: int | None = None

    def tiny(self) -> Lightning:
        return super().tiny().but(num_heads=4, head_dim=8, depth=4, tables=self.tables and 8)

    def build(self, dim: int, index: int = 0) -> LightningMixer:
        return LightningMixer(self, dim, index)


class LightningMixer(RecurrentMixer):
    """S_t = exp(-slope) S_(t-1) + k_t' v_t, y_t = q_t S_t; normed over all heads, gated."""

    def __init__(self, config: Lightning, dim: int, index: int) -> None:
        super().__init__(index)
        self.config = config
        joined = config.num_heads * config.head_dim
        self.qkv = nn.Linear(dim, 3 * joined, bias=False)
        self.gate = nn.Linear(dim, joined, bias=False)
        self.norm = config.norm.build(joined)
        self.output = nn.Linear(joined, dim, bias=False)
        self.act = activation(config.act)
        for name, table in decay_tables(self.slopes(), config.tables).items():
            self.register_buffer(name, table)

    def slopes(self, device: torch.device | None = None) -> Tensor:
        """(H,): 2^(-8 h / H), less in later layers (official `get_slope_rate`)."""
        heads = self.config.num_heads
        rates_H = (1 / 2 ** (8 / heads)) ** (torch.arange(heads, dtype=torch.float32, device=device) + 1)
        return rates_H * (1 - self.index / (self.config.depth - 1 + 1e-5) + 1e-5)

    def forward(self, x_BTD: Tensor, step: Step, parts: Mapping[str, nn.Module] = NO_PARTS) -> Tensor:
        memory = self.memory(step, parts)
        mixed = wide(zero_padding(self.act(self.qkv(x_BTD)), step.lengths))
        q_BTHK, k_BTHK, v_BTHK = mixed.unflatten(-1, (self.config.num_heads, -1)).chunk(3, -1)
        log_decay_BTH = -self.slopes(x_BTD.device).to(mixed.dtype).expand(*q_BTHK.shape[:3])
        y_BTHK, memory["state"] = decayed_attention(
            q_BTHK, k_BTHK, v_BTHK, zero_padding(log_decay_BTH, step.lengths), memory.get("state")
        )
        y_BTD = self.norm(y_BTHK.flatten(2).to(x_BTD.dtype))
        return self.output(torch.sigmoid(self.gate(x_BTD)) * y_BTD)


def decay_tables(slopes_H: Tensor, block: int | None) -> dict[str, Tensor]:
    """What official checkpoints hold besides weights: slopes (H, 1, 1), and for blocks of `block` tokens how much the past
    has decayed at each query (H, block, 1), each key has at the block's end, and each key has at each query.
    """
    if block is None:
        return {}
    slopes_H11 = slopes_H[:, None, None]
    places = torch.arange(block, device=slopes_H.device) + 1
    distances = slopes_H11 * (places[:, None] - places)[None, None]
    return {
        "slope_rate": slopes_H11,
        "query_decay": torch.exp(-slopes_H11 * places[:, None]),
        "key_decay": torch.exp(-slopes_H11 * (block - places[:, None])),
        "diagonal_decay": torch.where(distances >= 0, -distances, -torch.inf).exp(),
    }
