"""A ViT over pages that are filled up to a number of patches with padding that looks at the page and is not looked at
(Kosmos-2.5, 2309.11419, after Pix2Struct, 2210.03347). What reads its tokens may read the padding as well.

V views, T patches, D width.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from beholder.errors import BeholderError
from beholder.media.plan import Grid, Size
from beholder.parts.blocks.masks import AttentionMask
from beholder.parts.blocks.step import Step
from beholder.parts.vision.positions import RowsColumns
from beholder.parts.vision.vit import VisionTransformer, ViT


@dataclass(frozen=True)
class FilledViT(ViT):
    """A view's tokens are one row, its patches and behind them one token for its padding, of row and column 0 and without
    pixels: all of it is alike, and `View.spare` says how much there is.
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.positions, RowsColumns) or self.front or self.windows or self.pool:
            raise BeholderError(
                "padding has row and column 0 and stands for itself; give positions=RowsColumns(...), and no class token, "
                "registers, windows or pool"
            )

    def grid(self, size: Size, frames: int = 1) -> Grid:
        return Grid(frames, 1, self.plane(size).num_tokens + 1)

    def build(self) -> FilledTransformer:
        return FilledTransformer(self)


class FilledTransformer(VisionTransformer):
    """`Encoder` of views with a token of padding."""

    @property
    def by_plane(self) -> bool:
        return True

    def _embed(self, pixels: Tensor) -> Tensor:
        x_VtTD = super()._embed(pixels)
        assert self.rows is not None and self.columns is not None
        side = self.config.patch
        blank_D = self.patch(pixels.new_zeros(1, 3, side, side).to(x_VtTD.dtype)).flatten()
        padding_D = blank_D + self.rows[0] + self.columns[0]
        return torch.cat((x_VtTD, padding_D.expand(*x_VtTD.shape[:2], 1, -1)), 2)

    def _step(self, x_BTD: Tensor, positions: Tensor | None, segments: tuple[int, ...]) -> Step:
        step = super()._step(x_BTD, positions, segments)
        seen_T = torch.ones(x_BTD.shape[1], dtype=torch.bool, device=x_BTD.device)
        seen_T[-1] = False
        step.set_mask(AttentionMask(allowed_B1TS=seen_T[None, None, None]))
        return step
