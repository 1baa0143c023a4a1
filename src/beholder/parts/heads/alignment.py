"""EVE's patch aligning layer (2406.11832, section 3.2): while it trains, a language model's states at a picture's tokens
shall tell what a frozen encoder sees there. Without the teacher's branch and this head nothing else changes.

N tokens of a picture, L depths, D width, C width of the teacher, H heads, K head width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from beholder.errors import BeholderError
from beholder.parts.contracts import Head, HeadConfig, HeadInputs, LanguageConfig, TokenSpan
from beholder.parts.language.state import State


@dataclass(frozen=True)
class TeacherAlignment(HeadConfig):
    """teacher: the branch whose features are the aim, `dim` wide. every: states of every so many layers, from the last down,
    are read. heads: of the attention in which the last layer's asks those below.
    """

    output: ClassVar[str] = "alignment"
    teacher: str = "teacher"
    dim: int = 1024
    every: int = 4
    heads: int = 8

    def taps(self, num_layers: int) -> tuple[int, ...]:
        return tuple(range(num_layers, -1, -self.every))

    def tiny(self) -> TeacherAlignment:
        return self.but(dim=32, every=1, heads=4)

    def build(self, language: LanguageConfig | None) -> Head:
        if language is None:
            raise BeholderError("TeacherAlignment needs a language part whose states it reads")
        return TeacherAlignmentHead(self, language)


class TeacherAlignmentHead(Head):
    """1 - cosine between what the states tell and the teacher's features, the mean over tokens, then over pictures; 0 where
    the batch has no pictures for the teacher.
    """

    def __init__(self, config: TeacherAlignment, language: LanguageConfig) -> None:
        super().__init__()
        self.config, self.depths = config, config.taps(language.num_layers)
        self.levels = nn.ModuleList(
            nn.Sequential(nn.LayerNorm(language.dim), nn.Linear(language.dim, config.dim, bias=False))
            for _ in self.depths
        )
        self.input = nn.Linear(language.dim, config.dim)
        self.output = nn.Linear(config.dim, config.dim)

    def forward(self, inputs: HeadInputs, state: State | None = None) -> Tensor:
        hidden_BTD = inputs.hidden_BTD
        assert hidden_BTD is not None
        states = [hidden_BTD, *(inputs.taps[depth] for depth in self.depths[1:])]
        if self.config.teacher not in inputs.branches:
            return hidden_BTD.new_zeros(())
        aims = self._aims(inputs)
        spans = [span for span in inputs.token_spans if (span.row, span.picture) in aims]
        losses = []
        for span in spans:
            aim_hwC = aims[span.row, span.picture]
            given_NC = self.predict([_patches(tap, span, aim_hwC) for tap in states])
            losses.append(1 - F.cosine_similarity(given_NC, aim_hwC.flatten(0, 1), -1).mean())
        return torch.stack(losses).mean() if losses else hidden_BTD.new_zeros(())

    def predict(self, states_ND: Sequence[Tensor]) -> Tensor:
        """(N, C) of the states of one picture at all depths, the last layer's first."""
        levels_NLC = torch.stack([level(x_ND) for level, x_ND in zip(self.levels, states_ND, strict=True)], 1)
        levels_NLHK = levels_NLC.unflatten(-1, (self.config.heads, -1))
        asks, tells = levels_NLHK[:, :1], levels_NLHK[:, 1:]
        weights_NLH = (asks * tells).sum(-1).mul(self.config.dim**-0.5).softmax(1)
        found_NC = (weights_NLH[..., None] * tells).sum(1).flatten(1)
        given_NC: Tensor = self.input(states_ND[0]) + self.output(found_NC)
        return given_NC

    def _aims(self, inputs: HeadInputs) -> dict[tuple[int, int], Tensor]:
        """(row, picture) -> the teacher's features (h, w, C) where its view shows the picture, not padding."""
        branch = inputs.branches[self.config.teacher]
        views, aims = iter(branch.packed.split()), {}
        for row, plans in enumerate(branch.plans):
            for picture, plan in enumerate(plans):
                (view,), (grid,) = plan.views, plan.grids
                cell = view.size[0] // grid.height
                map_HWC = next(views).view(grid.height, grid.width, -1)
                top, left = round(-view.crop.top) // cell, round(-view.crop.left) // cell
                height, width = (side // cell for side in view.resized)
                aims[row, picture] = map_HWC[top : top + height, left : left + width]
        return aims


def _patches(tap_BTD: Tensor, span: TokenSpan, aim_hwC: Tensor) -> Tensor:
    """A picture's states without those of the whole and of ends of rows, as many as the teacher has patches, (N, D)."""
    height, width, _ = aim_hwC.shape
    tokens_TD = tap_BTD[span.row, span.start : span.stop]
    ratio = next((r for r in range(1, 9) if r * height * (r * width + 1) + 1 == len(tokens_TD)), None)
    if ratio is None:
        raise BeholderError(
            f"a picture of {len(tokens_TD)} tokens and a teacher's view of {height}x{width} patches do not lie on each "
            "other; give both branches the same proportions"
        )
    map_Dhw = tokens_TD[1:].unflatten(0, (ratio * height, ratio * width + 1))[:, :-1].permute(2, 0, 1)
    return F.avg_pool2d(map_Dhw, ratio).flatten(1).T
