"""Connectors that map each token by itself, or one vector per view.

N packed tokens, V views.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from beholder.errors import BeholderError
from beholder.media.plan import Grid, View
from beholder.parts.blocks.activations import activation
from beholder.parts.blocks.norms import Norm
from beholder.parts.blocks.positions import at_places
from beholder.parts.contracts import Connector, ConnectorConfig, Context, Packed


@dataclass(frozen=True)
class Linear(ConnectorConfig):
    """One matrix (LLaVA, 2304.08485). norm: of what it reads (Gemma 3)."""

    bias: bool = True
    norm: Norm | None = None

    def build(self, in_dim: int, out_dim: int) -> Connector:
        return LinearConnector(self, in_dim, out_dim)


class LinearConnector(Connector):
    """(N, in_dim) -> (N, out_dim)."""

    def __init__(self, config: Linear, in_dim: int, out_dim: int) -> None:
        super().__init__()
        self.norm = None if config.norm is None else config.norm.build(in_dim)
        self.linear = nn.Linear(in_dim, out_dim, bias=config.bias)

    def forward(self, packed: Packed, context: Context | None = None) -> Packed:
        x_ND = packed.tokens_ND if self.norm is None else self.norm(packed.tokens_ND)
        return Packed(self.linear(x_ND), packed.grids)


@dataclass(frozen=True)
class Mlp(ConnectorConfig):
    """`depth` matrices with an activation between (LLaVA-1.5, 2310.03744). norm: LayerNorm of the input.
    positions: a learned vector is added for each of so many places of a view, 0 for none. hidden: width between matrices
    where it is not that of the output. eps: of the norm. gated: the first matrix gives values and, behind them, what gates
    these (SwiGLU with `act` silu). norms: LayerNorm behind each matrix, in front of the activation (Yi-VL). first: width
    behind the first matrix in multiples of the input's, where it is another (Prismatic's `FusedMLPProjector`).
    """

    depth: int = 2
    act: str = "gelu"
    bias: bool = True
    norm: bool = False
    positions: int = 0
    hidden: int | None = None
    eps: float = 1e-5
    gated: bool = False
    norms: bool = False
    first: int | None = None

    def __post_init__(self) -> None:
        if self.depth < 1 + self.gated:
            raise BeholderError(f"an MLP connector of depth {self.depth}; it needs at least {1 + self.gated}")

    def tiny(self) -> Mlp:
        return self.but(positions=4 if self.positions else 0, hidden=self.hidden and 24)

    def build(self, in_dim: int, out_dim: int) -> Connector:
        return MlpConnector(self, in_dim, out_dim)


class MlpConnector(Connector):
    """(N, in_dim) -> (N, out_dim)."""

    def __init__(self, config: Mlp, in_dim: int, out_dim: int) -> None:
        super().__init__()
        widths = [in_dim, *[config.hidden or out_dim] * (config.depth - 1), out_dim]
        widths[1:2] = [config.first * in_dim if config.first else widths[1]]
        self.norm = nn.LayerNorm(in_dim, config.eps) if config.norm else None
        self.gated = config.gated
        self.layers = nn.ModuleList(
            nn.Linear(a, 2 * b if config.gated and not number else b, bias=config.bias)
            for number, (a, b) in enumerate(pairwise(widths))
        )
        behind = (nn.LayerNorm(b, config.eps) if config.norms else nn.Identity() for b in widths[1:])
        self.norms = nn.ModuleList(behind)
        self.positions = nn.Parameter(torch.zeros(config.positions, out_dim)) if config.positions else None
        self.act = activation(config.act)

    def forward(self, packed: Packed, context: Context | None = None) -> Packed:
        x_ND = packed.tokens_ND if self.norm is None else self.norm(packed.tokens_ND)
        for number, layer in enumerate(self.layers):
            if number == 1 and self.gated:
                values_ND, gates_ND = x_ND.chunk(2, -1)
                x_ND = layer(self.act(gates_ND) * values_ND)
            else:
                x_ND = self.norms[number](layer(x_ND if number == 0 else self.act(x_ND)))
        if self.positions is not None:
            views = x_ND.split([grid.num_tokens for grid in packed.grids])
            x_ND = torch.cat([at_places(view, self.positions) for view in views])
        return Packed(x_ND, packed.grids)


@dataclass(frozen=True)
class Pooled(ConnectorConfig):
    """The encoder's one vector per view, through a matrix where `project` (CLIP), as it is otherwise (SigLIP).
    width: of the projection where no language part decides it. unit: vectors are brought to length 1; scale: then to this
    length, at most 100, whose logarithm checkpoints hold (ImageBind, 2305.05665).
    """

    project: bool = True
    bias: bool = False
    width: int | None = None
    unit: bool = False
    scale: float | None = None

    @property
    def reads_pooled(self) -> bool:
        return True

    def grid(self, grid: Grid) -> Grid:
        return Grid(1, 1, 1)

    def build(self, in_dim: int, out_dim: int) -> Connector:
        if not self.project and in_dim != out_dim:
            raise BeholderError(f"pooled vectors of {in_dim} channels need a projection to reach {out_dim}")
        return PooledConnector(self, in_dim, self.width or out_dim)


class PooledConnector(Connector):
    """(V, in_dim) pooled -> (V, out_dim), one token per view."""

    log_scale: Tensor

    def __init__(self, config: Pooled, in_dim: int, out_dim: int) -> None:
        super().__init__()
        self.config = config
        self.linear = nn.Linear(in_dim, out_dim, bias=config.bias) if config.project else nn.Identity()
        if config.scale is not None:
            self.register_buffer("log_scale", torch.tensor(math.log(config.scale)))

    def forward(self, packed: Packed, context: Context | None = None) -> Packed:
        if packed.pooled_VD is None:
            raise BeholderError("this connector needs an encoder that pools; set pool= on the vision part")
        y_VD = self.linear(packed.pooled_VD)
        y_VD = F.normalize(y_VD, dim=-1) if self.config.unit else y_VD
        y_VD = y_VD if self.config.scale is None else y_VD * self.log_scale.exp().clamp(max=100.0)
        return Packed(y_VD, (Grid(1, 1, 1),) * len(packed.grids))


@dataclass(frozen=True)
class PixelShuffle(ConnectorConfig):
    """Squares of `factor` x `factor` tokens become one by joining channels, then one matrix (Idefics3, 2408.12637).
    Channels are ordered by row, then column, of the token in its square.
    """

    factor: int = 2
    bias: bool = False

    def grid(self, grid: Grid) -> Grid:
        if grid.height % self.factor or grid.width % self.factor:
            raise BeholderError(
                f"a grid of {grid.height}x{grid.width} tokens does not divide into squares of {self.factor}"
            )
        return grid._replace(height=grid.height // self.factor, width=grid.width // self.factor)

    def tiny(self) -> PixelShuffle:
        return self.but(factor=2)

    def build(self, in_dim: int, out_dim: int) -> Connector:
        return PixelShuffleConnector(self, in_dim, out_dim)


class PixelShuffleConnector(Connector):
    """(N, in_dim) -> (N / factor^2, out_dim)."""

    def __init__(self, config: PixelShuffle, in_dim: int, out_dim: int) -> None:
        super().__init__()
        self.config = config
        self.linear = nn.Linear(in_dim * config.factor**2, out_dim, bias=config.bias)

    def forward(self, packed: Packed, context: Context | None = None) -> Packed:
        folded = fold(packed, self.config.factor)
        return replace(folded, tokens_ND=self.linear(folded.tokens_ND))


@dataclass(frozen=True)
class Folded(ConnectorConfig):
    """Squares of `factor` x `factor` tokens become one by joining channels, which `then` maps (InternVL 1.5, 2404.16821).
    pad: zeros stand at the right and at the bottom of grids that do not divide (VILA 1.5, `mlp_downsample`). by_columns: tokens
    follow each other column by column, as `flat_square` there leaves them.
    """

    then: ConnectorConfig
    factor: int = 2
    pad: bool = False
    by_columns: bool = False

    def grid(self, grid: Grid) -> Grid:
        small = PixelShuffle(self.factor).grid(self.padded(grid))
        return small._replace(height=small.width, width=small.height) if self.by_columns else small

    def padded(self, grid: Grid) -> Grid:
        """The grid with the zeros that are put around it."""
        if not self.pad:
            return grid
        height, width = (side + -side % self.factor for side in (grid.height, grid.width))
        return grid._replace(height=height, width=width)

    def grids(self, views: tuple[View, ...], grids: tuple[Grid, ...]) -> tuple[Grid, ...]:
        return self.then.grids(views, tuple(self.grid(grid) for grid in grids))

    def tiny(self) -> Folded:
        return self.but(factor=2, then=self.then.tiny())

    def build(self, in_dim: int, out_dim: int) -> Connector:
        return FoldedConnector(self, in_dim, out_dim)


class FoldedConnector(Connector):
    """(N, in_dim) -> (N / factor^2, out_dim)."""

    def __init__(self, config: Folded, in_dim: int, out_dim: int) -> None:
        super().__init__()
        self.config = config
        self.then = config.then.build(in_dim * config.factor**2, out_dim)

    def forward(self, packed: Packed, context: Context | None = None) -> Packed:
        folded = (fold_padded if self.config.pad else fold)(packed, self.config.factor)
        return self.then(turned(folded) if self.config.by_columns else folded, context)


def turned(packed: Packed) -> Packed:
    """The same tokens column by column: rows and columns of each grid exchanged."""
    grids = tuple(grid._replace(height=grid.width, width=grid.height) for grid in packed.grids)
    views = zip(packed.split(), packed.grids, strict=True)
    tokens = [x_ND.view(*grid, -1).transpose(1, 2).flatten(0, 2) for x_ND, grid in views]
    return replace(packed, tokens_ND=torch.cat(tokens), grids=grids, taps={})


def fold_padded(packed: Packed, factor: int) -> Packed:
    """`fold` of grids that zeros fill up to whole squares."""
    grids = tuple(Folded(Linear(), factor, pad=True).padded(grid) for grid in packed.grids)
    if grids != packed.grids:
        views = zip(packed.split(), packed.grids, grids, strict=True)
        packed = Packed(torch.cat([with_zeros(*view) for view in views]), grids)
    return fold(packed, factor)


def with_zeros(x_ND: Tensor, grid: Grid, larger: Grid) -> Tensor:
    """A view's tokens on a larger grid, zeros at the right and at the bottom."""
    room = (0, 0, 0, larger.width - grid.width, 0, larger.height - grid.height)
    return F.pad(x_ND.view(*grid, -1), room).flatten(0, 2)


