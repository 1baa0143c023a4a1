"""Early stages of a ResNet in front of a ViT's patches: the hybrid of 2010.11929, section 3.1 (models_resnet.py of
google-research/vision_transformer). Kernels are standardised (1903.10520) and normed in groups; all padding is TensorFlow's
`SAME`.

V views, h w rows and columns of a map, C channels.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from beholder.config import Config
from beholder.parts.blocks.positions import learned
from beholder.parts.vision.convnets import padded_conv, same_padding


@dataclass(frozen=True)
class ConvStem(Config):
    """depths: blocks of each stage, of which all but the first halve the map; width: channels in front of them, a quarter of
    what the first stage gives; groups: of channels that are normed together.
    """

    depths: tuple[int, ...] = (3, 4, 9)
    width: int = 64
    groups: int = 32

    @property
    def stride(self) -> int:
        """Pixels per side of one cell."""
        return 2 ** (len(self.depths) + 1)

    @property
    def dim(self) -> int:
        """Channels that come out."""
        return self.width * 2 ** (len(self.depths) + 1)

    def tiny(self) -> ConvStem:
        return self.but(depths=(1, 2), width=8, groups=4)

    def build(self) -> nn.Module:
        return ConvStemModel(self)


class StandardizedConv(nn.Module):
    """A convolution by (w - mean) / (deviation + 1e-5), each over one output's weights, and its group norm."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int = 1, stride: int = 1, *, groups: int = 32
    ) -> None:
        super().__init__()
        self.stride = stride
        self.weight = learned(outputs, inputs, kernel, kernel, std=(inputs * kernel**2) ** -0.5)
        self.norm = nn.GroupNorm(groups, outputs, eps=1e-6)

    def forward(self, x_VChw: Tensor) -> Tensor:
        std, mean = torch.std_mean(self.weight, (1, 2, 3), correction=0, keepdim=True)
        weight = (self.weight - mean) / (std + 1e-5)
        return self.norm(padded_conv(x_VChw, weight, None, self.stride, padding="same"))


class Unit(nn.Module):
    """relu(shortcut(x) + convolutions(x)), the middle one of which steps."""

    def __init__(self, inputs: int, width: int, stride: int, groups: int) -> None:
        super().__init__()
        outputs = 4 * width
        self.shortcut = None
        if inputs != outputs or stride != 1:
            self.shortcut = StandardizedConv(inputs, outputs, 1, stride, groups=groups)
        shapes = ((inputs, width, 1, 1), (width, width, 3, stride), (width, outputs, 1, 1))
        self.layers = nn.ModuleList(StandardizedConv(*shape, groups=groups) for shape in shapes)

    def forward(self, x_VChw: Tensor) -> Tensor:
        first, middle, last = self.layers
        y_VChw = last(middle(first(x_VChw).relu()).relu())
        return (y_VChw + (x_VChw if self.shortcut is None else self.shortcut(x_VChw))).relu()


class ConvStemModel(nn.Module):
    """(V, 3, h, w) -> (V, C, h / stride, w / stride)."""

    def __init__(self, config: ConvStem) -> None:
        super().__init__()
        self.root = StandardizedConv(3, config.width, 7, 2, groups=config.groups)
        channels, units = config.width, []
        for stage, depth in enumerate(config.depths):
            width = config.width * 2**stage
            for number in range(depth):
                stride = 2 if stage and not number else 1
                units.append(Unit(channels, width, stride, config.groups))
                channels = 4 * width
        self.units = nn.Sequential(*units)

    def forward(self, pixels: Tensor) -> Tensor:
        x_VChw = self.root(pixels).relu()
        rows, columns = (same_padding(length, 3, 2) for length in x_VChw.shape[-2:])
        padded = F.pad(x_VChw, (*columns, *rows), value=float("-inf"))
        return self.units(F.max_pool2d(padded, 3, 2))


class StemPatches(nn.Conv2d):
    """Patches of `patch` pixels, made of a stem's cells; pixels that fill no patch are left out."""

    def __init__(self, stem: ConvStem, dim: int, patch: int, *, bias: bool) -> None:
        cells = patch // stem.stride
        super().__init__(stem.dim, dim, cells, stride=cells, bias=bias)
        self.patch = patch
        self.stem = stem.build()

    def forward(self, pixels: Tensor) -> Tensor:
        """(V, 3, h, w) to (V, D, rows, columns)."""
        height, width = (length // self.patch * self.patch for length in pixels.shape[-2:])
        return super().forward(self.stem(pixels[..., :height, :width]))
