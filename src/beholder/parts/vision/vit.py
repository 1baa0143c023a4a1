"""The vision transformer (2010.11929) in the forms of CLIP (2103.00020), SigLIP (2303.15343) and Idefics3 (2408.12637).

V views, T tokens of a view with the class token, N packed tokens, D width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from beholder.config import Config
from beholder.errors import BeholderError, UnknownName
from beholder.media.plan import Grid, Size
from beholder.parts.blocks.attention import Attention
from beholder.parts.blocks.masks import AttentionMask
from beholder.parts.blocks.mlp import FeedForward
from beholder.parts.blocks.norms import Norm
from beholder.parts.blocks.positions import learned
from beholder.parts.blocks.step import Step
from beholder.parts.blocks.transformer import TransformerLayer
from beholder.parts.contracts import Encoder, Packed, VisionConfig
from beholder.parts.vision.views import by_size


@dataclass(frozen=True)
class Take(Config):
    """Which features leave the encoder. layers: depths whose features are joined along channels; -1 is the last layer,
    0 the embeddings. norm: apply the final norm to them.
    """

    layers: tuple[int, ...] = (-1,)
    norm: bool = True


@dataclass(frozen=True)
class ViT(VisionConfig):
    """image_size: pixels per side that the position table was made for; patch: pixels per side of a patch.

    cls: a learned class token in front. pre_norm: a norm before the first layer (CLIP). positions: `table` takes the
    table's own size alone; `bucketed` takes any size, each patch using the table's entry at its relative place
    (official `Idefics3VisionEmbeddings`). pool: None, `cls` (the normed class token) or `attention` (SigLIP's probe).
    """

    image_size: int
    patch: int
    dim: int
    num_layers: int
    attention: Attention
    mlp: FeedForward
    norm: Norm = Norm("layer", 1e-5)
    cls: bool = False
    patch_bias: bool = True
    pre_norm: bool = False
    positions: str = "table"
    pool: str | None = None
    take: Take = Take()

    def __post_init__(self) -> None:
        for name, value, known in (
            ("positions", self.positions, ("table", "bucketed")),
            ("pool", self.pool, (None, "cls", "attention")),
        ):
            if value not in known:
                raise UnknownName(f"ViT {name}", str(value), [str(k) for k in known])
        deepest = self.num_layers
        if not self.take.layers or not all(-deepest - 1 <= layer <= deepest for layer in self.take.layers):
            raise BeholderError(
                f"an encoder of {deepest} layers has no features at depths {self.take.layers}; "
                f"take some of {-deepest - 1} to {deepest}"
            )

    @property
    def side(self) -> int:
        """Rows (and columns) of the position table."""
        return self.image_size // self.patch

    @property
    def out_dim(self) -> int:
        return self.dim * len(self.take.layers)

    def grid(self, size: Size) -> Grid:
        height, width = size
        if min(size) < self.patch:
            raise BeholderError(
                f"a view of {width}x{height} pixels is smaller than one patch of {self.patch}"
            )
        if self.positions == "table" and (height, width) != (self.image_size, self.image_size):
            raise BeholderError(
                f"this encoder takes {self.image_size}x{self.image_size} pixels, not {width}x{height}; "
                "set positions='bucketed' or change the geometry"
            )
        return Grid(1, height // self.patch, width // self.patch)

    def tiny(self) -> ViT:
        """Two layers of width 32 on 28 pixels; depths to take are kept where they exist."""
        layers = tuple(max(layer, -2) if layer < 0 else min(layer, 2) for layer in self.take.layers)
        small = super().tiny()
        return small.but(image_size=28, patch=14, dim=32, num_layers=2, take=self.take.but(layers=layers))

    def build(self) -> VisionTransformer:
        return VisionTransformer(self)


class VisionTransformer(Encoder):
    """`Encoder` by self-attention over patches."""

    def __init__(self, config: ViT) -> None:
        super().__init__()
        self.config = config
        dim, extra = config.dim, int(config.cls)
        self.patch = nn.Conv2d(3, dim, config.patch, stride=config.patch, bias=config.patch_bias)
        self.cls = learned(dim) if config.cls else None
        self.positions = learned(config.side**2 + extra, dim)
        self.pre_norm = config.norm.build(dim) if config.pre_norm else None
        self.blocks = nn.ModuleList(
            TransformerLayer(dim, config.attention, config.mlp, norm=config.norm, index=index)
            for index in range(config.num_layers)
        )
        self.post_norm = config.norm.build(dim)
        self.pool = AttentionPool(config) if config.pool == "attention" else None

    def forward(self, views: Sequence[Tensor]) -> Packed:
        config = self.config
        grids = tuple(config.grid((view.shape[-2], view.shape[-1])) for view in views)
        tokens: list[Tensor] = []
        pooled: list[Tensor] = []
        depths = sorted({layer % (config.num_layers + 1) for layer in config.take.layers})
        last = config.num_layers if config.pool else max(depths)
        for taken_TD, vector_D in by_size(views, partial(self._encode, depths=depths, last=last)):
            tokens.append(taken_TD)
            pooled.append(vector_D)
        return Packed(torch.cat(tokens), grids, pooled_VD=torch.stack(pooled) if config.pool else None)

    def unused_parameters(self, *, pooled: bool) -> set[str]:
        config = self.config
        reads_pool = pooled and config.pool is not None
        deepest = max(layer % (config.num_layers + 1) for layer in config.take.layers)
        depth = config.num_layers if reads_pool else deepest
        unused = [f"blocks.{number}." for number in range(depth, config.num_layers)]
        unused += [] if reads_pool else ["pool."]
        unused += [] if reads_pool or config.take.norm else ["post_norm."]
        return {name for name, _ in self.named_parameters() if name.startswith(tuple(unused))}

    def _encode(self, pixels_V3HW: Tensor, depths: Sequence[int], last: int) -> list[tuple[Tensor, Tensor]]:
        """For each view of one size its taken tokens (n, D_out) and its pooled vector (D,)."""
        config = self.config
        x_VTD = self._embed(pixels_V3HW)
        kept = {0: x_VTD}
        for number, block in enumerate(self.blocks[:last], start=1):
            x_VTD = block(x_VTD, Step(x_VTD.dtype))
            kept[number] = x_VTD
        features = [kept[layer % (config.num_layers + 1)] for layer in config.take.layers]
        if config.take.norm:
            features = [self.post_norm(feature) for feature in features]
        tokens_VND = torch.cat([feature[:, int(config.cls) :] for feature in features], -1)
        return list(zip(tokens_VND, self._pool(x_VTD), strict=True))

    def _embed(self, pixels_V3HW: Tensor) -> Tensor:
        patches_VDhw = self.patch(pixels_V3HW.to(self.patch.weight.dtype))
        height, width = patches_VDhw.shape[-2:]
        x_VTD = patches_VDhw.flatten(2).transpose(1, 2)
        extra = int(self.config.cls)
        table_TD: Tensor = self.positions
        if self.config.positions == "bucketed":
            rows, columns = (bucketed_positions(n, self.config.side, x_VTD.device) for n in (height, width))
            places_N = (rows[:, None] * self.config.side + columns).flatten() + extra
            table_TD = torch.cat((table_TD[:extra], table_TD[places_N]))
        if self.cls is not None:
            x_VTD = torch.cat((self.cls.expand(len(x_VTD), 1, -1), x_VTD), 1)
        x_VTD = x_VTD + table_TD
        return self.pre_norm(x_VTD) if self.pre_norm is not None else x_VTD

    def _pool(self, x_VTD: Tensor) -> Tensor:
        if self.config.pool == "cls":
            return self.post_norm(x_VTD[:, 0])
        if self.pool is not None:
            return self.pool(self.post_norm(x_VTD))
        return x_VTD[:, 0]


class AttentionPool(nn.Module):
    """SigLIP's head: a learned probe attends to all tokens, then an MLP (2303.15343, `multihead attention pooling`)."""

    def __init__(self, config: ViT) -> None:
        super().__init__()
        self.probe = learned(config.dim)
        self.attn = config.attention.build(config.dim)
        self.norm = config.norm.build(config.dim)
        self.mlp = config.mlp.build(config.dim)

    def forward(self, x_VTD: Tensor) -> Tensor:
        """(V, T, D) -> (V, D)."""
        attn, probe_V1D = self.attn, self.probe.expand(len(x_VTD), 1, -1)
        q, k, v = (attn.split(heads) for heads in (attn.q(probe_V1D), attn.k(x_VTD), attn.v(x_VTD)))
        y_V1D = attn.merge(attn.attend(q, k, v, AttentionMask()))
        return (y_V1D + self.mlp(self.norm(y_V1D)))[:, 0]


def bucketed_positions(count: int, side: int, device: torch.device | None = None) -> Tensor:
    """For `count` patches in a row, the index of the table column (of `side`) at the same relative place. In
    float32, as officially: for some tables (side 25) even `count == side` is not one to one, and weights were
    trained so.
    """
    boundaries = torch.arange(1 / side, 1.0, 1 / side, device=device)
    places = torch.arange(count, dtype=torch.float32, device=device) * (1 / count)
    return torch.bucketize(places, boundaries, right=True)
