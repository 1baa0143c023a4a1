"""Boxes as words of an answer or a question: plain numbers, and what stands around them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from beholder.config import Config
from beholder.errors import BeholderError
from beholder.media.plan import Box, View
from beholder.media.regions import Region

NAMES = ("x0", "y0", "x1", "y1")


@dataclass(frozen=True)
class Coordinates(Config):
    """box: one box's text, with {x0}, {y0}, {x1} and {y1}; "" where regions have no numbers. start, between, end: around and
    between boxes. point: one point's text with {x} and {y}, inside the same start and end; "": written as a box.
    mark: what stands behind each region's numbers where its features stand in the prompt too: {features} in it is `feature`, a
    control token or several that the features take the place of, as often as a region needs it. pointers: what an answer has
    instead, where a head reads the token's state: for a region that is a mask, and for another; "" for what no head reads.

    steps: numbers count so many steps over the view's width and height, the last one being steps - 1; with None they count
    runs of `pixels` of the view. digits: numbers are filled up to so many with zeros. decimals: numbers are shares of the
    view's sides instead, from 0 to 1 with so many decimals. inclusive: the far edge has a number of its own, `steps`.
    """

    box: str = "{x0},{y0},{x1},{y1}"
    start: str = ""
    between: str = ";"
    end: str = ""
    steps: int | None = 1000
    pixels: int = 1
    digits: int = 1
    decimals: int = 0
    point: str = ""
    mark: str = ""
    feature: str = ""
    inclusive: bool = False
    pointers: tuple[str, str] = ("", "")

    def __post_init__(self) -> None:
        if self.box and sorted(re.findall(r"{(\w+)}", self.box)) != sorted(NAMES):
            raise BeholderError(
                f"the text of a box is {self.box!r}; it needs {{x0}}, {{y0}}, {{x1}} and {{y1}}"
            )

    def write(self, boxes: Sequence[Box], view: View) -> str:
        """The boxes, given in pixels of the original picture, as the model reads them of this view."""
        return self.start + self.between.join(self._box(box, view) for box in boxes) + self.end

    def _box(self, box: Box, view: View) -> str:
        corners = (*view.from_original(box.left, box.top), *view.from_original(box.right, box.bottom))
        numbers = (self._number(value, side) for value, side in zip(corners, self._sides(view), strict=True))
        return self.box.format_map(dict(zip(NAMES, numbers, strict=True)))

    def write_regions(self, regions: Sequence[Region], view: View, counts: Sequence[int] = ()) -> str:
        """Regions in pixels of the original picture. counts: how often each one's `feature` stands, once where ()."""
        if not self.mark:
            return self.start + self.between.join(self._shape(region, view) for region in regions) + self.end
        return self.between.join(
            (self.start + self._shape(region, view) + self.end if self.box else "")
            + self.mark.replace("{features}", self.feature * count)
            for region, count in zip(regions, counts or (1,) * len(regions), strict=True)
        )

    @property
    def answers_have_features(self) -> bool:
        """Whether features of regions stand in answers too, as nothing else tells there which are meant (CoVLM)."""
        return not self.box and not any(self.pointers)

    def write_answer(self, regions: Sequence[Region], view: View, counts: Sequence[int] = ()) -> str:
        """Regions as an answer has them. Raises `BeholderError` for a kind that no head reads."""
        if self.answers_have_features:
            return self.write_regions(regions, view, counts)
        if not any(self.pointers):
            return self.start + self.between.join(self._shape(region, view) for region in regions) + self.end
        tokens = [self.pointers[region.mask is None] for region in regions]
        if not all(tokens):
            wanted = "masks" if self.pointers[0] else "boxes or points"
            raise BeholderError(f"answers of this system point to {wanted} alone; give regions of that kind")
        return self.between.join(tokens)

    def _shape(self, region: Region, view: View) -> str:
        """A point as one where there are words for it, anything else as the box around it."""
        if not (self.point and region.box is None and region.mask is None):
            return self._box(region.bounds(), view)
        ((x, y),) = region.points
        x, y = view.from_original(x, y)
        height, width = view.size
        return self.point.format(x=self._number(x, width), y=self._number(y, height))

    def read(self, text: str, view: View) -> list[Box]:
        """All boxes that a model has written of this view, in pixels of the original picture."""
        number = re.escape(self.box)
        for name in NAMES:
            number = number.replace(re.escape(f"{{{name}}}"), rf"\s*(?P<{name}>\d+(?:\.\d*)?)")
        found = []
        for run in (
            re.findall(f"{re.escape(self.start)}(.*?){re.escape(self.end)}", text) if self.end else [text]
        ):
            for match in re.finditer(number.replace(r"\ ", r"\s*"), run):
                x0, y0, x1, y1 = (
                    float(match[name]) * self._unit(side)
                    for name, side in zip(NAMES, self._sides(view), strict=True)
                )
                found.append(Box(*view.to_original(x0, y0), *view.to_original(x1, y1)))
        return found

    def _sides(self, view: View) -> tuple[int, int, int, int]:
        """Over what each of the four numbers counts."""
        height, width = view.size
        return width, height, width, height

    def _unit(self, side: int) -> float:
        """Pixels of the view in a number's unit."""
        if self.decimals:
            return side
        return self.pixels if self.steps is None else side / self.steps

    def _number(self, value: float, side: int) -> str:
        if self.decimals:
            return f"{value / side:.{self.decimals}f}"
        if self.steps is None:
            return str(round(value / self.pixels)).zfill(self.digits)
        last = self.steps if self.inclusive else self.steps - 1
        return str(min(max(int(value / side * self.steps), 0), last)).zfill(self.digits)
