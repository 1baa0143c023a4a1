"""The next feature of a picture, foretold like the next word (Emu, 2307.05222, section 2.2).

B rows, T tokens, D width.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from beholder.errors import BeholderError
from beholder.parts.contracts import Head, HeadConfig, HeadInputs, LanguageConfig
from beholder.parts.language.state import State


@dataclass(frozen=True)
class NextFeature(HeadConfig):
    """branch: whose features, as the language part reads them, are foretold."""

    output: ClassVar[str] = "features"
    branch: str = "image"

    def build(self, language: LanguageConfig | None) -> Head:
        if language is None:
            raise BeholderError("NextFeature needs a language part, which reads the features")
        return NextFeatureHead(self, language.dim)


class NextFeatureHead(Head):
    """hidden_BTD -> (B, T, D): what stands behind each token, should it be a feature."""

    def __init__(self, config: NextFeature, dim: int) -> None:
        super().__init__()
        self.config = config
        self.linear = nn.Linear(dim, dim, bias=False)

    def forward(self, inputs: HeadInputs, state: State | None = None) -> Tensor:
        assert inputs.hidden_BTD is not None
        given: Tensor = self.linear(inputs.hidden_BTD)
        return given
