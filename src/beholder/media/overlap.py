"""Crops that overlap, beside the whole picture (Molmo, 2409.17146, section 2; Moondream's `overlap_crop_image`)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import product

import numpy as np

from beholder.errors import BeholderError, UnknownName
from beholder.media.geometry import Geometry
from beholder.media.plan import Box, Features, Grid, Size, Tag, View, in_order

TILINGS = ("nearest", "covering")


@dataclass(frozen=True, kw_only=True)
class OverlapCrops(Geometry):
    """The whole picture in a square of `crop` pixels, then squares of a larger one, at most `most`, in raster order. Neighbours
    share `margin` cells of either, so that each knows what is around the part that counts.

    tiling:  how many rows and columns: those that scale the picture up least, else down least (`nearest`, Molmo's
             `select_tiling`), or as many as cover it, filled up to `most` in its proportions (`covering`, Moondream's)
    padded:  proportions are kept, black padding around the picture; otherwise it is stretched
    chained: the whole picture is made from the larger one, not from the original
    begin, newline, end: text around the tokens of the whole picture, those of the crops, and behind each of their rows;
             features follow each other as one run where all are empty; whole: the text before the whole picture, where it is
             another
    """

    crop: int
    cell: int = 14
    margin: int = 4
    most: int = 12
    tiling: str = "nearest"
    padded: bool = False
    chained: bool = False
    begin: str = ""
    newline: str = ""
    end: str = ""
    whole: str = ""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.tiling not in TILINGS:
            raise UnknownName("tiling", self.tiling, TILINGS)
        if self.crop % self.cell or self.window < self.cell or self.most < 1:
            raise BeholderError(
                f"crops of {self.crop} pixels, {self.margin} cells of {self.cell} shared on each side: nothing is left, or "
                "cells do not divide them"
            )

    @property
    def window(self) -> int:
        """Pixels per side of the part of a crop that no neighbour has."""
        return self.crop - 2 * self.margin * self.cell

    def grid(self, original: Size) -> tuple[int, int]:
        """Rows and columns of crops."""
        shared = 2 * self.margin * self.cell
        inner = (original[0] - shared, original[1] - shared)
        return self._covering(*inner) if self.tiling == "covering" else self._nearest(*inner)

    def _nearest(self, height: int, width: int) -> tuple[int, int]:
        sides = range(1, self.most + 1)
        grids = [(rows, columns) for rows, columns in product(sides, sides) if rows * columns <= self.most]
        grids.sort(key=lambda grid: (grid[0] * grid[1], grid[0]))
        with np.errstate(divide="ignore"):
            points = np.array(grids, dtype=np.float32) * self.window
            scales = (points / np.array([height, width], dtype=np.float32)).min(-1)
        if bool((scales < 1).all()):
            return grids[int(scales.argmax())]
        return grids[int(np.where(scales < 1, 10e9, scales).argmin())]

    def _covering(self, height: int, width: int) -> tuple[int, int]:
        window, most = self.window, self.most
        if height <= window or width <= window:
            return 1, 1
        rows, columns = math.ceil(height / window), math.ceil(width / window)
        if rows * columns > most:
            share = math.sqrt(most / (rows * columns))
            return max(1, math.floor(rows * share)), max(1, math.floor(columns * share))
        rows = max(math.floor(math.sqrt(most * height / width)), rows)
        columns = max(math.floor(math.sqrt(most * width / height)), columns)
        if rows * columns > most:
            if columns > rows:
                columns = most // rows
            else:
                rows = most // columns
        return max(1, rows), max(1, columns)

    def views(self, original: Size) -> tuple[View, ...]:
        rows, columns = self.grid(original)
        shared = 2 * self.margin * self.cell
        canvas = (rows * self.window + shared, columns * self.window + shared)
        resized, (left, top) = self._placed(original, canvas)
        whole, (x0, y0) = self._placed(original, (self.crop, self.crop))
        first = Box(-x0, -y0, self.crop - x0, self.crop - y0)
        steps = (resized, whole) if self.chained else (whole,)
        crops = (
            View(
                original,
                (resized,),
                Box(x - left, y - top, x - left + self.crop, y - top + self.crop),
                "tile",
            )
            for y, x in product(
                range(0, rows * self.window, self.window), range(0, columns * self.window, self.window)
            )
        )
        return View(original, steps, first, role="thumbnail"), *crops

    def _placed(self, original: Size, canvas: Size) -> tuple[Size, tuple[int, int]]:
        """The size of the picture on a canvas, and where its left and top are."""
        if not self.padded:
            return canvas, (0, 0)
        scale = min(canvas[0] / original[0], canvas[1] / original[1])
        height, width = (max(int(side * scale), 1) for side in original)
        return (height, width), ((canvas[1] - width) // 2, (canvas[0] - height) // 2)

    def pieces(self, views: tuple[View, ...], grids: tuple[Grid, ...]) -> tuple[Tag | Features, ...]:
        """Each grid that the connector gives between its texts."""
        if not (self.begin or self.newline or self.end):
            return (in_order(grids),)
        found: list[Tag | Features] = []
        start = 0
        for grid in grids:
            rows = start + np.arange(grid.num_tokens).reshape(-1, grid.width)
            found.append(Tag(self.begin if start or not self.whole else self.whole))
            for row in rows:
                found += [Features(row), Tag(self.newline)]
            found.append(Tag(self.end))
            start += grid.num_tokens
        return tuple(piece for piece in found if not isinstance(piece, Tag) or piece.text)

    def at(self, tile: int) -> OverlapCrops:
        """Tiny encoders have two cells a side; crops then share nothing."""
        cell = min(self.cell, tile // 2)
        margin = min(self.margin, (tile // cell - 1) // 2)
        return self.but(crop=tile, cell=cell, margin=margin, most=min(self.most, 4))
