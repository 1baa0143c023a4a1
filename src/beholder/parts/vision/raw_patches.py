"""Pixels as they are: patches whose numbers a connector maps to the language model's width (Fuyu).

V views, N patches, P pixels per side of a patch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from beholder.errors import BeholderError
from beholder.media.plan import Grid, Size
from beholder.parts.contracts import Encoder, Packed, VisionConfig
from beholder.parts.vision.views import size_of


@dataclass(frozen=True)
class RawPatches(VisionConfig):
    """patch: pixels per side. image_size: of pictures it is usually given; any others of whole patches do."""

    patch: int
    image_size: int

    @property
    def dim(self) -> int:  # type: ignore[override]
        """Numbers of one patch."""
        return 3 * self.patch**2

    def grid(self, size: Size) -> Grid:
        if size[0] % self.patch or size[1] % self.patch or not min(size):
            raise BeholderError(
                f"a view of {size[1]}x{size[0]} pixels is not made of whole patches of {self.patch}; pad it"
            )
        return Grid(1, size[0] // self.patch, size[1] // self.patch)

    def tiny(self) -> RawPatches:
        return self.but(patch=14, image_size=28)

    def build(self) -> Encoder:
        return RawPatchEncoder(self)


class RawPatchEncoder(Encoder):
    """Without parameters: a patch is its pixels row by row, the channels of one pixel together (official `patchify_image`)."""

    def __init__(self, config: RawPatches) -> None:
        super().__init__()
        self.config = config

    def forward(self, views: Sequence[Tensor]) -> Packed:
        grids = tuple(self.config.grid(size_of(view)) for view in views)
        pairs = zip(views, grids, strict=True)
        return Packed(torch.cat([self._patches(view, grid) for view, grid in pairs]), grids)

    def _patches(self, view: Tensor, grid: Grid) -> Tensor:
        """(N, P P 3)."""
        patch = self.config.patch
        x_3hPwP = view.reshape(3, grid.height, patch, grid.width, patch)
        return x_3hPwP.permute(1, 3, 2, 4, 0).reshape(grid.num_tokens, -1)
