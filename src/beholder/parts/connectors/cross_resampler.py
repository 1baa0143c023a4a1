"""One layer of cross-attention that makes so many tokens of any view, told where they are by waves in two dimensions
(Qwen-VL, 2308.12966, section 2.1; MiniCPM-V, 2408.01800).

V views, N feature tokens of a view, Q queries, D width, H heads, K head width.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from beholder.errors import BeholderError, UnknownName
from beholder.media.plan import Grid
from beholder.parts.blocks.attention import Attention
from beholder.parts.blocks.cross_attention import FeatureAttention
from beholder.parts.blocks.masks import AttentionMask
from beholder.parts.blocks.norms import Norm
from beholder.parts.blocks.positions import learned
from beholder.parts.blocks.step import Step
from beholder.parts.contracts import Connector, ConnectorConfig, Context, Packed
from beholder.parts.vision.positions import GridTable, Sinusoids

PLACES = ("resized", "waves")
WIDTH = 128  # of a head


@dataclass(frozen=True)
class CrossResampler(ConnectorConfig):
    """`queries` tokens for each view, in the language model's width, whose heads are 128 wide in all releases.

    places: `resized`: queries stand on a square, features on the same square resized to their grid (Qwen-VL, MiniCPM-V 2.0);
    `waves`: features have waves of their own rows and columns, queries have none (MiniCPM-V 2.5 and later).
    regions: each query on the square reads its cell of the map alone, sampled at a few points (LLaVA-UHD's release; official
    `AdaptSpatialResampler`, whose `roi_align` is torchvision's).
    """

    queries: int = 256
    places: str = "resized"
    norm: Norm = Norm("layer", 1e-6)
    regions: bool = False

    def __post_init__(self) -> None:
        if self.places not in PLACES:
            raise UnknownName("CrossResampler places", self.places, PLACES)
        if self.places == "resized" and self.side**2 != self.queries:
            raise BeholderError(f"{self.queries} queries do not fill a square; give one or places='waves'")
        if self.regions and self.places != "resized":
            raise BeholderError("regions are those of queries on a square; leave places at 'resized'")

    @property
    def side(self) -> int:
        """Queries per side of the square."""
        return math.isqrt(self.queries)

    def grid(self, grid: Grid) -> Grid:
        return Grid(1, 1, self.queries)

    def tiny(self) -> CrossResampler:
        return super().tiny().but(queries=4)

    def build(self, in_dim: int, out_dim: int) -> Connector:
        return CrossResamplerConnector(self, in_dim, out_dim)


class CrossResamplerConnector(Connector):
    """(N, in_dim) -> (Q of each view, out_dim)."""

    places: Tensor

    def __init__(self, config: CrossResampler, in_dim: int, out_dim: int) -> None:
        super().__init__()
        self.config = config
        heads = Attention(max(out_dim // WIDTH, 1), qkv_bias=True, out_bias=True)
        self.queries = learned(config.queries, out_dim)
        if config.places == "resized":
            table_QD = Sinusoids().table(config.side, config.side, out_dim)
            self.register_buffer("places", table_QD)  # published files hold it
        self.widen = nn.Linear(in_dim, out_dim, bias=False) if in_dim != out_dim else None
        self.norm_queries, self.norm_features, self.norm = (config.norm.build(out_dim) for _ in range(3))
        self.attn = FeatureAttention(heads, out_dim)
        self.project = nn.Linear(out_dim, out_dim, bias=False)

    def forward(self, packed: Packed, context: Context | None = None) -> Packed:
        x_ND = packed.tokens_ND if self.widen is None else self.widen(packed.tokens_ND)
        given = Packed(self.norm_features(x_ND), packed.grids)
        views = zip(given.split(), given.grids, strict=True)
        read = [self._read(x_ND, grid) for x_ND, grid in views]
        tokens_ND = self.project(self.norm(torch.cat(read) if read else x_ND))
        return Packed(tokens_ND, tuple(self.config.grid(grid) for grid in packed.grids))

    def _read(self, x_ND: Tensor, grid: Grid) -> Tensor:
        """What the queries read of a view, (Q, D). Frames of a view share places."""
        queries_QD = self.norm_queries(self.queries)
        if self.config.places == "resized":
            queries_QD = queries_QD + self.places.to(x_ND.dtype)
            places_ND = GridTable("bicubic").resized(self.places, grid.height, grid.width)
        else:
            places_ND = Sinusoids().table(grid.height, grid.width, x_ND.shape[-1], x_ND.device)
        attn, told_ND = self.attn, x_ND + places_ND.to(x_ND.dtype).repeat(grid.frames, 1)
        if self.config.regions:  # a sequence of one query for each cell, (Q, 1, D)
            cells = cells_of(grid, self.config.side)
            asked, told, x = (
                queries_QD[:, None],
                in_cells(told_ND, grid, *cells),
                in_cells(x_ND, grid, *cells),
            )
        else:
            asked, told, x = queries_QD[None], told_ND[None], x_ND[None]
        k_BHNK, v_BHNK = attn.split(attn.k(told)), attn.split(attn.v(x))
        heads = attn.attend(attn.queries(asked, Step()), k_BHNK, v_BHNK, AttentionMask())
        return attn.merge(heads).flatten(0, 1)


POINTS = (
    (2, 4),
    (2, 3),
    (3, 4),
    (3, 3),
    (4, 2),
    (3, 2),
    (4, 3),
)  # rows and columns; of equally near ones the first


def cells_of(grid: Grid, side: int) -> tuple[Tensor, Tensor]:
    """How rows and columns of a map are read by `side` x `side` cells: (side, points, h) and (side, points, w). As many points
    as come nearest to the map's proportions.
    """
    ratio = math.log(grid.width / grid.height)
    points = min(POINTS, key=lambda rows_columns: abs(ratio - math.log(rows_columns[1] / rows_columns[0])))
    return _sampled(grid.height, side, points[0]), _sampled(grid.width, side, points[1])


def _sampled(length: int, side: int, points: int) -> Tensor:
    """(side, points, length): each point is the mean of interpolated places of its stretch of a cell, and none behind the end.
    Cells are at least one place long (torchvision's `roi_align` with `aligned=False`).
    """
    step = max(length / side, 1.0) / points
    count = math.ceil(step)  # of samples in a stretch
    starts = torch.arange(side)[:, None, None] * (length / side) + torch.arange(points)[:, None] * step
    at_SPC = starts + (torch.arange(count) + 0.5) * step / count
    inside, at_SPC = at_SPC <= length, at_SPC.clamp(max=length - 1)
    below = at_SPC.floor().long()
    share_SPC, above = at_SPC - below, (below + 1).clamp(max=length - 1)
    eye = torch.eye(length)
    read = eye[below] * (1 - share_SPC)[..., None] + eye[above] * share_SPC[..., None]
    return (read * inside[..., None]).mean(2)


def in_cells(x_ND: Tensor, grid: Grid, rows_SPh: Tensor, columns_SPw: Tensor) -> Tensor:
    """(cells, points, D) of a map, cells row after row, in float32 as officially; frames' points follow each other."""
    x_FhwD = x_ND.float().unflatten(0, grid)
    read = torch.einsum("aph,bqw,fhwd->abfpqd", rows_SPh.to(x_FhwD), columns_SPw.to(x_FhwD), x_FhwD)
    return read.flatten(2, 4).flatten(0, 1).to(x_ND.dtype)
