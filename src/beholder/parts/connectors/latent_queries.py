"""Kosmos' resampler (2302.14045, 2306.14824): learned latents attend once to a view's features and to themselves.

V views, S tokens of a view, L latents, E width of the features, D width of the language model, H heads, K head width.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from beholder.media.plan import Grid
from beholder.parts.blocks.attention import Attention
from beholder.parts.blocks.cross_attention import FeatureAttention
from beholder.parts.blocks.masks import AttentionMask
from beholder.parts.blocks.positions import learned
from beholder.parts.blocks.step import Step
from beholder.parts.connectors.projections import Linear
from beholder.parts.contracts import Connector, ConnectorConfig, Context, Packed
from beholder.parts.vision.views import by_size


@dataclass(frozen=True)
class LatentQueries(ConnectorConfig):
    """`latents` tokens for each view: features are brought to length 1 where `unit`, then by a matrix to the language model's
    width, in which the latents attend to them. No norm, residual path or MLP. scale: of what comes out, as the language
    model scales its words (official `forward_embedding` of `modeling_kosmos2.py`). padded: the last token of each view stands
    for its padding, and counts as often as the view has spare cells (Kosmos-2.5, 2309.11419).
    """

    latents: int = 64
    attention: Attention = Attention(num_heads=32, qkv_bias=True, out_bias=True)
    unit: bool = True
    scale: float = 1.0
    padded: bool = False

    def grid(self, grid: Grid) -> Grid:
        return Grid(1, 1, self.latents)

    def tiny(self) -> LatentQueries:
        return super().tiny().but(latents=3)

    def build(self, in_dim: int, out_dim: int) -> Connector:
        return LatentQueriesConnector(self, in_dim, out_dim)


class LatentQueriesConnector(Connector):
    """(N, E) -> (V L, D)."""

    def __init__(self, config: LatentQueries, in_dim: int, out_dim: int) -> None:
        super().__init__()
        self.config = config
        self.linear = Linear().build(in_dim, out_dim)
        self.latents = learned(config.latents, out_dim)
        self.attn = FeatureAttention(config.attention, out_dim)

    def forward(self, packed: Packed, context: Context | None = None) -> Packed:
        features_NE = F.normalize(packed.tokens_ND, dim=-1) if self.config.unit else packed.tokens_ND
        views = self.linear(Packed(features_NE, packed.grids)).split()
        if self.config.padded:
            given = [view for plan in (context.pictures if context else ()) for view in plan.views]
            spares = [view.spare for view in given] or [0] * len(views)
            pairs = zip(views, spares, strict=True)
            made = [self._attend(view[None] if spare else view[None, :-1], spare)[0] for view, spare in pairs]
        else:
            made = by_size(views, self._attend)
        tokens_ND = torch.cat(made) if views else features_NE
        return Packed(tokens_ND, tuple(self.config.grid(grid) for grid in packed.grids))

    def _attend(self, features_VSD: Tensor, spare: int = 0) -> Tensor:
        """(V, L, D). spare: how often the last feature counts, 0 for as often as the others."""
        attn, step = self.attn, Step()
        latents_VLD = self.latents.expand(len(features_VSD), -1, -1)
        keys_VHSK, values_VHSK = attn.keys(torch.cat((features_VSD, latents_VLD), 1), step)
        mask = AttentionMask()
        if spare > 1:
            counts_S = torch.ones(keys_VHSK.shape[2], device=features_VSD.device)
            counts_S[features_VSD.shape[1] - 1] = spare
            mask = AttentionMask(bias_BHTS=counts_S.log()[None, None, None])
        heads_VHLK = attn.attend(attn.queries(latents_VLD, step), keys_VHSK, values_VHSK, mask)
        return attn.merge(heads_VHLK) * self.config.scale
