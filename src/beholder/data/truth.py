"""What pictures are known to show: things with names and boxes, backgrounds, and written words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from beholder.data.canvas import TEXT, distance
from beholder.data.cutouts import Concept
from beholder.data.questions import Scene
from beholder.data.samples import Sample
from beholder.data.scenes import ComposedSample

SEVERAL = "several"  # the colour of a thing that has colours of its own
SHAPES = ("circle", "rectangle", "triangle")
FULL, HALF = (
    0.88,
    0.64,
)  # of its box a rectangle fills more than the first share, a triangle less than the second
SHAPE_COLOURS = {  # easy-VQA paints with CSS's colours of these names
    "black": (0, 0, 0), "blue": (0, 0, 255), "brown": (165, 42, 42), "gray": (128, 128, 128), "green": (0, 255, 0),
    "red": (255, 0, 0), "teal": (0, 128, 128), "yellow": (255, 255, 0),
}  # fmt: skip
CLEAR = 40  # difference of a pixel's channels from the ground that makes it part of a shape


@dataclass(frozen=True)
class Thing:
    """box: left, top, right and bottom as shares of the picture's sides. kind, colour: None where not known."""

    name: str
    box: tuple[float, float, float, float]
    kind: str | None = None
    colour: str | None = None


@dataclass(frozen=True)
class Truth:
    """What a picture shows. word: what is written in it, in lower case; centres: of its letters, as shares of its width."""

    things: tuple[Thing, ...]
    ground: str | None = None
    word: str = ""
    centres: tuple[float, ...] = ()


def truth_of(sample: Sample, concepts: Mapping[str, Concept]) -> Truth:
    """What is known of a composed scene, or of a picture of easy-VQA, which shows one shape on a bright ground."""
    return of_scene(sample.scene, concepts) if isinstance(sample, ComposedSample) else of_shape(sample.pixels)


def of_scene(scene: Scene, concepts: Mapping[str, Concept]) -> Truth:
    """From what the scene was composed of."""
    size, things = scene.size, []
    for placed in scene.placed:
        name = placed.cutout.concept
        edges = (placed.left, placed.top, placed.left + placed.width, placed.top + placed.height)
        left, top, right, bottom = (edge / size for edge in edges)
        kind = None if name == TEXT else concepts[name].kind
        things.append(Thing(name, (left, top, right, bottom), kind, placed.tint or SEVERAL))
    lettering = scene.lettering
    if lettering is None:
        return Truth(tuple(things), scene.ground)
    return Truth(tuple(things), scene.ground, lettering.word.lower(), lettering.centres)


def of_shape(pixels: np.ndarray) -> Truth:
    """From what differs from the corner's colour: how much of its box it fills tells which shape it is."""
    inked_HW = np.abs(pixels.astype(int) - pixels[0, 0].astype(int)).max(-1) > CLEAR
    rows, columns = (np.flatnonzero(inked_HW.any(axis)) for axis in (1, 0))
    if not len(rows):
        return Truth(())
    (top, bottom), (left, right) = ((int(found[0]), int(found[-1]) + 1) for found in (rows, columns))
    share = float(inked_HW[top:bottom, left:right].mean())
    name = "rectangle" if share > FULL else "triangle" if share < HALF else "circle"
    red, green, blue = (float(value) for value in np.median(pixels[inked_HW], axis=0))
    colour = min(
        SHAPE_COLOURS, key=lambda known: distance(SHAPE_COLOURS[known], (int(red), int(green), int(blue)))
    )
    height, width = inked_HW.shape
    return Truth(
        (Thing(name, (left / width, top / height, right / width, bottom / height), "shape", colour),)
    )
