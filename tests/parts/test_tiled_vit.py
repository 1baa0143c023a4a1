"""The encoder of several tiles at once: shapes of canvases, gates of positions and layers."""

from __future__ import annotations

import pytest
import torch

from beholder.errors import BeholderError
from beholder.media.plan import Grid
from beholder.parts.blocks.attention import Attention
from beholder.parts.blocks.mlp import FeedForward
from beholder.parts.vision.tiled_vit import TiledViT

CONFIG = TiledViT(
    image_size=28,
    patch=14,
    dim=32,
    num_layers=2,
    num_global=1,
    attention=Attention(num_heads=4),
    mlp=FeedForward(48),
    take=(1, 2),
)


def built(config=CONFIG):
    model = config.build().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.3)
    return model


def test_shapes_and_grids():
    assert CONFIG.shapes == ((1, 1), (1, 2), (1, 3), (1, 4), (2, 1), (2, 2), (3, 1), (4, 1))
    assert CONFIG.grid((28, 56)) == Grid(4, 1, 5)
    for size in ((28, 30), (84, 84), (14, 28)):
        with pytest.raises(BeholderError, match="tiles of 28"):
            CONFIG.grid(size)
    with pytest.raises(BeholderError, match="no features at depths"):
        CONFIG.but(take=(3,))


@torch.no_grad()
def test_each_shape_has_vectors_of_its_own():
    """The same tiles beside and below each other differ by the learned vectors of the shape alone."""
    model = built()
    beside = torch.randn(3, 28, 56)
    below = torch.cat(beside.split(28, 2), 1)
    first, second = (model([view]).tokens_ND for view in (beside, below))
    assert not torch.allclose(first, second, atol=1e-3)
    wide, tall = CONFIG.shapes.index((1, 2)) + 1, CONFIG.shapes.index((2, 1)) + 1
    for table in (model.tile_positions, model.before, model.behind):
        table[tall] = table[wide]
    assert torch.allclose(first, model([below]).tokens_ND, atol=1e-5)


@torch.no_grad()
def test_the_gate_mixes_two_kinds_of_positions():
    """(1 - tanh g) of the patch's vector and tanh g of the tile's, as a tile without any layers shows."""
    model = built(CONFIG.but(take=()))
    patches = torch.randn(4, 4, 32)
    model.before_gate.zero_()
    share = model.position_gate.tanh()
    x = torch.cat((model.cls.expand(4, 1, -1), patches), 1)
    want = model.pre_norm(x + (1 - share) * model.positions + share * model.tile_positions[2])
    assert torch.allclose(model._placed(patches, 2), want, atol=1e-6)
    model.position_gate.zero_()
    assert torch.allclose(model._placed(patches, 1), model._placed(patches, 5), atol=1e-6)


@torch.no_grad()
def test_closed_gates_leave_out_the_global_layers():
    model = built()
    view = torch.randn(3, 56, 28)
    with_layers = model([view]).tokens_ND
    for block in model.wide:
        block.scale1.zero_()
        block.scale2.zero_()
    closed = model([view]).tokens_ND
    model.wide = model.wide[:0]
    assert torch.equal(closed, model([view]).tokens_ND)
    assert torch.equal(with_layers[:, 32:], closed[:, 32:]) and not torch.equal(with_layers, closed)


@torch.no_grad()
def test_depths_are_joined_channel_by_channel():
    model = built()
    view = torch.randn(3, 28, 28)
    whole = model([view]).tokens_ND
    for number, depth in enumerate(CONFIG.take):
        model.config = CONFIG.but(take=(depth,))
        assert torch.equal(model([view]).tokens_ND[:, 32:], whole[:, 32 + number :: 2])


@torch.no_grad()
def test_pictures_are_seen_alone():
    model = built()
    views = [torch.randn(3, 28, 84), torch.randn(3, 56, 56)]
    both = model(views)
    for view, tokens_ND in zip(views, both.split(), strict=True):
        assert torch.allclose(model([view]).tokens_ND, tokens_ND, atol=1e-6)
