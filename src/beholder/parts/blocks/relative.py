"""Scores that fall with distance as learned: a table of buckets for each head (T5, 1910.10683).

B rows, T queries, S keys, H heads.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from beholder.config import Config
from beholder.errors import BeholderError
from beholder.parts.blocks.positions import learned
from beholder.parts.blocks.untied_places import PlacePairs, UntiedPlaces


@dataclass(frozen=True)
class RelativeBuckets(Config):
    """A learned score for each head and distance: near distances one by one, farther ones in logarithmic buckets up to
    `farthest`, beyond which all are one. both_ways: keys before and after a query have half of the buckets each; else
    later keys count as at distance 0. shared: all layers of a stack use one table (T5), else each its own (umT5).
    """

    buckets: int = 32
    farthest: int = 128
    both_ways: bool = True
    shared: bool = True

    def tiny(self) -> RelativeBuckets:
        return self.but(buckets=16, farthest=32)

    def build(self, num_heads: int) -> RelativeBias:
        return RelativeBias(self, num_heads)

    def of(self, distances: Tensor) -> Tensor:
        """Bucket numbers of distances from query to key, after being positive (official `_relative_position_bucket`)."""
        half = self.buckets // 2 if self.both_ways else self.buckets
        far = distances.abs() if self.both_ways else (-distances).clamp(min=0)
        single = half // 2
        ratio = torch.log(far.clamp(min=1).float() / single) / math.log(self.farthest / single)
        shared = (single + ratio * (half - single)).long().clamp(max=half - 1)
        buckets = torch.where(far < single, far, shared)
        return buckets + (distances > 0).long() * half if self.both_ways else buckets


@dataclass(frozen=True)
class ClippedDistances(RelativeBuckets):
    """Each distance by itself, those of `farthest` and more as one (Phi-4-multimodal's encoder of sound)."""

    def __post_init__(self) -> None:
        if self.buckets != 2 * self.farthest or not self.both_ways:
            raise BeholderError(
                f"distances up to {self.farthest} either way need {2 * self.farthest} scores, not {self.buckets}"
            )

    def of(self, distances: Tensor) -> Tensor:
        return distances.clamp(-self.farthest, self.farthest - 1) + self.farthest

    def tiny(self) -> ClippedDistances:
        return self.but(buckets=32, farthest=16)


class RelativeBias(nn.Module):
    """Positions (B, T) of queries and (B, S) of keys -> scores to be added, (B or 1, H, T, S)."""

    def __init__(self, config: RelativeBuckets, num_heads: int) -> None:
        super().__init__()
        self.config = config
        self.weight = learned(config.buckets, num_heads)

    def forward(self, queries_BT: Tensor, keys_BS: Tensor) -> Tensor:
        if _same_rows(queries_BT) and _same_rows(keys_BS):
            queries_BT, keys_BS = queries_BT[:1], keys_BS[:1]
        buckets_BTS = self.config.of(keys_BS[:, None, :] - queries_BT[:, :, None])
        return self.weight[buckets_BTS].permute(0, 3, 1, 2)


def _same_rows(positions_BT: Tensor) -> bool:
    """Whether all rows have the same positions, so that one table of scores is enough."""
    return positions_BT.stride(0) == 0 or (
        not positions_BT.is_meta and bool((positions_BT == positions_BT[:1]).all())
    )


def shared_bias(mixer: Config, dim: int) -> RelativeBias | PlacePairs | None:
    """What the layers of a stack of width `dim`, which are of `mixer`, share; None where they share no scores."""
    relative = getattr(mixer, "relative", None)
    if isinstance(relative, UntiedPlaces):
        return PlacePairs(relative, mixer.num_heads, dim)  # type: ignore[attr-defined]
    if not isinstance(relative, RelativeBuckets) or not relative.shared:
        return None
    return relative.build(mixer.num_heads)  # type: ignore[attr-defined]
