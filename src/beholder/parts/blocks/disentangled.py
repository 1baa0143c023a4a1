"""Attention in which contents and distances meet (DeBERTa, 2006.03654, section 3.1; in buckets as in v3, 2111.09543).

B rows, T queries, S keys, R distances, D width, H heads, K head width.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from beholder.errors import BeholderError
from beholder.parts.blocks.attention import Attention, SelfAttention, attend
from beholder.parts.blocks.masks import AttentionMask
from beholder.parts.blocks.norms import Norm
from beholder.parts.blocks.positions import learned
from beholder.parts.blocks.step import NO_PARTS, Step


@dataclass(frozen=True)
class DisentangledAttention(Attention):
    """A vector for each distance from key to query, which all layers share: `span` of them either way, the nearer half one by
    one and the others in logarithmic buckets up to `farthest`; farthest 0: all one by one. to_place: queries meet the key that
    such a vector makes; from_place: keys meet its query. own_maps: these come from maps of their own, else from those of the
    contents. norm: of the vectors. Scores are scaled as of heads as many times as wide as there are kinds of them.
    """

    span: int = 256
    farthest: int = 512
    to_place: bool = True
    from_place: bool = True
    own_maps: bool = False
    norm: Norm | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("rotary", "alibi", "qk_norm", "query_scale", "relative", "softcap"):
            if getattr(self, name) is not None:
                raise BeholderError(f"{type(self).__name__} does not read {name}; leave it unset")
        if self.span < 4 or (self.farthest and self.farthest - 1 <= self.span // 2):
            raise BeholderError(
                f"{self.span} distances up to {self.farthest}: buckets need more than half of them, or farthest=0"
            )

    @property
    def kinds(self) -> int:
        """How many products make a score."""
        return 1 + self.to_place + self.from_place

    def of(self, distances: Tensor) -> Tensor:
        """The number of the vector of each distance (official `make_log_bucket_position`)."""
        buckets = distances
        if self.farthest:
            middle = self.span // 2
            full = torch.log(torch.tensor((self.farthest - 1) / middle, device=distances.device))
            ratio = (
                torch.log(distances.abs().clamp(min=middle) / middle) / full
            )  # both in float32, as officially
            far = torch.ceil(ratio * (middle - 1)).long() + middle
            buckets = torch.where(distances.abs() <= middle, distances, far * distances.sign())
        return (buckets + self.span).clamp(0, 2 * self.span - 1)

    def tiny(self) -> DisentangledAttention:
        small = super().tiny()
        assert isinstance(small, DisentangledAttention)
        return small.but(span=8, farthest=16 if self.farthest else 0)

    def build(self, dim: int, index: int = 0) -> SelfAttention:
        return DisentangledSelfAttention(self, dim, index)


class DistanceVectors(nn.Module):
    """() -> (R, D), for all layers."""

    def __init__(self, config: DisentangledAttention, dim: int) -> None:
        super().__init__()
        self.weight = learned(2 * config.span, dim)
        self.norm = config.norm.build(dim) if config.norm is not None else None

    def forward(self) -> Tensor:
        return self.weight if self.norm is None else self.norm(self.weight)


class DisentangledSelfAttention(SelfAttention):
    """(B, T, D) -> (B, T, D); the vectors of distances are in `step.shared`."""

    config: DisentangledAttention

    def __init__(self, config: DisentangledAttention, dim: int, index: int) -> None:
        super().__init__(config, dim, index)
        self.scale = config.scale or (self.head_dim * config.kinds) ** -0.5
        width = config.num_heads * self.head_dim
        self.place_q = nn.Linear(dim, width) if config.own_maps and config.from_place else None
        self.place_k = nn.Linear(dim, width) if config.own_maps and config.to_place else None

    def forward(self, x_BTD: Tensor, step: Step, parts: Mapping[str, nn.Module] = NO_PARTS) -> Tensor:
        vectors_RD = step.shared.distances
        if vectors_RD is None or step.positions is None:
            raise BeholderError("this attention compares distances; its stack gives no vectors of them")
        q_BHTK, k_BHTK, v_BHTK = (self.split(heads) for heads in self.project(x_BTD))
        index_B1TS = self.config.of(step.positions[:, :, None] - step.positions[:, None])[:, None]
        bias_BHTS: Tensor | None = None
        if self.config.to_place:
            keys_HRK = self.split((self.place_k or self.k)(vectors_RD)[None])[0]
            bias_BHTS = _at(q_BHTK @ keys_HRK.transpose(1, 2), index_B1TS)
        if self.config.from_place:
            queries_HRK = self.split((self.place_q or self.q)(vectors_RD)[None])[0]
            met = _at(k_BHTK @ queries_HRK.transpose(1, 2), index_B1TS.transpose(2, 3)).transpose(2, 3)
            bias_BHTS = met if bias_BHTS is None else bias_BHTS + met
        mask = step.mask(self.config.window).plus(None if bias_BHTS is None else bias_BHTS * self.scale)
        return self.merge(self.attend(q_BHTK, k_BHTK, v_BHTK, mask))

    def attend(self, q_BHTK: Tensor, k_BJSK: Tensor, v_BJSK: Tensor, mask: AttentionMask) -> Tensor:
        """With the scale of all kinds of products."""
        return attend(q_BHTK, k_BJSK, v_BJSK, mask, scale=self.scale)


def _at(scores_BHTR: Tensor, index_B1TS: Tensor) -> Tensor:
    """(B, H, T, S): each row's scores at the distances of its keys."""
    return scores_BHTR.gather(-1, index_B1TS.expand(-1, scores_BHTR.shape[1], -1, -1))
