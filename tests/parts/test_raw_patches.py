"""Patches without an encoder: their numbers in the official order, any size of whole patches."""

from __future__ import annotations

import pytest
import torch

from beholder.cards import card
from beholder.errors import BeholderError
from beholder.model import build
from beholder.parts.vision.raw_patches import RawPatches


def test_numbers_of_a_patch_stand_pixel_by_pixel():
    """The equation of the paper's figure by loops: rows of pixels, then columns, then channels."""
    views = [torch.randn(3, 8, 12), torch.randn(3, 4, 4)]
    packed = RawPatches(patch=4, image_size=8).build()(views)
    assert [grid[1:] for grid in packed.grids] == [(2, 3), (1, 1)] and packed.tokens_ND.shape == (7, 48)
    for row in range(2):
        for column in range(3):
            numbers = [
                views[0][c, 4 * row + y, 4 * column + x] for y in range(4) for x in range(4) for c in range(3)
            ]
            assert torch.equal(packed.tokens_ND[3 * row + column], torch.stack(numbers))


@pytest.mark.parametrize("size", [(30, 45), (0, 30)])
def test_sizes_that_are_no_whole_patches_are_refused(size):
    with pytest.raises(BeholderError, match="whole patches of 30"):
        RawPatches(patch=30, image_size=300).grid(size)


def test_fuyu_has_no_encoder_and_one_matrix():
    model = build(card("fuyu-8b"), device="meta")
    names = {name: tuple(p.shape) for name, p in model.named_parameters() if name.startswith("branches.")}
    assert names == {
        "branches.image.connector.linear.weight": (4096, 2700),
        "branches.image.connector.linear.bias": (4096,),
    }
