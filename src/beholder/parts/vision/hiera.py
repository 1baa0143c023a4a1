"""Hiera (2306.00989): a transformer in windows whose queries are pooled from stage to stage, also in SAM 2's form (2408.00714)
with positions of the window added to those of the picture (2311.05613) and a feature pyramid behind.

V views, h w rows and columns of a map, C channels, W windows, T tokens of a window, H heads, K head width.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from itertools import accumulate

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from beholder.config import Config
from beholder.errors import BeholderError
from beholder.media.plan import Grid, Size
from beholder.parts.blocks.mlp import FeedForward
from beholder.parts.blocks.norms import Norm
from beholder.parts.blocks.positions import learned
from beholder.parts.vision.positions import BICUBIC
from beholder.parts.vision.stages import Maps, StagedConfig, StagedEncoder, conv_side, first_dim, last_dim
from beholder.parts.vision.windows import Heads, merge, partition

PATCH = (7, 4, 3)  # kernel, stride, padding


@dataclass(frozen=True)
class Pyramid(Config):
    """A feature pyramid (1612.03144): every stage's map brought to `dim` channels; at the stages `down_to` (from 1) the coarser
    map is added. tokens: the stage whose map becomes the tokens.
    """

    dim: int = 256
    down_to: tuple[int, ...] = (3, 4)
    tokens: int = 3

    def tiny(self) -> Pyramid:
        return self.but(dim=24)


@dataclass(frozen=True)
class Hiera(StagedConfig):
    """dims, depths, heads: of each stage. windows: tokens per side of each stage's windows, 0 for the whole map; a stage's
    first layer, which pools its queries by 2x2, still has the windows of the stage before. whole: numbers of further layers
    that see the whole map.

    background: rows (and columns) of the picture's position table, to which a window's own is added; 0: one table for
    `image_size`. Tables are resized to other sizes bicubically. ratio: hidden width of the MLPs over the stage's width.
    norm_pooled: the pooled vectors come from a mean with a norm behind.
    """

    image_size: int = 224
    dims: tuple[int, ...] = (96, 192, 384, 768)
    depths: tuple[int, ...] = (2, 3, 16, 3)
    heads: tuple[int, ...] = (1, 2, 4, 8)
    windows: tuple[int, ...] = (8, 4, 0, 0)
    whole: tuple[int, ...] = ()
    background: int = 0
    ratio: float = 4.0
    act: str = "gelu"
    norm: Norm = Norm("layer", 1e-6)
    norm_pooled: bool = True
    pyramid: Pyramid | None = None
    classes: int = 0
    dim: int = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "dim", self.pyramid.dim if self.pyramid else self.dims[-1])
        self.need_each("dims", "depths", "heads", "windows")

    @property
    def token_tap(self) -> int:
        return self.pyramid.tokens - 1 if self.pyramid else -1

    def sides(self, length: int) -> tuple[int, ...]:
        first = conv_side(length, *PATCH)
        return tuple(first // 2**stage for stage in range(len(self.dims)))

    def grids(self, size: Size) -> tuple[Grid, ...]:
        unit = math.lcm(2 ** (len(self.dims) - 1), self.windows[0] or 1)
        if any(conv_side(length, *PATCH) % unit for length in size):
            raise BeholderError(
                f"a view of {size[1]}x{size[0]} pixels does not divide into windows of {unit * PATCH[1]} pixels"
            )
        return super().grids(size)

    def tiny(self) -> Hiera:
        """Windows keep whether they are there."""
        windows = tuple(window and max(8 // 2**stage, 1) for stage, window in enumerate(self.windows))
        whole = (3,) if self.whole else ()
        small = super().tiny().but(image_size=64, depths=(1, 1, 2, 1), heads=(1, 2, 2, 4), whole=whole)
        return small.but(dims=(16, 16, 32, 32), windows=windows, background=self.background and 3)

    def build(self) -> HieraModel:
        return HieraModel(self)


class HieraLayer(nn.Module):
    """Attention inside windows and an MLP. `pools`: the stage's first layer, whose queries, and what they are added to, are
    maxima of 2x2 cells.
    """

    def __init__(self, config: Hiera, stage: int, *, window: int, pools: bool) -> None:
        super().__init__()
        self.window, self.pools = window, pools
        inputs, dim, num_heads = config.dims[stage - pools], config.dims[stage], config.heads[stage]
        self.norm1, self.norm2 = config.norm.build(inputs), config.norm.build(dim)
        self.attn = Heads(inputs, num_heads, out=dim)
        self.shortcut = nn.Linear(inputs, dim) if inputs != dim else None
        self.mlp = FeedForward(int(config.ratio * dim), config.act).build(dim)

    def forward(self, x_VhwC: Tensor) -> Tensor:
        y_VhwC = self.norm1(x_VhwC)
        if self.shortcut is not None:
            x_VhwC = self.shortcut(y_VhwC)
        x_VhwC = maxima(x_VhwC) if self.pools else x_VhwC
        windows = partition(y_VhwC, self.window) if self.window else y_VhwC
        q_WHTK, k_WHTK, v_WHTK = self.attn.split(windows.flatten(1, 2))
        shape = windows.shape[1:3]
        if self.pools:
            q_WwwC = maxima(q_WHTK.transpose(1, 2).flatten(2).unflatten(1, shape))
            shape = q_WwwC.shape[1:3]
            q_WHTK = q_WwwC.flatten(1, 2).unflatten(-1, (self.attn.num_heads, -1)).transpose(1, 2)
        y_WTC = self.attn.join(F.scaled_dot_product_attention(q_WHTK, k_WHTK, v_WHTK))
        y = y_WTC.unflatten(1, shape)
        x_VhwC = x_VhwC + (merge(y, x_VhwC.shape[1:3]) if self.window else y)
        return x_VhwC + self.mlp(self.norm2(x_VhwC))


def maxima(x_VhwC: Tensor) -> Tensor:
    """The largest of each 2x2 cells, channel by channel."""
    return last_dim(F.max_pool2d(first_dim(x_VhwC), 2))


class HieraModel(StagedEncoder):
    """`Vision` by attention in windows. Tokens are the last map's cells; with a pyramid, tokens and taps are its maps."""

    config: Hiera

    def __init__(self, config: Hiera) -> None:
        super().__init__()
        self.config = config
        kernel, stride, padding = PATCH
        self.patch = nn.Conv2d(3, config.dims[0], kernel, stride, padding)
        side = config.background or config.sides(config.image_size)[0]
        self.positions = learned(side, side, config.dims[0])
        self.window_positions = (
            learned(*(config.windows[0],) * 2, config.dims[0]) if config.background else None
        )
        self.blocks = nn.ModuleList()
        for stage, depth in enumerate(config.depths):
            for index in range(depth):
                pools = stage > 0 and index == 0
                window = 0 if len(self.blocks) in config.whole else config.windows[stage - pools]
                self.blocks.append(HieraLayer(config, stage, window=window, pools=pools))
        self.norm = config.norm.build(config.dims[-1]) if config.norm_pooled else None
        self.pyramid = PyramidModel(config.pyramid, config.dims) if config.pyramid else None
        count, first = len(config.dims), config.token_tap % len(config.dims)
        # Laterals are numbered from the coarsest stage; those of stages finer than the tokens' give taps alone.
        self.pooled_only = (
            "norm.",
            *(f"pyramid.lateral.{number}." for number in range(count - first, count)),
        )
        self.classifier = nn.Linear(config.dims[-1], config.classes) if config.classes else None

    def _places(self, size: torch.Size) -> Tensor:
        """Positions of a map of `size`, (h, w, C)."""
        table = BICUBIC.resized(self.positions.flatten(0, 1), *size).unflatten(0, size)
        if self.window_positions is None:
            return table
        side = len(self.window_positions)
        return table + self.window_positions.repeat(size[0] // side, size[1] // side, 1)

    def maps(self, pixels_V3HW: Tensor) -> Maps:
        x_VhwC = last_dim(self.patch(pixels_V3HW))
        x_VhwC = x_VhwC + self._places(x_VhwC.shape[1:3])
        taps, ends = [], tuple(accumulate(self.config.depths))
        for count, block in enumerate(self.blocks, start=1):
            x_VhwC = block(x_VhwC)
            taps += [x_VhwC] * (count in ends)
        pooled = None if self.norm is None else self.norm(x_VhwC.mean((1, 2)))
        if self.pyramid is None:
            return Maps(taps, x_VhwC, pooled)
        taps = self.pyramid(taps)
        return Maps(taps, taps[self.config.token_tap], pooled)


class PyramidModel(nn.Module):
    """The maps of all stages with the same channels, coarser ones doubled in size and added (SAM 2's `FpnNeck`)."""

    def __init__(self, config: Pyramid, dims: tuple[int, ...]) -> None:
        super().__init__()
        self.config = config
        self.lateral = nn.ModuleList(nn.Linear(dim, config.dim) for dim in reversed(dims))

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        given: list[Tensor] = []
        for stage, lateral in zip(range(len(maps), 0, -1), self.lateral, strict=True):
            x_VhwC = lateral(maps[stage - 1])
            if given and stage in self.config.down_to:
                x_VhwC = x_VhwC + last_dim(F.interpolate(first_dim(given[0]).float(), scale_factor=2)).to(
                    x_VhwC
                )
            given.insert(0, x_VhwC)
        return given
