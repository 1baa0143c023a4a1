"""How alike pictures and texts are.

V pictures, B texts, D width.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from beholder.errors import BeholderError
from beholder.parts.contracts import Head, HeadConfig, HeadInputs, LanguageConfig, Packed
from beholder.parts.language.state import State


class Likeness(NamedTuple):
    """Unit vectors of what was given, and scores_VB where both sides were."""

    images_VD: Tensor | None
    texts_BD: Tensor | None
    scores_VB: Tensor | None


@dataclass(frozen=True)
class Similarity(HeadConfig):
    """exp(scale) * cosine (+ bias). The start values are CLIP's ln(1 / 0.07); SigLIP has a bias besides. scale None: the cosine
    alone. pooled: the branch's vectors stand beside its tokens. most: exp(scale) is kept between 1 and this. divides: the scale
    is a temperature, which cosines are divided by, and no logarithm (ALIGN, 2102.05918).
    """

    output: ClassVar[str] = "similarity"
    reads_text: ClassVar[bool] = False
    branch: str = "image"
    scale: float | None = math.log(1 / 0.07)
    bias: float | None = None
    pooled: bool = False
    most: float | None = None
    divides: bool = False

    def build(self, language: LanguageConfig | None) -> Head:
        return SimilarityHead(self)


class SimilarityHead(Head):
    """Pooled vectors of a branch and of texts -> `Likeness`."""

    def __init__(self, config: Similarity) -> None:
        super().__init__()
        self.config = config
        self.scale = nn.Parameter(torch.tensor(config.scale)) if config.scale is not None else None
        self.bias = nn.Parameter(torch.tensor(config.bias)) if config.bias is not None else None

    def forward(self, inputs: HeadInputs, state: State | None = None) -> Likeness:
        branch = inputs.branches.get(self.config.branch)
        images_VD = None if branch is None else F.normalize(self._vectors(branch.packed), dim=-1)
        texts_BD = None
        if inputs.pooled_BD is not None:
            texts_BD = F.normalize(self.text_vectors(inputs.pooled_BD), dim=-1)
        if images_VD is None or texts_BD is None:
            return Likeness(images_VD, texts_BD, None)
        return Likeness(images_VD, texts_BD, self.compare(images_VD, texts_BD))

    def text_vectors(self, pooled_BD: Tensor) -> Tensor:
        """What is compared of texts' pooled vectors."""
        return pooled_BD

    def _vectors(self, packed: Packed) -> Tensor:
        if not self.config.pooled:
            return packed.tokens_ND
        if packed.pooled_VD is None:
            raise BeholderError("likeness is read from vectors beside the tokens; the connector gives none")
        return packed.pooled_VD

    def compare(self, images_VD: Tensor, texts_BD: Tensor) -> Tensor:
        """Scores (V, B) of unit vectors."""
        scores_VB = images_VD @ texts_BD.T
        if self.scale is not None and self.config.divides:
            scores_VB = scores_VB / self.scale
        elif self.scale is not None:
            most = self.config.most
            scale = self.scale if most is None else self.scale.clamp(0.0, math.log(most))
            scores_VB = scores_VB * scale.exp()
        return scores_VB if self.bias is None else scores_VB + self.bias
