"""Which anchors of a detector learn which boxes (ATSS, 1912.02424).

N anchors of all levels, M boxes.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from beholder.parts.blocks.boxes import iou

INSIDE = 0.01  # pixels that an anchor's middle lies inside a box; microsoft/GLIP: rpn/loss.py


def atss(anchors_N4: Tensor, counts: Sequence[int], boxes_M4: Tensor, candidates: int) -> Tensor:
    """(N,) numbers of boxes, -1 for none. counts: anchors of each level. A box's candidates are the `candidates` anchors of
    each level whose middles are nearest to its own; those learn it whose overlap is at least the mean of all candidates' plus
    their deviation, and whose middle lies inside. An anchor of several boxes learns the one it overlaps most.
    """
    if not len(boxes_M4):
        return torch.full((len(anchors_N4),), -1, device=anchors_N4.device)
    overlaps_NM = iou(anchors_N4, boxes_M4)
    middles_N2, centres_M2 = ((b[:, :2] + b[:, 2:]) / 2 for b in (anchors_N4, boxes_M4))
    near: list[Tensor] = []
    start = 0
    for count, own in zip(counts, torch.cdist(middles_N2, centres_M2).split(list(counts)), strict=True):
        near.append(own.topk(min(candidates, count), dim=0, largest=False).indices + start)
        start += count
    near_KM = torch.cat(near)
    candidates_KM = overlaps_NM.gather(0, near_KM)
    least_M = candidates_KM.mean(0) + candidates_KM.std(0)
    edges_NM4 = torch.cat(
        (middles_N2[:, None] - boxes_M4[None, :, :2], boxes_M4[None, :, 2:] - middles_N2[:, None]), -1
    )
    inside_NM = edges_NM4.amin(-1) > INSIDE
    learns_NM = torch.zeros_like(inside_NM).scatter(0, near_KM, candidates_KM >= least_M) & inside_NM
    best_N, owner_N = overlaps_NM.masked_fill(~learns_NM, -1.0).max(1)
    return owner_N.masked_fill(best_N < 0, -1)


def centred(anchors_N4: Tensor, boxes_N4: Tensor) -> Tensor:
    """(N,) from 0 to 1: how much in the middle of its box an anchor is (1904.01355, equation 3); 0 outside."""
    middles_N2 = (anchors_N4[:, :2] + anchors_N4[:, 2:]) / 2
    before_N2, after_N2 = middles_N2 - boxes_N4[:, :2], boxes_N4[:, 2:] - middles_N2
    least_N2, most_N2 = torch.minimum(before_N2, after_N2), torch.maximum(before_N2, after_N2)
    return (least_N2.clamp(min=0) / most_N2.clamp(min=1e-9)).prod(-1).sqrt()
