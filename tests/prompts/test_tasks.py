"""Tasks of fixed prompts, and answers read back to pixels."""

from __future__ import annotations

import pytest

from beholder.errors import BeholderError, UnknownName
from beholder.media.geometry import Fixed
from beholder.media.plan import Box
from beholder.prompts.messages import Regions, Text
from beholder.prompts.tasks import FLORENCE_2, PALI, Locations, Task, task_of

VIEW = Fixed(size=(768, 768)).views((400, 640))[0]


def places(*steps: int) -> str:
    return "".join(f"<loc_{step}>" for step in steps)


def middle(*steps: int) -> tuple[float, ...]:
    """Middles of steps of a thousandth of 640 and 400 pixels in turn."""
    return tuple((step + 0.5) * (0.64, 0.4)[i % 2] for i, step in enumerate(steps))


@pytest.mark.parametrize("fit", ["stretch", "crop", "pad"])
@pytest.mark.parametrize("original", [(400, 640), (900, 300), (768, 768), (1000, 999)])
@pytest.mark.parametrize("locations", [Locations(), Locations("<loc{:0>4}>", 1024, rows_first=True)])
def test_boxes_survive_any_plan(fit: str, original: tuple[int, int], locations: Locations) -> None:
    view = Fixed(size=(448, 448), fit=fit).views(original)[0]
    left, top = view.to_original(3, 5)
    right, bottom = view.to_original(440, 437)
    box = Box(left + 0.3, top + 0.7, right - 0.1, bottom - 0.9)
    (first, last) = locations.read(locations.write_box(box, view), view)
    assert all(abs(a - b) < 1 for a, b in zip((*first, *last), box, strict=True))


def test_rows_may_come_first() -> None:
    locations = Locations(rows_first=True)
    assert locations.write([(320, 100)], VIEW) == places(250, 500)
    assert locations.read(places(250, 500), VIEW)[0] == pytest.approx((0.5005 * 640, 0.2505 * 400))


def test_boxes_have_labels() -> None:
    answer = f"</s><s>cat{places(10, 20, 300, 400)}{places(0, 1, 2, 3)}red car {places(5, 6, 7, 8)}</s>"
    found = task_of(FLORENCE_2, "<OD>").read(answer, VIEW)
    assert [region.label for region in found] == ["cat", "cat", "red car"]
    assert found[0].box == pytest.approx(middle(10, 20, 300, 400))
    assert not task_of(FLORENCE_2, "<CAPTION>").read(answer, VIEW)


def test_labels_may_stand_behind_boxes() -> None:
    task = task_of(PALI, "detect")
    answer = "<loc0010><loc0020><loc0300><loc0400> cat ; <loc0001><loc0002><loc0003><loc0004> red car"
    first, second = task.read(answer, VIEW)
    assert (first.label, second.label) == ("cat", "red car")
    assert first.box == pytest.approx(
        (20.5 * 640 / 1024, 10.5 * 400 / 1024, 400.5 * 640 / 1024, 300.5 * 400 / 1024)
    )
    assert task.parts("cat ; dog") == [Text("detect cat ; dog")]


def test_proposals_have_none() -> None:
    found = task_of(FLORENCE_2, "<REGION_PROPOSAL>").read(places(1, 2, 3, 4, 5, 6, 7, 8), VIEW)
    assert [region.label for region in found] == ["", ""]
    assert found[1].box == pytest.approx(middle(5, 6, 7, 8))


def test_words_that_name_nothing_are_no_phrases() -> None:
    answer = f"the{places(1, 2, 3, 4)}a dog{places(5, 6, 7, 8)}it{places(1, 2, 3, 4)}"
    found = task_of(FLORENCE_2, "<CAPTION_TO_PHRASE_GROUNDING>").read(answer, VIEW)
    assert [region.label for region in found] == ["a dog"]


def test_lines_of_text_have_four_corners() -> None:
    answer = f"HELLO{places(*range(8))} you{places(*range(8, 16))}"
    found = task_of(FLORENCE_2, "<OCR_WITH_REGION>").read(answer, VIEW)
    assert [(region.label, len(region.quad)) for region in found] == [("HELLO", 4), ("you", 4)]
    assert found[1].quad[3] == pytest.approx(middle(14, 15))


def test_polygons_of_one_and_of_several_things() -> None:
    task = task_of(FLORENCE_2, "<REFERRING_EXPRESSION_SEGMENTATION>")
    (one,) = task.read(f"{places(*range(8))}<sep>{places(*range(7))}", VIEW)
    assert [len(polygon) for polygon in one.polygons] == [4, 3]  # a token without a partner is left out
    several = task.read(f"<poly>{places(*range(6))}</poly><poly>{places(*range(8))}</poly>", VIEW)
    assert [len(region.polygons[0]) for region in several] == [3, 4]
    either = task_of(FLORENCE_2, "<OPEN_VOCABULARY_DETECTION>")
    assert either.read(f"car<poly>{places(*range(8))}</poly>", VIEW)[0].polygons
    assert either.read(f"car{places(*range(4))}", VIEW)[0].box


def test_prompts_take_what_they_name() -> None:
    box = Box(1, 2, 3, 4)
    assert task_of(FLORENCE_2, "<CAPTION>").parts() == [Text("What does the image describe?")]
    assert task_of(FLORENCE_2, "<OPEN_VOCABULARY_DETECTION>").parts("a car") == [
        Text("Locate a car in the image.")
    ]
    parts = task_of(FLORENCE_2, "<REGION_TO_OCR>").parts(region=box)
    assert parts == [Text("What text is in the region "), Regions((box,)), Text("?")]
    assert len(FLORENCE_2) == len({task.prompt for task in FLORENCE_2}) == 15
    with pytest.raises(BeholderError, match="needs a text"):
        task_of(FLORENCE_2, "<OPEN_VOCABULARY_DETECTION>").parts()
    with pytest.raises(BeholderError, match="takes no region"):
        task_of(FLORENCE_2, "<OD>").parts(region=box)
    with pytest.raises(UnknownName, match="<OD>"):
        task_of(FLORENCE_2, "<ODD>")
    with pytest.raises(BeholderError, match="set locations"):
        Task("x", "y", "boxes")
