"""Pixels that know which objects they belong to, and the objects themselves, as tokens (OMG-LLaVA, 2406.19389, section 3.2).

Q queries, N tokens, C width of queries, D width.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from beholder.errors import BeholderError
from beholder.media.plan import AtMost, Exact, Grid, View
from beholder.parts.blocks.positions import learned
from beholder.parts.connectors.projections import Folded, Linear, Mlp, fold
from beholder.parts.connectors.still import MOVES
from beholder.parts.contracts import Connector, ConnectorConfig, Context, Packed
from beholder.parts.fusion.regions import map_of
from beholder.parts.vision.omg_seg import MASKS, QUERIES, SCORES

SMOOTH = 0.5  # omg_llava/omg_llava/model/omg_seg/omg_seg_visual_encoder.py `panoptic_postprocess`


@dataclass(frozen=True)
class ObjectQueries(ConnectorConfig):
    """fold: squares of tokens that become one before `pixels` maps them with the perception prior. objects: maps each query, of
    width 2C, which are as many as the encoder's `queries`. Tap 0 says which tokens stay (`DropStill`): queries that are the
    likeliest nowhere do not.
    """

    pixels: Mlp = Mlp(depth=2)
    objects: Mlp = Mlp(depth=2)
    factor: int = 2
    dim: int = 256
    queries: int = 300

    def grids(self, views: tuple[View, ...], grids: tuple[Grid, ...]) -> tuple[Grid, ...]:
        pairs = ((Folded(Linear(), self.factor).grid(grid), Grid(1, 1, 1 + self.queries)) for grid in grids)
        return tuple(grid for pair in pairs for grid in pair)

    def grid(self, grid: Grid) -> Grid:
        return Grid(1, 1, Folded(Linear(), self.factor).grid(grid).num_tokens + 1 + self.queries)

    def num_tokens(self, grid: Grid) -> Exact | AtMost:
        return AtMost(self.grid(grid).num_tokens)

    def tiny(self) -> ObjectQueries:
        return self.but(pixels=self.pixels.tiny(), objects=self.objects.tiny(), dim=16, queries=6)

    def build(self, in_dim: int, out_dim: int) -> Connector:
        return ObjectQueriesConnector(self, in_dim, out_dim)


class ObjectQueriesConnector(Connector):
    """(N, in_dim) and the taps of OMG-Seg -> pixel tokens, a separator and one token for each query."""

    def __init__(self, config: ObjectQueries, in_dim: int, out_dim: int) -> None:
        super().__init__()
        self.config, folded = config, in_dim * config.factor**2
        self.pixels = config.pixels.build(folded + 2 * config.dim, out_dim)
        self.widen = nn.Linear(2 * config.dim, folded)
        self.objects = config.objects.build(folded, out_dim)
        self.separator = learned(1, out_dim)

    def forward(self, packed: Packed, context: Context | None = None) -> Packed:
        if any(tap not in packed.taps for tap in (QUERIES, MASKS, SCORES)):
            raise BeholderError(
                "this connector needs an encoder of objects, which gives queries, masks and scores"
            )
        joined = fold(packed, self.config.factor)
        tokens, stays, grids = [], [], []
        for number, (pixels_ND, grid) in enumerate(zip(joined.split(), joined.grids, strict=True)):
            queries_QC = map_of(packed.taps[QUERIES], number)[:, 0].T
            prior_NC, likeliest_Q = perceived(packed, number, queries_QC, grid)
            both_ND = torch.cat((pixels_ND, prior_NC.to(pixels_ND.dtype)), -1)
            seen = self.pixels(Packed(both_ND, (grid,))).tokens_ND
            row = Grid(1, 1, len(queries_QC))
            objects = self.objects(Packed(self.widen(queries_QC), (row,))).tokens_ND
            tokens += [seen, self.separator, objects]
            stays += [torch.ones(len(seen) + 1, device=seen.device), likeliest_Q.to(seen.device).float()]
            grids += [grid, Grid(1, 1, 1 + len(queries_QC))]
        stays_N1 = torch.cat(stays)[:, None]
        return Packed(torch.cat(tokens), tuple(grids), {MOVES: Packed(stays_N1, tuple(grids))})


def perceived(packed: Packed, number: int, queries_QC: Tensor, grid: Grid) -> tuple[Tensor, Tensor]:
    """The perception prior (N, C) of a view's cells: the mean of the queries, each weighed by the softmax of how surely it is
    an object and that the cell is in its mask; and which queries are the likeliest of some cell (Q,).
    """
    logits_Qhw = map_of(packed.taps[MASKS], number)
    scores_Q = map_of(packed.taps[SCORES], number)[0, 0]
    size = (4 * logits_Qhw.shape[1], 4 * logits_Qhw.shape[2])
    masks_QHW = F.interpolate(logits_Qhw[None], size, mode="bilinear")[0].sigmoid()
    sure_QHW = (scores_Q * (1 - SMOOTH) + SMOOTH)[:, None, None] * masks_QHW
    sure_QN = F.interpolate(sure_QHW[None], (grid.height, grid.width), mode="bilinear")[0].flatten(1)
    likeliest_Q = torch.zeros(len(sure_QN), dtype=torch.bool, device=sure_QN.device)
    likeliest_Q[sure_QN.argmax(0)] = True
    return sure_QN.softmax(0).T @ queries_QC, likeliest_Q
