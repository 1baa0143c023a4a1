"""Labels of a picture's cells from the maps of all stages (SegFormer, 2105.15203, section 3.2).

V views, h w rows and columns of a map, C channels, K labels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from beholder.errors import BeholderError
from beholder.media.plan import Grid
from beholder.parts.contracts import Head, HeadConfig, HeadInputs, LanguageConfig, Packed
from beholder.parts.language.state import State


@dataclass(frozen=True)
class CellLabels(HeadConfig):
    """dims: channels of each map, the encoder's taps in order, brought to `width` by a matrix each and to the first one's grid.
    names: of the labels, () where nobody says.
    """

    output: ClassVar[str] = "cells"
    reads_text: ClassVar[bool] = False
    dims: tuple[int, ...]
    width: int
    count: int
    branch: str = "image"
    names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.names and len(self.names) != self.count:
            raise BeholderError(
                f"{self.count} labels have {len(self.names)} names; give one for each, or none"
            )

    def tiny(self) -> CellLabels:
        dims = tuple(8 * (stage + 1) for stage in range(len(self.dims)))
        return self.but(dims=dims, width=16, count=min(self.count, 8), names=self.names[:8])

    def build(self, language: LanguageConfig | None) -> Head:
        return CellLabelsHead(self)


class CellLabelsHead(Head):
    """Taps -> scores (N, K) on the grids of the first."""

    def __init__(self, config: CellLabels) -> None:
        super().__init__()
        self.config, width = config, config.width
        self.maps = nn.ModuleList(nn.Linear(dim, width) for dim in config.dims)
        self.fuse = nn.Conv2d(width * len(config.dims), width, 1, bias=False)
        self.norm = nn.BatchNorm2d(width)
        self.labels = nn.Conv2d(width, config.count, 1)

    def forward(self, inputs: HeadInputs, state: State | None = None) -> Packed:
        taps = [tap for _, tap in sorted(inputs.branches[self.config.branch].encoded[0].taps.items())]
        if len(taps) != len(self.maps):
            raise BeholderError(f"labels of cells read {len(self.maps)} maps; the encoder gives {len(taps)}")
        split = [tap.split() for tap in taps]
        views = [
            self._view([(own[view], tap.grids[view]) for own, tap in zip(split, taps, strict=True)])
            for view in range(len(taps[0].grids))
        ]
        return Packed(torch.cat(views), taps[0].grids)

    def _view(self, maps: Sequence[tuple[Tensor, Grid]]) -> Tensor:
        """Scores of one view's cells, (N, K)."""
        _, (_, height, width) = maps[0]
        same = []
        for linear, (x_NC, grid) in zip(self.maps, maps, strict=True):
            x_1Chw = linear(x_NC).T.unflatten(1, (grid.height, grid.width))[None]
            same.append(F.interpolate(x_1Chw, (height, width), mode="bilinear", align_corners=False))
        fused_1Chw = F.relu(self.norm(self.fuse(torch.cat(same[::-1], 1))))
        scores: Tensor = self.labels(fused_1Chw)[0].flatten(1).T
        return scores
