"""The picture in slices of its own proportions, or in tiles of a grid that fits it, beside the whole of it.

Rows come before columns in every pair of numbers.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from beholder.errors import BeholderError
from beholder.media.geometry import Geometry
from beholder.media.plan import Box, Features, Grid, Size, Tag, View, in_order


@dataclass(frozen=True, kw_only=True)
class Slices(Geometry):
    """A picture larger than a square of `side` pixels is also seen in up to `most` slices, each of about that area and about
    as long for its height as the picture gives (LLaVA-UHD, 2403.11703, section 3.2; official `slice_image` of MiniCPM-V).

    cell:   sides of all views are multiples of so many pixels
    down:   sides are rounded down to cells, not to the nearest (LLaVA-UHD's own code)
    last:   the whole picture comes behind its slices
    longest: pixels of the longer side that a picture counts as having, whatever it has
    whole, slice, slices: text before and after the whole picture, each slice, and all of them
    column, row: text between slices of a row, and between rows (the spatial schema); end: behind the last slice
    """

    side: int
    most: int = 9
    cell: int = 14
    down: bool = False
    last: bool = False
    longest: int | None = None
    whole: tuple[str, str] = ("", "")
    slice: tuple[str, str] = ("", "")
    slices: tuple[str, str] = ("", "")
    column: str = ""
    row: str = "\n"
    end: str = ""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.most < 1 or self.side < self.cell:
            raise BeholderError(
                f"up to {self.most} slices of {self.side} pixels in cells of {self.cell}; give at least one slice of one cell"
            )

    def grid(self, original: Size) -> tuple[int, int]:
        """Rows and columns of slices, (1, 1) for none: of as many slices as the area asks for, one fewer or one more, the
        grid whose proportions are nearest in their logarithm.
        """
        height, width = self._counted(original)
        ideal = min(math.ceil(width * height / self.side**2), self.most)
        if ideal <= 1:
            return 1, 1
        counts = [n for n in (ideal - 1, ideal, ideal + 1) if 1 < n <= self.most]
        grids = [(n // columns, columns) for n in counts for columns in range(1, n + 1) if n % columns == 0]
        return min(grids, key=lambda grid: abs(math.log(width / height) - math.log(grid[1] / grid[0])))

    def views(self, original: Size) -> tuple[View, ...]:
        rows, columns = self.grid(original)
        alone = rows * columns == 1
        counted = self._counted(original)
        size = self._fitted(counted, grow=alone)
        whole = View(original, (size,), Box(0, 0, size[1], size[0]), role="thumbnail")
        if alone:
            return (whole,)
        share = tuple(
            max(self._rounded(side / n) * n, n) / n for side, n in zip(counted, (rows, columns), strict=True)
        )
        height, width = self._fitted((share[0], share[1]), grow=True)
        stretched = (height * rows, width * columns)
        corners = [(row * height, column * width) for row in range(rows) for column in range(columns)]
        slices = tuple(
            View(original, (stretched,), Box(left, top, left + width, top + height), role="tile")
            for top, left in corners
        )
        return (*slices, whole) if self.last else (whole, *slices)

    def _counted(self, original: Size) -> Size:
        """The picture's size, its longer side `longest`."""
        if self.longest is None:
            return original
        share, longer = self.longest / max(original), original.index(max(original))
        height, width = (
            int(share * side) if n != longer else self.longest for n, side in enumerate(original)
        )
        return max(height, 1), max(width, 1)

    def _fitted(self, size: tuple[float, float], *, grow: bool) -> Size:
        """The size of the view, of the area of a square of `side` where it is larger, or smaller and may `grow`."""
        height, width = size
        if grow or width * height > self.side**2:
            ratio = width / height
            height = int(self.side / math.sqrt(ratio))
            width = int(height * ratio)
        sides = (max(self._rounded(side / self.cell) * self.cell, self.cell) for side in (height, width))
        return next(sides), next(sides)

    def _rounded(self, number: float) -> int:
        return math.floor(number) if self.down else round(number)

    def pieces(self, views: tuple[View, ...], grids: tuple[Grid, ...]) -> tuple[Tag | Features, ...]:
        """The whole picture, and its slices row by row, with the text of the schema."""
        runs = _runs(grids)
        of_whole = -1 if self.last else 0
        whole = (Tag(self.whole[0]), runs.pop(of_whole), Tag(self.whole[1]))
        columns = self.grid(views[0].original)[1]
        found: list[Tag | Features] = [Tag(self.slices[0])]
        for number, run in enumerate(runs):
            between = "" if number == 0 else self.row if number % columns == 0 else self.column
            found += [Tag(between + self.slice[0]), run, Tag(self.slice[1])]
        found += [Tag(self.end + self.slices[1])]
        sliced = found if runs else []
        return _said(*sliced, *whole) if self.last else _said(*whole, *sliced)

    def at(self, tile: int) -> Slices:
        """Views of about `tile` pixels per side, two cells or more."""
        return self.but(side=tile, cell=min(self.cell, tile // 2), most=min(self.most, 4))


@dataclass(frozen=True, kw_only=True)
class Anchors(Geometry):
    """The picture squeezed to the one of `grids` of tiles that it overlaps most, in shape before size, cut into tiles in
    raster order behind the whole of it (UReader, 2310.05126, section 3.1; official `DocNewMultiScaleSFTProcessor`).
    """

    tile: int
    grids: tuple[tuple[int, int], ...]

    def grid(self, original: Size) -> tuple[int, int]:
        """Rows and columns of tiles; of equally good ones the first."""
        return max(self.grids, key=self._merit(original))

    def _merit(self, original: Size) -> Callable[[tuple[int, int]], float]:
        """100 times the overlap with the picture scaled to the same width, and the overlap as it is."""
        height, width = original

        def merit(grid: tuple[int, int]) -> float:
            down, across = grid[0] * self.tile, grid[1] * self.tile
            scaled = height / width * across
            return 100 * _overlap((down, across), (scaled, across)) + _overlap(
                (down, across), (height, width)
            )

        return merit

    def views(self, original: Size) -> tuple[View, ...]:
        rows, columns = self.grid(original)
        whole = View(original, ((self.tile, self.tile),), Box(0, 0, self.tile, self.tile), role="thumbnail")
        return whole, *tiles_of(original, self.tile, rows, columns)

    def at(self, tile: int) -> Anchors:
        return self.but(tile=tile)


@dataclass(frozen=True, kw_only=True)
class Cut(Geometry):
    """The picture squeezed to `rows` times `columns` tiles, whatever its proportions, cut into them in raster order, and the
    whole of it as one tile more: before them, or with `last` behind them and made of the squeezed one (Monkey, 2311.06607,
    section 3.1; MM1, 2403.09611, section 5).
    """

    tile: int
    rows: int = 2
    columns: int = 2
    last: bool = False

    def views(self, original: Size) -> tuple[View, ...]:
        tile = (self.tile, self.tile)
        squeezed = (self.rows * self.tile, self.columns * self.tile)
        resizes = (squeezed, tile) if self.last else (tile,)
        whole = View(original, resizes, Box(0, 0, self.tile, self.tile), role="thumbnail")
        tiles = tiles_of(original, self.tile, self.rows, self.columns)
        return (*tiles, whole) if self.last else (whole, *tiles)

    def at(self, tile: int) -> Cut:
        return self.but(tile=tile)


@dataclass(frozen=True, kw_only=True)
class Bounded(Geometry):
    """The picture in its own proportions, scaled down to a longer side of at most `longest` pixels, then squeezed up to
    at least `shortest` each way (Idefics2, 2405.02246, section 3; official `Idefics2ImageProcessor`).

    cell:   sides are cut to multiples of so many pixels, which is what the encoder sees of them
    splits: the four quarters come before the picture, each of them scaled so
    around: text before and after each view, written once between two
    """

    shortest: int = 378
    longest: int = 980
    cell: int = 14
    splits: bool = False
    filter: str = "bilinear"
    around: str = "<fake_token_around_image>"

    def views(self, original: Size) -> tuple[View, ...]:
        height, width = original
        whole = Box(0, 0, width, height)
        frames = [whole]
        if self.splits and min(original) > 1:
            y, x = height // 2, width // 2
            corners = ((0, 0, x, y), (x, 0, width, y), (0, y, x, height), (x, y, width, height))
            frames = [*(Box(*corner) for corner in corners), whole]
        return tuple(self._view(original, frame, whole=frame is whole) for frame in frames)

    def _view(self, original: Size, frame: Box, *, whole: bool) -> View:
        height, width = size = self._fitted(frame.size)
        crop = Box(0, 0, width // self.cell * self.cell, height // self.cell * self.cell)
        return View(
            original, (size,), crop, role="image" if whole else "tile", frame=None if whole else frame
        )

    def _fitted(self, size: Size) -> Size:
        height, width = size
        ratio = width / height
        if width >= height and width > self.longest:
            height, width = int(self.longest / ratio), self.longest
        elif height > width and height > self.longest:
            height, width = self.longest, int(self.longest * ratio)
        return max(height, self.shortest), max(width, self.shortest)

    def pieces(self, views: tuple[View, ...], grids: tuple[Grid, ...]) -> tuple[Tag | Features, ...]:
        """Every view's features behind the text around."""
        runs = [piece for run in _runs(grids) for piece in (Tag(self.around), run)]
        return _said(*runs, Tag(self.around))

    def at(self, tile: int) -> Bounded:
        return self.but(shortest=min(self.shortest, tile // 2), longest=tile, cell=min(self.cell, tile // 2))


def tiles_of(original: Size, tile: int, rows: int, columns: int) -> tuple[View, ...]:
    """The picture squeezed to so many tiles, in raster order."""
    squeezed = (rows * tile, columns * tile)
    corners = [(row * tile, column * tile) for row in range(rows) for column in range(columns)]
    return tuple(
        View(original, (squeezed,), Box(left, top, left + tile, top + tile), role="tile")
        for top, left in corners
    )


def place(view: View) -> tuple[int, int]:
    """The row and the column of a tile or slice in the grid that it was cut from, from 0."""
    height, width = view.size
    return round(view.crop.top / height), round(view.crop.left / width)


def _overlap(first: tuple[float, float], second: tuple[float, float]) -> float:
    """Intersection over union of two boxes with one corner in common."""
    both = min(first[0], second[0]) * min(first[1], second[1])
    return both / (first[0] * first[1] + second[0] * second[1] - both)


def _runs(grids: tuple[Grid, ...]) -> list[Features]:
    """The tokens of each view."""
    orders = np.split(in_order(grids).order, np.cumsum([grid.num_tokens for grid in grids])[:-1])
    return [Features(order) for order in orders]


def _said(*pieces: Tag | Features) -> tuple[Tag | Features, ...]:
    """Without empty texts."""
    return tuple(piece for piece in pieces if isinstance(piece, Features) or piece.text)