def fold(packed: Packed, factor: int) -> Packed:
    """Squares of tokens as one, channels ordered by row, then column, of the token in its square."""
    grids = tuple(PixelShuffle(factor).grid(grid) for grid in packed.grids)
    views = zip(packed.split(), grids, strict=True)
    folded = [
        tokens_ND.view(grid.frames, grid.height, factor, grid.width, factor, -1)
        .transpose(2, 3)
        .reshape(grid.num_tokens, -1)
        for tokens_ND, grid in views
    ]
    return replace(packed, tokens_ND=torch.cat(folded), grids=grids, taps={})


@dataclass(frozen=True)
class OfPooled(ConnectorConfig):
    """The encoder's one vector per view through `then`, to `width` channels where no language part decides it."""

    then: ConnectorConfig
    width: int | None = None

    @property
    def reads_pooled(self) -> bool:
        return True

    def grid(self, grid: Grid) -> Grid:
        return Grid(1, 1, 1)

    def build(self, in_dim: int, out_dim: int) -> Connector:
        return OfPooledConnector(self, in_dim, self.width or out_dim)


class OfPooledConnector(Connector):
    """(V, in_dim) pooled -> (V, out_dim), one token per view."""

    def __init__(self, config: OfPooled, in_dim: int, out_dim: int) -> None:
        super().__init__()
        self.then = config.then.build(in_dim, out_dim)

    def forward(self, packed: Packed, context: Context | None = None) -> Packed:
        if packed.pooled_VD is None:
            raise BeholderError("this connector maps pooled vectors; set pool= on the encoder")
        return self.then(Packed(packed.pooled_VD, (Grid(1, 1, 1),) * len(packed.grids)), context)
