"""Words and patches of one page, each with its place on it, read together (LayoutLMv3, 2204.08387)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import torch

from beholder.errors import BeholderError
from beholder.media.plan import Box, PicturePlan
from beholder.media.regions import Region
from beholder.parts.contracts import BranchOutput, Fusion, LanguageConfig, LanguageInputs
from beholder.parts.fusion.joint import Joint, JointFusion

PAGE = 1000  # steps that places are counted in, per side of a page


@dataclass(frozen=True)
class OnPage(Joint):
    """Gives the language part a region for each token, in thousandths of the page: of the words as they were told, one each
    in pixels of the original (rows without any have none); of a class token, the page but for its outermost steps; of
    `side` rows and columns of patches, theirs. Features are numbered from 0, as words are.
    """

    side: int = 14

    def tiny(self) -> OnPage:
        return self.but(positions=self.positions and 16, side=2)

    def build(self, language: LanguageConfig | None) -> Fusion:
        super().build(language)
        assert language is not None
        return PageFusion(self, language.dim)


class PageFusion(JointFusion):
    """`JointFusion` with places."""

    def __init__(self, config: OnPage, dim: int) -> None:
        super().__init__(config, dim)
        self.page = config

    def prepare(self, draft: LanguageInputs, branches: Mapping[str, BranchOutput]) -> LanguageInputs:
        branch = branches.get(self.config.branch)
        if branch is None:
            if any(draft.regions):
                raise BeholderError("words have places on a page whose picture is missing; give the picture")
            return draft
        joined = super().prepare(draft, branches)
        assert joined.own_BT is not None
        width = joined.ids_BT.shape[1]
        counts = draft.lengths or (draft.ids_BT.shape[1],) * len(draft.ids_BT)
        lengths = joined.lengths or (width,) * len(counts)
        regions = []
        for row, (plans, count) in enumerate(zip(branch.plans, counts, strict=True)):
            told = draft.regions[row] if draft.regions else ()
            regions.append((*_words(told, plans, count, row), *self.patches() * len(plans)))
            if len(regions[-1]) != lengths[row]:
                raise BeholderError(
                    f"row {row} has {lengths[row] - count} features; its {len(plans)} pages have places for a class token "
                    f"and {self.page.side}x{self.page.side} patches each"
                )
        numbers_BT = joined.own_BT.cumsum(1) - 1
        positions = torch.where(joined.own_BT, numbers_BT, joined.positions)
        return replace(joined, positions=positions, regions=tuple(regions))

    def patches(self) -> tuple[Region, ...]:
        """Of the class token and of the patches, row by row."""
        edges = [PAGE * number // self.page.side for number in range(self.page.side + 1)]
        spans = list(pairwise(edges))
        boxes = [Box(left, top, right, bottom) for top, bottom in spans for left, right in spans]
        return tuple(Region(box) for box in (Box(1, 1, PAGE - 1, PAGE - 1), *boxes))


def _words(told: Sequence[Region], plans: Sequence[PicturePlan], count: int, row: int) -> tuple[Region, ...]:
    """The words' regions in whole thousandths, cut off as the official processor does."""
    if not told:
        return (Region(Box(0, 0, 0, 0)),) * count
    if len(told) != count:
        raise BeholderError(f"row {row} has {count} words and {len(told)} regions; give one for each token")
    boxes = []
    for region in told:
        if not 0 <= region.picture < len(plans):
            raise BeholderError(f"row {row} has a region of picture number {region.picture} of {len(plans)}")
        height, width = plans[region.picture].original
        left, top, right, bottom = region.bounds()
        sides = zip((left, top, right, bottom), (width, height) * 2, strict=True)
        boxes.append(Box(*(int(PAGE * place / side + 1e-6) for place, side in sides)))
    return tuple(Region(box) for box in boxes)
