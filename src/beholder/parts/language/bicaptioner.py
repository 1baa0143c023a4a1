"""Two decoders of one caption, from its beginning and from its end (VirTex, 2006.06666).

B rows, T positions, D width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from beholder.errors import BeholderError
from beholder.parts.blocks.cross_attention import CrossAttention
from beholder.parts.contracts import Language, LanguageConfig, LanguageInputs, LanguageOutput, LayerParts
from beholder.parts.language.decoder import Decoder
from beholder.parts.language.state import State


@dataclass(frozen=True)
class BiCaptioner(LanguageConfig):
    """decoder: of either direction; both share the tokens' embedding and the head."""

    decoder: Decoder

    def __post_init__(self) -> None:
        if self.decoder.cross is None or not self.decoder.tied:
            raise BeholderError("both directions read a picture and share a tied head; set cross and tied")

    @property
    def cross(self) -> CrossAttention | None:
        return self.decoder.cross

    @property
    def dim(self) -> int:  # type: ignore[override]
        return self.decoder.dim

    @property
    def vocab_size(self) -> int:  # type: ignore[override]
        return self.decoder.vocab_size

    @property
    def num_layers(self) -> int:  # type: ignore[override]
        return self.decoder.num_layers

    @property
    def context(self) -> int:  # type: ignore[override]
        return self.decoder.context

    def build(self) -> BiCaptionerModel:
        return BiCaptionerModel(self)


class BiCaptionerModel(Language):
    """`Language` of the forward decoder; the other runs where a picture is given and nothing is being generated."""

    def __init__(self, config: BiCaptioner) -> None:
        super().__init__()
        self.config = config
        self.forwards, self.backwards = config.decoder.build(), config.decoder.build()
        self.backwards.embedding = self.forwards.embedding
        self.backwards.head_bias = self.forwards.head_bias

    def embed(self, ids_BT: Tensor) -> Tensor:
        return self.forwards.embed(ids_BT)

    def logits(self, hidden_BTD: Tensor) -> Tensor:
        return self.forwards.logits(hidden_BTD)

    def forward(
        self,
        inputs: LanguageInputs,
        state: State | None = None,
        *,
        layer_parts: LayerParts | None = None,
        taps: Sequence[int] = (),
    ) -> LanguageOutput:
        """backward_BTD: at place i of a row, what follows of it read from its last token on."""
        output = self.forwards(inputs, state, layer_parts=layer_parts, taps=taps)
        if state is not None:
            return output
        turned = self._turned(inputs)
        backward = self.backwards(turned, layer_parts=layer_parts)
        return replace(output, backward_BTD=backward.hidden_BTD)

    def _turned(self, inputs: LanguageInputs) -> LanguageInputs:
        """Every row from its last token to its first; padding stays where it is."""
        rows, width = inputs.ids_BT.shape
        columns_T = torch.arange(width, device=inputs.ids_BT.device)
        lengths_B1 = torch.tensor(inputs.lengths or (width,) * rows, device=columns_T.device)[:, None]
        places_BT = torch.where(columns_T < lengths_B1, lengths_B1 - 1 - columns_T, columns_T)
        ids_BT = inputs.ids_BT.gather(1, places_BT)
        return replace(inputs, ids_BT=ids_BT, embeddings_BTD=self.embed(ids_BT))
