"""A ViT with tokens that become objects (YOLOS, 2106.00666): learned places of all tokens, at every layer if wanted.

V views, h w rows and columns of patches, T tokens, P places, D width.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from beholder.errors import BeholderError
from beholder.media.plan import Grid
from beholder.parts.blocks.positions import learned
from beholder.parts.contracts import LayerParts
from beholder.parts.vision.vit import VisionTransformer, ViT


@dataclass(frozen=True)
class DetectionViT(ViT):
    """registers: the tokens that become objects. table: rows and columns of patches that places were learned for, which are
    resized to others. middle: further places are added behind each layer but the last.
    """

    table: tuple[int, int] = (14, 14)
    middle: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.positions is not None or not self.cls or not self.registers:
            raise BeholderError(
                "places stand in a table with those of the class token and of objects; set positions=None, cls=True and "
                "registers"
            )

    @property
    def places(self) -> int:
        """Entries of a table: the class token's, the patches', the objects'."""
        return self.front + self.table[0] * self.table[1]

    def tiny(self) -> DetectionViT:
        small = super().tiny()
        assert isinstance(small, DetectionViT)
        return small.but(table=(2, 2))

    def build(self) -> DetectionTransformer:
        return DetectionTransformer(self)


class DetectionTransformer(VisionTransformer):
    """`Encoder` whose tokens in front are the class token and those of objects."""

    config: DetectionViT

    def __init__(self, config: DetectionViT) -> None:
        super().__init__(config)
        self.places = learned(config.places, config.dim)
        count = config.num_layers - 1
        self.middle = learned(count, config.places, config.dim) if config.middle and count else None

    @property
    def by_plane(self) -> bool:
        return True

    def _embed(self, pixels: Tensor) -> Tensor:
        patch = self.config.patch
        size = (pixels.shape[-2] // patch, pixels.shape[-1] // patch)
        return super()._embed(pixels) + self._resized(self.places, size)

    def _layers(
        self,
        sequences: list[Tensor],
        planes: Sequence[Grid],
        depths: Collection[int],
        layer_parts: LayerParts,
    ) -> dict[int, list[Tensor]]:
        if self.middle is not None:
            size = (planes[0].height, planes[0].width)
            added = {
                number: {**layer_parts.get(number, {}), "after": Added(self._resized(table_PD, size))}
                for number, table_PD in enumerate(self.middle)
            }
            layer_parts = {**layer_parts, **added}
        return super()._layers(sequences, planes, depths, layer_parts)

    def _resized(self, table_PD: Tensor, size: tuple[int, int]) -> Tensor:
        """(T, D): the entries of the class token, of objects, then of patches on a grid of `size`."""
        objects, (rows, columns) = self.config.front - 1, self.config.table
        cls_1D, patches_ND, objects_QD = table_PD.split([1, rows * columns, objects])
        if size != (rows, columns):
            map_1Dhw = patches_ND.T.unflatten(1, (rows, columns))[None]
            map_1Dhw = F.interpolate(map_1Dhw, size, mode="bicubic", align_corners=False)
            patches_ND = map_1Dhw[0].flatten(1).T
        return torch.cat((cls_1D, objects_QD, patches_ND))


class Added(nn.Module):
    """What is added to all tokens behind a layer."""

    def __init__(self, table_TD: Tensor) -> None:
        super().__init__()
        self.table_TD = table_TD

    def forward(self, x_BTD: Tensor, *_: object) -> Tensor:
        return x_BTD + self.table_TD
