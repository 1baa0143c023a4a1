"""Boxes and what is read within them: against formulas written out for one box at a time."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor

from beholder.errors import BeholderError
from beholder.parts.blocks.boxes import anchors, clipped, iou, moved, nms, roi_align
from beholder.parts.vision.regions import FasterRcnn
from beholder.parts.vision.resnet import ResNet

TINY = FasterRcnn(ResNet()).tiny()


def boxes(count: int, seed: int = 0) -> Tensor:
    corners = torch.rand(count, 2, 2, generator=torch.Generator().manual_seed(seed)) * 40
    return torch.cat((corners.amin(1), corners.amax(1) + 2), -1)


def overlap(a: list[float], b: list[float]) -> float:
    wide, high = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    shared = max(wide, 0) * max(high, 0)
    area = sum((box[2] - box[0]) * (box[3] - box[1]) for box in (a, b))
    return shared / (area - shared)


def test_overlap_and_suppression_equal_the_plain_loops() -> None:
    given = boxes(30)
    scores = torch.rand(3, 30, generator=torch.Generator().manual_seed(1))
    rows = given.tolist()
    assert torch.allclose(
        iou(given, given), torch.tensor([[overlap(a, b) for b in rows] for a in rows]), atol=1e-6
    )
    for kept, own in zip(nms(given, scores, 0.3), scores, strict=True):
        stayed: list[int] = []
        for number in own.argsort(descending=True).tolist():
            if all(overlap(rows[number], rows[other]) <= 0.3 for other in stayed):
                stayed.append(number)
        assert sorted(stayed) == kept.nonzero().flatten().tolist()
        assert 1 < len(stayed) < 30


def test_anchors_stand_around_cells_and_move_by_shares_of_their_sides() -> None:
    given = anchors(2, 3, 16, (32.0, 64.0), (0.5, 2.0))
    assert given.shape == (2 * 3 * 4, 4)
    cells = itertools.product(range(2), range(3), (32, 64), (0.5, 2.0))
    for box, (row, column, side, ratio) in zip(given.tolist(), cells, strict=True):
        wide, high = side / math.sqrt(ratio), side * math.sqrt(ratio)
        x, y = (column + 0.5) * 16, (row + 0.5) * 16
        assert box == pytest.approx([x - wide / 2, y - high / 2, x + wide / 2, y + high / 2], abs=1e-4)
    (after,) = moved(
        torch.tensor([[10.0, 20, 30, 60]]), torch.tensor([[1.0, -0.5, math.log(2), 0]]), (2, 1, 1, 1)
    )
    assert after.tolist() == pytest.approx([10, 0, 50, 40], abs=1e-4)
    assert clipped(after[None], 30, 45).tolist() == [pytest.approx([10, 0, 45, 30], abs=1e-4)]


def test_what_is_read_in_a_box_is_bilinear() -> None:
    """A map that rises evenly has, at every point, the value of its place."""
    y_hw, x_hw = torch.meshgrid(torch.arange(12.0), torch.arange(20.0), indexing="ij")
    plane = torch.stack((x_hw, y_hw)) * 8 + 4  # of each cell its middle in pixels
    given = torch.tensor([[20.0, 12, 84, 76], [40.0, 24, 47, 88]])
    read = roi_align(plane, given, 8, 4)
    for box, (x_SS, y_SS) in zip(given.tolist(), read, strict=True):
        steps = [(step + 0.5) / 4 for step in range(4)]
        assert torch.allclose(
            x_SS[0], torch.tensor([box[0] + (box[2] - box[0]) * s for s in steps]), atol=1e-3
        )
        assert torch.allclose(
            y_SS[:, 0], torch.tensor([box[1] + (box[3] - box[1]) * s for s in steps]), atol=1e-3
        )


@torch.inference_mode()
def test_regions_are_the_most_certain_and_read_where_they_lie() -> None:
    """As many as the plan says, inside the view, in order of certainty; each vector is the last stage's mean of its box."""
    torch.manual_seed(0)
    encoder = TINY.build().eval()
    view = torch.rand(3, 64, 96)
    features, found, scores = encoder.regions(view)
    packed = encoder([view])
    assert packed.grids == (TINY.grid((64, 96)),) and torch.equal(packed.tokens_ND, features)
    assert (
        len(found) == TINY.count
        and (found >= 0).all()
        and (found[:, 2] <= 96).all()
        and (found[:, 3] <= 64).all()
    )
    map_Chw = encoder.backbone.front(view[None])
    for stage in encoder.backbone.stages[:-1]:
        map_Chw = stage(map_Chw)
    alone = [
        encoder.backbone.stages[-1](roi_align(map_Chw[0], box[None], 16, 14)).mean((0, 2, 3)) for box in found
    ]
    assert torch.allclose(torch.stack(alone), features, atol=1e-5)
    assert scores.sum(-1).allclose(torch.ones(TINY.count))
    two = encoder([view, torch.rand(3, 80, 64)])
    assert torch.allclose(two.tokens_ND[: TINY.count], features, atol=1e-5)


def test_too_few_places_are_one_line() -> None:
    with pytest.raises(BeholderError, match="64x64 pixels has 96 regions, not 100"):
        TINY.but(count=100, proposals=100).grid((64, 64))
    with pytest.raises(BeholderError, match="keep fewer regions"):
        TINY.but(count=100)
