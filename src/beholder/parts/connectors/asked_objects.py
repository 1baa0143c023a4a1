"""Learned queries that become a picture's objects, by a transformer whose places are added to what is compared, at every layer,
and never to what is read (DETR, 2005.12872, section 3.2).

V views, N cells of a view, Q queries, D width, H heads, K head width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from beholder.media.plan import Grid, View
from beholder.parts.blocks.attention import Attention, SelfAttention
from beholder.parts.blocks.masks import AttentionMask
from beholder.parts.blocks.mlp import FeedForward
from beholder.parts.blocks.norms import Norm
from beholder.parts.blocks.positions import learned
from beholder.parts.contracts import Connector, ConnectorConfig, Context, Packed
from beholder.parts.heads.mask_memory import sines


@dataclass(frozen=True)
class AskedObjects(ConnectorConfig):
    """width: of the transformer and of what comes out. layers, heads, hidden: of the side that reads the picture; `asking`
    those of the side that asks it.
    """

    width: int = 256
    queries: int = 100
    layers: int = 6
    heads: int = 8
    hidden: int = 2048
    asking: tuple[int, int, int] = (6, 8, 2048)
    act: str = "relu"
    norm: Norm = Norm("layer", 1e-5)

    def grid(self, grid: Grid) -> Grid:
        return Grid(1, 1, self.queries)

    def grids(self, views: tuple[View, ...], grids: tuple[Grid, ...]) -> tuple[Grid, ...]:
        return tuple(self.grid(grid) for grid in grids)

    def tiny(self) -> AskedObjects:
        return self.but(width=32, queries=2, layers=1, heads=4, hidden=48, asking=(1, 4, 48))

    def build(self, in_dim: int, out_dim: int) -> Connector:
        return AskedObjectsConnector(self, in_dim)


class PlacedLayer(nn.Module):
    """Attention, to a memory besides where `asks`, and an MLP; norms behind the sums."""

    def __init__(self, width: int, heads: int, mlp: FeedForward, norm: Norm, *, asks: bool) -> None:
        super().__init__()
        attention = Attention(heads, qkv_bias=True, out_bias=True)
        self.attn, self.norm1 = SelfAttention(attention, width, 0), norm.build(width)
        self.cross = SelfAttention(attention, width, 0) if asks else None
        self.cross_norm = norm.build(width) if asks else None
        self.mlp, self.norm2 = mlp.build(width), norm.build(width)

    def forward(
        self, x_VTD: Tensor, places_TD: Tensor, memory: tuple[Tensor, Tensor] | None = None
    ) -> Tensor:
        """memory: what is read (V, N, D), and its places (N, D)."""
        placed_VTD = x_VTD + places_TD
        x_VTD = self.norm1(x_VTD + _look(self.attn, placed_VTD, placed_VTD, x_VTD))
        if self.cross is not None and self.cross_norm is not None and memory is not None:
            read_VND, there_ND = memory
            seen_VTD = _look(self.cross, x_VTD + places_TD, read_VND + there_ND, read_VND)
            x_VTD = self.cross_norm(x_VTD + seen_VTD)
        given: Tensor = self.norm2(x_VTD + self.mlp(x_VTD))
        return given


def _look(attn: SelfAttention, asked_VTD: Tensor, keys_VND: Tensor, values_VND: Tensor) -> Tensor:
    """Attention whose queries, keys and values are projected of unlike things."""
    q, k, v = attn.split(attn.q(asked_VTD)), attn.split(attn.k(keys_VND)), attn.split(attn.v(values_VND))
    return attn.merge(attn.attend(q, k, v, AttentionMask()))


class AskedObjectsConnector(Connector):
    """(N, in_dim) -> (V Q, width)."""

    def __init__(self, config: AskedObjects, in_dim: int) -> None:
        super().__init__()
        self.config, width, norm = config, config.width, config.norm
        self.project = nn.Linear(in_dim, width)
        self.queries = learned(config.queries, width)
        self.reads = self._layers(config.layers, config.heads, config.hidden, asks=False)
        self.asks = self._layers(*config.asking, asks=True)
        self.norm = norm.build(width)

    def _layers(self, count: int, heads: int, hidden: int, *, asks: bool) -> nn.ModuleList:
        config, mlp = self.config, FeedForward(hidden, self.config.act)
        return nn.ModuleList(
            PlacedLayer(config.width, heads, mlp, config.norm, asks=asks) for _ in range(count)
        )

    def forward(self, packed: Packed, context: Context | None = None) -> Packed:
        views = self.project(packed.tokens_ND).split([grid.num_tokens for grid in packed.grids])
        groups: dict[Grid, list[int]] = {}
        for number, grid in enumerate(packed.grids):
            groups.setdefault(grid, []).append(number)
        found: dict[int, Tensor] = {}
        for grid, numbers in groups.items():
            made_VQD = self._objects([views[number] for number in numbers], grid)
            found.update(zip(numbers, made_VQD, strict=True))
        tokens_ND = torch.cat([found[number] for number in range(len(views))]) if views else self.queries[:0]
        return Packed(tokens_ND, tuple(self.config.grid(grid) for grid in packed.grids))

    def _objects(self, views: Sequence[Tensor], grid: Grid) -> Tensor:
        """(V, Q, width), of views of one grid."""
        x_VND = torch.stack(list(views))
        places_ND = sines(grid.height, grid.width, self.config.width).to(x_VND)
        for layer in self.reads:
            x_VND = layer(x_VND, places_ND)
        asked_VQD = torch.zeros_like(self.queries).expand(len(views), -1, -1)
        for layer in self.asks:
            asked_VQD = layer(asked_VQD, self.queries, (x_VND, places_ND))
        normed: Tensor = self.norm(asked_VQD)
        return normed
