"""Canvases of whole tiles: the choice, the picture on it, and the tokens that count."""

from __future__ import annotations

import numpy as np
import pytest

from beholder.errors import BeholderError
from beholder.media.canvas import Canvas
from beholder.media.plan import Grid
from beholder.media.settings import geometry_from_official

CANVAS = Canvas(tile=56, tiles=4)
SIZES = [(20, 20), (56, 56), (57, 40), (100, 300), (300, 100), (1000, 1001), (30, 900), (113, 113), (224, 57)]


def by_tables(size):
    """The best canvas by numpy tables of all scales."""
    shapes = np.array([(a, b) for a in range(1, 5) for b in range(1, 5) if a * b <= 4]) * 56
    scales = (shapes / np.array(size)).min(1)
    chosen = scales[scales >= 1].min() if (scales >= 1).any() else scales.max()
    best = shapes[scales == chosen]
    return tuple(best[best.prod(1).argmin()])


@pytest.mark.parametrize("size", SIZES)
def test_the_picture_fits_on_the_best_canvas(size):
    (view,) = CANVAS.views(size)
    assert view.size == by_tables(size)
    height, width = view.resized
    assert height <= view.size[0] and width <= view.size[1]
    assert height == view.size[0] or width == view.size[1] or max(height, width) in (56, max(size))
    tiles = view.size[0] * view.size[1] // 56**2
    (features,) = CANVAS.pieces((view,), (Grid(4, 1, 17),))
    assert features.order.tolist() == list(range(tiles * 17))


def test_official_settings():
    settings = {
        "image_processor_type": "MllamaImageProcessor",
        "size": {"height": 560, "width": 560},
        "max_image_tiles": 4,
        "resample": 2,
        "do_pad": True,
    }
    assert geometry_from_official(settings) == Canvas(tile=560)
    assert Canvas(tile=560).at(28).tile == 28
    for damage in ({"do_pad": False}, {"size": {"height": 560, "width": 28}}):
        with pytest.raises(BeholderError, match="MllamaImageProcessor"):
            geometry_from_official(settings | damage)
