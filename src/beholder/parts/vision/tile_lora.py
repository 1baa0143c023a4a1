"""A ViT that sees each tile of a picture with low-rank changes of its own, and the whole picture without (Monkey, 2311.06607,
section 3.1; official `visual.py`).

V views, B rows, T tokens, D width.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from beholder.errors import BeholderError
from beholder.media.plan import Grid, Size, View
from beholder.parts.blocks.step import Step
from beholder.parts.contracts import Encoder, Packed, VisionConfig
from beholder.parts.vision.vit import ViT


@dataclass(frozen=True)
class TileLora(VisionConfig):
    """Views of a picture are `tiles` tiles and the whole behind them. rank: of the changes of attention's projections;
    mlp_rank: of the one beside each MLP, which reads what the MLP's norm reads.
    """

    base: ViT
    tiles: int = 4
    rank: int = 16
    mlp_rank: int = 32
    dim: int = field(init=False)
    image_size: int = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "dim", self.base.dim)
        object.__setattr__(self, "image_size", self.base.image_size)

    @property
    def out_dim(self) -> int:
        return self.base.out_dim

    def grid(self, size: Size) -> Grid:
        return self.base.grid(size)

    def view_grid(self, view: View) -> Grid:
        return self.base.view_grid(view)

    def tiny(self) -> TileLora:
        return self.but(base=self.base.tiny(), rank=2, mlp_rank=3)

    def build(self) -> TileLoraEncoder:
        return TileLoraEncoder(self)


class TileLoraEncoder(Encoder):
    """Views of whole pictures, one picture after the other. A view by itself is the whole of one."""

    whole_pictures = True

    def __init__(self, config: TileLora) -> None:
        super().__init__()
        self.config = config
        self.base = config.base.build()
        self.tiles = nn.ModuleList(
            nn.ModuleList(TileLayer(config) for _ in range(config.base.num_layers))
            for _ in range(config.tiles)
        )

    def forward(self, views: Sequence[Tensor]) -> Packed:
        each = self.config.tiles + 1
        if len(views) == 1:
            return self.base(views)
        if len(views) % each:
            raise BeholderError(
                f"{len(views)} views; this encoder takes pictures of {self.config.tiles} tiles and the whole behind them"
            )
        seen = [self.base(views[place::each], self._parts(place)).split() for place in range(each)]
        ordered = [seen[number % each][number // each] for number in range(len(views))]
        grids = tuple(self.config.grid((view.shape[-2], view.shape[-1])) for view in views)
        return Packed(torch.cat(ordered), grids)

    def unused_parameters(self, *, pooled: bool) -> set[str]:
        return {f"base.{name}" for name in self.base.unused_parameters(pooled=pooled)}

    def _parts(self, place: int) -> Mapping[int, Mapping[str, Any]]:
        """What is in the ViT's layers while it sees the tile at `place`; nothing for the whole picture."""
        if place == self.config.tiles:
            return {}
        layers = self.tiles[place]
        assert isinstance(layers, nn.ModuleList)
        return {number: layer.slots() for number, layer in enumerate(layers) if isinstance(layer, TileLayer)}


class LowRankMap(nn.Module):
    """(..., inputs) -> (..., outputs) times a learned number; little at first."""

    def __init__(self, inputs: int, outputs: int, rank: int) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(inputs, rank, bias=False), nn.Linear(rank, outputs, bias=False)
        self.scale = nn.Parameter(torch.ones(1))
        nn.init.normal_(self.b.weight, std=1e-3)

    def forward(self, x: Tensor) -> Tensor:
        given: Tensor = self.b(self.a(x)) * self.scale
        return given


class TileLayer(nn.Module):
    """The changes of one layer for one tile."""

    def __init__(self, config: TileLora) -> None:
        super().__init__()
        dim = config.base.dim
        self.qkv = LowRankMap(dim, 3 * dim, config.rank)
        self.out = LowRankMap(dim, dim, config.rank)
        self.mlp = LowRankMap(dim, dim, config.mlp_rank)

    def slots(self) -> dict[str, Callable[..., Any]]:
        """For one forward: what is put beside the MLP reads the residual path, which passes by just before."""
        passing: list[Tensor] = []

        def between(x_BTD: Tensor, _step: Step) -> Tensor:
            passing.append(x_BTD)
            return x_BTD

        def qkv(
            x_BTD: Tensor, base: Callable[[Tensor], Sequence[Tensor]], _inputs: object
        ) -> tuple[Tensor, ...]:
            changes = self.qkv(x_BTD).chunk(3, -1)
            return tuple(own + change for own, change in zip(base(x_BTD), changes, strict=True))

        def out(x_BTD: Tensor, base: Callable[[Tensor], Tensor], _inputs: object) -> Tensor:
            return base(x_BTD) + self.out(x_BTD)

        def mlp(x_BTD: Tensor, base: Callable[[Tensor], Tensor], _inputs: object) -> Tensor:
            return base(x_BTD) + self.mlp(passing.pop())

        return {"between": between, "qkv": qkv, "out": out, "mlp": mlp}
