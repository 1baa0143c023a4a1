"""Connectors that keep rows and columns, against their formulas."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional as F

from beholder.errors import BeholderError
from beholder.media.plan import Grid
from beholder.parts.blocks.deformable import DeformableAttention
from beholder.parts.connectors.convolutional import CAbstractor, Ldp, Ldp2
from beholder.parts.connectors.deformable import DAbstractor
from beholder.parts.contracts import Packed


def packed(*grids, dim=32):
    generator = torch.Generator().manual_seed(0)
    grids = tuple(Grid(*grid) for grid in grids)
    return Packed(torch.randn(sum(grid.num_tokens for grid in grids), dim, generator=generator), grids)


def drawn(module):
    """Every parameter at random, so that none is hidden by a start at 0 or 1."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator))
    return module


def mlp(layers, x, act=F.gelu):
    return layers[1](act(layers[0](x)))


def normed(module, x, **conv):
    """Of one map (C, h, w): a convolution, then the mean and deviation of each place's channels."""
    y = F.conv2d(x[None], module.conv.weight, **conv)[0]
    mean, var = y.mean(0), y.var(0, correction=0)
    scale, shift = module.norm.weight[:, None, None], module.norm.bias[:, None, None]
    return (y - mean) / (var + 1e-5).sqrt() * scale + shift


def gated(module, x, act, gate):
    means = x.mean((1, 2))
    shares = gate(module.up.weight @ act(module.down.weight @ means + module.down.bias) + module.up.bias)
    return x * shares[:, None, None]


def test_ldp_halves_rows_and_columns_by_its_formula():
    given = packed((1, 4, 4))
    layer = drawn(Ldp().build(32, 48))
    x = mlp(layer.mlp.layers, given.tokens_ND).T.reshape(48, 4, 4)
    for stride, block in ((1, layer.blocks[0]), (2, layer.blocks[1])):
        y = F.hardswish(normed(block.depthwise, x, stride=stride, padding=1, groups=48))
        y = normed(block.project, gated(block.gate, y, F.relu, lambda s: ((s + 3) / 6).clamp(0, 1)))
        x = y + x if stride == 1 else y
    result = layer(given)
    assert result.grids == (Grid(1, 2, 2),)
    assert torch.allclose(result.tokens_ND, x.flatten(1).T, atol=1e-4)
    assert Ldp().grid(Grid(1, 5, 7)) == Grid(1, 3, 4)
    assert layer(packed((1, 5, 7))).tokens_ND.shape == (12, 48)


def test_ldp2_adds_places_to_averages():
    given = packed((1, 4, 6))
    layer = drawn(Ldp2(side=2).build(32, 48))
    x = mlp(layer.mlp.layers, given.tokens_ND).reshape(4, 6, 48)
    means = torch.stack(
        [x[2 * i : 2 * i + 2, 3 * j : 3 * j + 3].mean((0, 1)) for i in (0, 1) for j in (0, 1)]
    )
    means = means.T.reshape(48, 2, 2)
    places = F.conv2d(means[None], layer.places.weight, layer.places.bias, padding=1, groups=48)[0]
    assert torch.allclose(layer(given).tokens_ND, (means + places).flatten(1).T, atol=1e-5)


def test_the_c_abstractor_equals_its_formula():
    given = packed((1, 4, 4))
    layer = drawn(CAbstractor(side=2, hidden=16, depth=1, positions=16).build(32, 24))
    silu = F.silu

    def block(part, x):
        y = silu(normed(part.conv2, silu(normed(part.conv1, x)), padding=1, groups=16))
        y = normed(part.conv3, gated(part.gate, y, silu, torch.sigmoid))
        return silu(y + (x if part.shortcut is None else normed(part.shortcut, x)))

    x = block(layer.before[0], (given.tokens_ND + layer.positions).T.reshape(32, 4, 4))
    x = torch.stack(
        [x[:, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2].mean((1, 2)) for i in (0, 1) for j in (0, 1)], 1
    )
    x = block(layer.behind[0], x.reshape(16, 2, 2))
    expected = mlp(layer.readout.layers, x.flatten(1).T, silu)
    assert torch.allclose(layer(given).tokens_ND, expected, atol=1e-4)
    with pytest.raises(BeholderError, match="16 places, a view 4 tokens"):
        layer(packed((1, 2, 2)))


