"""Answers that name places: boxes between tokens, JSON and HTML. Places are read in pixels of the original picture."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html.parser import HTMLParser
from typing import Any

from beholder.errors import UnknownName
from beholder.media.plan import Box, View
from beholder.prompts.coordinates import Coordinates
from beholder.prompts.tasks import AnswerFormat, Region

UNITS = ("pixels", "thousandths")
PLAIN_TAGS = ("html", "body")


@dataclass(frozen=True)
class BoxTokens(AnswerFormat):
    """What is spoken of stands between the two tokens of `ref`, its boxes behind it as `boxes` writes them (Qwen-VL,
    2308.12966, section 3.1; Qwen2-VL).
    """

    boxes: Coordinates
    ref: tuple[str, str]

    def write(self, label: str, boxes: Sequence[Box], view: View) -> str:
        """A phrase with its boxes, in pixels of the original picture."""
        return self.ref[0] + label + self.ref[1] + self.boxes.write(boxes, view)

    def read(self, answer: str, view: View) -> tuple[Region, ...]:
        """Every box with the phrase before it; "" for one without."""
        start, end = (re.escape(mark) for mark in self.ref)
        found, label = [], ""
        for phrase, rest in re.findall(rf"(?:{start}(.*?){end}|^)(.*?)(?={start}|$)", answer, re.DOTALL):
            label = phrase.strip()
            found += [Region(label, box) for box in self.boxes.read(rest, view)]
        return tuple(found)


@dataclass(frozen=True)
class PlainBoxes(AnswerFormat):
    """Boxes among other words, as `boxes` writes them, of what was asked for."""

    boxes: Coordinates

    def read(self, answer: str, view: View) -> tuple[Region, ...]:
        """Every box, without a label."""
        return tuple(Region("", box) for box in self.boxes.read(answer, view))


@dataclass(frozen=True)
class JsonRegions(AnswerFormat):
    """Objects of JSON with a box or a point each: `[{"bbox_2d": [x0, y0, x1, y1], "label": ...}]` (Qwen2.5-VL, 2502.13923,
    section 2.2.1). unit: `pixels` of the view, or `thousandths` of its sides (Qwen3-VL). labels: the keys of what is there, the
    first that an object has.
    """

    unit: str = "pixels"
    box: str = "bbox_2d"
    point: str = "point_2d"
    labels: tuple[str, ...] = ("label", "text_content")

    def __post_init__(self) -> None:
        if self.unit not in UNITS:
            raise UnknownName("unit of places", self.unit, UNITS)

    def read(self, answer: str, view: View) -> tuple[Region, ...]:
        """Objects that are whole, whatever stands around them; an answer may be cut off in the middle of one."""
        found = []
        for item in json_objects(answer):
            label = next((str(item[key]) for key in self.labels if key in item), "")
            corners = self._points(item.get(self.box), 4, view)
            places = self._points(item.get(self.point), 2, view)
            if corners:
                found.append(Region(label, Box(*corners[0], *corners[1])))
            elif places:
                found.append(Region(label, point=places[0]))
        return tuple(found)

    def _points(self, numbers: Any, count: int, view: View) -> list[tuple[float, float]]:
        """Points of the original; none where `numbers` are not so many numbers."""
        if not _numbers(numbers, count):
            return []
        height, width = view.size if self.unit == "thousandths" else (1000, 1000)
        pairs = zip(numbers[::2], numbers[1::2], strict=True)
        return [view.to_original(x * width / 1000, y * height / 1000) for x, y in pairs]


@dataclass(frozen=True)
class HtmlRegions(AnswerFormat):
    """A page as HTML whose elements say where they are, in pixels of the view (Qwen2.5-VL, 2502.13923, section 2.1.1).
    attribute: holds left, top, right and bottom.
    """

    attribute: str = "data-bbox"

    def read(self, answer: str, view: View) -> tuple[Region, ...]:
        """Elements with a place, in the order they begin: the class or tag as label, and the words inside."""
        page = _Page(self.attribute)
        page.feed(answer)
        page.close()
        found = []
        for element in page.found:
            x0, y0, x1, y1 = element.box
            box = Box(*view.to_original(x0, y0), *view.to_original(x1, y1))
            found.append(Region(element.label, box, text=" ".join("".join(element.words).split())))
        return tuple(found)


@dataclass(frozen=True)
class Actions(AnswerFormat):
    """What to do on a screen that is seen as the picture: calls of `tools` in JSON, of an `action` each, at `points` in pixels
    of the view (Qwen2.5-VL, 2502.13923, section 2.2.1; QwenLM/Qwen2.5-VL cookbooks/utils/agent_function_call.py), or in words
    such as `click(120, 340)`. names: the actions there are; others are left out.
    """

    names: tuple[str, ...]
    tools: tuple[str, ...] = ("computer_use", "mobile_use")
    points: tuple[str, ...] = ("coordinate", "coordinate2")

    def read(self, answer: str, view: View) -> tuple[Region, ...]:
        """Actions in order: the name as label, where it is done as point, a way from there to elsewhere as polygon, and what
        else is said of it (keys, words to type, a direction) as text.
        """
        calls = [item for item in json_objects(answer) if item.get("name") in self.tools]
        found = [self._called(call.get("arguments"), view) for call in calls]
        if not calls:
            spoken = re.findall(r"(\w+)\(([^()]*)\)", answer)
            found = [self._spoken(name, given, view) for name, given in spoken]
        return tuple(action for action in found if action is not None)

    def _called(self, given: Any, view: View) -> Region | None:
        if not isinstance(given, dict) or given.get("action") not in self.names:
            return None
        places = [given[key] for key in self.points if key in given]
        if not all(_numbers(place, 2) for place in places):
            return None
        rest = [value for key, value in given.items() if key not in ("action", *self.points)]
        words = " ".join("+".join(value) if _words(value) else str(value) for value in rest)
        return self._action(given["action"], [(x, y) for x, y in places], words, view)

    def _spoken(self, name: str, given: str, view: View) -> Region | None:
        if name not in self.names:
            return None
        numbers = [float(number) for number in re.findall(r"-?\d+(?:\.\d+)?", given)]
        quoted = re.findall(r"""['"]([^'"]*)['"]""", given)
        if quoted or len(numbers) not in (2, 4):
            return self._action(name, [], " ".join(quoted) or given.strip(), view)
        return self._action(name, list(zip(numbers[::2], numbers[1::2], strict=True)), "", view)

    def _action(self, name: str, places: Sequence[tuple[float, float]], words: str, view: View) -> Region:
        points = tuple(view.to_original(x, y) for x, y in places)
        way = (points,) if len(points) > 1 else ()
        return Region(name, polygons=way, point=points[0] if points else None, text=words)


def _numbers(value: Any, count: int) -> bool:
    """Whether `value` is a list of so many numbers."""
    return (
        isinstance(value, list)
        and len(value) == count
        and all(isinstance(number, (int, float)) and not isinstance(number, bool) for number in value)
    )


def _words(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(word, str) for word in value)


@dataclass
class _Element:
    tag: str
    label: str
    box: tuple[float, ...]
    words: list[str]


class _Page(HTMLParser):
    """Collects elements that have a place, with the words inside them."""

    def __init__(self, attribute: str) -> None:
        super().__init__()
        self.attribute = attribute
        self.found: list[_Element] = []
        self.open: list[_Element | str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in PLAIN_TAGS:
            return
        given = {key: value or "" for key, value in attrs}
        numbers = re.findall(r"-?\d+(?:\.\d+)?", given.get(self.attribute, ""))
        element: _Element | str = tag
        if len(numbers) == 4:
            element = _Element(tag, given.get("class") or tag, tuple(map(float, numbers)), [])
            self.found.append(element)
        if tag not in ("img", "br", "hr"):
            self.open.append(element)

    def handle_endtag(self, tag: str) -> None:
        names = [element if isinstance(element, str) else element.tag for element in self.open]
        if tag in names:  # a tag left open inside ends with the one around it
            del self.open[len(names) - 1 - names[::-1].index(tag) :]

    def handle_data(self, data: str) -> None:
        for element in self.open:
            if isinstance(element, _Element):
                element.words.append(data)


def json_objects(text: str) -> Iterator[dict[str, Any]]:
    """The outermost objects of JSON in a text, whatever stands around them, that are whole."""
    decoder, start = json.JSONDecoder(), text.find("{")
    while start >= 0:
        try:
            found, stop = decoder.raw_decode(text, start)
        except json.JSONDecodeError:
            stop = start + 1
        else:
            yield found
        start = text.find("{", stop)
