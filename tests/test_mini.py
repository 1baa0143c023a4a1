"""The embedded default with its real weights: `pytest -m published`, after `beholder pull mini`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from beholder.pipeline import Pipeline, load

pytestmark = pytest.mark.published


@pytest.fixture(scope="module")
def mini() -> Pipeline:
    return load("mini")


def test_the_language_model_knows_what_it_knew(mini: Pipeline) -> None:
    """What was trained for pictures has not cost the base model its words."""
    assert "paris" in mini.ask(None, "What is the capital of France?", max_tokens=30).lower()


@pytest.mark.parametrize(
    ("name", "rgb"), [("red", (220, 20, 20)), ("blue", (30, 60, 220)), ("green", (20, 160, 40))]
)
def test_a_plain_background_is_named(mini: Pipeline, name: str, rgb: tuple[int, int, int]) -> None:
    pixels = np.full((224, 224, 3), rgb, np.uint8)
    pixels[80:140, 80:140] = 245
    assert name in mini.ask(pixels, "What colour is the background?", max_tokens=8).lower()


def test_a_thing_on_one_side_is_pointed_to(mini: Pipeline) -> None:
    """A shape of easy-VQA's kind, on the right: where it is, and the box around it."""
    pixels = np.full((224, 224, 3), 245, np.uint8)
    pixels[70:150, 130:210] = (255, 0, 0)
    assert "right" in mini.ask(pixels, "Where is the rectangle?", max_tokens=8).lower()
    (region, *_) = mini.do(pixels, "point", "rectangle").boxes
    box = region.box
    shared = max(0, min(box.right, 210) - max(box.left, 130)) * max(
        0, min(box.bottom, 150) - max(box.top, 70)
    )
    area = (box.right - box.left) * (box.bottom - box.top)
    assert shared > 0.4 * (area + 80 * 80 - shared)


def test_answers_are_words_and_repeat(mini: Pipeline, samples: Path) -> None:
    first, again = (
        mini.ask(samples / "cat.jpg", "What is in this picture?", max_tokens=20) for _ in range(2)
    )
    assert first == again and any(letter.isalpha() for letter in first)
    assert first.usage.image == 49
