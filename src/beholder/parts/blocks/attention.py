"""Multi-head attention, with grouped keys (GQA, 2305.13245), rotary positions, windows and a state for generation.

B rows, T queries, S keys, D width, H query heads, J key heads, G = H / J, K head width.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from beholder.config import Config
from beholder.errors import BeholderError
from beholder.parts.blocks.masks import Visibility, dense_mask
from beholder.parts.blocks.positions import Rotary


@dataclass(frozen=True)
class Attention(Config):
    """num_kv_heads and head_dim default to num_heads and dim / num_heads. window: keys nearer than this many blocks."""

    num_heads: int
    num_kv_heads: int | None = None
    head_dim: int | None = None
    qkv_bias: bool = False
    out_bias: bool = False
    rotary: Rotary | None = None
    window: int | None = None

    @property
    def kv_heads(self) -> int:
        return self.num_kv_heads or self.num_heads

    def width(self, dim: int) -> int:
        """Channels of one head; raises `BeholderError` where heads do not divide the width or each other."""
        if self.num_heads % self.kv_heads:
            raise BeholderError(f"{self.num_heads} query heads cannot share {self.kv_heads} key heads evenly")
        if self.head_dim is None and dim % self.num_heads:
            raise BeholderError(f"width {dim} does not divide into {self.num_heads} heads; set head_dim")
        return self.head_dim or dim // self.num_heads

    def tiny(self) -> Attention:
        kv_heads = {1: 1, self.num_heads: 4}.get(self.kv_heads, 2)
        return self.but(num_heads=4, num_kv_heads=kv_heads, head_dim=8, window=self.window and 6)


@dataclass(frozen=True)
class AttentionMask:
    """How the layers of one forward mask: no mask at all, the causal flag of the kernel, or (B, 1, T, S) booleans."""

    causal: bool = False
    allowed_B1TS: Tensor | None = None

    @classmethod
    def of(cls, queries: Visibility, keys: Visibility, window: int | None) -> AttentionMask:
        """The cheapest mask that is right for queries that stand at the end of `keys`."""
        num_queries, num_keys = queries.blocks_BT.shape[1], keys.blocks_BT.shape[1]
        if keys.plain and (window is None or num_keys <= window):
            if num_queries == 1:
                return cls()
            if num_queries == num_keys:
                return cls(causal=True)
        return cls(allowed_B1TS=dense_mask(queries, keys.segments_BT, keys.blocks_BT, window)[:, None])


def attend(q_BHTK: Tensor, k_BJSK: Tensor, v_BJSK: Tensor, mask: AttentionMask) -> Tensor:
    """softmax(q k' / sqrt(K)) v, (B, H, T, K). Query heads share keys in groups of H / J neighbours."""
    group = q_BHTK.shape[1] // k_BJSK.shape[1]
    if mask.allowed_B1TS is not None and q_BHTK.requires_grad and q_BHTK.device.type == "cpu":
        return _attend_plainly(q_BHTK, k_BJSK, v_BJSK, mask.allowed_B1TS)
    if group > 1 and q_BHTK.shape[2] == 1 and mask.allowed_B1TS is None:
        # One query per head: the group's heads become queries of the shared keys, and nothing is copied.
        grouped_BJGK = q_BHTK.view(q_BHTK.shape[0], k_BJSK.shape[1], group, -1)
        return F.scaled_dot_product_attention(grouped_BJGK, k_BJSK, v_BJSK).view_as(q_BHTK)
    if group > 1:
        k_BJSK, v_BJSK = (x.repeat_interleave(group, dim=1) for x in (k_BJSK, v_BJSK))
    return F.scaled_dot_product_attention(
        q_BHTK,
        k_BJSK,
        v_BJSK,
        attn_mask=mask.allowed_B1TS,
        is_causal=mask.causal and mask.allowed_B1TS is None,
    )


def _attend_plainly(q_BHTK: Tensor, k_BJSK: Tensor, v_BJSK: Tensor, allowed_B1TS: Tensor) -> Tensor:
    """`attend` by two matrix products: on a CPU the fused kernel's backward pass with a mask is several times slower."""
    shape = (*k_BJSK.shape[:2], q_BHTK.shape[1] // k_BJSK.shape[1], *q_BHTK.shape[2:])  # B J G T K
    q_BJQK = (q_BHTK * shape[-1] ** -0.5).reshape(*shape[:2], -1, shape[-1])
    scores_BJGTS = (q_BJQK @ k_BJSK.transpose(-1, -2)).view(*shape[:4], -1)
    scores_BJGTS = scores_BJGTS.masked_fill(~allowed_B1TS[:, :, None], torch.finfo(scores_BJGTS.dtype).min)
    weights_BJQS = scores_BJGTS.softmax(-1).to(v_BJSK.dtype).flatten(2, 3)
    return (weights_BJQS @ v_BJSK).view(q_BHTK.shape)


class SelfAttention(nn.Module):
    """(B, T, D) -> (B, T, D)."""

    def __init__(self, config: Attention, dim: int) -> None:
        super().__init__()
        self.config, self.head_dim = config, config.width(dim)
        self.q = nn.Linear(dim, config.num_heads * self.head_dim, bias=config.qkv_bias)
        self.k = nn.Linear(dim, config.kv_heads * self.head_dim, bias=config.qkv_bias)
        self.v = nn.Linear(dim, config.kv_heads * self.head_dim, bias=config.qkv_bias)
        self.out = nn.Linear(config.num_heads * self.head_dim, dim, bias=config.out_bias)

    def project(self, x_BTD: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values before heads are split, (B, T, H K), (B, T, J K) twice."""
        return self.q(x_BTD), self.k(x_BTD), self.v(x_BTD)

    def split(self, x_BTD: Tensor) -> Tensor:
        """(B, T, heads K) -> (B, heads, T, K)."""
        return x_BTD.unflatten(-1, (-1, self.head_dim)).transpose(1, 2)

    def merge(self, x_BHTK: Tensor) -> Tensor:
        """Heads joined and projected, (B, T, D)."""
        return self.out(x_BHTK.transpose(1, 2).flatten(2))


def prepend(
    keys: Tensor, values: Tensor, prefix: tuple[Tensor, Tensor], mask: AttentionMask, num_queries: int
) -> tuple[Tensor, Tensor, AttentionMask]:
    """Keys, values and mask with prefix keys (B, J, P, K) in front that every query sees."""
    allowed = mask.allowed_B1TS
    if allowed is None:
        num_keys = keys.shape[2]
        allowed = torch.ones(1, 1, num_queries, num_keys, dtype=torch.bool, device=keys.device)
        allowed = allowed.tril(num_keys - num_queries) if mask.causal else allowed
    room = allowed.new_ones(*allowed.shape[:3], prefix[0].shape[2])
    joined = AttentionMask(allowed_B1TS=torch.cat((room, allowed), -1))
    return torch.cat((prefix[0], keys), 2), torch.cat((prefix[1], values), 2), joined
