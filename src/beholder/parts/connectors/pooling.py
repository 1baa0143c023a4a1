"""Connectors that make fewer tokens of a view by averaging neighbours.

N packed tokens, H rows and W columns of a view, C channels.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from beholder.errors import BeholderError, UnknownName
from beholder.media.geometry import fitted
from beholder.media.plan import Grid, View
from beholder.parts.contracts import Connector, ConnectorConfig, Context, Packed

WAYS = ("average", "max", "bilinear")


@dataclass(frozen=True)
class GridPool(ConnectorConfig):
    """Each view's grid becomes a smaller one. `then` maps what was pooled, or with `after` what is pooled.

    sides:  rows and columns that come out, cells of nearly equal size being averaged (adaptive pooling; DeCo, 2405.20985)
    factor: in place of sides, squares of so many rows and columns become one token, what is left over being dropped
            (Gemma 3, 2503.19786, section 2.1; LLaVA-NeXT-Video); `bilinear` rounds up (LLaVA-OneVision, 2408.03326)
    frames: pool views that show frames of a recording alone
    """

    then: ConnectorConfig
    sides: tuple[int, int] | None = None
    factor: int = 1
    way: str = "average"
    after: bool = False
    frames: bool = False

    def __post_init__(self) -> None:
        if self.way not in WAYS:
            raise UnknownName("GridPool way", self.way, WAYS)
        if self.factor < 1 or (self.sides is not None and min(self.sides) < 1):
            raise BeholderError(f"pooling to {self.sides} or by {self.factor}: give numbers of 1 or more")

    def pooled(self, grid: Grid) -> Grid:
        """The grid that pooling makes of one."""
        height, width = self.sides or (self._share(grid.height), self._share(grid.width))
        if not height or not width:
            raise BeholderError(
                f"a grid of {grid.height}x{grid.width} tokens has no square of {self.factor} to average"
            )
        return grid._replace(height=height, width=width)

    def _share(self, side: int) -> int:
        return math.ceil(side / self.factor) if self.way == "bilinear" else side // self.factor

    def grid(self, grid: Grid) -> Grid:
        return self.pooled(self.then.grid(grid)) if self.after else self.then.grid(self.pooled(grid))

    def grids(self, views: tuple[View, ...], grids: tuple[Grid, ...]) -> tuple[Grid, ...]:
        given = self.then.grids(views, grids) if self.after else grids
        pooled = tuple(
            self.pooled(grid) if view.numbers or not self.frames else grid
            for view, grid in zip(views, given, strict=True)
        )
        return pooled if self.after else self.then.grids(views, pooled)

    def tiny(self) -> GridPool:
        return self.but(then=self.then.tiny(), sides=self.sides and (1, 1), factor=min(self.factor, 2))

    def build(self, in_dim: int, out_dim: int) -> Connector:
        return GridPoolConnector(self, in_dim, out_dim)


class GridPoolConnector(Connector):
    """(N, in_dim) -> (fewer, out_dim)."""

    def __init__(self, config: GridPool, in_dim: int, out_dim: int) -> None:
        super().__init__()
        self.config = config
        self.then = config.then.build(in_dim, out_dim)

    def forward(self, packed: Packed, context: Context | None = None) -> Packed:
        if self.config.after:
            return self._pool(self.then(packed, context), context)
        return self.then(self._pool(packed, context), context)

    def _pool(self, packed: Packed, context: Context | None) -> Packed:
        views = [view for plan in (context.pictures if context else ()) for view in plan.views]
        chosen = [not self.config.frames or bool(view.numbers) for view in views]
        if not views:
            chosen = [not self.config.frames] * len(packed.grids)

        def grid_of(number: int, grid: Grid) -> Grid:
            return self.config.pooled(grid) if chosen[number] else grid

        return resized(packed, grid_of, self._plane)

    def _plane(self, x_FCHW: Tensor, size: tuple[int, int]) -> Tensor:
        config = self.config
        if config.way == "bilinear":
            return F.interpolate(x_FCHW, size, mode="bilinear")
        if config.sides is not None:
            pool = F.adaptive_avg_pool2d if config.way == "average" else F.adaptive_max_pool2d
            return pool(x_FCHW, size)
        kernel = F.avg_pool2d if config.way == "average" else F.max_pool2d
        return kernel(x_FCHW, config.factor)


def resized(
    packed: Packed,
    grid_of: Callable[[int, Grid], Grid],
    plane: Callable[[Tensor, tuple[int, int]], Tensor],
) -> Packed:
    """Every view on the grid that `grid_of` gives for its number and grid; `plane` maps (frames, C, H, W) to a size."""
    grids, tokens = [], []
    for number, (x_ND, grid) in enumerate(zip(packed.split(), packed.grids, strict=True)):
        grids.append(grid_of(number, grid))
        if grids[-1] != grid:
            x_FCHW = x_ND.view(*grid, -1).permute(0, 3, 1, 2)
            x_ND = plane(x_FCHW, (grids[-1].height, grids[-1].width)).permute(0, 2, 3, 1).flatten(0, 2)
        tokens.append(x_ND)
    return Packed(torch.cat(tokens) if tokens else packed.tokens_ND, tuple(grids))


@dataclass(frozen=True)
class TileCap(ConnectorConfig):
    """What `then` gives for the tiles of a picture, where they are more tokens than `most` tiles have, as one smaller grid
    without padding behind that of the whole picture (LLaVA-OneVision, 2408.03326, section 3.2; official
    `pack_image_features`). The geometry must be `AnyRes`.
    """

    then: ConnectorConfig
    most: int = 9

    def grid(self, grid: Grid) -> Grid:
        return self.then.grid(grid)

    def grids(self, views: tuple[View, ...], grids: tuple[Grid, ...]) -> tuple[Grid, ...]:
        out = self.then.grids(views, grids)
        capped = self.capped(views, out)
        return out if capped is None else (out[0], capped)

    def capped(self, views: Sequence[View], grids: Sequence[Grid]) -> Grid | None:
        """The one grid of a picture's tiles, None where they are few enough or there are none."""
        if len(views) < 2 or any(view.role != "tile" for view in views[1:]):
            return None
        rows, columns = tiled(views)
        top, bottom, left, right = fitted(
            (rows * grids[1].height, columns * grids[1].width), views[0].original
        )
        ratio = math.sqrt((bottom - top) * (right - left) / (self.most * grids[1].height ** 2))
        if ratio <= 1.1:
            return None
        height, width = (max(int(side // ratio), 1) for side in (bottom - top, right - left))
        return Grid(1, height, width)

    def tiny(self) -> TileCap:
        return self.but(then=self.then.tiny(), most=1)

    def build(self, in_dim: int, out_dim: int) -> Connector:
        return TileCapConnector(self, in_dim, out_dim)


class TileCapConnector(Connector):
    """(N, in_dim) -> (at most those of the whole and of `most` tiles, out_dim)."""

    def __init__(self, config: TileCap, in_dim: int, out_dim: int) -> None:
        super().__init__()
        self.config = config
        self.then = config.then.build(in_dim, out_dim)

    def forward(self, packed: Packed, context: Context | None = None) -> Packed:
        packed = self.then(packed, context)
        plans = context.pictures if context else ()
        if sum(len(plan.views) for plan in plans) != len(packed.grids):
            return packed
        given, grids, tokens, first = packed.split(), list[Grid](), list[Tensor](), 0
        for plan in plans:
            mine = range(first, first + len(plan.views))
            first = mine.stop
            capped = self.config.capped(plan.views, [packed.grids[number] for number in mine])
            if capped is None:
                grids += [packed.grids[number] for number in mine]
                tokens += [given[number] for number in mine]
                continue
            grids += [packed.grids[mine.start], capped]
            tiles = [given[number].view(*packed.grids[number][1:], -1) for number in mine[1:]]
            tokens += [given[mine.start], self._joined(plan.views, tiles, capped)]
        return Packed(torch.cat(tokens), tuple(grids))

    def _joined(self, views: Sequence[View], tiles: Sequence[Tensor], grid: Grid) -> Tensor:
        rows, columns = tiled(views)
        whole_HWD = torch.cat(
            [torch.cat(list(tiles[row * columns : (row + 1) * columns]), 1) for row in range(rows)]
        )
        top, bottom, left, right = fitted((whole_HWD.shape[0], whole_HWD.shape[1]), views[0].original)
        plane_1DHW = whole_HWD[top:bottom, left:right].permute(2, 0, 1)[None]
        small_1DHW = F.interpolate(plane_1DHW, (grid.height, grid.width), mode="bilinear")
        return small_1DHW[0].flatten(1).T


def tiled(views: Sequence[View]) -> tuple[int, int]:
    """Rows and columns of the tiles behind a picture's first view."""
    tops = {view.crop.top for view in views[1:]}
    return len(tops), (len(views) - 1) // len(tops)


@dataclass(frozen=True)
class Refined(ConnectorConfig):
    """What `first` gives, normed, plus what `then` makes of it (moondream1: `VisionProjection`)."""

    first: ConnectorConfig
    then: ConnectorConfig
    eps: float = 1e-5

    def grid(self, grid: Grid) -> Grid:
        return self.first.grid(grid)

    def build(self, in_dim: int, out_dim: int) -> Connector:
        return RefinedConnector(self, in_dim, out_dim)


class RefinedConnector(Connector):
    """(N, in_dim) -> (N, out_dim)."""

    def __init__(self, config: Refined, in_dim: int, out_dim: int) -> None:
        super().__init__()
        self.first = config.first.build(in_dim, out_dim)
        self.norm = nn.LayerNorm(out_dim, config.eps)
        self.then = config.then.build(out_dim, out_dim)

    def forward(self, packed: Packed, context: Context | None = None) -> Packed:
        packed = self.first(packed, context)
        normed = Packed(self.norm(packed.tokens_ND), packed.grids)
        return Packed(normed.tokens_ND + self.then(normed, context).tokens_ND, packed.grids)
