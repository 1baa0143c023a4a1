"""One text transformer as encoder, as encoder that reads a picture, and as decoder that reads it (BLIP, 2201.12086).

B rows, T positions, D width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from torch import Tensor

from beholder.errors import BeholderError
from beholder.parts.blocks.cross_attention import CrossAttention
from beholder.parts.contracts import Language, LanguageConfig, LanguageInputs, LanguageOutput, LayerParts
from beholder.parts.language.decoder import Decoder
from beholder.parts.language.state import State
from beholder.parts.language.text_encoder import TextEncoder


@dataclass(frozen=True)
class Med(LanguageConfig):
    """encoder: its pooled vector stands for the words alone; its first hidden state, where there is a picture, for both.

    decoder: None where a release has none. Both sides share everything but self-attention and the norm behind it.
    encode_id, decode_id: what a text's first token becomes for the encoder that reads a picture, and for the decoder; None
    leaves it as it is.
    """

    encoder: TextEncoder
    decoder: Decoder | None = None
    encode_id: int | None = None
    decode_id: int | None = None

    def __post_init__(self) -> None:
        if self.encoder.cross is None or (self.decoder is not None and self.decoder.cross is None):
            raise BeholderError(
                "a part that reads pictures in several roles needs cross-attention; set cross"
            )

    @property
    def cross(self) -> CrossAttention | None:
        return self.encoder.cross

    @property
    def dim(self) -> int:  # type: ignore[override]
        return self.encoder.dim

    @property
    def vocab_size(self) -> int:  # type: ignore[override]
        return self.encoder.vocab_size

    @property
    def num_layers(self) -> int:  # type: ignore[override]
        return self.encoder.num_layers

    @property
    def context(self) -> int:  # type: ignore[override]
        return self.encoder.context

    @property
    def feature_dim(self) -> int:
        return self.encoder.feature_dim

    def tiny(self) -> Med:
        small = super().tiny().but(**{"encoder.context": 64})
        small = small if small.decoder is None else small.but(**{"decoder.context": 64})
        return small.but(
            encode_id=None if self.encode_id is None else 3, decode_id=None if self.decode_id is None else 4
        )

    def build(self) -> MedModel:
        return MedModel(self)


class MedModel(Language):
    """`Language` that plays all roles at once, and the decoder's alone where a state is given."""

    def __init__(self, config: Med) -> None:
        super().__init__()
        self.config = config
        self.encoder = config.encoder.build()
        self.decoder = None if config.decoder is None else config.decoder.build()
        if self.decoder is not None:
            self.decoder.embedding = self.encoder.embedding
            for read, written in zip(self.encoder.blocks, self.decoder.blocks, strict=True):
                for name in ("cross", "cross_after", "mlp", "after2"):
                    setattr(written, name, getattr(read, name))

    def embed(self, ids_BT: Tensor) -> Tensor:
        return self.encoder.embed(ids_BT)

    def logits(self, hidden_BTD: Tensor) -> Tensor:
        return (self.encoder if self.decoder is None else self.decoder).logits(hidden_BTD)

    def forward(
        self,
        inputs: LanguageInputs,
        state: State | None = None,
        *,
        layer_parts: LayerParts | None = None,
        taps: Sequence[int] = (),
    ) -> LanguageOutput:
        """pooled_BD of the words alone, fused_BD of words and picture, hidden_BTD of the last role that was played."""
        if state is not None:
            return self._decode(inputs, state, layer_parts, taps)
        alone = self.encoder(
            replace(inputs, memory=None, memory_keep=None), layer_parts=layer_parts, taps=taps
        )
        if inputs.memory is None:
            return alone
        fused = self.encoder(self._begun(inputs, self.config.encode_id), layer_parts=layer_parts, taps=taps)
        last = fused if self.decoder is None else self._decode(inputs, None, layer_parts, taps)
        return replace(last, pooled_BD=alone.pooled_BD, fused_BD=fused.hidden_BTD[:, 0])

    def _decode(
        self, inputs: LanguageInputs, state: State | None, layer_parts: LayerParts | None, taps: Sequence[int]
    ) -> LanguageOutput:
        if self.decoder is None:
            raise BeholderError(
                "this release has no decoder and writes no text; compare pictures and texts instead"
            )
        fresh = state is None or not any(state.lengths)
        begun = self._begun(inputs, self.config.decode_id) if fresh else inputs
        return self.decoder(begun, state, layer_parts=layer_parts, taps=taps)

    def _begun(self, inputs: LanguageInputs, first_id: int | None) -> LanguageInputs:
        """The inputs with another first token."""
        if first_id is None:
            return inputs
        ids_BT = inputs.ids_BT.clone()
        ids_BT[:, 0] = first_id
        return replace(inputs, ids_BT=ids_BT, embeddings_BTD=self.embed(ids_BT))
