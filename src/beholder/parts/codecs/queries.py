"""The causal Q-Former in front of SEED's codes (2307.08041): learned queries that read an encoder's tokens (BLIP-2,
2301.12597) and see the queries before them.

V views, S tokens of the encoder, E their width, Q queries, D width of the queries.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from beholder.media.plan import Grid, Size
from beholder.parts.blocks.attention import Attention
from beholder.parts.blocks.cross_attention import CrossAttention
from beholder.parts.blocks.masks import Visibility
from beholder.parts.blocks.mlp import FeedForward
from beholder.parts.blocks.norms import Norm
from beholder.parts.blocks.positions import learned
from beholder.parts.blocks.step import Step
from beholder.parts.blocks.transformer import Arrangement, TransformerLayer, run_layers
from beholder.parts.contracts import Encoder, EncoderConfig, Packed
from beholder.parts.vision.views import by_size


@dataclass(frozen=True)
class QueryEncoder(EncoderConfig):
    """vision: the encoder that is read; without one, views are features (memory_dim, rows, columns). every: layers 0,
    `every`, 2 `every` and so on read it. causal: queries see themselves and those before alone. norm: of the queries and
    of BERT's post-norm layers; memory_norm: of what is read.
    """

    dim: int = 768
    memory_dim: int = 1408
    queries: int = 32
    num_layers: int = 12
    every: int = 2
    attention: Attention = Attention(12, qkv_bias=True, out_bias=True)
    mlp: FeedForward = FeedForward(3072)
    norm: Norm = Norm("layer", 1e-12)
    memory_norm: Norm = Norm("layer", 1e-5)
    vision: EncoderConfig | None = None
    causal: bool = True

    @property
    def read_dim(self) -> int:
        """Width of what is read."""
        return self.memory_dim if self.vision is None else self.vision.out_dim

    def grid(self, size: Size) -> Grid:
        if self.vision is not None:
            self.vision.grid(size)
        return Grid(1, 1, self.queries)

    def tiny(self) -> QueryEncoder:
        return super().tiny().but(dim=32, memory_dim=32, queries=4, num_layers=2)

    def build(self) -> QueryLayers:
        return QueryLayers(self)


class QueryLayers(Encoder):
    """`Encoder` whose tokens are queries."""

    def __init__(self, config: QueryEncoder) -> None:
        super().__init__()
        self.config = config
        heads = config.attention
        cross = CrossAttention(heads.num_heads, qkv_bias=True, out_bias=True, memory_dim=config.read_dim)
        self.vision = config.vision.build() if config.vision is not None else None
        self.memory_norm = config.memory_norm.build(config.read_dim)
        self.queries = learned(config.queries, config.dim)
        self.norm = config.norm.build(config.dim)
        self.blocks = nn.ModuleList(
            TransformerLayer(
                config.dim,
                heads,
                config.mlp,
                Arrangement("post"),
                norm=config.norm,
                cross=None if number % config.every else cross.but(head_dim=heads.head_dim),
                index=number,
            )
            for number in range(config.num_layers)
        )

    def forward(self, views: Sequence[Tensor]) -> Packed:
        features = [view.flatten(1).T for view in views]
        memory = features if self.vision is None else self.vision(views).split()
        grids = (Grid(1, 1, self.config.queries),) * len(views)
        return Packed(torch.cat(by_size(memory, self._read)), grids)

    def _read(self, memory_VSE: Tensor) -> Iterable[Tensor]:
        rows, config = len(memory_VSE), self.config
        seen = Visibility.causal(rows, config.queries, device=memory_VSE.device) if config.causal else None
        step = Step(dtype=memory_VSE.dtype, queries=seen, memory_BSD=self.memory_norm(memory_VSE))
        x_VQD = self.norm(self.queries).expand(rows, -1, -1)
        return run_layers(self.blocks, x_VQD, step)[0]
