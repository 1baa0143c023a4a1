"""ConvNeXt (2201.03545), with global response normalisation in version 2 (2301.00808); any number of stages.

V views, h w rows and columns of a map, C channels.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from beholder.parts.blocks.activations import activation
from beholder.parts.blocks.norms import Norm
from beholder.parts.vision.stages import Maps, Stage, StagedConfig, StagedEncoder, each, first_dim, last_dim
from beholder.parts.vision.windows import Embed


@dataclass(frozen=True)
class ConvNext(StagedConfig):
    """dims, depths: width and blocks of each stage. responses: global response normalisation in place of a learned scale
    of each block (version 2). eps, last_eps: of all norms but the last, and of the last (None: there is none, where nothing
    pools). norm_tokens: the last norm acts on the tokens too, not on pooled vectors alone (DINOv3). tokens: number of the stage
    whose map becomes the tokens, as it is; 0 is the last.
    """

    image_size: int = 224
    patch: int = 4
    dims: tuple[int, ...] = (96, 192, 384, 768)
    depths: tuple[int, ...] = (3, 3, 9, 3)
    responses: bool = False
    act: str = "gelu"
    eps: float = 1e-6
    last_eps: float | None = 1e-6
    norm_tokens: bool = False
    classes: int = 0
    tokens: int = 0
    dim: int = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "dim", self.dims[self.token_tap])
        self.need_each("dims", "depths")

    @property
    def token_tap(self) -> int:
        return self.tokens - 1

    @property
    def pooled_dim(self) -> int:
        return self.dims[-1]

    def sides(self, length: int) -> tuple[int, ...]:
        return tuple(length // self.patch // 2**stage for stage in range(len(self.dims)))

    def tiny(self) -> ConvNext:
        dims = tuple(16 + 8 * stage for stage in range(len(self.dims)))
        return self.but(image_size=64, patch=2, dims=dims, depths=(1,) * len(dims))

    def build(self) -> ConvNextModel:
        return ConvNextModel(self)


class ConvNextBlock(nn.Module):
    """x + scale * down(act(up(norm(depthwise 7x7 of x))))."""

    def __init__(self, config: ConvNext, dim: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(dim, dim, 7, padding=3, groups=dim)
        self.norm = Norm("layer", config.eps).build(dim)
        self.up, self.down = nn.Linear(dim, 4 * dim), nn.Linear(4 * dim, dim)
        self.act = activation(config.act)
        self.responses = ResponseNorm(4 * dim) if config.responses else None
        self.scale = None if config.responses else nn.Parameter(torch.full((dim,), 1e-6))

    def forward(self, x_VhwC: Tensor) -> Tensor:
        y = self.act(self.up(self.norm(last_dim(self.depthwise(first_dim(x_VhwC))))))
        y = self.down(y if self.responses is None else self.responses(y))
        return x_VhwC + (y if self.scale is None else self.scale * y)


class ResponseNorm(nn.Module):
    """x + weight x g / mean(g) + bias, with g the length of each channel over the map (2301.00808 section 3.2)."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.zeros(dim)), nn.Parameter(torch.zeros(dim))

    def forward(self, x_VhwC: Tensor) -> Tensor:
        lengths = torch.linalg.vector_norm(x_VhwC, dim=(1, 2), keepdim=True)
        return x_VhwC + self.weight * x_VhwC * (lengths / (lengths.mean(-1, keepdim=True) + 1e-6)) + self.bias


class ConvNextModel(StagedEncoder):
    """`Vision` by depthwise convolutions; tokens are the last map's cells."""

    config: ConvNext

    def __init__(self, config: ConvNext) -> None:
        super().__init__()
        self.config = config
        self.pooled_only = () if config.norm_tokens else ("norm.",)
        norm = Norm("layer", config.eps)
        self.stem = Embed(3, config.dims[0], config.patch, config.patch, norm=norm)
        self.stages = nn.ModuleList()
        for number, (dim, depth) in enumerate(zip(config.dims, config.depths, strict=True)):
            inputs = (0, *config.dims)[number]
            down = Embed(inputs, dim, 2, 2, norm=norm, before=True) if number else None
            self.stages.append(Stage(down, (ConvNextBlock(config, dim) for _ in range(depth))))
        last = None if config.last_eps is None else Norm("layer", config.last_eps)
        self.norm = nn.Identity() if last is None else last.build(config.pooled_dim)
        self.classifier = nn.Linear(config.pooled_dim, config.classes) if config.classes else None

    def maps(self, pixels_V3HW: Tensor) -> Maps:
        taps = each(self.stages, self.stem(last_dim(pixels_V3HW)))
        last = taps[-1]
        tokens = self.norm(last) if self.config.norm_tokens else taps[self.config.token_tap]
        return Maps(taps, tokens, self.norm(last.mean((1, 2))))
