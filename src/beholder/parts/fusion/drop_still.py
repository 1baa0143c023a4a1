"""Tokens of recordings that a connector found still are taken out of the sequence (VideoLLaMA 3, 2501.13106).

B rows, T positions.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch

from beholder.errors import BeholderError
from beholder.parts.blocks.masks import PADDING
from beholder.parts.connectors.still import MOVES
from beholder.parts.contracts import BranchOutput, Fusion, FusionConfig, LanguageConfig, LanguageInputs
from beholder.parts.fusion.experts import PICTURE
from beholder.parts.fusion.splice import in_prompt_order


@dataclass(frozen=True)
class DropStill(FusionConfig):
    """Behind the `Splice` of `branch`: what is dropped is seen by nobody, and what follows moves up to its positions. The
    features were planned from sizes, before anybody saw the pixels, so the places remain and are empty.
    """

    branch: str = "image"

    def build(self, language: LanguageConfig | None) -> Fusion:
        return DropStillFusion(self)


class DropStillFusion(Fusion):
    """Adds no modules to layers."""

    def __init__(self, config: DropStill) -> None:
        super().__init__()
        self.config = config

    def prepare(self, draft: LanguageInputs, branches: Mapping[str, BranchOutput]) -> LanguageInputs:
        branch = branches.get(self.config.branch)
        if branch is None or draft.routes_BT is None:
            return draft
        if MOVES not in branch.packed.taps:
            raise BeholderError(f"branch {self.config.branch} does not say what is still; give it Moving")
        stays_N1 = in_prompt_order(branch.packed.taps[MOVES], branch.plans)
        if bool(stays_N1.all()):
            return draft
        dropped_BT = torch.zeros_like(draft.routes_BT, dtype=torch.bool)
        dropped_BT[draft.routes_BT == PICTURE] = stays_N1[:, 0] == 0
        seen = draft.visibility
        segments_BT = seen.segments_BT.masked_fill(dropped_BT, PADDING)
        return replace(
            draft,
            positions=draft.positions - dropped_BT.cumsum(1),
            visibility=replace(seen, segments_BT=segments_BT, plain=False, behind=False),
        )
