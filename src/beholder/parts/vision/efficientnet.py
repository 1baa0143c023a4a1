"""EfficientNet-Lite: MobileNet-style inverted bottlenecks without squeeze-and-excitation (1905.11946, and the Lite
variant of the official TPU repository: ReLU6, stem and head of fixed width).

V views, C channels, N packed tokens.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from beholder.errors import BeholderError
from beholder.media.plan import Grid, Size
from beholder.parts.blocks.positions import learned
from beholder.parts.contracts import Packed, Vision, VisionConfig
from beholder.parts.vision.views import by_size


class Stage(NamedTuple):
    """One row of the paper's table 1."""

    kernel: int
    stride: int
    expand: int
    channels: int
    repeats: int


STAGES = (
    Stage(3, 1, 1, 16, 1),
    Stage(3, 2, 6, 24, 2),
    Stage(5, 2, 6, 40, 2),
    Stage(3, 2, 6, 80, 3),
    Stage(5, 1, 6, 112, 3),
    Stage(5, 2, 6, 192, 4),
    Stage(3, 1, 6, 320, 1),
)
STEM_CHANNELS = 32
BATCH_NORM_EPS = 1e-3


@dataclass(frozen=True)
class EfficientNetLite(VisionConfig):
    """width, depth: multipliers of channels and repeats; head: channels of the last 1x1 convolution.

    mid_stage: also take the output of this stage (1 to 7), folded to the last grid and joined along channels.
    classes: width of the ImageNet classifier that is kept for export, 0 for none.
    """

    image_size: int = 224
    width: float = 1.0
    depth: float = 1.0
    head: int = 1280
    mid_stage: int | None = None
    classes: int = 0
    dim: int = 1280

    def __post_init__(self) -> None:
        if self.image_size % 32:
            raise BeholderError(
                f"EfficientNet-Lite halves pictures five times: {self.image_size} must divide by 32"
            )

    def channels(self, stage: int) -> int:
        """Output channels of a stage (1 to 7), rounded to multiples of 8 as officially done."""
        scaled = STAGES[stage - 1].channels * self.width
        rounded = max(8, int(scaled + 4) // 8 * 8)
        return rounded + 8 if rounded < 0.9 * scaled else rounded

    def repeats(self, stage: int) -> int:
        """Blocks of a stage; the first and last stage are never repeated more often (Lite's `fix_head_stem`)."""
        count = STAGES[stage - 1].repeats
        return count if stage in (1, len(STAGES)) else math.ceil(count * self.depth)

    @property
    def fold(self) -> int:
        """How many times finer per side the mid stage's grid is than the last one's."""
        return math.prod(stage.stride for stage in STAGES[self.mid_stage :]) if self.mid_stage else 1

    @property
    def out_dim(self) -> int:
        return self.head + (self.channels(self.mid_stage) * self.fold**2 if self.mid_stage else 0)

    def grid(self, size: Size) -> Grid:
        if size != (self.image_size, self.image_size):
            side = self.image_size
            raise BeholderError(f"this encoder takes {side}x{side} pixels, not {size[1]}x{size[0]}")
        return Grid(1, size[0] // 32, size[1] // 32)

    def tiny(self) -> EfficientNetLite:
        return self.but(image_size=64, width=0.25, head=32, dim=32)

    def build(self) -> EfficientNetLiteModel:
        return EfficientNetLiteModel(self)


class ConvNorm(nn.Module):
    """A convolution and its batch norm with frozen statistics, run as one convolution, padded as TensorFlow's `SAME`."""

    mean: Tensor
    var: Tensor

    def __init__(self, inputs: int, outputs: int, kernel: int = 1, stride: int = 1, groups: int = 1) -> None:
        super().__init__()
        self.stride, self.groups = stride, groups
        fan_out = outputs * kernel**2  # He initialisation (1502.01852)
        self.weight = learned(outputs, inputs // groups, kernel, kernel, std=math.sqrt(2 / fan_out))
        self.scale = nn.Parameter(torch.ones(outputs))
        self.bias = nn.Parameter(torch.zeros(outputs))
        self.register_buffer("mean", torch.zeros(outputs))
        self.register_buffer("var", torch.ones(outputs))

    def forward(self, x_VCHW: Tensor) -> Tensor:
        scale = self.scale * torch.rsqrt(self.var + BATCH_NORM_EPS)
        shift = self.bias - self.mean * scale
        weight = self.weight * scale[:, None, None, None]
        kernel = self.weight.shape[-1]
        rows, columns = (same_padding(n, kernel, self.stride) for n in x_VCHW.shape[-2:])
        if rows[0] == rows[1] and columns[0] == columns[1]:
            return F.conv2d(x_VCHW, weight, shift, self.stride, (rows[0], columns[0]), groups=self.groups)
        padded = F.pad(x_VCHW, (*columns, *rows))
        return F.conv2d(padded, weight, shift, self.stride, groups=self.groups)


def same_padding(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """Padding before and after so that the output has ceil(size / stride) elements."""
    total = max((math.ceil(size / stride) - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2


class InvertedBottleneck(nn.Module):
    """1x1 up, depthwise, 1x1 down; added to the input where shapes allow (MobileNetV2, 1801.04381)."""

    def __init__(self, inputs: int, outputs: int, stage: Stage, stride: int) -> None:
        super().__init__()
        hidden = inputs * stage.expand
        self.expand = ConvNorm(inputs, hidden) if stage.expand > 1 else None
        self.depthwise = ConvNorm(hidden, hidden, stage.kernel, stride, groups=hidden)
        self.project = ConvNorm(hidden, outputs)
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu6(self.expand(x)) if self.expand is not None else x
        y = self.project(F.relu6(self.depthwise(y)))
        return x + y if self.residual else y


class EfficientNetLiteModel(Vision):
    """`Vision` by convolutions; tokens are the last grid's cells."""

    def __init__(self, config: EfficientNetLite) -> None:
        super().__init__()
        self.config = config
        self.stem = ConvNorm(3, STEM_CHANNELS, 3, 2)
        self.blocks = nn.ModuleList()
        self.stage_ends: list[int] = []
        channels = STEM_CHANNELS
        for number, stage in enumerate(STAGES, start=1):
            outputs = config.channels(number)
            for repeat in range(config.repeats(number)):
                self.blocks.append(
                    InvertedBottleneck(channels, outputs, stage, stage.stride if repeat == 0 else 1)
                )
                channels = outputs
            self.stage_ends.append(len(self.blocks))
        self.last = ConvNorm(channels, config.head)
        self.classifier = nn.Linear(config.head, config.classes) if config.classes else None

    def forward(self, views: Sequence[Tensor]) -> Packed:
        grids = tuple(self.config.grid((view.shape[-2], view.shape[-1])) for view in views)
        return Packed(torch.cat(by_size(views, self._encode)), grids)

    def unused_parameters(self, *, pooled: bool) -> set[str]:
        return {name for name, _ in self.named_parameters() if name.startswith("classifier.")}

    def _encode(self, pixels_V3HW: Tensor) -> Tensor:
        """(V, 3, H, W) -> (V, n, C)."""
        config = self.config
        x = pixels_V3HW.to(self.stem.weight.dtype).contiguous(memory_format=torch.channels_last)
        x, mid = F.relu6(self.stem(x)), None
        for number, block in enumerate(self.blocks, start=1):
            x = block(x)
            if config.mid_stage and number == self.stage_ends[config.mid_stage - 1]:
                mid = F.pixel_unshuffle(x, config.fold)
        x = F.relu6(self.last(x))
        return (x if mid is None else torch.cat((x, mid), 1)).flatten(2).transpose(1, 2)

    def classify(self, pixels_V3HW: Tensor) -> Tensor:
        """Scores of the classifier, (V, classes); raises `BeholderError` where the card keeps none."""
        if self.classifier is None:
            raise BeholderError("this EfficientNet-Lite was built without its classifier; set classes=1000")
        tokens_VNC = self._encode(pixels_V3HW)[..., : self.config.head]
        return self.classifier(tokens_VNC.mean(1))
