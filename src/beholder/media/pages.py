"""One view of about the picture's own proportions, of as many whole cells as a budget has, in colours counted from its
own pixels (Pix2Struct, 2210.03347).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Self

import numpy as np

from beholder.errors import BeholderError
from beholder.media.geometry import Geometry
from beholder.media.official import Settings
from beholder.media.plan import Box, Size, View
from beholder.media.resize import ONCE


@dataclass(frozen=True, kw_only=True)
class Pages(Geometry):
    """cell: pixels per side of what gives one token; most: cells of a view; filled: views tell how many cells they are short of
    that. Official `Pix2StructImageProcessor`.
    """

    cell: int = 16
    most: int = 2048
    filled: bool = False
    filter: str = ONCE

    def __post_init__(self) -> None:
        super().__post_init__()
        if min(self.cell, self.most) < 1:
            raise BeholderError(f"{self.most} cells of {self.cell} pixels: give 1 or more of both")

    def views(self, original: Size) -> tuple[View, ...]:
        scale = math.sqrt(self.most * (self.cell / original[0]) * (self.cell / original[1]))
        height, width = (
            max(min(int(scale * side / self.cell), self.most), 1) * self.cell for side in original
        )
        resizes = () if (height, width) == tuple(original) else ((height, width),)
        spare = self.most - height // self.cell * (width // self.cell) if self.filled else 0
        return (View(original, resizes, Box(0, 0, width, height), spare=spare),)

    def coloured(self, pixels_HWC: np.ndarray) -> Self:
        """A picture of one colour is divided by 1 / sqrt(number of its values)."""
        levels = pixels_HWC.astype(np.float32)
        mean, deviation = float(levels.mean()), max(float(levels.std()), levels.size**-0.5)
        return self.but(mean=(mean * self.scale,) * 3, std=(deviation * self.scale,) * 3)

    def at(self, tile: int) -> Self:
        """Views of at most four cells, of half a `tile` or less."""
        return self.but(cell=min(self.cell, max(tile // 2, 1)), most=4)


def filled_pages_of(settings: Settings) -> Geometry:
    """The official `Kosmos2_5ImageProcessor`'s."""
    return pages_of(settings, most=4096).but(filled=True)


def pages_of(settings: Settings, most: int = 2048) -> Geometry:
    """Official settings. A question that is drawn above the picture (Pix2Struct's `is_vqa`) is refused."""
    if settings.take("is_vqa", False):
        raise settings.error("questions are drawn into pictures (is_vqa), which is not supported")
    settings.take("do_normalize", True)
    sides = settings.take("patch_size", {"height": 16, "width": 16})
    if sides["height"] != sides["width"]:
        raise settings.error(f"patches of {sides['height']} x {sides['width']} pixels are no squares")
    return Pages(cell=int(sides["height"]), most=int(settings.take("max_patches", most)))
