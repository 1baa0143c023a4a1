"""SegFormer's encoder (Mix Transformer, 2105.15203, section 3.1): overlapping patches at each stage, keys and values of a
coarser map (PVT, 2102.12122), and no positions, for which a convolution inside the MLPs stands.

V views, h w rows and columns of a map, C channels.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor, nn
from torch.nn import functional as F

from beholder.parts.blocks.mlp import FeedForward
from beholder.parts.blocks.norms import Norm
from beholder.parts.vision.stages import Maps, StagedConfig, StagedEncoder, first_dim, last_dim
from beholder.parts.vision.windows import Heads, MapLayer

NORM = Norm("layer", 1e-5)


@dataclass(frozen=True)
class MixTransformer(StagedConfig):
    """dims, depths, heads: width, layers and heads of each stage. kernels, strides: of the convolutions that lead to it.
    ratios: so many rows (and columns) of its map make one of keys and values. hidden: width of the MLPs over the stage's.
    """

    image_size: int = 512
    dims: tuple[int, ...] = (32, 64, 160, 256)
    depths: tuple[int, ...] = (2, 2, 2, 2)
    heads: tuple[int, ...] = (1, 2, 5, 8)
    kernels: tuple[int, ...] = (7, 3, 3, 3)
    strides: tuple[int, ...] = (4, 2, 2, 2)
    ratios: tuple[int, ...] = (8, 4, 2, 1)
    hidden: tuple[float, ...] = (4.0, 4.0, 4.0, 4.0)
    act: str = "gelu"
    classes: int = 0
    dim: int = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "dim", self.dims[-1])
        self.need_each("dims", "depths", "heads", "kernels", "strides", "ratios", "hidden")

    def sides(self, length: int) -> tuple[int, ...]:
        found = []
        for kernel, stride in zip(self.kernels, self.strides, strict=True):
            length = (length + kernel // 2 * 2 - kernel) // stride + 1
            found.append(length)
        return tuple(found)

    def tiny(self) -> MixTransformer:
        count = len(self.dims)
        dims = tuple(8 * (stage + 1) for stage in range(count))
        ratios = tuple(min(ratio, 2 ** (count - 1 - stage)) for stage, ratio in enumerate(self.ratios))
        return self.but(image_size=64, dims=dims, depths=(1,) * count, heads=(2,) * count, ratios=ratios)

    def build(self) -> MixTransformerModel:
        return MixTransformerModel(self)


@dataclass(frozen=True)
class MixedFeedForward(FeedForward):
    """With a depthwise convolution of 3 x 3 over the map behind the first matrix."""

    def build(self, dim: int) -> MixedLayer:  # type: ignore[override]
        return MixedLayer(self, dim)


class MixedLayer(nn.Module):
    """(V, h, w, C) -> (V, h, w, C)."""

    def __init__(self, config: MixedFeedForward, dim: int) -> None:
        super().__init__()
        inner = FeedForward(config.hidden, config.act).build(dim)
        self.up, self.act, self.down = inner.up, inner.act, inner.down
        self.depthwise = nn.Conv2d(config.hidden, config.hidden, 3, padding=1, groups=config.hidden)

    def forward(self, x_VhwC: Tensor) -> Tensor:
        y: Tensor = self.down(self.act(last_dim(self.depthwise(first_dim(self.up(x_VhwC))))))
        return y


class ReducedAttention(nn.Module):
    """Every cell of a map looks at the cells of one `ratio` times coarser."""

    def __init__(self, dim: int, num_heads: int, ratio: int) -> None:
        super().__init__()
        self.heads = Heads(dim, num_heads)
        self.reduce = nn.Conv2d(dim, dim, ratio, ratio) if ratio > 1 else None
        self.norm = NORM.build(dim) if ratio > 1 else None

    def forward(self, x_VhwC: Tensor) -> Tensor:
        heads, seen_VhwC = self.heads, x_VhwC
        if self.reduce is not None and self.norm is not None:
            seen_VhwC = self.norm(last_dim(self.reduce(first_dim(x_VhwC))))
        q, k, v = (
            part(x.flatten(1, 2)).unflatten(-1, (heads.num_heads, -1)).transpose(1, 2)
            for part, x in ((heads.q, x_VhwC), (heads.k, seen_VhwC), (heads.v, seen_VhwC))
        )
        return heads.join(F.scaled_dot_product_attention(q, k, v)).unflatten(1, x_VhwC.shape[1:3])


class MixStage(nn.Module):
    """A convolution to the stage's grid, its layers, and a norm of what they give."""

    def __init__(self, config: MixTransformer, stage: int) -> None:
        super().__init__()
        inputs, dim, kernel = (3, *config.dims)[stage], config.dims[stage], config.kernels[stage]
        self.conv = nn.Conv2d(inputs, dim, kernel, config.strides[stage], padding=kernel // 2)
        self.first_norm, self.norm = NORM.build(dim), NORM.build(dim)
        mlp = MixedFeedForward(int(config.hidden[stage] * dim), config.act)
        self.blocks = nn.ModuleList(
            MapLayer(dim, ReducedAttention(dim, config.heads[stage], config.ratios[stage]), mlp, NORM)
            for _ in range(config.depths[stage])
        )

    def forward(self, x_VhwC: Tensor) -> Tensor:
        x_VhwC = self.first_norm(last_dim(self.conv(first_dim(x_VhwC))))
        for block in self.blocks:
            x_VhwC = block(x_VhwC)
        normed: Tensor = self.norm(x_VhwC)
        return normed


class MixTransformerModel(StagedEncoder):
    """`Vision` whose taps are the stages' maps; tokens are the last map's cells, the pooled vector their mean."""

    config: MixTransformer

    def __init__(self, config: MixTransformer) -> None:
        super().__init__()
        self.config = config
        self.stages = nn.ModuleList(MixStage(config, stage) for stage in range(len(config.dims)))
        self.classifier = nn.Linear(config.dim, config.classes) if config.classes else None

    def maps(self, pixels_V3HW: Tensor) -> Maps:
        x_VhwC, taps = last_dim(pixels_V3HW), []
        for stage in self.stages:
            x_VhwC = stage(x_VhwC)
            taps.append(x_VhwC)
        return Maps(taps, x_VhwC, x_VhwC.mean((1, 2)))
