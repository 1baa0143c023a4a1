"""Likeness that counts differently from either side, of texts through an MLP (CLAP, 2211.06687).

V sounds, B texts, D width.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from beholder.media.plan import Grid
from beholder.parts.connectors.projections import Mlp
from beholder.parts.contracts import Head, LanguageConfig, Packed
from beholder.parts.heads.similarity import Similarity, SimilarityHead


@dataclass(frozen=True)
class TwoWaySimilarity(Similarity):
    """texts: what the pooled vectors of texts, `dim` channels wide, go through, to `width` channels. back: the logarithm of the
    scale of scores of sounds for a text; `scale` is that of texts for a sound. counted: for so many places of a text released
    files hold their numbers and the kinds of their tokens, all 0, which are kept for export.
    """

    texts: Mlp = Mlp(act="relu")
    dim: int = 768
    width: int = 512
    back: float = math.log(1 / 0.07)
    counted: int = 0

    def tiny(self) -> TwoWaySimilarity:
        return self.but(dim=32, width=32)

    def build(self, language: LanguageConfig | None) -> Head:
        return TwoWaySimilarityHead(self)


class TwoWaySimilarityHead(SimilarityHead):
    """`Likeness` whose scores are those of texts for each sound; `compare_back` gives the others."""

    def __init__(self, config: TwoWaySimilarity) -> None:
        super().__init__(config)
        self.texts = config.texts.build(config.dim, config.width)
        self.scale_back = nn.Parameter(torch.tensor(config.back))
        if config.counted:
            self.place_ids = nn.Buffer(torch.arange(config.counted)[None])
            self.kind_ids = nn.Buffer(torch.zeros(1, config.counted, dtype=torch.long))

    def text_vectors(self, pooled_BD: Tensor) -> Tensor:
        grids = (Grid(1, 1, 1),) * len(pooled_BD)
        packed: Packed = self.texts(Packed(pooled_BD, grids))
        return packed.tokens_ND

    def compare_back(self, texts_BD: Tensor, sounds_VD: Tensor) -> Tensor:
        """Scores (B, V) of unit vectors."""
        return texts_BD @ sounds_VD.T * self.scale_back.exp()

    def unused_parameters(self) -> set[str]:
        return {"scale_back"}
