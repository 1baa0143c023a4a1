"""Scores of labels: for each view from its pooled vector, or for each token (connectionist temporal classification).

V views, N tokens, C labels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import ClassVar

from torch import Tensor, nn

from beholder.errors import BeholderError
from beholder.parts.blocks.norms import Norm
from beholder.parts.contracts import Head, HeadConfig, HeadInputs, LanguageConfig, Packed
from beholder.parts.language.state import State


@dataclass(frozen=True)
class Labels(HeadConfig):
    """One label of each view, or `several`, each with a probability of its own. dim: of the branch's pooled vectors. norm: of
    them before the matrix. names: of the labels, in the order of their scores, () where nobody says.
    """

    output: ClassVar[str] = "labels"
    reads_text: ClassVar[bool] = False
    dim: int
    count: int
    branch: str = "image"
    norm: Norm | None = None
    several: bool = False
    names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.names and len(self.names) != self.count:
            raise BeholderError(
                f"{self.count} labels have {len(self.names)} names; give one for each, or none"
            )

    @property
    def words(self) -> tuple[str, ...]:
        """Names of the labels, or their numbers."""
        return self.names or tuple(f"label {number}" for number in range(self.count))

    def tiny(self) -> Labels:
        count = min(self.count, 8)
        return super().tiny().but(dim=32, count=count, names=self.names[:count])

    def build(self, language: LanguageConfig | None) -> Head:
        return LabelsHead(self)


class LabelsHead(Head):
    """Pooled vectors (V, D) -> scores (V, C)."""

    def __init__(self, config: Labels) -> None:
        super().__init__()
        self.config = config
        self.norm = config.norm.build(config.dim) if config.norm is not None else None
        self.linear = nn.Linear(config.dim, config.count)

    def forward(self, inputs: HeadInputs, state: State | None = None) -> Tensor:
        pooled_VD = inputs.branches[self.config.branch].packed.pooled_VD
        if pooled_VD is None:
            raise BeholderError(
                f"labels are read from pooled vectors; set pool= on branch {self.config.branch}"
            )
        return self.linear(pooled_VD if self.norm is None else self.norm(pooled_VD))

    def probabilities(self, scores_VC: Tensor) -> Tensor:
        """(V, C), of each label."""
        return scores_VC.sigmoid() if self.config.several else scores_VC.softmax(-1)


@dataclass(frozen=True)
class Ctc(HeadConfig):
    """A label or nothing (`blank`) for each token, so that texts need no alignment (Graves et al., 2006). dim: of the
    branch's tokens.
    """

    output: ClassVar[str] = "ctc"
    reads_text: ClassVar[bool] = False
    dim: int
    count: int
    branch: str = "audio"
    blank: int = 0

    def tiny(self) -> Ctc:
        return self.but(dim=32, count=min(self.count, 8), blank=0)

    def build(self, language: LanguageConfig | None) -> Head:
        return CtcHead(self)


class CtcHead(Head):
    """Tokens (N, D) -> scores (N, C) on the same grids."""

    def __init__(self, config: Ctc) -> None:
        super().__init__()
        self.config = config
        self.linear = nn.Linear(config.dim, config.count)

    def forward(self, inputs: HeadInputs, state: State | None = None) -> Packed:
        packed = inputs.branches[self.config.branch].packed
        return Packed(self.linear(packed.tokens_ND), packed.grids)


def collapsed(labels: Sequence[int], blank: int = 0) -> list[int]:
    """The text that a path of labels stands for: repetitions once, then blanks left out."""
    return [label for label, _ in groupby(labels) if label != blank]
