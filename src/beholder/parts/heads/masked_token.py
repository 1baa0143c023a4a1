"""Which words stand behind masks (BERT, 1810.04805).

B rows, T positions, D width, E width of the token table, V words.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from beholder.errors import BeholderError
from beholder.parts.blocks.activations import activation
from beholder.parts.blocks.norms import Norm
from beholder.parts.contracts import Head, HeadConfig, HeadInputs, LanguageConfig
from beholder.parts.language.state import State
from beholder.parts.language.text_encoder import TextEncoder


@dataclass(frozen=True)
class MaskedToken(HeadConfig):
    """Scores over the vocabulary at every position, by the token table and a bias."""

    output: ClassVar[str] = "words"
    act: str = "gelu"
    norm: Norm = Norm("layer", 1e-12)
    dense_bias: bool = True

    def build(self, language: LanguageConfig | None) -> Head:
        if not isinstance(language, TextEncoder):
            raise BeholderError("MaskedToken needs a text encoder, whose token table it reads")
        return self.over(language.dim, language.embedding.width or language.dim, language.vocab_size)

    def over(self, dim: int, width: int, vocab_size: int) -> MaskedTokenHead:
        """dim: of hidden states; width: of the token table."""
        return MaskedTokenHead(self, dim, width, vocab_size)


class MaskedTokenHead(Head):
    """hidden_BTD -> logits (B, T, V)."""

    def __init__(self, config: MaskedToken, dim: int, width: int, vocab_size: int) -> None:
        super().__init__()
        self.dense = nn.Linear(dim, width, bias=config.dense_bias)
        self.norm = config.norm.build(width)
        self.bias = nn.Parameter(torch.zeros(vocab_size))
        self.act = activation(config.act)

    def forward(self, inputs: HeadInputs, state: State | None = None) -> Tensor:
        assert inputs.hidden_BTD is not None and inputs.unembed is not None
        x_BTE = self.norm(self.act(self.dense(inputs.hidden_BTD)))
        return inputs.unembed(x_BTE) + self.bias
