"""Objects that tokens of a picture became: what each is, or nothing, and where (DETR, 2005.12872; YOLOS, 2106.00666).

V views, Q objects of a view, K labels, D width.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from beholder.errors import BeholderError
from beholder.parts.blocks.linears import Linears
from beholder.parts.contracts import Head, HeadConfig, HeadInputs, LanguageConfig
from beholder.parts.language.state import State


class Objects(NamedTuple):
    """boxes_VQ4: middle and size, in shares of the view's width and height; logits_VQK of the labels and, last, of nothing."""

    boxes_VQ4: Tensor
    logits_VQK: Tensor

    def likely(self, view: int, threshold: float = 0.5) -> tuple[Tensor, Tensor, Tensor]:
        """Of one view the boxes (left, top, right, bottom), scores and labels likelier than `threshold`, the best first."""
        scores_QK = self.logits_VQK[view].softmax(-1)[:, :-1]
        scores_Q, labels_Q = scores_QK.max(-1)
        middle_Q2, size_Q2 = self.boxes_VQ4[view].chunk(2, -1)
        order = scores_Q.argsort(descending=True)
        order = order[scores_Q[order] > threshold]
        boxes_Q4 = torch.cat((middle_Q2 - size_Q2 / 2, middle_Q2 + size_Q2 / 2), -1)
        return boxes_Q4[order], scores_Q[order], labels_Q[order]


@dataclass(frozen=True)
class ObjectTokens(HeadConfig):
    """Of each view `count` tokens from number `first` on, `dim` channels wide. deep: matrices that tell labels; names: of
    these, () where nobody says.
    """

    output: ClassVar[str] = "objects"
    reads_text: ClassVar[bool] = False
    dim: int
    count: int
    labels: int
    first: int = 0
    deep: int = 3
    branch: str = "image"
    names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.names and len(self.names) != self.labels:
            raise BeholderError(
                f"{self.labels} labels have {len(self.names)} names; give one for each, or none"
            )

    def tiny(self) -> ObjectTokens:
        labels = min(self.labels, 8)
        return self.but(dim=32, count=2, labels=labels, names=self.names[:labels])

    def build(self, language: LanguageConfig | None) -> Head:
        return ObjectTokensHead(self)


class ObjectTokensHead(Head):
    """Tokens of views -> `Objects`."""

    def __init__(self, config: ObjectTokens) -> None:
        super().__init__()
        self.config, dim = config, config.dim
        self.classes: nn.Module = Linears((*(dim,) * config.deep, config.labels + 1))
        self.boxes = Linears((dim, dim, dim, 4))

    def forward(self, inputs: HeadInputs, state: State | None = None) -> Objects:
        config = self.config
        views = inputs.branches[config.branch].packed.split()
        if any(len(view) < config.first + config.count for view in views):
            raise BeholderError(
                f"{config.count} objects from token {config.first} on; a view has {min(map(len, views))} tokens. Let the "
                "encoder give what stands in front of its patches"
            )
        tokens_VQD = torch.stack([view[config.first : config.first + config.count] for view in views])
        return Objects(self.boxes(tokens_VQD).sigmoid(), self.classes(tokens_VQD))
