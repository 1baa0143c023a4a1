"""Texts read whole: bidirectional encoders (BERT, 1810.04805; T5's, 1910.10683) and the text towers of dual encoders,
CLIP's (2103.00020, causal, read at the end token) and SigLIP's (2303.15343, read at the last position).

B rows, T positions, D width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from beholder.errors import BeholderError, UnknownName
from beholder.parts.blocks.activations import activation
from beholder.parts.blocks.attention import Attention
from beholder.parts.blocks.cross_attention import CrossAttention
from beholder.parts.blocks.disentangled import DisentangledAttention, DistanceVectors
from beholder.parts.blocks.masks import PADDING
from beholder.parts.blocks.norms import Norm
from beholder.parts.blocks.relative import shared_bias
from beholder.parts.blocks.step import MlpConfig, Step
from beholder.parts.blocks.transformer import Arrangement, LayerKind, build_layers, layer_kinds, run_layers
from beholder.parts.blocks.untied_places import PlacePairs
from beholder.parts.contracts import Language, LanguageConfig, LanguageInputs, LanguageOutput, LayerParts
from beholder.parts.language.embedding import TokenEmbedding
from beholder.parts.language.state import State

POOLS = (None, "end", "highest", "last", "first", "mean")


@dataclass(frozen=True)
class TextEncoder(LanguageConfig):
    """context: longest text in tokens. pool: which vector stands for the text, None for none: `end` that of the first
    `end_id`; `highest` of the largest id, as CLIP checkpoints with the old end id 2 do; `last` of the last position;
    `first` of the first (BERT's CLS); `mean` of all. projection: width of the pooled vector, 0 to leave it as it is;
    projection_act: after it (BERT's tanh). final_norm: after the last layer. one_layer: all layers are the same one
    (ALBERT, 1909.11942). others, pattern: kinds of layer, as in `Decoder`. cross: attention to a memory in every layer, left
    out where there is none (BLIP, 2201.12086).
    """

    vocab_size: int
    dim: int
    num_layers: int
    attention: Attention
    mlp: MlpConfig
    norm: Norm = Norm("layer", 1e-5)
    arrangement: Arrangement = Arrangement()
    embedding: TokenEmbedding = TokenEmbedding(positions="learned")
    final_norm: bool = True
    context: int = 77
    causal: bool = True
    pool: str | None = "end"
    end_id: int = 49407
    projection: int = 512
    projection_bias: bool = False
    projection_act: str | None = None
    one_layer: bool = False
    others: tuple[LayerKind, ...] = ()
    pattern: tuple[int, ...] = ()
    cross: CrossAttention | None = None

    @property
    def feature_dim(self) -> int:
        return self.projection or self.dim

    @property
    def fills_context(self) -> bool:
        return self.pool == "last"

    def __post_init__(self) -> None:
        if self.pool not in POOLS:
            raise UnknownName("text pool", str(self.pool), [str(name) for name in POOLS])
        layer_kinds(LayerKind(), self.others, self.pattern, 0)

    @property
    def layers(self) -> tuple[LayerKind, ...]:
        """Every layer's mixer, MLP and arrangement; of one for all, that one."""
        usual = LayerKind(self.attention, self.mlp, self.arrangement)
        return layer_kinds(usual, self.others, self.pattern, 1 if self.one_layer else self.num_layers)

    def tiny(self) -> TextEncoder:
        kinds = tuple(dict.fromkeys(self.pattern[: self.num_layers]))
        small = (
            super().tiny().but(vocab_size=512, dim=32, num_layers=max(2, len(kinds)), context=16, end_id=2)
        )
        return small.but(projection=self.projection and 32, pattern=kinds)

    def build(self) -> TextEncoderModel:
        return TextEncoderModel(self)


class TextEncoderModel(Language):
    """`Language` that reads whole texts at once and may give one vector for each."""

    def __init__(self, config: TextEncoder) -> None:
        super().__init__()
        self.config = config
        self.embedding = config.embedding.build(config.vocab_size, config.dim, config.context)
        self.relative = shared_bias(config.attention, config.dim)
        self.distances = None
        if isinstance(config.attention, DisentangledAttention):
            self.distances = DistanceVectors(config.attention, config.dim)
        layers = build_layers(config.dim, config.layers, config.norm, config.cross)
        self.blocks = nn.ModuleList(layers * config.num_layers if config.one_layer else layers)
        self.norm = config.norm.build(config.dim) if config.final_norm else nn.Identity()
        self.projection: nn.Module = nn.Identity()
        if config.pool is not None and config.projection:
            self.projection = nn.Linear(config.dim, config.projection, bias=config.projection_bias)

    def embed(self, ids_BT: Tensor) -> Tensor:
        return self.embedding(ids_BT)

    def enter(self, inputs: LanguageInputs) -> Tensor:
        """What the first layer reads."""
        return self.embedding.enter(inputs)

    def scores(self, inputs: LanguageInputs) -> Tensor | None:
        """What all layers add to their scores; None for nothing."""
        return None if self.relative is None else self.relative(inputs.positions, inputs.positions)

    def logits(self, hidden_BTD: Tensor) -> Tensor:
        """Products with the token table, whose width `hidden_BTD` has (masked-token heads)."""
        return nn.functional.linear(hidden_BTD, self.embedding.weight)

    def forward(
        self,
        inputs: LanguageInputs,
        state: State | None = None,
        *,
        layer_parts: LayerParts | None = None,
        taps: Sequence[int] = (),
    ) -> LanguageOutput:
        """`inputs.ids_BT` says where texts end; pooled_BD is the projected vector, not yet of unit length."""
        x_BTD, seen = inputs.embeddings_BTD, inputs.visibility
        own_BT, length = inputs.own_BT, x_BTD.shape[1]
        if own_BT is not None:
            length = int(inputs.positions.masked_fill(own_BT, 0).max()) + 1
        placed = self.config.embedding.positions is not None or isinstance(self.relative, PlacePairs)
        if length > self.config.context and placed:
            raise BeholderError(
                f"a text of {length} tokens; this text tower reads at most {self.config.context}"
            )
        x_BTD = self.enter(inputs)
        if not self.config.causal:
            seen = replace(seen, both_ways=True)
        step = Step(x_BTD.dtype, seen, positions=inputs.positions, inputs=inputs, alone=inputs.memory is None)
        step.memory_BSD, step.memory_keep_BS = inputs.memory, inputs.memory_keep
        if self.distances is not None:
            step.shared.distances = self.distances()
        step.bias_BHTS = self.scores(inputs)
        x_BTD, kept = run_layers(self.blocks, x_BTD, step, layer_parts, taps)
        hidden_BTD = self.norm(x_BTD)
        pooled_BD = None if self.config.pool is None else self._pool(hidden_BTD, inputs)
        return LanguageOutput(hidden_BTD, pooled_BD=pooled_BD, taps=kept, lengths=inputs.lengths)

    def _pool(self, hidden_BTD: Tensor, inputs: LanguageInputs) -> Tensor:
        config, ids_BT = self.config, inputs.ids_BT
        if config.pool == "mean":
            keep_BT1 = (inputs.visibility.segments_BT != PADDING)[..., None]
            chosen_BD = (hidden_BTD * keep_BT1).sum(1) / keep_BT1.sum(1)
        elif config.pool in ("first", "last"):
            chosen_BD = hidden_BTD[:, 0 if config.pool == "first" else -1]
        else:
            marks_BT = ids_BT if config.pool == "highest" else (ids_BT == config.end_id).int()
            chosen_BD = hidden_BTD[torch.arange(len(ids_BT)), marks_BT.int().argmax(-1)]
        pooled_BD = self.projection(chosen_BD)
        return pooled_BD if config.projection_act is None else activation(config.projection_act)(pooled_BD)
