"""What composed scenes and easy-VQA's pictures are known to show agrees with their pixels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from beholder.data import Scenes
from beholder.data.canvas import TEXT
from beholder.data.truth import SEVERAL, of_shape, truth_of
from tests.data.test_scenes import write_cutouts

WHITE, RED = (250, 250, 250), (255, 0, 0)


@pytest.fixture
def scenes(tmp_path: Path) -> Scenes:
    write_cutouts(tmp_path, marked="dog")
    return Scenes(tmp_path, seed=4)


def test_boxes_are_around_what_is_drawn(scenes: Scenes) -> None:
    """Discs of a colour that nothing else has: the box of those pixels is the thing's."""
    checked = 0
    for index in range(120):
        sample = scenes[index]
        dogs = [thing for thing in truth_of(sample, scenes.concepts).things if thing.name == "dog"]
        if len(dogs) != 1:
            continue
        red, green, blue = np.moveaxis(sample.pixels.astype(int), -1, 0)
        marked_HW = (red > 200) & (green < 60) & (blue > 200)
        rows, columns = (np.flatnonzero(marked_HW.any(axis)) for axis in (1, 0))
        if not len(rows):
            continue
        edges = np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]) / len(sample.pixels)
        assert np.abs(edges - dogs[0].box).max() < 0.03
        assert dogs[0].kind == "tool" and dogs[0].colour == SEVERAL
        checked += 1
    assert checked > 5


def test_a_written_word_has_its_letters_and_a_box(tmp_path: Path) -> None:
    write_cutouts(tmp_path)
    scenes = Scenes(tmp_path, odds=(0, 0, 0, 1))
    for index in range(10):
        sample = scenes[index]
        truth = truth_of(sample, scenes.concepts)
        (box,) = (thing.box for thing in truth.things if thing.name == TEXT)
        assert truth.word == next(turn.answer for turn in sample.turns if turn.task == "reading")
        assert len(truth.centres) == len(truth.word) and list(truth.centres) == sorted(truth.centres)
        assert 0 <= box[0] < box[2] <= 1 and 0 <= box[1] < box[3] <= 1


@pytest.mark.parametrize("name", ["circle", "rectangle", "triangle"])
def test_shapes_are_told_apart_by_how_much_of_their_box_they_fill(name: str) -> None:
    image = Image.new("RGB", (64, 64), WHITE)
    draw = ImageDraw.Draw(image)
    if name == "triangle":
        draw.polygon([(10, 40), (40, 40), (25, 12)], fill=RED)
    else:
        (draw.ellipse if name == "circle" else draw.rectangle)((10, 12, 40, 40), fill=RED)
    (thing,) = of_shape(np.asarray(image)).things
    assert (thing.name, thing.kind, thing.colour) == (name, "shape", "red")
    assert np.abs(np.multiply(thing.box, 64) - (10, 12, 41, 41)).max() <= 1


def test_an_empty_picture_shows_nothing() -> None:
    assert of_shape(np.full((64, 64, 3), 250, np.uint8)).things == ()
