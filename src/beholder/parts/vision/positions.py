"""Positions of patches: learned tables that serve other grids than their own, sinusoids, and biases by relative place.

h w rows and columns of a grid, S those of a table, T tokens, D width, H heads.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

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
    corners (ViLT). spare: there is a first entry that nothing reads (HunYuan-VL).
    cls_last: the class token's entry is the last one (Llama 4). patches: there are entries of patches alone (timm's DINOv2).
    """

    resize: str | None = None
    antialias: bool = False
    offset: float = 0.0
    registers: bool = False
    corners: bool = False
    spare: bool = False
    cls_last: bool = False
    patches: bool = False

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


@dataclass(frozen=True)
class RowsColumns(Config):
    """A learned vector for each of `count` rows and one for each of as many columns, numbered from 1; a patch has the sum of
    its two (Pix2Struct, 2210.03347). Number 0 is padding's.
    """

    count: int = 4096

    def tiny(self) -> RowsColumns:
        return self.but(count=8)

    def summed(self, rows_ND: Tensor, columns_ND: Tensor, height: int, width: int) -> Tensor:
        """(height * width, D) in raster order."""
        return (rows_ND[1 : height + 1, None] + columns_ND[None, 1 : width + 1]).flatten(0, 1)


BICUBIC = GridTable("bicubic")


@dataclass(frozen=True)
class FrameTable(Config):
    """A vector for each patch of so many frames of a square grid, and for what stands in front: learned (InternVideo2,
    2403.15377), or the fixed waves of the patch's number, sine and cosine in turn (VideoMAE, 2203.12602; UMT, 2303.16058).

    frames: steps in time that it was made for; other numbers are interpolated between them. A picture has the mean of a
    learned table over time, the first frame's waves otherwise. side: of the grid that waves were made for, where they are
    resized.
    """

    frames: int = 4
    learned: bool = True
    side: int | None = None

    def tiny(self) -> FrameTable:
        return self.but(frames=min(self.frames, 2), side=self.side and 1)

    @lru_cache(maxsize=8)  # noqa: B019 - settings are few and small
    def waves(self, side: int, dim: int) -> Tensor:
        """The fixed table (frames * side * side, dim), computed in float64."""
        own = self.side or side
        places = torch.arange(self.frames * own * own, dtype=torch.float64, device="cpu")[:, None]
        channels_D = torch.arange(dim, device="cpu")
        rates_D = 10000.0 ** -(2 * (channels_D // 2).double() / dim)
        even_D = channels_D % 2 == 0
        table_ND = torch.where(even_D, (places * rates_D).sin(), (places * rates_D).cos()).float()
        if own == side:
            return table_ND
        maps_FDSS = table_ND.view(self.frames, own, own, dim).permute(0, 3, 1, 2)
        wider_FDSS = F.interpolate(maps_FDSS, size=(side, side), mode="bicubic")
        return wider_FDSS.permute(0, 2, 3, 1).flatten(0, 2)

    def resized(self, table_ND: Tensor, frames: int) -> Tensor:
        """(frames * side * side, D) of the table, interpolated over time in float32."""
        if frames == self.frames:
            return table_ND
        if frames == 1 and self.learned:
            return table_ND.unflatten(0, (self.frames, -1)).mean(0)
        if frames == 1:
            return table_ND[: len(table_ND) // self.frames]
        lines_PDF = table_ND.unflatten(0, (self.frames, -1)).permute(1, 2, 0).float()
        lines_PDf = F.interpolate(lines_PDF, size=frames, mode="linear")
        return lines_PDf.permute(2, 0, 1).flatten(0, 1).to(table_ND.dtype)


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
