"""DaViT (2204.03645): attention inside windows of the map, then attention among channels over the whole map.

V views, h w rows and columns of a map, C channels, W windows, T tokens of a window, G groups of channels.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field

from torch import Tensor, nn
from torch.nn import functional as F

from beholder.parts.blocks.mlp import FeedForward
from beholder.parts.blocks.norms import Norm
from beholder.parts.vision.stages import (
    Maps,
    Stage,
    StagedConfig,
    StagedEncoder,
    conv_side,
    each,
    first_dim,
    last_dim,
)
from beholder.parts.vision.windows import Embed, Heads, merge, partition


@dataclass(frozen=True)
class DaVit(StagedConfig):
    """dims, depths, heads, groups: of each stage its width, pairs of layers, and heads of the attention in windows and among
    channels. kernels, strides, paddings, norm_before: of the convolution that begins each stage, and whether its norm comes
    before it. window: tokens per side of a window. ratio: hidden width of the MLPs over the stage's width.
    """

    image_size: int = 768
    dims: tuple[int, ...] = (128, 256, 512, 1024)
    depths: tuple[int, ...] = (1, 1, 9, 1)
    heads: tuple[int, ...] = (4, 8, 16, 32)
    groups: tuple[int, ...] = (4, 8, 16, 32)
    kernels: tuple[int, ...] = (7, 3, 3, 3)
    strides: tuple[int, ...] = (4, 2, 2, 2)
    paddings: tuple[int, ...] = (3, 1, 1, 1)
    norm_before: tuple[bool, ...] = (False, True, True, True)
    window: int = 12
    ratio: float = 4.0
    qkv_bias: bool = True
    act: str = "gelu"
    dim: int = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "dim", self.dims[-1])
        self.need_each("dims", "depths", "heads", "groups")
        self.need_each("dims", "kernels", "strides", "paddings", "norm_before")

    def sides(self, length: int) -> tuple[int, ...]:
        sides = []
        for kernel, stride, padding in zip(self.kernels, self.strides, self.paddings, strict=True):
            length = conv_side(length, kernel, stride, padding)
            sides.append(length)
        return tuple(sides)

    def tiny(self) -> DaVit:
        count = len(self.dims)
        twos = (2,) * count
        return self.but(
            image_size=64, dims=(16,) * count, depths=(1,) * count, heads=twos, groups=twos, window=4
        )

    def build(self) -> DaVitModel:
        return DaVitModel(self)


class WindowMixer(nn.Module):
    """Attention inside windows of a map."""

    def __init__(self, heads: Heads, window: int) -> None:
        super().__init__()
        self.heads, self.window = heads, window

    def forward(self, x_VhwC: Tensor) -> Tensor:
        q, k, v = self.heads.split(partition(x_VhwC, self.window).flatten(1, 2))
        y_WTC = self.heads.join(F.scaled_dot_product_attention(q, k, v))
        return merge(y_WTC.unflatten(1, (self.window, self.window)), x_VhwC.shape[1:3])


class ChannelMixer(nn.Module):
    """Attention in which the channels of a group are the positions and a map's cells their features."""

    def __init__(self, heads: Heads) -> None:
        super().__init__()
        self.heads = heads

    def forward(self, x_VhwC: Tensor) -> Tensor:
        q, k, v = (part.transpose(-1, -2) for part in self.heads.split(x_VhwC.flatten(1, 2)))
        y_VGTC = F.scaled_dot_product_attention(q, k, v).transpose(-1, -2)
        return self.heads.join(y_VGTC).view_as(x_VhwC)


class DaVitLayer(nn.Module):
    """A mixer and an MLP, each after a 3x3 depthwise convolution that is added to its input and gives it places."""

    def __init__(self, dim: int, mixer: nn.Module, mlp: FeedForward) -> None:
        super().__init__()
        self.place1, self.place2 = (nn.Conv2d(dim, dim, 3, padding=1, groups=dim) for _ in range(2))
        self.norm1, self.norm2 = Norm().build(dim), Norm().build(dim)
        self.attn, self.mlp = mixer, mlp.build(dim)

    def forward(self, x_VhwC: Tensor) -> Tensor:
        x_VhwC = x_VhwC + last_dim(self.place1(first_dim(x_VhwC)))
        x_VhwC = x_VhwC + self.attn(self.norm1(x_VhwC))
        x_VhwC = x_VhwC + last_dim(self.place2(first_dim(x_VhwC)))
        return x_VhwC + self.mlp(self.norm2(x_VhwC))


def pair(config: DaVit, stage: int) -> nn.Sequential:
    """A layer that mixes inside windows and one that mixes channels."""
    dim = config.dims[stage]
    mlp = FeedForward(int(config.ratio * dim), config.act)
    windows = WindowMixer(Heads(dim, config.heads[stage], bias=config.qkv_bias), config.window)
    channels = ChannelMixer(Heads(dim, config.groups[stage], bias=config.qkv_bias))
    layers = {"spatial": DaVitLayer(dim, windows, mlp), "channel": DaVitLayer(dim, channels, mlp)}
    return nn.Sequential(OrderedDict(layers))


class DaVitModel(StagedEncoder):
    """`Vision` by both kinds of attention; tokens are the last map's cells."""

    config: DaVit

    def __init__(self, config: DaVit) -> None:
        super().__init__()
        self.config = config
        self.stages = nn.ModuleList()
        for stage, depth in enumerate(config.depths):
            steps = (config.kernels[stage], config.strides[stage], config.paddings[stage])
            inputs = (3, *config.dims)[stage]
            down = Embed(inputs, config.dims[stage], *steps, before=config.norm_before[stage])
            self.stages.append(Stage(down, (pair(config, stage) for _ in range(depth))))

    def maps(self, pixels_V3HW: Tensor) -> Maps:
        taps = each(self.stages, last_dim(pixels_V3HW))
        return Maps(taps, taps[-1])
