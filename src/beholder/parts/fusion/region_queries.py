"""Regions as queries of a mask decoder that may look inside them alone (OMG-LLaVA, 2406.19389, section 3.2).

C width of queries, D width of the language part.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from beholder.media.plan import PicturePlan
from beholder.media.regions import Region
from beholder.parts.blocks.linears import Linears
from beholder.parts.blocks.positions import learned
from beholder.parts.blocks.query_decoder import QueryDecoder, QueryDecoderModel
from beholder.parts.contracts import BranchOutput
from beholder.parts.fusion.regions import RegionConfig, RegionEncoder, shrunk
from beholder.parts.heads.query_masks import pixel_maps

SPAN = 3  # pixels around a region's middle that its place is a box of


@dataclass(frozen=True)
class RegionQuery(RegionConfig):
    """decoder: as OMG-Seg's, with weights of its own here. width: of what queries are widened to. span: pixels around a point
    that belong to it.
    """

    decoder: QueryDecoder = QueryDecoder()
    width: int = 6144
    span: int = 10

    def tiny(self) -> RegionQuery:
        return super().tiny().but(width=24)

    def build(self, out_dim: int) -> RegionEncoder:
        return RegionQueryEncoder(self, out_dim)


class RegionQueryEncoder(RegionEncoder):
    """(1, D)."""

    def __init__(self, config: RegionQuery, out_dim: int) -> None:
        super().__init__()
        self.config, dim = config, config.decoder.dim
        self.kind, self.token = learned(dim), learned(dim)
        self.place = nn.Linear(2 * dim, dim)
        self.decoder = QueryDecoderModel(config.decoder, masks=False, alone=True)
        self.widen = nn.Linear(2 * dim, config.width)
        self.project = Linears((config.width, out_dim, out_dim), "gelu")

    def forward(self, output: BranchOutput, first: int, plan: PicturePlan, region: Region) -> Tensor:
        query_C, own_C = self.query(plan, region)
        maps = pixel_maps(output, first, 1)
        seen_HW = region.seen(plan.views[0], self.config.span)
        only_hw = (shrunk(seen_HW, (maps.fine.shape[-2], maps.fine.shape[-1]), maps.fine) > 0).to(
            maps.fine.dtype
        )
        refined = self.decoder.refined(query_C[None, None], own_C[None, None], maps, only_hw[None, None])
        return self.project(self.widen(torch.cat((refined[0], own_C[None]), -1)))

    def query(self, plan: PicturePlan, region: Region) -> tuple[Tensor, Tensor]:
        """A query (C,) and its place: waves of the middle, width and height of a small box around the region's middle."""
        view, box = plan.views[0], region.bounds()
        x, y = view.from_original((box.left + box.right) / 2, (box.top + box.bottom) / 2)
        height, width = view.size
        numbers_4 = self.kind.new_tensor([x / width, y / height, 2 * SPAN / width, 2 * SPAN / height])
        half = self.config.decoder.dim // 2
        rates_F = 10000 ** (2 * (torch.arange(half, device=numbers_4.device) // 2) / half)
        angles_4F = numbers_4[[1, 0, 2, 3], None] * 2 * math.pi / rates_F
        waves = torch.stack((angles_4F[:, 0::2].sin(), angles_4F[:, 1::2].cos()), -1).flatten()
        return self.kind + self.token, self.place(waves.to(self.kind.dtype))
