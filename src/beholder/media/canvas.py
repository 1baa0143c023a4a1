"""Pictures on canvases of whole tiles (Llama 3.2; official `MllamaImageProcessor`)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from beholder.media.geometry import Geometry
from beholder.media.plan import Box, Features, Grid, Size, View


@dataclass(frozen=True, kw_only=True)
class Canvas(Geometry):
    """One view: the picture in the upper left of a canvas of up to `tiles` tiles of `tile` pixels a side, chosen so that it
    is scaled up least or, where it fits on none, scaled down least. A picture that fits is not scaled beyond a tile.
    """

    tile: int
    tiles: int = 4
    filter: str = "bilinear"

    def canvas(self, original: Size) -> Size:
        """The canvas in pixels (`get_optimal_tiled_canvas`): of equal scales the smallest, then the first."""
        sides = range(1, self.tiles + 1)
        sizes = [(a * self.tile, b * self.tile) for a in sides for b in sides if a * b <= self.tiles]
        scales = [min(height / original[0], width / original[1]) for height, width in sizes]
        larger = [scale for scale in scales if scale >= 1]
        chosen = min(larger) if larger else max(scales)
        fitting = [size for size, scale in zip(sizes, scales, strict=True) if scale == chosen]
        return min(fitting, key=lambda size: size[0] * size[1])

    def views(self, original: Size) -> tuple[View, ...]:
        canvas = self.canvas(original)
        resized = self._fitted(original, canvas)
        return (View(original, (resized,), Box(0, 0, canvas[1], canvas[0])),)

    def _fitted(self, original: Size, canvas: Size) -> Size:
        """The picture's size on the canvas (`get_image_size_fit_to_canvas`)."""
        height, width = (min(max(side, self.tile), most) for side, most in zip(original, canvas, strict=True))
        down, across = height / original[0], width / original[1]
        if across < down:
            return min(math.floor(original[0] * across) or 1, height), width
        return height, min(math.floor(original[1] * down) or 1, width)

    def pieces(self, views: tuple[View, ...], grids: tuple[Grid, ...]) -> tuple[Features, ...]:
        """The tokens of the tiles that are not blank."""
        height, width = views[0].size
        count = height // self.tile * (width // self.tile)
        return (Features(np.arange(count * grids[0].height * grids[0].width)),)

    def at(self, tile: int) -> Canvas:
        return self.but(tile=tile)
