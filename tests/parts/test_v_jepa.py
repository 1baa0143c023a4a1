"""Rotary positions of time and plane, and features that are foretold."""

from __future__ import annotations

import pytest
import torch

from beholder.errors import BeholderError
from beholder.media.plan import Grid
from beholder.parts.blocks.attention import Attention
from beholder.parts.blocks.mlp import FeedForward
from beholder.parts.blocks.rotary3d import SpaceTimeRotary
from beholder.parts.heads.foretold import Foretold
from beholder.parts.vision.patches import Patches
from beholder.parts.vision.vit import ViT

ROTARY = SpaceTimeRotary()
ATTENTION = Attention(2, qkv_bias=True, rotary=ROTARY)
HEAD = Foretold(dim=16, width=24, num_layers=2, attention=ATTENTION, mlp=FeedForward(32), masks=3)


def test_axes_turn_their_thirds() -> None:
    """Head width 14: 4 channels an axis, two left over; the two channels of a pair have frequencies 1 and 1 / 100."""
    positions = torch.tensor([[[2.0]], [[3.0]], [[5.0]]])
    cos, sin = ROTARY.tables(positions, 14, torch.float32)
    angles = torch.tensor([p * f for p in (2.0, 3.0, 5.0) for f in (1.0, 0.01, 1.0, 0.01)] + [0.0, 0.0])
    assert torch.allclose(cos.flatten(), angles.cos(), atol=1e-6)
    x = torch.randn(1, 1, 1, 14)
    turned = torch.stack((-x[..., 1::2], x[..., ::2]), -1).flatten(-2)
    assert torch.allclose(ROTARY.rotate(x, (cos, sin)), x * angles.cos() + turned * angles.sin(), atol=1e-6)
    assert torch.equal(ROTARY.rotate(x, (cos, sin))[..., 12:], x[..., 12:])


def test_places_count_time_rows_and_columns() -> None:
    places = ROTARY.places(Grid(2, 2, 3))
    assert places.shape == (3, 12) and places[:, 10].tolist() == [1, 1, 1]


def test_frames_of_a_clip_see_each_other_at_their_times() -> None:
    """With time among the axes, two equal frames exchanged leave all as it is, unequal ones do not."""
    vit = ViT(8, 4, 12, 1, ATTENTION, FeedForward(16), patches=Patches(joint=True), positions=None)
    torch.manual_seed(0)
    encoder, clip = vit.build().eval(), torch.randn(3, 3, 8, 8)
    with torch.no_grad():
        given = encoder([clip]).tokens_ND
        swapped = encoder([clip.flip(1)]).tokens_ND.unflatten(0, (3, 4)).flip(0).flatten(0, 1)
    assert given.shape == (12, 12) and not torch.allclose(given, swapped, atol=1e-4)


def test_what_is_foretold_depends_on_what_is_seen_and_on_places() -> None:
    torch.manual_seed(0)
    head, tokens, grid = HEAD.build(None).eval(), torch.randn(12, 16), Grid(3, 2, 2)
    seen, wanted = torch.tensor([0, 1, 2, 7]), torch.tensor([4, 9])
    with torch.no_grad():
        given = head.foretell(tokens, grid, seen, wanted)
        other = tokens.clone()
        other[3] = 9.0  # not seen
        assert torch.equal(head.foretell(other, grid, seen, wanted), given)
        order = torch.tensor([3, 1, 0, 2])
        assert torch.allclose(
            head.foretell(tokens, grid, seen[order], wanted.flip(0)), given.flip(0), atol=1e-5
        )
        assert not torch.allclose(given[0], given[1], atol=1e-4)
        other[7] = 9.0
        assert not torch.allclose(head.foretell(other, grid, seen, wanted), given, atol=1e-4)


def test_wrong_predictors() -> None:
    with pytest.raises(BeholderError, match="mask 3 of 3"):
        HEAD.but(mask=3)
    with pytest.raises(BeholderError, match="known by their places"):
        HEAD.but(attention=Attention(2))
