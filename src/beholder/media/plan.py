"""The media plan: what every picture becomes, computed from sizes alone before anything runs.

A picture gives one or more *views* (the pixels an encoder sees) and *pieces* (what stands in the prompt for
it: tags of text and runs of feature tokens). Training, answering, cost and drawing read the same plan, so
counts cannot disagree.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

Size = tuple[int, int]  # (height, width) in pixels


class Grid(NamedTuple):
    """Layout of a view's tokens in raster order: frames, rows, columns."""

    frames: int
    height: int
    width: int

    @property
    def num_tokens(self) -> int:
        return self.frames * self.height * self.width


@dataclass(frozen=True)
class Exact:
    """A token count that follows from sizes."""

    count: int


@dataclass(frozen=True)
class AtMost:
    """An upper bound for a compressor whose count depends on content."""

    count: int


class Box(NamedTuple):
    """A rectangle in pixels, left and top inclusive, right and bottom exclusive."""

    left: float
    top: float
    right: float
    bottom: float

    @property
    def size(self) -> Size:
        """(height, width) in whole pixels."""
        return round(self.bottom - self.top), round(self.right - self.left)


@dataclass(frozen=True)
class View:
    """One picture as an encoder sees it.

    original: (height, width) of the upright original
    resizes:  sizes (height, width) the framed picture is resized to, one after the other; the official
              processors of some systems resample more than once, and equal pixels need the same chain
    crop:     the part of the last resize that is shown, in whole pixels; what lies outside the picture is padding
    role:     image | thumbnail | tile, or sound, whose pixels are rows and columns of a spectrogram or waveform; a fusion may
              route views by it
    frame:    the part of the original that is resized, in whole pixels; what lies outside it is padding. None is all
    numbers:  which frames of a recording it shows, counted from 0 among those that are looked at: one as a picture
              (3, h, w), several as a run (3, frames, h, w); () for a picture
    encoder:  the number of the one encoder of its branch that looks at it; None: all do
    spare:    by how many cells it falls short of what the encoder is filled up to, where padding is read
    """

    original: Size
    resizes: tuple[Size, ...]
    crop: Box
    role: str = "image"
    frame: Box | None = None
    numbers: tuple[int, ...] = ()
    encoder: int | None = None
    spare: int = 0

    @property
    def size(self) -> Size:
        """(height, width) of the pixels given to the encoder."""
        return self.crop.size

    @property
    def filled(self) -> int:
        """How many of its columns, from the first on, show the original."""
        return min(round(self.crop.right), self.resized[1]) - round(self.crop.left)

    @property
    def framed(self) -> Box:
        """The frame, in pixels of the original; the whole original where none is set."""
        return self.frame or Box(0, 0, self.original[1], self.original[0])

    @property
    def resized(self) -> Size:
        """(height, width) of the framed picture at the scale of the view."""
        return self.resizes[-1] if self.resizes else self.framed.size

    def to_original(self, x: float, y: float) -> tuple[float, float]:
        """The point of the original at point (x, y) of the view, both in pixels."""
        sy, sx = self._scale()
        return (x + self.crop.left) / sx + self.framed.left, (y + self.crop.top) / sy + self.framed.top

    def from_original(self, x: float, y: float) -> tuple[float, float]:
        """The point of the view at point (x, y) of the original, both in pixels."""
        sy, sx = self._scale()
        return (x - self.framed.left) * sx - self.crop.left, (y - self.framed.top) * sy - self.crop.top

    def box_on_original(self, shares: Sequence[float]) -> Box:
        """A box in shares of the view's width and height (left, top, right, bottom) in pixels of the original, inside it."""
        height, width = self.size
        left, top = self.to_original(shares[0] * width, shares[1] * height)
        right, bottom = self.to_original(shares[2] * width, shares[3] * height)
        bottom_most, right_most = self.original
        return Box(
            *(min(max(x, 0.0), float(limit)) for x, limit in ((left, right_most), (top, bottom_most))),
            *(min(max(x, 0.0), float(limit)) for x, limit in ((right, right_most), (bottom, bottom_most))),
        )

    def _scale(self) -> tuple[float, float]:
        """Pixels of the view per pixel of the original, down and across."""
        height, width = self.framed.size
        return self.resized[0] / height, self.resized[1] / width


@dataclass(frozen=True)
class Tag:
    """Text the system puts around or between features, such as `<row_1_col_2>`; may spell special tokens."""

    text: str


NEWLINE = -1  # in Features.order: the learned row-break embedding


@dataclass(frozen=True, eq=False)
class Features:
    """A run of feature tokens. `order` indexes the connector's tokens of all views of this picture, one after
    the other; `NEWLINE` stands for the learned row break.
    """

    order: np.ndarray

    @property
    def num_tokens(self) -> int:
        return len(self.order)


@dataclass(frozen=True, eq=False)
class Media(Features):
    """A run of `placeholders` tokens that stands for the features in `order`: they are attended to from there on and take
    no place in the sequence themselves (Flamingo, 2204.14198).
    """

    placeholders: int = 1

    @property
    def num_tokens(self) -> int:
        return self.placeholders


@dataclass(frozen=True, eq=False)
class PicturePlan:
    """What one picture or recording becomes in one branch. `grids` are the connector's output grids, one per view unless it
    reads views together. times: seconds of each frame of a recording that is looked at; () for a picture.
    """

    branch: str
    original: Size
    views: tuple[View, ...]
    grids: tuple[Grid, ...]
    pieces: tuple[Tag | Features, ...]
    times: tuple[float, ...] = ()

    @property
    def num_tokens(self) -> int:
        """Feature tokens in the prompt; tags are counted when the prompt is tokenized."""
        return sum(piece.num_tokens for piece in self.pieces if isinstance(piece, Features))


def in_order(grids: tuple[Grid, ...]) -> Features:
    """All tokens of all views, in raster order, no row breaks."""
    return Features(np.arange(sum(grid.num_tokens for grid in grids)))