@pytest.mark.parametrize("config", [Ldp(), Ldp2(side=2), CAbstractor(side=2, hidden=16, depth=1)])
def test_views_and_frames_are_read_apart(config):
    layer = drawn(config.build(32, 24))
    together = packed((1, 4, 4), (2, 4, 6), (1, 4, 4))
    first, second, third = together.split()
    alone = [(first, (1, 4, 4)), *((half, (1, 4, 6)) for half in second.chunk(2)), (third, (1, 4, 4))]
    apart = [layer(Packed(x, (Grid(*grid),))).tokens_ND for x, grid in alone]
    assert torch.allclose(layer(together).tokens_ND, torch.cat(apart), atol=1e-5)


def bilinear(plane, x, y):
    """A plane (h, w, K) at a place counted in cells from the corner; outside it is 0."""
    total, (height, width) = torch.zeros(plane.shape[-1]), plane.shape[:2]
    for row in (math.floor(y - 0.5), math.floor(y - 0.5) + 1):
        for column in (math.floor(x - 0.5), math.floor(x - 0.5) + 1):
            if 0 <= row < height and 0 <= column < width:
                share = (1 - abs(y - 0.5 - row)) * (1 - abs(x - 0.5 - column))
                total = total + share * plane[row, column]
    return total


def test_deformable_attention_reads_a_few_places_of_each_map():
    layer = drawn(DeformableAttention(8, num_heads=2, points=3, levels=2))
    x = torch.randn(1, 4, 8)
    places = torch.rand(1, 4, 2, 2)
    maps = [torch.randn(1, 8, 5, 7), torch.randn(1, 8, 3, 2)]
    given = layer(x, places, maps).detach()
    planes = [layer.values(map_[0].permute(1, 2, 0)).detach() for map_ in maps]
    for query in range(4):
        offsets = layer.offsets(x[0, query]).detach().view(2, 2, 3, 2)
        shares = layer.weights(x[0, query]).view(2, 6).softmax(-1).view(2, 2, 3)
        read = []
        for head in range(2):
            total = torch.zeros(4)
            for level, plane in enumerate(planes):
                height, width = plane.shape[:2]
                for point in range(3):
                    place = places[0, query, level]
                    at_x = place[0] * width + offsets[head, level, point, 0]
                    at_y = place[1] * height + offsets[head, level, point, 1]
                    value = bilinear(plane[..., 4 * head : 4 * head + 4], float(at_x), float(at_y))
                    total = total + shares[head, level, point] * value
            read.append(total)
        assert torch.allclose(given[0, query], layer.out(torch.cat(read)), atol=1e-5)


def test_the_d_abstractor_starts_from_averages_and_looks_near_them():
    layer = drawn(DAbstractor(side=2, positions=16, depth=2, points=2).build(32, 24))
    given = packed((1, 4, 4), (1, 4, 4))
    whole = layer(given)
    assert whole.grids == (Grid(1, 2, 2),) * 2
    placed = [(x + layer.positions).T.reshape(1, 32, 4, 4) for x in given.split()]
    for view, map_ in zip(whole.split(), placed, strict=True):
        standing = F.avg_pool2d(map_, 2).flatten(2).transpose(1, 2)
        x = layer.queries[None]
        for block in layer.blocks:
            attn = block.attn
            heads = [
                t.view(1, 4, 8, 4).transpose(1, 2)
                for t in (attn.q(x + standing), attn.k(x + standing), attn.v(x))
            ]
            scores = (heads[0] @ heads[1].mT / 2).softmax(-1) @ heads[2]
            x = block.after1(x + attn.out(scores.transpose(1, 2).flatten(2)))
            read = block.cross(x + standing, layer.places[None, :, None], [map_])
            x = block.cross_after(x + read)
            x = block.after2(x + block.mlp(x))
        assert torch.allclose(view, layer.project(x[0]), atol=1e-4)


def test_queries_of_the_d_abstractor_stand_over_the_whole_square():
    places = DAbstractor(side=3, positions=36).build(8, 8).places
    assert torch.allclose(places[0], torch.tensor([1 / 12, 1 / 12]))
    assert torch.allclose(places[2], torch.tensor([11 / 12, 1 / 12]))
    assert torch.allclose(places[8], torch.tensor([11 / 12, 11 / 12]))
