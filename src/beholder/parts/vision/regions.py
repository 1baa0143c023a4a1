"""Regions of pictures as tokens: vectors that a detector made elsewhere, or makes here (Faster R-CNN, 1506.01497, as bottom-up
attention has it, 1707.07998, section 3.1).

V views, N regions, P proposals, A anchors of a cell, C classes, D width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from beholder.errors import BeholderError
from beholder.media.plan import Grid, Size
from beholder.parts.blocks.boxes import anchors, clipped, moved, nms, roi_align
from beholder.parts.contracts import Encoder, EncoderConfig, Packed, VisionConfig
from beholder.parts.vision.resnet import ResNet
from beholder.parts.vision.views import size_of


@dataclass(frozen=True)
class RegionFeatures(EncoderConfig):
    """Views are tables (D, 1, N) of the vectors of N regions, in any number."""

    dim: int

    def grid(self, size: Size) -> Grid:
        return Grid(1, *size)

    def build(self) -> Encoder:
        return RegionFeaturesEncoder(self)


class RegionFeaturesEncoder(Encoder):
    """Views (D, 1, N) -> one token for each region."""

    def __init__(self, config: RegionFeatures) -> None:
        super().__init__()
        self.config = config

    def forward(self, views: Sequence[Tensor]) -> Packed:
        for view in views:
            if view.shape[0] != self.config.dim:
                raise BeholderError(
                    f"vectors of {view.shape[0]} numbers for each region; this system takes {self.config.dim}"
                )
        tokens = [view.flatten(1).T for view in views]
        return Packed(torch.cat(tokens), tuple(self.config.grid(size_of(view)) for view in views))


@dataclass(frozen=True)
class FasterRcnn(VisionConfig):
    """The `count` best regions of a view, each the mean of the last stage's map of it; the stages before make one map of the
    whole view. sides, ratios: of anchors, in pixels and height over width. before, proposals: boxes that are kept before
    and after those that overlap by more than `overlap` are left out. classes: of regions, the first of which is none;
    `apart`: of two regions that overlap by more, the less certain one of a class does not count for it.
    """

    backbone: ResNet
    count: int = 36
    hidden: int = 512
    sides: tuple[float, ...] = (64.0, 128.0, 256.0, 512.0)
    ratios: tuple[float, ...] = (0.5, 1.0, 2.0)
    before: int = 6000
    proposals: int = 300
    overlap: float = 0.7
    classes: int = 1601
    apart: float = 0.3
    dim: int = field(init=False)
    image_size: int = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "dim", self.backbone.dim)
        object.__setattr__(self, "image_size", self.backbone.image_size)
        if self.count > self.proposals:
            raise BeholderError(f"{self.count} regions of {self.proposals} proposals; keep fewer regions")

    def grid(self, size: Size) -> Grid:
        """Raises `BeholderError` for a view too small for so many regions."""
        _, rows, columns = self.backbone.grids(size)[-2]
        most = rows * columns * len(self.sides) * len(self.ratios)
        if most < self.count:
            raise BeholderError(f"a view of {size[1]}x{size[0]} pixels has {most} regions, not {self.count}")
        return Grid(1, 1, self.count)

    @property
    def stride(self) -> int:
        """Pixels per cell of the map that all regions share."""
        return 2 ** (len(self.backbone.dims) + int(self.backbone.early))

    def tiny(self) -> FasterRcnn:
        return self.but(
            backbone=self.backbone.tiny(),
            count=4,
            hidden=16,
            sides=(16.0, 32.0),
            before=32,
            proposals=8,
            classes=5,
        )

    def build(self) -> FasterRcnnEncoder:
        return FasterRcnnEncoder(self)


class FasterRcnnEncoder(Encoder):
    """Views (3, h, w) -> one token for each region, the most certain first."""

    def __init__(self, config: FasterRcnn) -> None:
        super().__init__()
        self.config = config
        self.backbone = config.backbone.build()
        width, kinds = config.backbone.dims[-2], len(config.sides) * len(config.ratios)
        self.proposal = nn.Conv2d(width, config.hidden, 3, padding=1)
        self.objectness = nn.Conv2d(config.hidden, kinds, 1)
        self.deltas = nn.Conv2d(config.hidden, 4 * kinds, 1)
        self.classes = nn.Linear(config.dim, config.classes)

    def forward(self, views: Sequence[Tensor]) -> Packed:
        grids = tuple(self.config.grid(size_of(view)) for view in views)
        return Packed(torch.cat([self.regions(view)[0] for view in views]), grids)

    def regions(self, view: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Of one view: vectors (N, D), boxes in its pixels (N, 4), and scores of classes (N, C)."""
        map_Chw = self.backbone.front(view[None])
        for stage in self.backbone.stages[:-1]:
            map_Chw = stage(map_Chw)
        with torch.no_grad():
            boxes_P4 = self._propose(map_Chw, size_of(view))
        pooled = self.backbone.stages[-1](roi_align(map_Chw[0], boxes_P4, self.config.stride, 14))
        features_PD = pooled.mean((2, 3))
        scores_PC = self.classes(features_PD).softmax(-1)
        best_N = self._best(boxes_P4, scores_PC.detach())
        return features_PD[best_N], boxes_P4[best_N], scores_PC[best_N]

    def _propose(self, map_1Chw: Tensor, size: Size) -> Tensor:
        """Boxes (P, 4) that are likely to hold something, the likeliest first."""
        config = self.config
        hidden = self.proposal(map_1Chw).relu()
        rows, columns = hidden.shape[-2:]
        all_4 = anchors(rows, columns, config.stride, config.sides, config.ratios)
        scores = self.objectness(hidden)[0].permute(1, 2, 0).flatten()
        deltas_4 = self.deltas(hidden)[0].permute(1, 2, 0).reshape(-1, 4)
        first = scores.argsort(dim=0, descending=True, stable=True)[: config.before]
        boxes_4 = clipped(moved(all_4.to(deltas_4)[first], deltas_4[first]), *size)
        kept = nms(boxes_4, scores[None, first], config.overlap)[0]
        order = (
            (~kept).int().argsort(dim=0, stable=True)
        )  # where too few are left, some that overlap them come behind
        return boxes_4[order][: max(config.count, min(config.proposals, int(kept.sum())))]

    def _best(self, boxes_P4: Tensor, scores_PC: Tensor) -> Tensor:
        """Numbers of the regions that are most certainly of some class, (N,)."""
        scores_CP = scores_PC.T[1:]
        kept_CP = nms(boxes_P4, scores_CP, self.config.apart)
        certain_P = scores_CP.masked_fill(~kept_CP, 0.0).amax(0)
        return certain_P.argsort(dim=0, descending=True, stable=True)[: self.config.count]

    def unused_parameters(self, *, pooled: bool) -> set[str]:
        """What only chooses regions."""
        choosing = ("proposal.", "objectness.", "deltas.", "classes.")
        own = {name for name, _ in self.named_parameters() if name.startswith(choosing)}
        return own | {f"backbone.{name}" for name in self.backbone.unused_parameters(pooled=False)}
