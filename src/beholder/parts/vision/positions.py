"""Positions of patches: learned tables that serve other grids than their own, sinusoids, and biases by relative place.

h w rows and columns of a grid, S those of a table, T tokens, D width, H heads.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from beholder.config import Config
from beholder.errors import UnknownName

RESIZES = (None, "bucketed", "bilinear", "bicubic")


@dataclass(frozen=True)
class GridTable(Config):
    """A learned vector for each patch of a square grid, and for the class token. registers: for these as well.

    resize: how it serves grids of another size: not at all; `bucketed` takes the entry at the same relative place (official
    `Idefics3VisionEmbeddings`); `bilinear` or `bicubic`, smoothed where `antialias`. offset: added to the new sides when
    the scale is computed (0.1 in DINO, 2104.14294, and DINOv2's first weights). corners: the outermost entries stay at the
    corners (ViLT).
    """

    resize: str | None = None
    antialias: bool = False
    offset: float = 0.0
    registers: bool = False
    corners: bool = False

    def __post_init__(self) -> None:
        if self.resize not in RESIZES:
            raise UnknownName("resize of a position table", str(self.resize), [str(name) for name in RESIZES])

    def resized(self, table_ND: Tensor, height: int, width: int) -> Tensor:
        """(height * width, D) of a table (S * S, D) in raster order; computed in float32."""
        side = round(len(table_ND) ** 0.5)
        if self.resize == "bucketed":
            rows, columns = (bucketed_positions(n, side, table_ND.device) for n in (height, width))
            return table_ND[(rows[:, None] * side + columns).flatten()]
        if (height, width) == (side, side):
            return table_ND
        assert self.resize is not None, "a config's `grid` refuses sizes that its table cannot take"
        maps_1DSS = table_ND.T.unflatten(1, (side, side))[None].float()
        scale = tuple((count + self.offset) / side for count in (height, width))
        maps_1Dhw = F.interpolate(
            maps_1DSS,
            size=None if self.offset else (height, width),
            scale_factor=scale if self.offset else None,
            mode=self.resize,
            align_corners=self.corners,
            antialias=self.antialias,
        )
        return maps_1Dhw[0].flatten(1).T.to(table_ND.dtype)


BICUBIC = GridTable("bicubic")


@dataclass(frozen=True)
class Sinusoids(Config):
    """Fixed waves: sine and cosine of the column, then of the row, a quarter of the channels each (MAE's order, 2111.06377,
    also of AIMv2's native-resolution models).
    """

    theta: float = 10000.0

    def table(self, height: int, width: int, dim: int, device: torch.device | None = None) -> Tensor:
        """(height * width, dim) in raster order, computed in float64."""
        places = torch.arange(dim // 4, dtype=torch.float64, device=device) / (dim // 4)
        rates_F = 1.0 / self.theta**places
        rows, columns = (
            torch.arange(n, dtype=torch.float64, device=device)[:, None] * rates_F for n in (height, width)
        )
        by_row = torch.cat((rows.sin(), rows.cos()), -1).repeat_interleave(width, 0)
        by_column = torch.cat((columns.sin(), columns.cos()), -1).repeat(height, 1)
        return torch.cat((by_column, by_row), -1).float()


def bucketed_positions(count: int, side: int, device: torch.device | None = None) -> Tensor:
    """For `count` patches in a row, the index of the table column (of `side`) at the same relative place. In
    float32, as officially: for some tables (side 25) even `count == side` is not one to one, and weights were
    trained so.
    """
    boundaries = torch.arange(1 / side, 1.0, 1 / side, device=device)
    places = torch.arange(count, dtype=torch.float32, device=device) * (1 / count)
    return torch.bucketize(places, boundaries, right=True)


def offset_index(height: int, width: int, device: torch.device | None = None) -> Tensor:
    """(T, T): for each pair of a grid's tokens the number of their offset in a table of (2 height - 1) (2 width - 1) rows."""
    rows, columns = (torch.arange(n, device=device) for n in (height, width))
    down = (rows[:, None] - rows + height - 1) * (2 * width - 1)
    right = columns[:, None] - columns + width - 1
    return (down[:, None, :, None] + right[None, :, None, :]).reshape(height * width, height * width)


class RelativeTable(nn.Module):
    """BEiT's (2106.08254) bias of each head by the offset from key to query in rows and columns, with three more entries: from
    the class token, to it, and of it to itself.
    """

    def __init__(self, side: int, num_heads: int) -> None:
        super().__init__()
        self.side = side
        self.weight = nn.Parameter(torch.zeros((2 * side - 1) ** 2 + 3, num_heads))

    def forward(self, height: int, width: int) -> Tensor:
        """(1, H, T, T) for a grid behind a class token; offsets of other grids by bilinear interpolation (MiDaS 3.1)."""
        offsets, special = self.weight[:-3], self.weight[-3:]
        if (height, width) != (self.side, self.side):
            maps_1HOO = offsets.T.unflatten(1, (2 * self.side - 1, 2 * self.side - 1))[None]
            size = (2 * height - 1, 2 * width - 1)
            offsets = F.interpolate(maps_1HOO, size=size, mode="bilinear")[0].flatten(1).T
        index_TT = F.pad(offset_index(height, width, offsets.device), (1, 0, 1, 0))
        index_TT[0], index_TT[:, 0], index_TT[0, 0] = len(offsets), len(offsets) + 1, len(offsets) + 2
        return torch.cat((offsets, special))[index_TT].permute(2, 0, 1)[None]
