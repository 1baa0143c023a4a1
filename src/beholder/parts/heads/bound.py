"""How alike the things of several senses are to those of one that binds them (ImageBind, 2305.05665, section 3.2).

V views of the anchor, N of another branch, D width.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor
from torch.nn import functional as F

from beholder.parts.contracts import Head, HeadConfig, HeadInputs, LanguageConfig
from beholder.parts.language.state import State


@dataclass(frozen=True)
class Bound(HeadConfig):
    """anchor: the branch that all `others` were trained to meet. The vectors of the others have the lengths that their
    connectors give them, which is how sharply each is told apart.
    """

    output: ClassVar[str] = "bound"
    reads_text: ClassVar[bool] = False
    anchor: str = "image"
    others: tuple[str, ...] = ("audio",)

    def build(self, language: LanguageConfig | None) -> Head:
        return BoundHead(self)


class BoundHead(Head):
    """Vectors of branches -> for each other branch its scores (N, V), None where it or the anchor was not given."""

    def __init__(self, config: Bound) -> None:
        super().__init__()
        self.config = config

    def forward(self, inputs: HeadInputs, state: State | None = None) -> tuple[Tensor | None, ...]:
        anchor = inputs.branches.get(self.config.anchor)
        if anchor is None:
            return (None,) * len(self.config.others)
        anchor_VD = F.normalize(anchor.packed.tokens_ND, dim=-1)
        others = [inputs.branches.get(name) for name in self.config.others]
        return tuple(None if other is None else other.packed.tokens_ND @ anchor_VD.T for other in others)
