"""Text towers of dual encoders: CLIP's (2103.00020, causal, read at the end token) and SigLIP's (2303.15343,
bidirectional, read at the last position).

B rows, T positions, D width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from beholder.errors import BeholderError, UnknownName
from beholder.parts.blocks.attention import Attention
from beholder.parts.blocks.masks import Visibility
from beholder.parts.blocks.mlp import FeedForward
from beholder.parts.blocks.norms import Norm
from beholder.parts.blocks.step import Step
from beholder.parts.blocks.transformer import Arrangement, TransformerLayer, run_layers
from beholder.parts.contracts import Language, LanguageConfig, LanguageInputs, LanguageOutput, LayerParts
from beholder.parts.language.embedding import TokenEmbedding
from beholder.parts.language.state import State


@dataclass(frozen=True)
class TextEncoder(LanguageConfig):
    """context: rows of the position table. pool: `end` reads the first `end_id`; `highest` the largest id, as CLIP
    checkpoints with the old end id 2 do; `last` the last position. projection: width of the pooled vector,
    0 to leave it as it is.
    """

    vocab_size: int
    dim: int
    num_layers: int
    attention: Attention
    mlp: FeedForward
    norm: Norm = Norm("layer", 1e-5)
    arrangement: Arrangement = Arrangement()
    embedding: TokenEmbedding = TokenEmbedding(positions="learned")
    context: int = 77
    causal: bool = True
    pool: str = "end"
    end_id: int = 49407
    projection: int = 512
    projection_bias: bool = False

    @property
    def feature_dim(self) -> int:
        return self.projection or self.dim

    @property
    def fills_context(self) -> bool:
        return self.pool == "last"

    def __post_init__(self) -> None:
        if self.pool not in ("end", "highest", "last"):
            raise UnknownName("text pool", self.pool, ("end", "highest", "last"))

    def tiny(self) -> TextEncoder:
        return super().tiny().but(vocab_size=512, dim=32, num_layers=2, context=16, end_id=2, projection=32)

    def build(self) -> TextEncoderModel:
        return TextEncoderModel(self)


class TextEncoderModel(Language):
    """`Language` that reads whole texts at once and gives one vector for each."""

    def __init__(self, config: TextEncoder) -> None:
        super().__init__()
        self.config = config
        self.embedding = config.embedding.build(config.vocab_size, config.dim, config.context)
        self.blocks = nn.ModuleList(
            TransformerLayer(
                config.dim, config.attention, config.mlp, config.arrangement, norm=config.norm, index=index
            )
            for index in range(config.num_layers)
        )
        self.norm = config.norm.build(config.dim)
        self.projection = (
            nn.Linear(config.dim, config.projection, bias=config.projection_bias)
            if config.projection
            else nn.Identity()
        )

    def embed(self, ids_BT: Tensor) -> Tensor:
        return self.embedding(ids_BT)

    def forward(
        self,
        inputs: LanguageInputs,
        state: State | None = None,
        *,
        layer_parts: LayerParts | None = None,
        taps: Sequence[int] = (),
    ) -> LanguageOutput:
        """`inputs.ids_BT` says where texts end; pooled_BD is the projected vector, not yet of unit length."""
        x_BTD, visibility = inputs.embeddings_BTD, inputs.visibility
        length = x_BTD.shape[1]
        if length > self.config.context:
            raise BeholderError(
                f"a text of {length} tokens; this text tower reads at most {self.config.context}"
            )
        x_BTD = self.embedding.place(x_BTD, inputs.positions)
        if not self.config.causal:
            visibility = Visibility(
                visibility.segments_BT, torch.zeros_like(visibility.blocks_BT), visibility.parents
            )
        step = Step(x_BTD.dtype, visibility, positions=inputs.positions, inputs=inputs)
        x_BTD, kept = run_layers(self.blocks, x_BTD, step, layer_parts, taps)
        hidden_BTD = self.norm(x_BTD)
        return LanguageOutput(hidden_BTD, pooled_BD=self._pool(hidden_BTD, inputs.ids_BT), taps=kept)

    def _pool(self, hidden_BTD: Tensor, ids_BT: Tensor) -> Tensor:
        if self.config.pool == "last":
            return self.projection(hidden_BTD[:, -1])
        marks_BT = ids_BT if self.config.pool == "highest" else (ids_BT == self.config.end_id).int()
        return self.projection(hidden_BTD[torch.arange(len(ids_BT)), marks_BT.int().argmax(-1)])
