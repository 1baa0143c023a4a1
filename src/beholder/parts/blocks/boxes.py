"""Boxes in pixels: left, top, right, bottom.

N, M boxes, C classes, A anchors of a cell.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

LARGEST = math.log(
    1000 / 16
)  # of the logarithm of a side's growth, so that no side overflows (Faster R-CNN's code)


def iou(boxes_N4: Tensor, others_M4: Tensor) -> Tensor:
    """(N, M): the area shared over the area covered; 0 where boxes are empty."""
    corner_NM2 = torch.maximum(boxes_N4[:, None, :2], others_M4[None, :, :2])
    end_NM2 = torch.minimum(boxes_N4[:, None, 2:], others_M4[None, :, 2:])
    shared_NM = (end_NM2 - corner_NM2).clamp(min=0).prod(-1)
    first_N, second_M = ((b[:, 2:] - b[:, :2]).clamp(min=0).prod(-1) for b in (boxes_N4, others_M4))
    return shared_NM / (first_N[:, None] + second_M[None] - shared_NM).clamp(min=1e-9)


def nms(boxes_N4: Tensor, scores_CN: Tensor, threshold: float) -> Tensor:
    """(C, N) booleans: for each class by itself, from the best score down, boxes stay that overlap none that stayed by more
    than `threshold`.
    """
    near_NN = iou(boxes_N4, boxes_N4) > threshold
    order_CN = scores_CN.argsort(dim=-1, descending=True, stable=True)
    rank_CN = order_CN.argsort(-1)
    kept_CN = torch.ones_like(scores_CN, dtype=torch.bool)
    for place in range(scores_CN.shape[1]):
        best_C1 = order_CN[:, place : place + 1]
        kept_CN &= ~(near_NN[best_C1[:, 0]] & (rank_CN > place) & kept_CN.gather(1, best_C1))
    return kept_CN


def anchors(
    rows: int, columns: int, stride: int, sides: Sequence[float], ratios: Sequence[float], offset: float = 0.5
) -> Tensor:
    """(rows * columns * A, 4): for each cell of a map a box of each side and each ratio of height to width, of the side's
    area, around the point `offset` cells into it.
    """
    side_A = torch.tensor([side for side in sides for _ in ratios])
    ratio_A = torch.tensor([ratio for _ in sides for ratio in ratios]).sqrt()
    half_A2 = torch.stack((side_A / ratio_A, side_A * ratio_A), -1) / 2
    shapes_A4 = torch.cat((-half_A2, half_A2), -1)
    y_h, x_w = ((torch.arange(count) + offset) * stride for count in (rows, columns))
    y_hw, x_hw = torch.meshgrid(y_h, x_w, indexing="ij")
    points_hw14 = torch.stack((x_hw, y_hw, x_hw, y_hw), -1)[:, :, None]
    return (points_hw14 + shapes_A4).view(-1, 4)


def moved(anchors_N4: Tensor, deltas_N4: Tensor, scales: Sequence[float] = (1.0, 1.0, 1.0, 1.0)) -> Tensor:
    """Anchors with their middles moved by shares of their sides, and sides grown by exponents (1311.2524, appendix C).
    scales: what deltas are divided by.
    """
    deltas_N4 = deltas_N4 / deltas_N4.new_tensor(scales)
    sides_N2 = anchors_N4[:, 2:] - anchors_N4[:, :2]
    middle_N2 = anchors_N4[:, :2] + sides_N2 / 2 + deltas_N4[:, :2] * sides_N2
    half_N2 = sides_N2 * deltas_N4[:, 2:].clamp(max=LARGEST).exp() / 2
    return torch.cat((middle_N2 - half_N2, middle_N2 + half_N2), -1)


def clipped(boxes_N4: Tensor, height: float, width: float) -> Tensor:
    """The parts of boxes inside a picture."""
    return torch.minimum(boxes_N4.clamp(min=0), boxes_N4.new_tensor([width, height, width, height]))


def roi_align(map_Chw: Tensor, boxes_N4: Tensor, stride: float, side: int) -> Tensor:
    """(N, C, side, side): a map's values within boxes, each the mean of 2 x 2 points read between cells (1703.06870,
    section 3). stride: pixels per cell.
    """
    points = 2 * side
    steps_P = (torch.arange(points, device=boxes_N4.device) + 0.5) / points
    sides_N2 = boxes_N4[:, 2:] - boxes_N4[:, :2]
    x_NP, y_NP = (boxes_N4[:, axis, None] + sides_N2[:, axis, None] * steps_P for axis in (0, 1))
    height, width = map_Chw.shape[-2:]
    x_NP, y_NP = 2 * x_NP / (stride * width) - 1, 2 * y_NP / (stride * height) - 1
    count = len(boxes_N4)
    places = torch.stack(
        (x_NP[:, None, :].expand(-1, points, -1), y_NP[:, :, None].expand(-1, -1, points)), -1
    )
    read = F.grid_sample(
        map_Chw[None],
        places.reshape(1, count * points, points, 2).to(map_Chw.dtype),
        padding_mode="border",
        align_corners=False,
    )
    return F.avg_pool2d(read[0].unflatten(1, (count, points)).transpose(0, 1), 2)
