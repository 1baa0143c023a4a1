"""Geometries of detectors, which see the whole picture in its own proportions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from beholder.errors import BeholderError
from beholder.media.geometry import Geometry
from beholder.media.plan import Box, Size, View


@dataclass(frozen=True, kw_only=True)
class Whole(Geometry):
    """The shorter side is resized to `edge` pixels, or to fewer where the longer one would be more than `limit` (Faster R-CNN,
    GLIP; `GetImageBlob` and `maskrcnn_benchmark.data.transforms.Resize`).
    """

    edge: int
    limit: int

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.edge <= self.limit:
            raise BeholderError(f"edge {self.edge} and limit {self.limit}: the longer side needs more pixels")

    def views(self, original: Size) -> tuple[View, ...]:
        scale = min(self.edge / min(original), self.limit / max(original))
        height, width = (max(1, round(side * scale)) for side in original)
        return (View(original, ((height, width),), Box(0, 0, width, height)),)

    def at(self, tile: int) -> Self:
        return self.but(edge=tile, limit=round(tile * self.limit / self.edge))
