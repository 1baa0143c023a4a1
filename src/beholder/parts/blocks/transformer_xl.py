"""Self-attention that knows distances alone (Transformer-XL, 1901.02860, section 3.3; Gopher, 2112.11446; Chinchilla).

B rows, T queries, S keys, P distances, D width, H heads, K head width.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from beholder.parts.blocks.attention import Attention, SelfAttention
from beholder.parts.blocks.positions import waves
from beholder.parts.blocks.step import NO_PARTS, Step


@dataclass(frozen=True)
class XlAttention(Attention):
    """Scores (q + u) k + (q + v) r: u and v are learned for each head, r is a projection of sine waves of the distance from
    query to key.
    """

    def build(self, dim: int, index: int = 0) -> XlSelfAttention:
        return XlSelfAttention(self, dim, index)


class XlSelfAttention(SelfAttention):
    """(B, T, D) -> (B, T, D)."""

    def __init__(self, config: XlAttention, dim: int, index: int = 0) -> None:
        super().__init__(config, dim, index)
        self.distance = nn.Linear(dim, config.num_heads * self.head_dim, bias=False)
        self.content_bias = nn.Parameter(torch.zeros(config.num_heads, 1, self.head_dim))
        self.distance_bias = nn.Parameter(torch.zeros(config.num_heads, 1, self.head_dim))

    def heads(self, x_BTD: Tensor, step: Step, parts: Mapping[str, nn.Module] = NO_PARTS) -> Tensor:
        q_BHTK, k_BJTK, v_BJTK = (self.split(each) for each in self.project(x_BTD))
        k_BJSK, v_BJSK, mask = self._kept(k_BJTK, v_BJTK, step)
        scores_BHTS = self._by_distance(q_BHTK + self.distance_bias, step, x_BTD.shape[-1])
        mask = mask.plus(scores_BHTS * self.head_dim**-0.5)
        return self.attend(q_BHTK + self.content_bias, k_BJSK, v_BJSK, mask)

    def _by_distance(self, q_BHTK: Tensor, step: Step, dim: int) -> Tensor:
        """(B, H, T, S); keys behind a query, which it does not see, count as at distance 0."""
        assert step.positions is not None
        distances_BTS = (step.positions[:, :, None] - step.key_positions()[:, None]).clamp(min=0)
        count = step.key_positions().shape[-1] if distances_BTS.is_meta else int(distances_BTS.max()) + 1
        offsets_P = torch.arange(count, device=q_BHTK.device)
        waves_PD = waves(offsets_P, dim, ends=False).to(q_BHTK.dtype)
        keys_HPK = self.split(self.distance(waves_PD)[None])[0]
        scores_BHTP = q_BHTK @ keys_HPK.transpose(-1, -2)
        places = distances_BTS[:, None].expand(-1, q_BHTK.shape[1], -1, -1)
        return scores_BHTP.gather(-1, places)
