"""Depth from features of several layers."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from beholder.errors import BeholderError
from beholder.media.plan import Grid
from beholder.parts.contracts import BranchOutput, HeadInputs, Packed
from beholder.parts.heads.depth import DepthMap, Join

DEPTH = DepthMap(dim=6, widths=(4, 5, 6), factors=(2.0, 1.0, 0.5), width=8, hidden=3, patch=4)


def given(tokens: torch.Tensor, *grids: Grid) -> HeadInputs:
    return HeadInputs(branches={"image": BranchOutput(Packed(tokens, grids), ())})


def test_every_pixel_has_a_depth() -> None:
    """Of views of unequal sizes, each by itself; nearness is never below 0."""
    torch.manual_seed(0)
    head, tokens = DEPTH.build(None).eval(), torch.randn(15 + 8, 18)
    with torch.no_grad():
        maps = head(given(tokens, Grid(1, 3, 5), Grid(1, 2, 4)))
        (alone,) = head(given(tokens[15:], Grid(1, 2, 4)))
    assert [tuple(depth.shape) for depth in maps] == [(12, 20), (8, 16)]
    assert torch.equal(maps[1], alone) and float(maps[0].min()) >= 0


def test_metric_depth_ends_at_the_most() -> None:
    torch.manual_seed(0)
    head = DEPTH.but(metric=True, most=80.0).build(None).eval()
    torch.nn.init.constant_(head.last.bias, 50.0)
    (depth,) = head(given(torch.randn(6, 18), Grid(1, 2, 3)))
    assert torch.allclose(depth, torch.full((8, 12), 80.0))


def test_coarser_maps_are_joined_first() -> None:
    torch.manual_seed(0)
    join, fine, coarse = Join(4), torch.randn(1, 4, 5, 7), torch.randn(1, 4, 6, 8)
    resized = F.interpolate(fine, (6, 8), mode="bilinear", align_corners=False)
    own = resized + join.own.second(join.own.first(resized.relu()).relu())
    x = coarse + own
    x = x + join.both.second(join.both.first(x.relu()).relu())
    want = join.project(F.interpolate(x, (9, 10), mode="bilinear", align_corners=True))
    assert torch.allclose(join(fine, coarse, (9, 10)), want, atol=1e-6)
    assert join(fine, coarse, None).shape[2:] == (12, 16)


def test_features_that_do_not_fit() -> None:
    with pytest.raises(BeholderError, match="3 features of 6 channels; the branch gives 17"):
        DEPTH.build(None)(given(torch.randn(6, 17), Grid(1, 2, 3)))
    with pytest.raises(BeholderError, match="give a whole number"):
        DEPTH.but(factors=(2.0, 1.0, 0.4))
