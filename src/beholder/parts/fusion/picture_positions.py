"""Positions of several axes of which words have their number in the sequence on each: features have their column, their row and
the number of their picture besides (HunyuanOCR, 2511.19575).

B rows, T positions, A axes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

import torch

from beholder.errors import BeholderError
from beholder.parts.contracts import BranchOutput, Fusion, FusionConfig, LanguageConfig, LanguageInputs
from beholder.parts.fusion.experts import PICTURE


@dataclass(frozen=True)
class PicturePositions(FusionConfig):
    """Behind the fusion that puts features of `branch`, made by `RowEnds`, into the sequence. The last three of so many `axes`
    are columns, rows (the token behind a row stands in one more column) and pictures; the tokens at both ends count as words.
    square: of the connector.
    """

    reads_encoded: ClassVar[bool] = True
    branch: str = "image"
    axes: int = 4
    square: int = 2

    def __post_init__(self) -> None:
        if self.axes < 3:
            raise BeholderError(f"columns, rows and pictures are three axes, not {self.axes}")

    def build(self, language: LanguageConfig | None) -> Fusion:
        return PicturePositionsFusion(self)


class PicturePositionsFusion(Fusion):
    """Adds no modules to layers; gives positions (A, B, T) where there are pictures."""

    def __init__(self, config: PicturePositions) -> None:
        super().__init__()
        self.config = config

    def prepare(self, draft: LanguageInputs, branches: Mapping[str, BranchOutput]) -> LanguageInputs:
        config = self.config
        branch = branches.get(config.branch)
        if branch is None or draft.routes_BT is None or draft.positions.ndim != 2:
            return draft
        positions = draft.positions.expand(config.axes, -1, -1).clone()
        grids = iter(branch.encoded[0].grids)
        for row, plans in enumerate(branch.plans):
            places_N = (draft.routes_BT[row] == PICTURE).nonzero().flatten()
            for number, _ in enumerate(view for plan in plans for view in plan.views):
                grid = next(grids)
                height, width = grid.height // config.square, grid.width // config.square + 1
                count = height * width
                inner_N, places_N = places_N[1 : count + 1], places_N[count + 2 :]
                order_N = torch.arange(count, device=positions.device)
                positions[-3, row, inner_N] = order_N % width
                positions[-2, row, inner_N] = order_N // width
                positions[-1, row, inner_N] = number
        return replace(draft, positions=positions)
