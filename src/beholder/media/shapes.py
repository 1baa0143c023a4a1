"""The whole picture in its own proportions: for detectors, so that boxes keep theirs, or in the middle of a square."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from beholder.errors import BeholderError, MediaError
from beholder.media.geometry import MAX_SQUARE, Geometry
from beholder.media.plan import Box, Size, View


@dataclass(frozen=True, kw_only=True)
class Whole(Geometry):
    """The shorter side is resized to `edge` pixels, or to fewer where the longer one would be more than `limit` (Faster R-CNN,
    GLIP; `GetImageBlob` and `maskrcnn_benchmark.data.transforms.Resize`). multiple: views are padded on the right and at the
    bottom to whole multiples of so many pixels, or squeezed to them where `squeezed` (official `ViltImageProcessor`). cut:
    pixels per side of a square that is cut out of the middle, 0 for none (official `BridgeTowerImageProcessor`).
    shortened: the longer side is rounded down (DETR, official `get_size_with_aspect_ratio`).
    """

    edge: int
    limit: int
    multiple: int = 1
    squeezed: bool = False
    cut: int = 0
    shortened: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.edge <= self.limit:
            raise BeholderError(f"edge {self.edge} and limit {self.limit}: the longer side needs more pixels")

    def views(self, original: Size) -> tuple[View, ...]:
        scale = min(self.edge / min(original), self.limit / max(original))
        height, width = (max(1, int(side * scale + 0.5)) for side in original)
        if self.shortened:
            height, width = self._shortened(original)
        if self.squeezed:
            height, width = (max(side // self.multiple, 1) * self.multiple for side in (height, width))
        if self.cut:
            top, left = ((side - self.cut) // 2 for side in (height, width))
            return (View(original, ((height, width),), Box(left, top, left + self.cut, top + self.cut)),)
        down, across = (-(-side // self.multiple) * self.multiple for side in (height, width))
        return (View(original, ((height, width),), Box(0, 0, across, down)),)

    def _shortened(self, original: Size) -> Size:
        """In the official order of operations, whose last digits decide at whole numbers."""
        least, most = min(original), max(original)
        edge: float = self.edge
        if most / least * self.edge > self.limit:
            edge = self.limit * float(least) / most
        height, width = original
        shorter = max(1, round(edge))
        if shorter == least:
            return original
        if width < height:
            return max(1, int(edge * height / width)), shorter
        return shorter, max(1, int(edge * width / height))

    def at(self, tile: int) -> Self:
        return self.but(edge=tile, limit=round(tile * self.limit / self.edge), cut=self.cut and tile)


@dataclass(frozen=True, kw_only=True)
class Near(Geometry):
    """One side is resized to that of `size`, whichever changes the picture less, and the other in proportion where it `keeps`
    them, else to its own; both to the nearest whole `cell` (official `DPTImageProcessor`).
    """

    size: Size
    cell: int = 1
    keeps: bool = False

    def views(self, original: Size) -> tuple[View, ...]:
        down, across = (wanted / side for wanted, side in zip(self.size, original, strict=True))
        if self.keeps:
            down = across = across if abs(1 - across) < abs(1 - down) else down
        height, width = (
            max(round(scale * side / self.cell), 1) * self.cell
            for scale, side in zip((down, across), original, strict=True)
        )
        return (View(original, ((height, width),), Box(0, 0, width, height)),)

    def at(self, tile: int) -> Self:
        return self.but(size=(tile, tile), cell=min(self.cell, tile))


@dataclass(frozen=True, kw_only=True)
class Cornered(Geometry):
    """The picture in the upper left corner of a square of the background colour, resized to `size` (official
    `Owlv2ImageProcessor`).
    """

    size: Size

    def views(self, original: Size) -> tuple[View, ...]:
        side = max(original)
        if side > MAX_SQUARE:
            raise MediaError(
                f"a picture of {original[1]} x {original[0]} pixels is too long for this system; scale it down to at "
                f"most {MAX_SQUARE} pixels a side"
            )
        crop = Box(0, 0, self.size[1], self.size[0])
        return (View(original, (self.size,), crop, frame=Box(0, 0, side, side)),)

    def at(self, tile: int) -> Self:
        return self.but(size=(tile, tile))


@dataclass(frozen=True, kw_only=True)
class Inside(Geometry):
    """The longer side is resized to `side` pixels, the shorter one to no less than `least`; the picture stands in the middle of
    a square of the background colour (official `DeepseekVLImageProcessor`). through: sides to which the longer one is resized
    before (official `DeepseekVLHybridImageProcessor`, which pads between the two, so that edges of the picture differ by a
    grey level or two).
    """

    side: int
    least: int = 14
    through: tuple[int, ...] = ()

    def views(self, original: Size) -> tuple[View, ...]:
        sizes, size = [], original
        for longer in (*self.through, self.side):
            scale = longer / max(size)
            size = max(round(size[0] * scale), self.least), max(round(size[1] * scale), self.least)
            sizes.append(size)
        top, left = ((self.side - shown) // 2 for shown in size)
        return (View(original, tuple(sizes), Box(-left, -top, self.side - left, self.side - top)),)

    def at(self, tile: int) -> Self:
        factor = tile / self.side
        return self.but(
            side=tile,
            least=min(self.least, tile),
            through=tuple(round(side * factor) for side in self.through),
        )
