"""Boxes, descriptions and names with aliases are right to the degree that they should be."""

from __future__ import annotations

import pytest

from beholder.evals.judges import overlap, told
from beholder.evals.scoring import is_one_of, normalise
from beholder.media.plan import Box, View
from beholder.prompts.answers import PlainBoxes
from beholder.prompts.coordinates import Coordinates


@pytest.mark.parametrize(
    ("given", "right"),
    [
        ("[10,10,30,30]", 1),
        ("[10,10,30,50]", 1),
        ("[10,10,30,51]", 0),
        ("[40,40,60,60]", 0),
        ("left", 0),
        ("[1,2,3]", 0),
    ],
)
def test_boxes_that_share_half_of_what_both_cover_are_right(given: str, right: float) -> None:
    assert overlap(given, "[10,10,30,30]") == right


def test_descriptions_by_their_parts() -> None:
    wanted = "2 dogs, a tree and a cup on a red background"
    assert told(wanted, wanted, normalise) == 1
    assert told("two dogs on a red background", wanted, normalise) == pytest.approx(2 * 2 / (2 + 4))
    assert told("a cat", wanted, normalise) == 0 == told("", wanted, normalise)


def test_one_of_several_names_is_right() -> None:
    assert is_one_of("A puppy.", "dog | puppy") and not is_one_of("cat", "dog | puppy")


def test_plain_boxes_are_read_in_pixels_of_the_original() -> None:
    boxes = PlainBoxes(Coordinates("[{x0},{y0},{x1},{y1}]", between=", ", steps=100, digits=2))
    (region,) = boxes.read("It is at [10,20,50,60].", View((200, 400), (), Box(0, 0, 400, 200)))
    assert region.box == Box(40, 40, 200, 120) and region.label == ""
    assert not boxes.read("on the left", View((200, 400), (), Box(0, 0, 400, 200)))
