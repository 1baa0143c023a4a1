"""Connectors that keep patches in rows and columns: MobileVLM's LDP (2312.16886) and LDPv2 (2402.03766), and Honeybee's
C-Abstractor (2312.06742).

F frames of views of one size, h w rows and columns of a map, N packed tokens, D width, C channels.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from beholder.errors import BeholderError
from beholder.media.plan import Grid
from beholder.parts.blocks.activations import activation
from beholder.parts.blocks.positions import learned
from beholder.parts.connectors.projections import Mlp
from beholder.parts.contracts import Connector, ConnectorConfig, Context, Packed
from beholder.parts.vision.convnets import ChannelGate
from beholder.parts.vision.views import by_size


class NormedConv(nn.Module):
    """A convolution without bias, then a LayerNorm of each place's channels."""

    def __init__(self, inputs: int, outputs: int, kernel: int = 1, stride: int = 1, groups: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
        self.norm = nn.LayerNorm(outputs)

    def forward(self, x_FChw: Tensor) -> Tensor:
        normed: Tensor = self.norm(self.conv(x_FChw).permute(0, 2, 3, 1))
        return normed.permute(0, 3, 1, 2)


def on_maps(packed: Packed, run: Callable[[Tensor], Tensor], grids: tuple[Grid, ...]) -> Packed:
    """`run` on the maps (F, D, h, w) of all frames; grids: what comes out for each view."""
    maps = [
        x_ND.unflatten(0, tuple(grid)).permute(0, 3, 1, 2)
        for x_ND, grid in zip(packed.split(), packed.grids, strict=True)
    ]
    given = by_size(maps, lambda stacked: run(stacked.flatten(0, 1)).unflatten(0, stacked.shape[:2]))
    tokens = [map_FDhw.permute(0, 2, 3, 1).flatten(0, 2) for map_FDhw in given]
    return Packed(torch.cat(tokens) if tokens else packed.tokens_ND, grids)


@dataclass(frozen=True)
class Ldp(ConnectorConfig):
    """An MLP of each token, then two depthwise blocks with channel gates, the second of which halves rows and columns
    (official `LDPBlock`).
    """

    def grid(self, grid: Grid) -> Grid:
        return grid._replace(height=-(-grid.height // 2), width=-(-grid.width // 2))

    def build(self, in_dim: int, out_dim: int) -> Connector:
        return LdpConnector(self, in_dim, out_dim)


class LdpConnector(Connector):
    """(N, in_dim) -> (N / 4, out_dim)."""

    def __init__(self, config: Ldp, in_dim: int, out_dim: int) -> None:
        super().__init__()
        self.config = config
        self.mlp = Mlp().build(in_dim, out_dim)
        self.blocks = nn.ModuleList((DepthwiseBlock(out_dim, 1), DepthwiseBlock(out_dim, 2)))

    def forward(self, packed: Packed, context: Context | None = None) -> Packed:
        grids = tuple(self.config.grid(grid) for grid in packed.grids)
        return on_maps(self.mlp(packed), nn.Sequential(*self.blocks), grids)


class DepthwiseBlock(nn.Module):
    """MobileNetV3's block (1905.02244) without expansion: a depthwise convolution, a channel gate, a map of each place;
    added to the input where there is no stride.
    """

    def __init__(self, dim: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.depthwise = NormedConv(dim, dim, 3, stride, groups=dim)
        # a quarter of the channels in steps of 8, as torchvision's `_make_divisible` rounds it
        self.gate = ChannelGate(dim, max(8, (dim // 4 + 4) // 8 * 8), F.relu, F.hardsigmoid)
        self.project = NormedConv(dim, dim)

    def forward(self, x_FChw: Tensor) -> Tensor:
        given: Tensor = self.project(self.gate(F.hardswish(self.depthwise(x_FChw))))
        return given + x_FChw if self.stride == 1 else given


@dataclass(frozen=True)
class Ldp2(ConnectorConfig):
    """An MLP of each token, `side` x `side` averages, and a depthwise convolution added to them, which tells tokens their
    places (official `LDPNetV2Projector`).
    """

    side: int = 12

    def grid(self, grid: Grid) -> Grid:
        return grid._replace(height=self.side, width=self.side)

    def tiny(self) -> Ldp2:
        return self.but(side=2)

    def build(self, in_dim: int, out_dim: int) -> Connector:
        return Ldp2Connector(self, in_dim, out_dim)


class Ldp2Connector(Connector):
    """(N, in_dim) -> (side^2 of each frame, out_dim)."""

    def __init__(self, config: Ldp2, in_dim: int, out_dim: int) -> None:
        super().__init__()
        self.config = config
        self.mlp = Mlp().build(in_dim, out_dim)
        self.places = nn.Conv2d(out_dim, out_dim, 3, padding=1, groups=out_dim)

    def forward(self, packed: Packed, context: Context | None = None) -> Packed:
        grids = tuple(self.config.grid(grid) for grid in packed.grids)
        return on_maps(self.mlp(packed), self._averaged, grids)

    def _averaged(self, x_FChw: Tensor) -> Tensor:
        means = F.adaptive_avg_pool2d(x_FChw, self.config.side)
        placed: Tensor = self.places(means) + means
        return placed


@dataclass(frozen=True)
class CAbstractor(ConnectorConfig):
    """`depth` RegNet blocks (2003.13678), `side` x `side` averages, `depth` blocks more, and an MLP of each token (Honeybee,
    section 3.2; official `CAbstractor`). hidden: channels of the blocks. positions: a learned vector is added for each of
    so many places of a view, 0 for none.
    """

    side: int = 12
    hidden: int = 1024
    depth: int = 3
    positions: int = 0
    readout: Mlp = Mlp(act="silu")

    def grid(self, grid: Grid) -> Grid:
        if self.positions and grid.num_tokens != self.positions:
            raise BeholderError(
                f"the abstractor has {self.positions} places, a view {grid.num_tokens} tokens"
            )
        return grid._replace(height=self.side, width=self.side)

    def tiny(self) -> CAbstractor:
        return super().tiny().but(side=2, hidden=16, depth=1, positions=4 if self.positions else 0)

    def build(self, in_dim: int, out_dim: int) -> Connector:
        return CAbstractorConnector(self, in_dim, out_dim)


class CAbstractorConnector(Connector):
    """(N, in_dim) -> (side^2 of each frame, out_dim)."""

    def __init__(self, config: CAbstractor, in_dim: int, out_dim: int) -> None:
        super().__init__()
        self.config = config
        hidden = config.hidden
        self.positions = learned(config.positions, in_dim) if config.positions else None
        self.before = nn.ModuleList(RegBlock(hidden if n else in_dim, hidden) for n in range(config.depth))
        self.behind = nn.ModuleList(RegBlock(hidden, hidden) for _ in range(config.depth))
        self.readout = config.readout.build(hidden if config.depth else in_dim, out_dim)

    def forward(self, packed: Packed, context: Context | None = None) -> Packed:
        grids = tuple(self.config.grid(grid) for grid in packed.grids)
        if self.positions is not None:
            placed_ND = packed.tokens_ND + self.positions.repeat(len(packed.grids), 1)
            packed = Packed(placed_ND, packed.grids)
        pool = nn.AdaptiveAvgPool2d(self.config.side)
        return self.readout(on_maps(packed, nn.Sequential(*self.before, pool, *self.behind), grids))


class RegBlock(nn.Module):
    """Map, depthwise 3x3 convolution, channel gate, map; added to the input, which a map brings to other channels (timm's
    `RegStage` of one channel a group, its default, which Honeybee leaves it at).
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.act = activation("silu")
        self.conv1, self.conv3 = NormedConv(inputs, outputs), NormedConv(outputs, outputs)
        self.conv2 = NormedConv(outputs, outputs, 3, groups=outputs)
        self.gate = ChannelGate(outputs, round(inputs / 4), self.act)
        self.shortcut = NormedConv(inputs, outputs) if inputs != outputs else None

    def forward(self, x_FChw: Tensor) -> Tensor:
        given = self.act(self.conv2(self.act(self.conv1(x_FChw))))
        given = self.conv3(self.gate(given))
        return self.act(given + (x_FChw if self.shortcut is None else self.shortcut(x_FChw)))
