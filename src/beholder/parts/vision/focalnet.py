"""FocalNet (2203.11926): each cell is multiplied by a gated sum of its surroundings at several widths, in place of
attention.

V views, h w rows and columns of a map, C channels, L levels.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
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
from beholder.parts.vision.windows import Embed, MapLayer

KERNEL_STEP = 2  # how much wider each level looks than the last (`focal_factor` of microsoft/FocalNet)


@dataclass(frozen=True)
class FocalNet(StagedConfig):
    """width: of the first stage, doubled at each next one. depths, levels, kernels: of each stage its layers, and how many
    levels its surroundings have, the first as wide as `kernels` says. ratio: hidden width of the MLPs over the stage's.

    overlap: steps between stages are 7x7 and 3x3 convolutions whose windows overlap. after: norms after the branches, not
    before them. scaled: a learned scale of each branch. norm_modulated: a norm before the modulation's last map. mean_levels:
    the sum of levels is divided by their number.
    """

    image_size: int = 224
    patch: int = 4
    width: int = 96
    depths: tuple[int, ...] = (2, 2, 6, 2)
    levels: tuple[int, ...] = (2, 2, 2, 2)
    kernels: tuple[int, ...] = (3, 3, 3, 3)
    ratio: float = 4.0
    act: str = "gelu"
    norm: Norm = Norm()
    overlap: bool = False
    after: bool = False
    scaled: bool = False
    norm_modulated: bool = False
    mean_levels: bool = False
    classes: int = 0
    dim: int = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "dim", self.width * 2 ** (len(self.depths) - 1))
        self.need_each("depths", "levels", "kernels")

    def step(self, stage: int) -> tuple[int, int, int]:
        """Kernel, stride and padding of the convolution that begins a stage; official `FocalNetPatchEmbeddings`."""
        if self.overlap:
            return (3, 2, 1) if stage else (7, 4, 2)
        return (2, 2, 0) if stage else (self.patch, self.patch, 0)

    def sides(self, length: int) -> tuple[int, ...]:
        sides = []
        for stage in range(len(self.depths)):
            unit = 2 if stage else self.patch
            length = conv_side(-(-length // unit) * unit, *self.step(stage))
            sides.append(length)
        return tuple(sides)

    def tiny(self) -> FocalNet:
        return self.but(image_size=64, width=8, depths=(1,) * len(self.depths))

    def build(self) -> FocalNetModel:
        return FocalNetModel(self)


class Modulation(nn.Module):
    """out(query * context), context = mix(sum over levels of gate * surroundings) (2203.11926 equations 5 to 8)."""

    def __init__(self, config: FocalNet, stage: int) -> None:
        super().__init__()
        dim, self.levels = config.width * 2**stage, config.levels[stage]
        self.divisor = self.levels + 1 if config.mean_levels else 1
        self.split = nn.Linear(dim, 2 * dim + self.levels + 1)
        sizes = [config.kernels[stage] + KERNEL_STEP * level for level in range(self.levels)]
        self.surroundings = nn.ModuleList(
            nn.Conv2d(dim, dim, size, padding=size // 2, groups=dim, bias=False) for size in sizes
        )
        self.mix, self.out = nn.Linear(dim, dim), nn.Linear(dim, dim)
        self.norm = config.norm.build(dim) if config.norm_modulated else None

    def forward(self, x_VhwC: Tensor) -> Tensor:
        dim = x_VhwC.shape[-1]
        query, context, gates_VhwL = self.split(x_VhwC).split((dim, dim, self.levels + 1), -1)
        total = torch.zeros_like(context)
        for level, convolution in enumerate(self.surroundings):
            context = F.gelu(last_dim(convolution(first_dim(context))))
            total = total + context * gates_VhwL[..., level, None]
        whole = F.gelu(context.mean((1, 2), keepdim=True))
        total = (total + whole * gates_VhwL[..., self.levels :]) / self.divisor
        y = query * self.mix(total)
        return self.out(y if self.norm is None else self.norm(y))


def layer(config: FocalNet, stage: int) -> MapLayer:
    """A modulation and an MLP of a stage."""
    dim = config.width * 2**stage
    mlp, scale = FeedForward(int(config.ratio * dim), config.act), 1e-4 if config.scaled else None
    return MapLayer(dim, Modulation(config, stage), mlp, config.norm, after=config.after, scale=scale)


class FocalNetModel(StagedEncoder):
    """`Vision` by focal modulation; tokens are the last map's cells, normed."""

    config: FocalNet

    def __init__(self, config: FocalNet) -> None:
        super().__init__()
        self.config = config
        self.stem = Embed(3, config.width, *config.step(0), norm=config.norm, unit=config.patch)
        self.stages = nn.ModuleList()
        for stage, depth in enumerate(config.depths):
            dim = config.width * 2**stage
            down = Embed(dim // 2, dim, *config.step(stage), norm=config.norm, unit=2) if stage else None
            self.stages.append(Stage(down, (layer(config, stage) for _ in range(depth))))
        self.norm = config.norm.build(config.dim)
        self.classifier = nn.Linear(config.dim, config.classes) if config.classes else None

    def maps(self, pixels_V3HW: Tensor) -> Maps:
        taps = each(self.stages, self.stem(last_dim(pixels_V3HW)))
        tokens = self.norm(taps[-1])
        return Maps(taps, tokens, tokens.mean((1, 2)))
