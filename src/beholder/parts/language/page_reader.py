"""Words that know where on a page they stand, read both ways together with the page's patches (LayoutLMv3, 2204.08387).

B rows, T tokens, D width, H heads.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from beholder.errors import BeholderError
from beholder.parts.blocks.norms import Norm
from beholder.parts.blocks.positions import learned
from beholder.parts.blocks.relative import RelativeBuckets
from beholder.parts.contracts import LanguageInputs
from beholder.parts.language.text_encoder import TextEncoder, TextEncoderModel


@dataclass(frozen=True)
class PageReader(TextEncoder):
    """Each token has a region, `LanguageInputs.regions`, a box in whole steps of which fewer than `steps` make a side of the
    page; a row without any has boxes of no extent in the corner. A word is told the vectors of its four edges (edge: their
    width), its height and its width (extent). joint_norm: over words and features. Scores know distances in buckets: of
    the tokens' numbers (distances), of left edges and of lower edges (edges), under the square root as other scores are.
    """

    edge: int = 128
    extent: int = 128
    steps: int = 1024
    joint_norm: Norm = Norm("layer", 1e-5)
    distances: RelativeBuckets = RelativeBuckets(32, 128)
    edges: RelativeBuckets = RelativeBuckets(64, 256)

    def tiny(self) -> PageReader:
        small = super().tiny()
        assert isinstance(small, PageReader)
        return small.but(edge=6, extent=4)

    def build(self) -> PageReaderModel:
        return PageReaderModel(self)


class PageReaderModel(TextEncoderModel):
    """`TextEncoderModel` that adds a word's place to it, and distances on the page to scores."""

    def __init__(self, config: PageReader) -> None:
        if 4 * config.edge + 2 * config.extent != config.dim:
            raise BeholderError(
                f"four vectors of {config.edge} and two of {config.extent} channels for words of {config.dim}"
            )
        super().__init__(config)
        self.page = config
        heads = config.attention.num_heads
        self.across, self.down = learned(config.steps, config.edge), learned(config.steps, config.edge)
        self.heights, self.widths = (
            learned(config.steps, config.extent),
            learned(config.steps, config.extent),
        )
        self.joint_norm = config.joint_norm.build(config.dim)
        self.numbers = config.distances.build(heads)
        self.left, self.lower = config.edges.build(heads), config.edges.build(heads)

    def enter(self, inputs: LanguageInputs) -> Tensor:
        boxes_BT4, steps = self.boxes(inputs), self.page.steps
        if inputs.own_BT is not None:
            boxes_BT4 = boxes_BT4.masked_fill(inputs.own_BT[..., None], 0)
        if not boxes_BT4.is_meta and not 0 <= int(boxes_BT4.min()) <= int(boxes_BT4.max()) < steps:
            raise BeholderError(f"a word's box leaves the page, whose sides have fewer than {steps} steps")
        left, top, right, bottom = boxes_BT4.unbind(-1)
        most = steps - 1
        height, width = (bottom - top).clamp(0, most), (right - left).clamp(0, most)
        edges = (self.across[left], self.down[top], self.across[right], self.down[bottom])
        places_BTD = torch.cat((*edges, self.heights[height], self.widths[width]), -1)
        placed = replace(inputs, embeddings_BTD=inputs.embeddings_BTD + places_BTD)
        return self.joint_norm(super().enter(placed))

    def scores(self, inputs: LanguageInputs) -> Tensor:
        """(B or 1, H, T, T)."""
        left_BT, _, _, lower_BT = self.boxes(inputs).unbind(-1)
        numbers_BT = inputs.positions
        total: Tensor = self.numbers(numbers_BT, numbers_BT)
        total = total + self.left(left_BT, left_BT) + self.lower(lower_BT, lower_BT)
        return total / self.page.attention.width(self.page.dim) ** 0.5

    def boxes(self, inputs: LanguageInputs) -> Tensor:
        """(B, T, 4) left, top, right and bottom in steps; 0 at padding. Raises `BeholderError` where some are missing."""
        rows, width = inputs.ids_BT.shape
        lengths = inputs.lengths or (width,) * rows
        boxes_BT4 = torch.zeros(rows, width, 4, dtype=torch.long)
        for row, regions in enumerate(inputs.regions):
            if regions and len(regions) != lengths[row]:
                raise BeholderError(
                    f"row {row} has {lengths[row]} tokens and {len(regions)} regions; give one for each token"
                )
            for token, region in enumerate(regions):
                boxes_BT4[row, token] = torch.tensor([int(side) for side in region.bounds()])
        return boxes_BT4.to(inputs.ids_BT.device)
