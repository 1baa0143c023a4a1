"""Residual nets (1512.03385), with the stride in the 3x3 convolution (v1.5) or as averages in CLIP's form (2103.00020,
section 2.4: three convolutions in front, averages in place of strides, attention in place of the last mean).

V views, h w rows and columns of a map, C channels, D width of the last stage.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from beholder.errors import BeholderError, UnknownName
from beholder.media.plan import Grid, Size
from beholder.parts.blocks.activations import activation
from beholder.parts.blocks.positions import learned
from beholder.parts.vision.convnets import BatchNorm, ConvNorm
from beholder.parts.vision.stages import Maps, StagedConfig, StagedEncoder, conv_side, each, last_dim
from beholder.parts.vision.windows import Heads

STRIDES = ("middle", "first", "averages")


@dataclass(frozen=True)
class ResNet(StagedConfig):
    """dims, depths: width and blocks of each stage. stem: channels in front of the stages. reduction: how many times
    narrower a bottleneck is, 1 for blocks of two 3x3 convolutions.

    stride: where a bottleneck steps: the `middle` convolution (v1.5), the `first` (v1), or `averages` before the last
    one (CLIP). deep_stem: three 3x3 convolutions and a mean in front, not one of 7x7 and a maximum. early: the first
    stage steps as well. pool_heads, pool_dim: heads and width of attention pooling; 0 takes the mean.
    """

    image_size: int = 224
    dims: tuple[int, ...] = (256, 512, 1024, 2048)
    depths: tuple[int, ...] = (3, 4, 6, 3)
    stem: int = 64
    reduction: int = 4
    stride: str = "middle"
    deep_stem: bool = False
    early: bool = False
    act: str = "relu"
    norm: BatchNorm = BatchNorm()
    pool_heads: int = 0
    pool_dim: int = 0
    classes: int = 0
    dim: int = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "dim", self.dims[-1])
        self.need_each("dims", "depths")
        if self.stride not in STRIDES:
            raise UnknownName("ResNet stride", self.stride, STRIDES)

    @property
    def pooled_dim(self) -> int:
        return self.pool_dim or self.dim

    def sides(self, length: int) -> tuple[int, ...]:
        length = conv_side(length, 3, 2)
        length = length // 2 if self.deep_stem else conv_side(length, 3, 2)
        sides = []
        for number in range(len(self.dims)):
            if number or self.early:
                length = length // 2 if self.stride == "averages" else conv_side(length, 3, 2)
            sides.append(length)
        return tuple(sides)

    def grids(self, size: Size) -> tuple[Grid, ...]:
        side = self.image_size
        if self.pool_heads and size != (side, side):
            raise BeholderError(
                f"attention pooling knows the places of {side}x{side} pixels, not {size[1]}x{size[0]}; resize the view"
            )
        return super().grids(size)

    def tiny(self) -> ResNet:
        dims = tuple(16 + 8 * stage for stage in range(len(self.dims)))
        small = self.but(image_size=64, dims=dims, depths=(1,) * len(dims), stem=8)
        return small.but(pool_heads=self.pool_heads and 4, pool_dim=self.pool_dim and 32)

    def build(self) -> ResNetModel:
        return ResNetModel(self)


class Residual(nn.Module):
    """act(shortcut(x) + convolutions(x)): 1x1, 3x3, 1x1, or two of 3x3."""

    def __init__(self, config: ResNet, inputs: int, outputs: int, step: int) -> None:
        super().__init__()
        self.act = activation(config.act)
        self.average = step if config.stride == "averages" else 1
        step = 1 if self.average > 1 else step
        changes = inputs != outputs or step * self.average > 1
        self.shortcut = ConvNorm(inputs, outputs, 1, step, norm=config.norm) if changes else None
        if config.reduction == 1:
            shapes = [(inputs, outputs, 3, step), (outputs, outputs, 3, 1)]
        else:
            inner, first = outputs // config.reduction, config.stride == "first"
            shapes = [
                (inputs, inner, 1, step if first else 1),
                (inner, inner, 3, 1 if first else step),
                (inner, outputs, 1, 1),
            ]
        self.layers = nn.ModuleList(ConvNorm(*shape, norm=config.norm) for shape in shapes)

    def forward(self, x_VChw: Tensor) -> Tensor:
        y = x_VChw
        for layer in self.layers[:-1]:
            y = self.act(layer(y))
        if self.average > 1:
            x_VChw, y = F.avg_pool2d(x_VChw, self.average), F.avg_pool2d(y, self.average)
        y = self.layers[-1](y)
        return self.act(y + (x_VChw if self.shortcut is None else self.shortcut(x_VChw)))


class ResNetModel(StagedEncoder):
    """`Vision` by residual convolutions; tokens are the last map's cells."""

    config: ResNet
    pooled_only = ("pool.",)

    def __init__(self, config: ResNet) -> None:
        super().__init__()
        self.config = config
        channels, half = config.stem, config.stem // 2
        deep = [(3, half, 3, 2), (half, half, 3), (half, channels, 3)]
        stem = deep if config.deep_stem else [(3, channels, 7, 2)]
        self.stem = nn.ModuleList(ConvNorm(*shape, norm=config.norm) for shape in stem)
        self.act = activation(config.act)
        self.stages = nn.ModuleList()
        for number, (dim, depth) in enumerate(zip(config.dims, config.depths, strict=True)):
            first = ((channels, *config.dims)[number], dim, 2 if number or config.early else 1)
            shapes = [first] + [(dim, dim, 1)] * (depth - 1)
            self.stages.append(nn.Sequential(*(Residual(config, *shape) for shape in shapes)))
        self.pool = AttentionPool2d(config) if config.pool_heads else None
        self.classifier = nn.Linear(config.pooled_dim, config.classes) if config.classes else None

    def front(self, pixels_V3HW: Tensor) -> Tensor:
        """What the first stage reads, (V, C, h, w)."""
        x_VChw = pixels_V3HW
        for layer in self.stem:
            x_VChw = self.act(layer(x_VChw))
        return F.avg_pool2d(x_VChw, 2) if self.config.deep_stem else F.max_pool2d(x_VChw, 3, 2, 1)

    def maps(self, pixels_V3HW: Tensor) -> Maps:
        taps = [last_dim(tap) for tap in each(self.stages, self.front(pixels_V3HW))]
        last = taps[-1]
        return Maps(taps, last, last.mean((1, 2)) if self.pool is None else self.pool(last))


class AttentionPool2d(nn.Module):
    """The mean of a map's cells asks the cells and itself; places are learned (openai/CLIP `AttentionPool2d`)."""

    def __init__(self, config: ResNet) -> None:
        super().__init__()
        cells = config.sides(config.image_size)[-1] ** 2
        self.positions = learned(cells + 1, config.dim, std=config.dim**-0.5)
        self.attn = Heads(config.dim, config.pool_heads)
        if config.pool_dim:
            self.attn.out = nn.Linear(config.dim, config.pool_dim)

    def forward(self, x_VhwD: Tensor) -> Tensor:
        """(V, h, w, D) -> (V, pooled D)."""
        x_VTD = x_VhwD.flatten(1, 2)
        x_VTD = torch.cat((x_VTD.mean(1, keepdim=True), x_VTD), 1) + self.positions
        q, k, v = self.attn.split(x_VTD)
        return self.attn.join(F.scaled_dot_product_attention(q[:, :, :1], k, v))[:, 0]
