"""Connectors that average neighbours, refine, norm or pad, against direct formulas."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from beholder.errors import BeholderError
from beholder.media.geometry import AnyRes, plan_picture
from beholder.media.plan import NEWLINE, Features, Grid, View
from beholder.parts.blocks.norms import Norm
from beholder.parts.connectors.pooling import GridPool, Refined, TileCap
from beholder.parts.connectors.projections import Folded, Linear, Mlp
from beholder.parts.contracts import Context, Packed


def packed(*grids: tuple[int, int], dim: int = 8) -> Packed:
    shapes = tuple(Grid(1, *grid) for grid in grids)
    return Packed(torch.randn(sum(grid.num_tokens for grid in shapes), dim), shapes)


def test_adaptive_pooling_averages_cells() -> None:
    """Cell i of n over a side of s spans rows floor(i s / n) to ceil((i + 1) s / n)."""
    given = packed((6, 6), (5, 7))
    pool = GridPool(Linear(bias=False), sides=(3, 4))
    connector = pool.build(8, 8)
    out = connector(given)
    assert out.grids == (Grid(1, 3, 4),) * 2 == pool.grids((View((1, 1), (), None),) * 2, given.grids)  # type: ignore[arg-type]
    for view, grid, got in zip(given.split(), given.grids, out.split(), strict=True):
        plane = view.view(grid.height, grid.width, 8)
        for i in range(3):
            for j in range(4):
                rows = slice(i * grid.height // 3, -(-(i + 1) * grid.height // 3))
                columns = slice(j * grid.width // 4, -(-(j + 1) * grid.width // 4))
                want = plane[rows, columns].mean((0, 1)) @ connector.then.linear.weight.T
                assert torch.allclose(got[i * 4 + j], want, atol=1e-5)


@pytest.mark.parametrize("way", ["average", "max", "bilinear"])
def test_squares_become_one_and_frames_alone_where_asked(way: str) -> None:
    given = packed((4, 6), (5, 5))
    pool = GridPool(Mlp(), factor=2, way=way, after=way == "bilinear", frames=way == "max")
    connector = pool.build(8, 8)
    still = View((20, 20), (), None)  # type: ignore[arg-type]
    views = (still, still.__class__((20, 20), (), None, numbers=(0,)))  # type: ignore[arg-type]
    context = Context(plans=((type("P", (), {"views": views})(),),))  # type: ignore[arg-type]
    out = connector(given, context)
    assert out.grids == pool.grids(views, given.grids)
    up = math.ceil if way == "bilinear" else math.floor
    assert out.grids[1] == Grid(1, up(2.5), up(2.5))
    assert out.grids[0] == (Grid(1, 4, 6) if way == "max" else Grid(1, 2, 3))
    mapped = connector.then(given).split()[1] if way == "bilinear" else given.split()[1]
    plane = mapped.view(1, 5, 5, 8).permute(0, 3, 1, 2)
    want = {
        "average": lambda: plane[..., :4, :4].unflatten(-1, (2, 2)).unflatten(-3, (2, 2)).mean((-3, -1)),
        "max": lambda: plane[..., :4, :4].unflatten(-1, (2, 2)).unflatten(-3, (2, 2)).amax((-3, -1)),
        "bilinear": lambda: F.interpolate(plane, (3, 3), mode="bilinear"),
    }[way]().permute(0, 2, 3, 1)
    tokens = want.reshape(-1, 8)
    if way != "bilinear":
        tokens = connector.then(Packed(tokens, (Grid(1, 2, 2),))).tokens_ND
    assert torch.allclose(out.split()[1], tokens, atol=1e-5)


def test_impossible_pooling_is_refused() -> None:
    with pytest.raises(BeholderError, match="no square of 4"):
        GridPool(Linear(), factor=4).grid(Grid(1, 3, 9))
    with pytest.raises(BeholderError, match="middle"):
        GridPool(Linear(), way="middle")
    with pytest.raises(BeholderError, match="numbers of 1 or more"):
        GridPool(Linear(), sides=(0, 3))


def test_tiles_beyond_the_cap_become_one_smaller_grid() -> None:
    """A picture of 3 x 2 tiles under a cap of 2 is scaled as a whole, without its padding; one of two tiles is left alone."""
    geometry = AnyRes(tile=28, pinpoints=((84, 56), (28, 56)))
    cap = TileCap(Linear(bias=False), most=2)
    connector = cap.build(8, 8)

    def view_grid(view: View) -> Grid:
        return Grid(1, view.size[0] // 7, view.size[1] // 7)

    large, small = (plan_picture(size, geometry, view_grid, cap.grids) for size in ((900, 500), (100, 200)))
    assert len(small.grids) == 3 and len(large.grids) == 2
    views = [*large.views, *small.views]
    given = Packed(torch.randn(16 * len(views), 8), (Grid(1, 4, 4),) * len(views))
    out = connector(given, Context(plans=((large,), (small,))))
    assert out.grids == (*large.grids, *small.grids)
    tokens = connector.then(given).split()
    joint = torch.cat(
        [torch.cat([t.view(4, 4, 8) for t in tokens[1 + 2 * r : 3 + 2 * r]], 1) for r in range(3)]
    )
    kept = int(500 * 12 / 900)
    margin = (8 - kept) // 2
    unpadded = joint[:, margin : 8 - margin]
    ratio = math.sqrt(12 * unpadded.shape[1] / (2 * 16))
    size = (int(12 // ratio), int(unpadded.shape[1] // ratio))
    want = F.interpolate(unpadded.permute(2, 0, 1)[None], size, mode="bilinear")[0].flatten(1).T
    assert torch.allclose(out.split()[1], want, atol=1e-5)
    (piece,) = large.pieces
    assert isinstance(piece, Features)
    rows = piece.order[16:].reshape(size[0], size[1] + 1)
    assert (rows[:, -1] == NEWLINE).all()
    assert np.array_equal(rows[:, :-1].ravel(), 16 + np.arange(size[0] * size[1]))


def test_norms_stand_behind_each_matrix() -> None:
    given = packed((2, 3))
    mlp = Mlp(norms=True).build(8, 5)
    with torch.no_grad():
        for norm in mlp.norms:
            norm.weight.normal_()
    first, second = (
        lambda x, m=matrix, n=norm: F.layer_norm(m(x), (5,), n.weight, n.bias)
        for matrix, norm in zip(mlp.layers, mlp.norms, strict=True)
    )
    assert torch.allclose(mlp(given).tokens_ND, second(F.gelu(first(given.tokens_ND))), atol=1e-5)
    linear = Linear(norm=Norm("rms", 1e-6)).build(8, 5)
    x = given.tokens_ND
    normed = x / (x.square().mean(-1, keepdim=True) + 1e-6).sqrt() * linear.norm.weight
    assert torch.allclose(linear(given).tokens_ND, linear.linear(normed), atol=1e-5)


def test_refined_adds_what_it_makes_of_the_normed() -> None:
    given = packed((2, 2))
    connector = Refined(Mlp(), Mlp(hidden=12)).build(8, 5)
    x = F.layer_norm(connector.first(given).tokens_ND, (5,))
    want = x + connector.then.layers[1](F.gelu(connector.then.layers[0](x)))
    assert torch.allclose(connector(given).tokens_ND, want, atol=1e-5)


def test_odd_grids_are_padded_with_zeros() -> None:
    given = packed((3, 3))
    folded = Folded(Linear(bias=False), pad=True)
    connector = folded.build(8, 32)
    with torch.no_grad():
        connector.then.linear.weight.copy_(torch.eye(32))
    out = connector(given)
    assert out.grids == (Grid(1, 2, 2),) == (folded.grid(Grid(1, 3, 3)),)
    plane = given.tokens_ND.view(3, 3, 8)
    assert torch.equal(out.tokens_ND[0], torch.cat((plane[0, 0], plane[0, 1], plane[1, 0], plane[1, 1])))
    zeros = torch.zeros(8)
    assert torch.equal(out.tokens_ND[3], torch.cat((plane[2, 2], zeros, zeros, zeros)))
    with pytest.raises(BeholderError, match="3x3"):
        folded.but(pad=False).grid(Grid(1, 3, 3))


def test_tokens_by_columns_are_those_of_vila() -> None:
    """`DownSampleBlock.flat_square` of NVlabs/VILA llava/model/multimodal_projector/base_projector.py, step by step."""
    torch.manual_seed(0)
    x_HWC = torch.randn(3, 5, 4)
    padded = torch.nn.functional.pad(x_HWC, (0, 0, 0, 1, 0, 1))[None]
    by_width = padded.view(1, 4, 3, 8).permute(0, 2, 1, 3).contiguous()
    want = by_width.view(1, 3, 2, 16).flatten(0, 2)
    config = Folded(Linear(bias=False), pad=True, by_columns=True)
    connector = config.build(4, 16)
    connector.then.linear.weight.data = torch.eye(16)
    given = connector(Packed(x_HWC.flatten(0, 1), (Grid(1, 3, 5),)))
    assert given.grids == (Grid(1, 3, 2),) == (config.grid(Grid(1, 3, 5)),)
    assert torch.equal(given.tokens_ND, want)
