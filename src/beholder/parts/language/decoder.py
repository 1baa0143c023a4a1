"""The decoder-only language model: Llama (2302.13971), Mistral (2310.06825), Qwen2 (2407.10671) and all their kin.

B rows, T positions, D width, S keys.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from beholder.config import Config
from beholder.errors import BeholderError
from beholder.parts.blocks.activations import activation
from beholder.parts.blocks.cross_attention import CrossAttention
from beholder.parts.blocks.norms import Norm
from beholder.parts.blocks.relative import shared_bias
from beholder.parts.blocks.step import MixerConfig, MlpConfig, Step
from beholder.parts.blocks.transformer import (
    Arrangement,
    LayerKind,
    TransformerLayer,
    build_layers,
    layer_kinds,
    run_layers,
)
from beholder.parts.blocks.untied_places import Pairs, PlacePairs
from beholder.parts.contracts import Language, LanguageConfig, LanguageInputs, LanguageOutput, LayerParts
from beholder.parts.language.embedding import TokenEmbedding
from beholder.parts.language.state import State


@dataclass(frozen=True)
class Transform(Config):
    """A matrix, an activation and a norm (BERT's head, 1810.04805)."""

    act: str = "gelu"
    norm: Norm = Norm("layer", 1e-12)

    def build(self, dim: int) -> Transformed:
        return Transformed(self, dim)


class Transformed(nn.Module):
    """(..., D) -> (..., D)."""

    def __init__(self, config: Transform, dim: int) -> None:
        super().__init__()
        self.dense = nn.Linear(dim, dim)
        self.act = activation(config.act)
        self.norm = config.norm.build(dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.act(self.dense(x)))


@dataclass(frozen=True)
class Decoder(LanguageConfig):
    """A stack of layers, usually of `attention` (or another mixer) and `mlp`, joined as `arrangement` says.

    others, pattern: layer i is the usual one where pattern[i] is 0, else others[pattern[i] - 1]; a pattern shorter than
    the stack repeats. context: longest sequence the model was trained for, in tokens. final_norm: before the head.
    cross: attention to an encoder's memory in every layer, between mixer and MLP; kept in `inputs.memory` or the state.
    transform: of hidden states before the head (BERT's). tied: the head is the token table.
    logit_scale, logit_softcap c: logits become c tanh(scale logits / c). silent: the first of some ids that are read and never
    written, and the one behind the last (Chameleon's words of pictures).
    """

    vocab_size: int
    dim: int
    num_layers: int
    attention: MixerConfig
    mlp: MlpConfig | None
    norm: Norm = Norm("rms", 1e-5)
    tied: bool = False
    context: int = 4096
    others: tuple[LayerKind, ...] = ()
    pattern: tuple[int, ...] = ()
    arrangement: Arrangement = Arrangement()
    embedding: TokenEmbedding = TokenEmbedding()
    final_norm: bool = True
    head_bias: bool = False
    logit_scale: float = 1.0
    logit_softcap: float | None = None
    cross: CrossAttention | None = None
    transform: Transform | None = None
    silent: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        layer_kinds(LayerKind(), self.others, self.pattern, 0)
        if self.tied and self.embedding.extra:
            raise BeholderError(
                "words that are never written have no scores; set tied=False or embedding.extra=0"
            )

    @property
    def num_readable(self) -> int:
        return self.vocab_size + self.embedding.extra

    @property
    def layers(self) -> tuple[LayerKind, ...]:
        """Every layer's mixer, MLP and arrangement."""
        usual = LayerKind(self.attention, self.mlp, self.arrangement)
        return layer_kinds(usual, self.others, self.pattern, self.num_layers)

    @property
    def in_segments(self) -> bool:
        mixers = (kind.mixer for kind in self.layers)
        return self.cross is None and all(mixer is not None and mixer.in_segments for mixer in mixers)

    def tiny(self) -> Decoder:
        """As many layers as there are kinds, two at least where there were two."""
        small = super().tiny()
        kinds = tuple(dict.fromkeys(self.pattern[: self.num_layers]))
        layers = max(len(kinds), min(2, self.num_layers))
        return small.but(vocab_size=512, dim=32, num_layers=layers, context=512, pattern=kinds)

    def build(self) -> DecoderModel:
        return DecoderModel(self)


class DecoderModel(Language):
    """`Language` by self-attention over its own past."""

    def __init__(self, config: Decoder) -> None:
        super().__init__()
        self.config = config
        self.embedding = config.embedding.build(config.vocab_size, config.dim, config.context)
        self.relative = shared_bias(config.attention, config.dim)
        self.memory_places = None
        if config.cross is not None and config.cross.places:
            if not isinstance(self.relative, PlacePairs):
                raise BeholderError(
                    "a memory with places needs a decoder that has them; set attention.relative"
                )
            self.memory_places = Pairs(config.cross.num_heads, config.dim, self.relative.config.factor)
        self.blocks = nn.ModuleList(self.make_layers())
        self.norm = config.norm.build(config.dim) if config.final_norm else nn.Identity()
        width = config.embedding.width or config.dim
        self.unproject = nn.Linear(config.dim, width, bias=False) if config.embedding.width else None
        self.head = None if config.tied else nn.Linear(width, config.vocab_size, bias=config.head_bias)
        self.transform = config.transform.build(config.dim) if config.transform else None
        tied_bias = config.tied and config.head_bias
        self.head_bias = nn.Parameter(torch.zeros(config.vocab_size)) if tied_bias else None

    def make_layers(self) -> list[TransformerLayer]:
        """The stack, first layer first."""
        config = self.config
        return build_layers(config.dim, config.layers, config.norm, config.cross)

    def run(
        self, x_BTD: Tensor, step: Step, layer_parts: LayerParts | None, taps: Sequence[int]
    ) -> tuple[Tensor, dict[int, Tensor]]:
        """What the last layer gives, and what is wanted of others, as `run_layers` does."""
        return run_layers(self.blocks, x_BTD, step, layer_parts, taps)

    def embed(self, ids_BT: Tensor) -> Tensor:
        return self.embedding(ids_BT)

    def logits(self, hidden_BTD: Tensor) -> Tensor:
        config = self.config
        if self.transform is not None:
            hidden_BTD = self.transform(hidden_BTD)
        if self.unproject is not None:
            hidden_BTD = self.unproject(hidden_BTD)
        if self.head is None:
            logits_BTV = nn.functional.linear(hidden_BTD, self.embedding.weight, self.head_bias)
        else:
            logits_BTV = self.head(hidden_BTD)
        if config.logit_scale != 1.0:
            logits_BTV = logits_BTV * config.logit_scale
        if config.logit_softcap is not None:
            logits_BTV = config.logit_softcap * torch.tanh(logits_BTV / config.logit_softcap)
        if config.silent is not None:
            ids_V = torch.arange(config.vocab_size, device=logits_BTV.device)
            silent_V = (ids_V >= config.silent[0]) & (ids_V < config.silent[1])
            logits_BTV = logits_BTV.masked_fill(silent_V, torch.finfo(logits_BTV.dtype).min)
        return logits_BTV

    def forward(
        self,
        inputs: LanguageInputs,
        state: State | None = None,
        *,
        layer_parts: LayerParts | None = None,
        taps: Sequence[int] = (),
    ) -> LanguageOutput:
        keys = inputs.visibility if state is None else state.append(inputs.visibility)
        x_BTD = self.embedding.enter(inputs)
        step = Step(x_BTD.dtype, inputs.visibility, keys, inputs.positions, inputs=inputs, state=state)
        if self.relative is not None:
            step.bias_BHTS = self.relative(inputs.positions, step.key_positions())
        if self.config.cross is not None:
            step.memory_BSD, step.memory_keep_BS = remembered(inputs, state)
        if self.memory_places is not None:
            self._compare_places(self.memory_places, step)
        x_BTD, kept = self.run(x_BTD, step, layer_parts, taps)
        if state is not None:
            state.commit(x_BTD.shape[1], inputs.lengths)
        return LanguageOutput(
            self.norm(x_BTD),
            taps=kept,
            state=state,
            lengths=inputs.lengths,
            aux_losses={name: torch.stack(losses).sum() for name, losses in step.aux.items()},
            router_stats={name: torch.stack(values) for name, values in step.stats.items()},
        )

    def _compare_places(self, pairs: Pairs, step: Step) -> None:
        """Part the memory from the places beside it, and compare these with those of the new tokens."""
        assert isinstance(self.relative, PlacePairs) and step.positions is not None
        kept = {} if step.state is None else step.state.cross_attention(len(self.blocks)).values
        if step.memory_BSD is not None:
            step.memory_BSD, places_BSD = step.memory_BSD.chunk(2, -1)
            if not kept:
                kept["keys"] = pairs.keys(places_BSD)
        step.memory_bias_BHTS = pairs(self.relative.of(step.positions), kept["keys"])


def remembered(inputs: LanguageInputs, state: State | None) -> tuple[Tensor | None, Tensor | None]:
    """The memory and what of it is no padding: new ones, which the state keeps, or those that it has kept."""
    if state is None:
        return inputs.memory, inputs.memory_keep
    if inputs.memory is not None:
        state.memory, state.memory_keep = inputs.memory, inputs.memory_keep
    return state.memory, state.memory_keep
