"""Queries that become objects, with places beside what is compared."""

from __future__ import annotations

import torch
from torch.nn import functional as F

from beholder.media.plan import Grid
from beholder.parts.blocks.mlp import FeedForward
from beholder.parts.blocks.norms import Norm
from beholder.parts.connectors.asked_objects import AskedObjects, PlacedLayer
from beholder.parts.contracts import Packed
from beholder.parts.heads.mask_memory import sines

QUERIES = AskedObjects(width=8, queries=3, layers=2, heads=2, hidden=12, asking=(2, 4, 16))


def heads(
    attn: torch.nn.Module, asked: torch.Tensor, keys: torch.Tensor, values: torch.Tensor
) -> torch.Tensor:
    """Attention head by head."""
    q, k, v = attn.q(asked), attn.k(keys), attn.v(values)
    found = []
    for head in range(2):
        part = slice(4 * head, 4 * head + 4)
        found.append(((q[:, part] @ k[:, part].T) / 2).softmax(-1) @ v[:, part])
    return attn.out(torch.cat(found, -1))


def test_places_are_compared_and_not_read() -> None:
    torch.manual_seed(0)
    layer = PlacedLayer(8, 2, FeedForward(12, "relu"), Norm(), asks=True)
    x, places, memory, there = (torch.randn(n, 8) for n in (3, 3, 5, 5))
    y = layer.norm1(x + heads(layer.attn, x + places, x + places, x))
    y = layer.cross_norm(y + heads(layer.cross, y + places, memory + there, memory))
    want = layer.norm2(y + layer.mlp.down(F.relu(layer.mlp.up(y))))
    assert torch.allclose(layer(x[None], places, (memory[None], there))[0], want, atol=1e-5)


def test_every_view_gives_its_queries() -> None:
    """Views of unequal grids run apart, and none sees another."""
    torch.manual_seed(0)
    connector = QUERIES.build(6, 99).eval()
    grids = (Grid(1, 2, 3), Grid(1, 1, 4), Grid(1, 2, 3))
    tokens = torch.randn(16, 6)
    with torch.no_grad():
        packed = connector(Packed(tokens, grids))
        alone = [
            connector(Packed(part, (grid,))).tokens_ND
            for part, grid in zip(tokens.split([6, 4, 6]), grids, strict=True)
        ]
    assert packed.grids == (Grid(1, 1, 3),) * 3 and packed.tokens_ND.shape == (9, 8)
    assert torch.allclose(packed.tokens_ND, torch.cat(alone), atol=1e-5)


def test_a_picture_is_read_where_its_cells_are() -> None:
    """Cells exchanged together with their places change nothing; without them they do."""
    torch.manual_seed(0)
    connector, tokens = QUERIES.build(6, 99).eval(), torch.randn(6, 6)
    order = torch.tensor([3, 1, 5, 0, 2, 4])
    places = sines(2, 3, 8)
    with torch.no_grad():
        x = connector.project(tokens)[None]
        shuffled = x[:, order]
        for layer in connector.reads:
            x, shuffled = layer(x, places), layer(shuffled, places[order])
        assert torch.allclose(x[:, order], shuffled, atol=1e-5)
        given = connector(Packed(tokens, (Grid(1, 2, 3),))).tokens_ND
        moved = connector(Packed(tokens[order], (Grid(1, 2, 3),))).tokens_ND
    assert not torch.allclose(given, moved, atol=1e-4)
