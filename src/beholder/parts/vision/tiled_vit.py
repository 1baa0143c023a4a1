"""A vision transformer over several tiles of a picture at once (Llama 3.2, section 7 of 2407.21783).

V pictures, L tiles of one, T tokens of a tile with those that fill it up, D width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from beholder.errors import BeholderError
from beholder.media.plan import Grid, Size
from beholder.parts.blocks.attention import Attention
from beholder.parts.blocks.masks import AttentionMask
from beholder.parts.blocks.mlp import FeedForward
from beholder.parts.blocks.norms import Norm
from beholder.parts.blocks.positions import learned
from beholder.parts.blocks.step import Step
from beholder.parts.blocks.transformer import Arrangement, TransformerLayer
from beholder.parts.contracts import Encoder, Packed, VisionConfig
from beholder.parts.vision.patches import Patches
from beholder.parts.vision.views import size_of

FILL = 8  # tokens of a tile are filled up to a multiple of this (official `MllamaVisionModel`)


@dataclass(frozen=True)
class TiledViT(VisionConfig):
    """A view is a picture on a canvas of whole tiles of `image_size` pixels, in one of the shapes (rows, columns) that
    `tiles` allow; tiles that a shape lacks are blank. Each shape has vectors of its own for every tile.

    num_global: further layers whose halves count tanh of a learned number. take: depths of the first layers whose features
    are given behind those of the last, channel by channel. gate: where the gates of positions by tile start.
    """

    image_size: int
    patch: int
    dim: int
    num_layers: int
    num_global: int
    attention: Attention
    mlp: FeedForward
    norm: Norm = Norm("layer", 1e-5)
    tiles: int = 4
    take: tuple[int, ...] = ()
    gate: float = 0.0

    def __post_init__(self) -> None:
        if not all(0 < depth <= self.num_layers for depth in self.take):
            raise BeholderError(
                f"an encoder of {self.num_layers} layers has no features at depths {self.take}"
            )

    @property
    def shapes(self) -> tuple[tuple[int, int], ...]:
        """(rows, columns), in the order of their vectors (official `get_all_supported_aspect_ratios`)."""
        sides = range(1, self.tiles + 1)
        return tuple((rows, columns) for rows in sides for columns in sides if rows * columns <= self.tiles)

    @property
    def tokens(self) -> int:
        """Of a tile: the class token and the patches."""
        return 1 + (self.image_size // self.patch) ** 2

    @property
    def out_dim(self) -> int:
        return self.dim * (1 + len(self.take))

    def shape(self, size: Size) -> tuple[int, int]:
        """Rows and columns of tiles of a canvas."""
        shape = (size[0] // self.image_size, size[1] // self.image_size)
        if shape not in self.shapes or any(side % self.image_size for side in size):
            raise BeholderError(
                f"a canvas of {size[1]}x{size[0]} pixels is not made of up to {self.tiles} tiles of "
                f"{self.image_size}; use the geometry that fits"
            )
        return shape

    def grid(self, size: Size) -> Grid:
        """All tiles, blank ones last, as frames of one row of tokens."""
        self.shape(size)
        return Grid(self.tiles, 1, self.tokens)

    def tiny(self) -> TiledViT:
        take = (1, 2)[: len(self.take)]
        small = super().tiny()
        return small.but(image_size=28, patch=14, dim=32, num_layers=2, num_global=1, take=take, gate=0.5)

    def build(self) -> TiledTransformer:
        return TiledTransformer(self)


class TiledTransformer(Encoder):
    """Views (3, rows tiles, columns tiles) -> tokens of all tiles, (tiles T, out_dim) a view."""

    def __init__(self, config: TiledViT) -> None:
        super().__init__()
        self.config = config
        dim, kinds = config.dim, len(config.shapes) + 1  # vectors of shape 0 stand for no picture
        self.patch = Patches(bias=False).build(dim, config.patch)
        self.cls = learned(dim)
        self.positions = learned(config.tokens, dim)
        self.tile_positions = learned(kinds, config.tiles, config.tokens, dim)
        self.before, self.behind = (learned(kinds, config.tiles, dim) for _ in range(2))
        self.position_gate, self.before_gate, self.behind_gate = (
            nn.Parameter(torch.full((1,), config.gate)) for _ in range(3)
        )
        self.pre_norm, self.post_norm = (Norm().build(dim) for _ in range(2))
        self.blocks = self._stack(config.num_layers, Arrangement())
        self.wide = self._stack(config.num_global, Arrangement(gate=0.7854))  # pi / 4, as released

    def _stack(self, count: int, arrangement: Arrangement) -> nn.ModuleList:
        config = self.config
        return nn.ModuleList(
            TransformerLayer(config.dim, config.attention, config.mlp, arrangement, norm=config.norm)
            for _ in range(count)
        )

    def forward(self, views: Sequence[Tensor]) -> Packed:
        grids = tuple(self.config.grid(size_of(view)) for view in views)
        return Packed(torch.cat([self._encode(view) for view in views]), grids)

    def _encode(self, view: Tensor) -> Tensor:
        """The tokens of one picture, (tiles T, out_dim)."""
        config = self.config
        rows, columns = config.shape(size_of(view))
        kind, count = config.shapes.index((rows, columns)) + 1, rows * columns
        tiles = view.unflatten(1, (rows, -1)).unflatten(3, (columns, -1))  # 3, rows, h, columns, w
        pixels = tiles.permute(1, 3, 0, 2, 4).flatten(0, 1)
        pixels = F.pad(pixels, (0, 0, 0, 0, 0, 0, 0, config.tiles - count)).to(self.cls.dtype)
        x_LTD = self._placed(self.patch(pixels).flatten(2).transpose(1, 2), kind)
        missing = -config.tokens % FILL
        x_1ND = F.pad(x_LTD, (0, 0, 0, missing)).flatten(0, 1)[None]
        step = Step(x_1ND.dtype)
        step.set_mask(self._mask(count, missing, x_1ND.device))
        taken = []
        for depth, block in enumerate(self.blocks, 1):
            x_1ND = block(x_1ND, step)
            if depth in config.take:
                taken.append(x_1ND)
        behind_L1D = self.behind[kind][:, None] * self.behind_gate.tanh()
        x_1ND = (self.post_norm(x_1ND).unflatten(1, (config.tiles, -1)) + behind_L1D).flatten(1, 2)
        for block in self.wide:
            x_1ND = block(x_1ND, step)
        joined = torch.cat((x_1ND, torch.stack(taken, -1).flatten(2)), -1) if taken else x_1ND
        return joined[0].unflatten(0, (config.tiles, -1))[:, : config.tokens].flatten(0, 1)

    def _placed(self, patches_LTD: Tensor, kind: int) -> Tensor:
        """Patches with the class token in front and all positions added, normed."""
        x_LTD = patches_LTD + self.before[kind][:, None] * self.before_gate.tanh()
        x_LTD = torch.cat((self.cls.expand(len(x_LTD), 1, -1), x_LTD), 1)
        share = self.position_gate.tanh()
        return self.pre_norm(x_LTD + (1 - share) * self.positions + share * self.tile_positions[kind])

    def _mask(self, count: int, missing: int, device: torch.device) -> AttentionMask:
        """Tokens that fill up and those of blank tiles do not see each other; all else is seen, as released."""
        config = self.config
        real_LT = torch.zeros(config.tiles, config.tokens + missing, dtype=torch.bool, device=device)
        real_LT[:count, : config.tokens] = True
        real_N = real_LT.flatten()
        return AttentionMask(allowed_B1TS=(real_N[:, None] | real_N[None])[None, None])
