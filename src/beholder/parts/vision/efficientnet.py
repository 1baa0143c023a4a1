"""EfficientNet: inverted bottlenecks with channel gates (1905.11946), and the Lite variant of the official TPU repository:
no gates, ReLU6, ends of fixed width and depth.

V views, h w rows and columns of a map, C channels.
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
from beholder.parts.blocks.activations import activation
from beholder.parts.vision.convnets import BatchNorm, ChannelGate, ConvNorm
from beholder.parts.vision.stages import Maps, StagedConfig, StagedEncoder, last_dim


@dataclass(frozen=True)
class Bottlenecks(Config):
    """One row of the paper's table 1: a stage before scaling."""

    kernel: int
    stride: int
    expand: int
    channels: int
    repeats: int


STAGES = (
    Bottlenecks(3, 1, 1, 16, 1),
    Bottlenecks(3, 2, 6, 24, 2),
    Bottlenecks(5, 2, 6, 40, 2),
    Bottlenecks(3, 2, 6, 80, 3),
    Bottlenecks(5, 1, 6, 112, 3),
    Bottlenecks(5, 2, 6, 192, 4),
    Bottlenecks(3, 1, 6, 320, 1),
)


@dataclass(frozen=True)
class EfficientNet(StagedConfig):
    """width, depth: multipliers of channels and repeats; channels become multiples of `divisor`. stem, head: channels of
    the first convolution before scaling, and of the last one, 0 for none (ALIGN).

    squeeze: width of a block's gate over the block's inputs, 0 for no gate. fixed_ends: the stem, and the repeats of the
    first and last stage, are not scaled (Lite). mid_stage: also take the output of this stage (from 1), folded to the last
    grid and joined along channels. even: numbers of the blocks with a stride that are padded alike on both sides, the
    others getting one more behind (transformers' `depthwise_padding`); None pads as TensorFlow's `SAME` at any size.
    """

    image_size: int = 224
    stages: tuple[Bottlenecks, ...] = STAGES
    width: float = 1.0
    depth: float = 1.0
    divisor: int = 8
    stem: int = 32
    head: int = 1280
    squeeze: float = 0.25
    act: str = "silu"
    norm: BatchNorm = BatchNorm(eps=1e-3)
    fixed_ends: bool = False
    mid_stage: int | None = None
    even: tuple[int, ...] | None = None
    pool: str = "mean"
    classes: int = 0
    dim: int = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "dim", self.head or self.channels(len(self.stages)))
        step = 2 * math.prod(stage.stride for stage in self.stages)
        if self.mid_stage and self.image_size % step:
            raise BeholderError(
                f"to fold a finer stage, {self.image_size} pixels per side must divide by {step}"
            )

    def scaled(self, channels: int) -> int:
        """Channels times `width`, rounded to multiples of `divisor` as officially done."""
        scaled = channels * self.width
        rounded = max(self.divisor, int(scaled + self.divisor / 2) // self.divisor * self.divisor)
        return rounded + self.divisor if rounded < 0.9 * scaled else rounded

    def channels(self, stage: int) -> int:
        """Output channels of a stage (from 1)."""
        return self.scaled(self.stages[stage - 1].channels)

    def repeats(self, stage: int) -> int:
        """Blocks of a stage (from 1)."""
        count = self.stages[stage - 1].repeats
        fixed = self.fixed_ends and stage in (1, len(self.stages))
        return count if fixed else math.ceil(count * self.depth)

    @property
    def stage_ends(self) -> tuple[int, ...]:
        """How many blocks there are up to the end of each stage."""
        return tuple(accumulate(self.repeats(number) for number in range(1, len(self.stages) + 1)))

    @property
    def fold(self) -> int:
        """How many times finer per side the mid stage's grid is than the last one's."""
        return math.prod(stage.stride for stage in self.stages[self.mid_stage :]) if self.mid_stage else 1

    @property
    def out_dim(self) -> int:
        return self.dim + (self.channels(self.mid_stage) * self.fold**2 if self.mid_stage else 0)

    def padding(self, index: int | None) -> str:
        """How the first convolution (None) or the block `index` is padded where it has a stride."""
        if self.even is None:
            return "same"
        return "even" if index in self.even else "behind"

    def sides(self, length: int) -> tuple[int, ...]:
        sides = []
        starts = (0, *self.stage_ends)
        for stride, index in ((2, None), *((s.stride, i) for s, i in zip(self.stages, starts, strict=False))):
            if stride > 1:
                length = length // stride if self.padding(index) == "behind" else -(-length // stride)
            sides.append(length)
        return tuple(sides[1:])

    def grids(self, size: Size) -> tuple[Grid, ...]:
        if self.mid_stage and size != (self.image_size, self.image_size):
            side = self.image_size
            raise BeholderError(f"this encoder takes {side}x{side} pixels, not {size[1]}x{size[0]}")
        return super().grids(size)

    def tiny(self) -> EfficientNet:
        return self.but(image_size=64, width=0.2, depth=1.0, head=self.head and 32, even=None)

    def build(self) -> EfficientNetModel:
        return EfficientNetModel(self)


@dataclass(frozen=True)
class EfficientNetLite(EfficientNet):
    """The Lite variant, which phones can quantise."""

    squeeze: float = 0.0
    act: str = "relu6"
    norm: BatchNorm = BatchNorm(eps=1e-3, counted=False)
    fixed_ends: bool = True


class InvertedBottleneck(nn.Module):
    """1x1 up, depthwise, gate, 1x1 down; added to the input but in a stage's first block (MobileNetV2, 1801.04381)."""

    def __init__(
        self, config: EfficientNet, stage: Bottlenecks, inputs: int, outputs: int, index: int
    ) -> None:
        super().__init__()
        first, norm = index in (0, *config.stage_ends), config.norm
        self.act, self.residual = activation(config.act), not first
        hidden, stride = inputs * stage.expand, stage.stride if first else 1
        padding = config.padding(index) if stride > 1 else "even"
        self.expand = ConvNorm(inputs, hidden, norm=norm) if stage.expand > 1 else None
        self.depthwise = ConvNorm(hidden, hidden, stage.kernel, stride, hidden, norm=norm, padding=padding)
        squeezed = max(1, int(inputs * config.squeeze))
        self.gate = ChannelGate(hidden, squeezed, self.act) if config.squeeze else None
        self.project = ConvNorm(hidden, outputs, norm=norm)

    def forward(self, x_VChw: Tensor) -> Tensor:
        y = x_VChw if self.expand is None else self.act(self.expand(x_VChw))
        y = self.act(self.depthwise(y))
        y = self.project(y if self.gate is None else self.gate(y))
        return x_VChw + y if self.residual else y


class EfficientNetModel(StagedEncoder):
    """`Vision` by convolutions; tokens are the cells of the last one's map."""

    config: EfficientNet

    def __init__(self, config: EfficientNet) -> None:
        super().__init__()
        self.config, self.act = config, activation(config.act)
        channels = config.stem if config.fixed_ends else config.scaled(config.stem)
        self.stem = ConvNorm(3, channels, 3, 2, norm=config.norm, padding=config.padding(None))
        self.blocks = nn.ModuleList()
        for number, stage in enumerate(config.stages, start=1):
            for _ in range(config.repeats(number)):
                outputs = config.channels(number)
                self.blocks.append(InvertedBottleneck(config, stage, channels, outputs, len(self.blocks)))
                channels = outputs
        self.last = ConvNorm(channels, config.head, norm=config.norm) if config.head else None
        self.classifier = nn.Linear(config.dim, config.classes) if config.classes else None

    def maps(self, pixels_V3HW: Tensor) -> Maps:
        config = self.config
        x_VChw = self.act(self.stem(pixels_V3HW.contiguous(memory_format=torch.channels_last)))
        taps = []
        for count, block in enumerate(self.blocks, start=1):
            x_VChw = block(x_VChw)
            taps += [x_VChw] * config.stage_ends.count(count)
        last = tokens = x_VChw if self.last is None else self.act(self.last(x_VChw))
        if config.mid_stage:
            tokens = torch.cat((last, F.pixel_unshuffle(taps[config.mid_stage - 1], config.fold)), 1)
        pooled = last.mean((2, 3)) if config.pool == "mean" else last.amax((2, 3))
        return Maps([last_dim(tap) for tap in taps], last_dim(tokens), pooled)
