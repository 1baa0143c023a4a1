"""Multi-head latent attention (DeepSeek-V2, 2405.04434): keys and values are made of one narrow vector per token.

B rows, T queries, S keys, D width, H heads, R latent width, N and P channels of a head without and with positions, V value
channels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from beholder.parts.blocks.attention import attend
from beholder.parts.blocks.norms import Norm
from beholder.parts.blocks.positions import Rotary
from beholder.parts.blocks.step import NO_PARTS, Mixer, MixerConfig, Step


@dataclass(frozen=True)
class LatentAttention(MixerConfig):
    """query_rank: width that queries pass through, None for none. rank: R. plain_dim, rotary_dim, value_dim: N, P, V.
    bias: of the projections to R and to the output. scale: of the scores, 1 / sqrt(N + P) where None.
    """

    num_heads: int
    rank: int
    plain_dim: int
    rotary_dim: int
    value_dim: int
    rotary: Rotary
    query_rank: int | None = None
    bias: bool = False
    norm: Norm = Norm("rms", 1e-6)
    scale: float | None = None
    window: int | None = None

    def tiny(self) -> LatentAttention:
        small = super().tiny()
        return small.but(
            num_heads=4, rank=16, plain_dim=8, rotary_dim=8, value_dim=8, query_rank=self.query_rank and 24
        )

    def build(self, dim: int, index: int = 0) -> LatentSelfAttention:
        return LatentSelfAttention(self, dim, index)


class LatentSelfAttention(Mixer):
    """(B, T, D) -> (B, T, D). The state keeps R + P numbers a token, for all heads together.

    A single new token attends to the latents themselves, with the key matrix folded into the query and the value matrix
    into the output (section 2.1.2); several tokens unfold keys and values, which is cheaper then. Both give the same.
    """

    def __init__(self, config: LatentAttention, dim: int, index: int = 0) -> None:
        super().__init__()
        self.config, self.index = config, index
        heads, query_dim = config.num_heads, config.plain_dim + config.rotary_dim
        rank = config.query_rank
        self.q_down = nn.Linear(dim, rank, bias=config.bias) if rank else None
        self.q_norm = config.norm.build(rank) if rank else None
        self.q = nn.Linear(rank or dim, heads * query_dim, bias=False)
        self.kv_down = nn.Linear(dim, config.rank, bias=config.bias)
        self.k_rotary = nn.Linear(dim, config.rotary_dim, bias=config.bias)
        self.kv_norm = config.norm.build(config.rank)
        self.k = nn.Linear(config.rank, heads * config.plain_dim, bias=False)
        self.v = nn.Linear(config.rank, heads * config.value_dim, bias=False)
        self.out = nn.Linear(heads * config.value_dim, dim, bias=config.bias)
        self.scale = query_dim**-0.5 if config.scale is None else config.scale

    def forward(self, x_BTD: Tensor, step: Step, parts: Mapping[str, nn.Module] = NO_PARTS) -> Tensor:
        config = self.config
        given = parts["qkv"](x_BTD, self.project, step.inputs) if "qkv" in parts else self.project(x_BTD)
        q_BTq, latent_BTR, position_BTP = given
        tables = step.tables(config.rotary, config.rotary_dim)
        q_BHTq = q_BTq.unflatten(-1, (config.num_heads, -1)).transpose(1, 2)
        plain_BHTN, turned_BHTP = q_BHTq.split((config.plain_dim, config.rotary_dim), -1)
        turned_BHTP = config.rotary.rotate(turned_BHTP, tables)
        key_B1TP = config.rotary.rotate(position_BTP[:, None], tables)
        keys_B1Sk, latent_B1SR = torch.cat((latent_BTR[:, None], key_B1TP), -1), latent_BTR[:, None]
        if step.state is not None:
            kept = step.state.self_attention(self.index)
            keys_B1Sk, _ = kept.append(keys_B1Sk, keys_B1Sk[..., :0], step.state.lengths)
            latent_B1SR = keys_B1Sk[..., : config.rank]
        mask = step.mask(config.window)
        if x_BTD.shape[1] == 1:
            folded_BHTR = torch.einsum("bhtn,hnr->bhtr", plain_BHTN, self._by_head(self.k))
            q_BHTk = torch.cat((folded_BHTR, turned_BHTP), -1)
            read_BHTR = attend(q_BHTk, keys_B1Sk, latent_B1SR, mask, scale=self.scale)
            y_BHTV = torch.einsum("bhtr,hvr->bhtv", read_BHTR, self._by_head(self.v))
        else:
            latent_BSR = latent_B1SR[:, 0]
            k_BHSN, v_BHSV = (
                unfold(latent_BSR).unflatten(-1, (config.num_heads, -1)).transpose(1, 2)
                for unfold in (self.k, self.v)
            )
            position_BHSP = keys_B1Sk[..., config.rank :].expand(-1, config.num_heads, -1, -1)
            q_BHTk, k_BHSk = torch.cat((plain_BHTN, turned_BHTP), -1), torch.cat((k_BHSN, position_BHSP), -1)
            y_BHTV = attend(q_BHTk, k_BHSk, v_BHSV, mask, scale=self.scale)
        return self.out(y_BHTV.transpose(1, 2).flatten(2))

    def project(self, x_BTD: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries (B, T, H (N + P)), normed latents (B, T, R), and the keys' part that carries positions (B, T, P)."""
        q_BTr = x_BTD if self.q_down is None or self.q_norm is None else self.q_norm(self.q_down(x_BTD))
        return self.q(q_BTr), self.kv_norm(self.kv_down(x_BTD)), self.k_rotary(x_BTD)

    def _by_head(self, unfold: nn.Linear) -> Tensor:
        return unfold.weight.unflatten(0, (self.config.num_heads, -1))
