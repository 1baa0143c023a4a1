"""The token before those that a decoder has read from a text's end (VirTex, 2006.06666)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from beholder.errors import BeholderError
from beholder.parts.contracts import Head, HeadConfig, HeadInputs, LanguageConfig
from beholder.parts.language.bicaptioner import BiCaptioner
from beholder.parts.language.state import State


@dataclass(frozen=True)
class PreviousToken(HeadConfig):
    """Scores over the vocabulary by the output matrix that both directions share."""

    output: ClassVar[str] = "backward text"

    def build(self, language: LanguageConfig | None) -> Head:
        if not isinstance(language, BiCaptioner):
            raise BeholderError(
                "PreviousToken needs a language part that also reads from the end, BiCaptioner"
            )
        return PreviousTokenHead()


class PreviousTokenHead(Head):
    """backward_BTD -> logits (B, T, vocab_size); None while text is being generated."""

    def forward(self, inputs: HeadInputs, state: State | None = None) -> Tensor | None:
        if inputs.backward_BTD is None:
            return None
        assert inputs.unembed is not None
        return inputs.unembed(inputs.backward_BTD)
