"""The next token of a text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from beholder.errors import BeholderError
from beholder.parts.contracts import Head, HeadConfig, HeadInputs, LanguageConfig
from beholder.parts.language.state import State


@dataclass(frozen=True)
class NextToken(HeadConfig):
    """Scores over the vocabulary by the language part's own output matrix."""

    output: ClassVar[str] = "text"

    def build(self, language: LanguageConfig | None) -> Head:
        if language is None:
            raise BeholderError("NextToken needs a language part")
        return NextTokenHead()


class NextTokenHead(Head):
    """hidden_BTD -> logits (B, T, vocab_size)."""

    def forward(self, inputs: HeadInputs, state: State | None = None) -> Tensor:
        assert inputs.hidden_BTD is not None and inputs.unembed is not None
        return inputs.unembed(inputs.hidden_BTD)
