"""The decoder-only language model: Llama (2302.13971), Mistral (2310.06825), Qwen2 (2407.10671) and their kin.

B rows, T positions, D width, S keys.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from beholder.parts.blocks.attention import Attention, AttentionMask
from beholder.parts.blocks.mlp import FeedForward
from beholder.parts.blocks.norms import Norm
from beholder.parts.blocks.transformer import NO_PARTS, Step, TransformerLayer
from beholder.parts.contracts import Language, LanguageConfig, LanguageInputs, LanguageOutput, LayerParts
from beholder.parts.language.state import State


@dataclass(frozen=True)
class Decoder(LanguageConfig):
    """windowed: how many of the last layers use `attention.window`, all where None (Qwen2's `max_window_layers`).
    context: longest sequence the model was trained for, in tokens.
    """

    vocab_size: int
    dim: int
    num_layers: int
    attention: Attention
    mlp: FeedForward
    norm: Norm = Norm("rms", 1e-5)
    tied: bool = False
    context: int = 4096
    windowed: int | None = None

    @property
    def windows(self) -> tuple[int | None, ...]:
        """Each layer's window, None where it sees its whole past."""
        full = 0 if self.windowed is None else self.num_layers - self.windowed
        return (None,) * full + (self.attention.window,) * (self.num_layers - full)

    def tiny(self) -> Decoder:
        layers = min(2, self.num_layers)
        small = super().tiny().but(vocab_size=512, dim=32, num_layers=layers, context=512)
        return small.but(windowed=None if self.windowed is None else min(1, self.windowed))

    def build(self) -> DecoderModel:
        return DecoderModel(self)


class DecoderModel(Language):
    """`Language` by self-attention over its own past."""

    def __init__(self, config: Decoder) -> None:
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(config.vocab_size, config.dim)
        self.blocks = nn.ModuleList(
            TransformerLayer(
                config.dim,
                config.attention.but(window=window),
                config.mlp,
                config.norm,
                index=index,
            )
            for index, window in enumerate(config.windows)
        )
        self.norm = config.norm.build(config.dim)
        self.head = None if config.tied else nn.Linear(config.dim, config.vocab_size, bias=False)

    def embed(self, ids_BT: Tensor) -> Tensor:
        return self.embedding(ids_BT)

    def logits(self, hidden_BTD: Tensor) -> Tensor:
        if self.head is None:
            return nn.functional.linear(hidden_BTD, self.embedding.weight)
        return self.head(hidden_BTD)

    def forward(
        self,
        inputs: LanguageInputs,
        state: State | None = None,
        *,
        layer_parts: LayerParts | None = None,
        taps: Sequence[int] = (),
    ) -> LanguageOutput:
        x_BTD = inputs.embeddings_BTD
        steps = self._steps(inputs, state)
        kept = {0: x_BTD} if 0 in taps else {}
        for number, (block, window) in enumerate(zip(self.blocks, self.config.windows, strict=True)):
            parts = layer_parts.get(number, NO_PARTS) if layer_parts else NO_PARTS
            x_BTD = block(x_BTD, steps[window], parts)
            if number + 1 in taps:
                kept[number + 1] = x_BTD
        if state is not None:
            state.commit(x_BTD.shape[1], inputs.lengths)
        return LanguageOutput(self.norm(x_BTD), taps=kept, state=state)

    def _steps(self, inputs: LanguageInputs, state: State | None) -> dict[int | None, Step]:
        """The shared part of the forward, once per window size."""
        attention, x_BTD = self.config.attention, inputs.embeddings_BTD
        keys = inputs.visibility if state is None else state.append(inputs.visibility)
        rotary = None
        if attention.rotary is not None:
            rotary = attention.rotary.tables(inputs.positions, attention.width(self.config.dim), x_BTD.dtype)
        masks = {
            window: AttentionMask.of(inputs.visibility, keys, window) for window in set(self.config.windows)
        }
        return {window: Step(mask, rotary, inputs, state) for window, mask in masks.items()}
