"""Features of regions of any shape by points inside them: the spatial-aware visual sampler (Ferret, 2310.07704, section 3.2),
after PointMLP (2202.07123).

P points, K neighbours, C width of the features, D width of the language part.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from beholder.media.plan import PicturePlan
from beholder.media.regions import Region
from beholder.parts.contracts import BranchOutput
from beholder.parts.fusion.regions import RegionConfig, RegionEncoder, map_of


@dataclass(frozen=True)
class SampledPoints(RegionConfig):
    """points: drawn inside the mask at first; kept, neighbours: of each block, how many points stay, those farthest from each
    other, and how many around each are gathered. dim: width of the encoder's tokens. span: pixels around a single point that
    belong to it. swapped: points are read with rows and columns exchanged, as the released weights were trained
    (apple/ml-ferret ferret/model/ferret_arch.py `GeoRegionSampler`, whose masks are (width, height)).
    """

    dim: int = 1024
    points: int = 512
    kept: tuple[int, ...] = (128, 32)
    neighbours: tuple[int, ...] = (24, 24)
    span: int = 5
    swapped: bool = False

    def tiny(self) -> SampledPoints:
        return self.but(dim=32, points=12, kept=(6, 3), neighbours=(4, 2))

    def build(self, out_dim: int) -> RegionEncoder:
        return PointSampler(self, out_dim)


class Gather(nn.Module):
    """A block: points that are far from each other, each joined with what lies around it."""

    draws = True  # which cells are read, while it trains

    def __init__(self, dim: int, kept: int, neighbours: int) -> None:
        super().__init__()
        self.kept, self.neighbours = kept, neighbours
        self.difference = nn.Linear(dim + 2, dim + 2)
        self.join = nn.Linear(2 * (dim + 2), dim)
        self.norm = nn.LayerNorm(dim)

    def forward(self, places_P2: Tensor, features_PC: Tensor) -> tuple[Tensor, Tensor]:
        """Places from 0 to 1 and features of the points that stay."""
        chosen_Q = farthest(places_P2, self.kept, start=_start(len(places_P2), self.training))
        around_QK = torch.cdist(places_P2[chosen_Q].float(), places_P2.float()).topk(
            self.neighbours, largest=False
        )[1]
        both_PC = torch.cat((features_PC, places_P2), -1)
        anchors_Q1C = both_PC[chosen_Q][:, None]
        difference_QKC = self.difference(both_PC[around_QK] - anchors_Q1C)
        joined_QKC = torch.cat((difference_QKC, anchors_Q1C.expand_as(difference_QKC)), -1)
        pooled_QC = self.norm(F.relu(self.join(joined_QKC))).amax(1)
        return places_P2[chosen_Q], pooled_QC


class PointSampler(RegionEncoder):
    """(1, D)."""

    def __init__(self, config: SampledPoints, out_dim: int) -> None:
        super().__init__()
        self.config = config
        self.blocks = nn.ModuleList(
            Gather(config.dim, kept, around)
            for kept, around in zip(config.kept, config.neighbours, strict=True)
        )
        self.flatten = nn.Linear(config.dim * config.kept[-1], config.dim)
        self.linear = nn.Linear(config.dim, out_dim)

    def forward(self, output: BranchOutput, first: int, plan: PicturePlan, region: Region) -> Tensor:
        map_Chw = map_of(output.encoded[0], first)
        seen_HW = torch.from_numpy(region.seen(plan.views[0], self.config.span)).to(map_Chw.device)
        cells_P2 = seen_HW.nonzero()
        drawn_P = _drawn(len(cells_P2), self.config.points, self.training).to(map_Chw.device)
        shares_P2 = cells_P2[drawn_P] / cells_P2.new_tensor(seen_HW.shape)  # down, across
        places_P2 = shares_P2.flip(-1).to(map_Chw.dtype)
        read_P2 = shares_P2 if self.config.swapped else shares_P2.flip(-1)
        grid_1P12 = (2 * read_P2 - 1)[None, :, None].to(map_Chw.dtype)
        features_PC = F.grid_sample(map_Chw[None], grid_1P12, align_corners=True)[0, :, :, 0].T
        for block in self.blocks:
            places_P2, features_PC = block(places_P2, features_PC)
        return self.linear(self.flatten(features_PC.flatten()))[None]


def farthest(places_P2: Tensor, count: int, start: int = 0) -> Tensor:
    """Indices (count,): from `start` on, always the point that is farthest from all chosen so far (PointNet++, 1706.02413)."""
    chosen, distance_P = [start], torch.full((len(places_P2),), torch.inf, device=places_P2.device)
    for _ in range(count - 1):
        step_P = (places_P2 - places_P2[chosen[-1]]).float().square().sum(-1)
        distance_P = torch.minimum(distance_P, step_P)
        chosen.append(int(distance_P.argmax()))
    return torch.tensor(chosen, device=places_P2.device)


def _drawn(count: int, wanted: int, training: bool) -> Tensor:
    """Which of `count` cells are read: at random in training, evenly spread otherwise; again from the first where too few."""
    if count < wanted:
        return torch.arange(wanted) % count
    return torch.randperm(count)[:wanted] if training else torch.arange(wanted) * count // wanted


def _start(count: int, training: bool) -> int:
    return int(torch.randint(count, ())) if training else 0
