"""Losses over what answers point to: boxes and masks of the tokens that stand for them.

P tokens that point, N cells of a map, M boxes, h w rows and columns.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from beholder.errors import BeholderError
from beholder.media.plan import PicturePlan, View
from beholder.media.regions import Region, extent
from beholder.model import Model
from beholder.parts.blocks.boxes import iou
from beholder.parts.connectors.still import MOVES
from beholder.parts.contracts import HeadConfig
from beholder.parts.fusion.regions import map_of
from beholder.parts.heads.masks import Masks, PromptedMasksHead
from beholder.parts.heads.proposals import Proposals, Proposed
from beholder.parts.heads.query_masks import QueryMasksHead
from beholder.parts.heads.spoken_boxes import SpokenBoxes, SpokenPlaces
from beholder.parts.vision.omg_seg import QUERIES
from beholder.train.objectives.reading import Reading, head_of, words_of

MASK_SHARES = (
    2.0,
    0.5,
)  # cross-entropy, dice: dvlab-research/LISA train_ds.py; GLaMM, Sa2VA and OMG-LLaVA have them too
DICE = 1e-3  # added to both sides of the fraction; LISA's 1e-6 of areas over 1000
PROPOSAL_SHARES = (
    5.0,
    1.0,
)  # overlap, certainty: YOLOX/yolox/models/yolo_head.py of CoVLM, which leaves classes at 0
PROPOSED = 0.025  # of both beside words: CoVLM's run_scripts, `loss_multiplier_det`
OBJECTS = 10.0  # of `object_round_trip` beside words: omg_llava/omg_llava/model/omg_llava.py `compute_loss`
RADIUS, MOST, NEVER = (
    1.5,
    10,
    1e6,
)  # cells around a middle, candidates, cost of cells elsewhere; the same file


def pointed(reading: Reading, kinds: tuple[int, ...]) -> list[tuple[int, Region]]:
    """The row of each token of these ids and the region that it stands for, row after row. Raises `BeholderError` where a row
    has not as many regions as tokens that any head of the card reads.
    """
    every = pointers(reading.model)
    ids_BT, lengths = words_of(reading.item.batch)
    regions = reading.item.regions or ((),) * len(ids_BT)
    found: list[tuple[int, Region]] = []
    for row, (ids_T, length) in enumerate(zip(ids_BT.tolist(), lengths, strict=True)):
        tokens = [token for token in ids_T[1:length] if token in every]
        if len(tokens) != len(regions[row]):
            raise BeholderError(
                f"row {row} has {len(tokens)} tokens that point and {len(regions[row])} regions; give each its region"
            )
        found += [(row, region) for token, region in zip(tokens, regions[row], strict=True) if token in kinds]
    return found


def pointers(model: Model) -> set[int]:
    """Ids of tokens that stand for a box or a mask."""
    return {
        token
        for config in model.card.heads
        if config.output in (*BOXES, "masks")
        for token in config.hidden_of
    }


def seen_box(region: Region, view: View) -> list[float]:
    """Left, top, right and bottom of a region, in pixels of a view."""
    left, top, right, bottom = region.bounds()
    return [*view.from_original(left, top), *view.from_original(right, bottom)]


def view_of(reading: Reading, branch: str, row: int, picture: int = 0) -> View:
    """The first view of a row's picture number `picture`. Raises `BeholderError` where it has none."""
    plans: tuple[PicturePlan, ...] = reading.branches[branch].plans[row] if branch in reading.branches else ()
    if picture >= len(plans):
        raise BeholderError(f"row {row} points to picture {picture} of {len(plans)}, counted from 0")
    return plans[picture].views[0]


def giou(boxes_P4: Tensor, wanted_P4: Tensor) -> Tensor:
    """Generalised overlap of each box with the wanted one, (P,) from -1 to 1 (1902.09630, algorithm 1)."""
    low_P2 = torch.maximum(boxes_P4[:, :2], wanted_P4[:, :2])
    high_P2 = torch.minimum(boxes_P4[:, 2:], wanted_P4[:, 2:])
    shared_P = (high_P2 - low_P2).clamp(min=0).prod(-1)
    sizes = [(box[:, 2:] - box[:, :2]).clamp(min=0).prod(-1) for box in (boxes_P4, wanted_P4)]
    union_P = (sizes[0] + sizes[1] - shared_P).clamp(min=1e-9)
    first_P2 = torch.minimum(boxes_P4[:, :2], wanted_P4[:, :2])
    around_P = (torch.maximum(boxes_P4[:, 2:], wanted_P4[:, 2:]) - first_P2).prod(-1).clamp(min=1e-9)
    return shared_P / union_P - (around_P - union_P) / around_P


def box_loss(boxes_P4: Tensor, wanted_P4: Tensor) -> Tensor:
    """The sum of the sides' distances and 1 - generalised overlap, the mean over boxes, in shares of a view (DETR, 2005.12872,
    section 3.1; weights of 1 each and boxes turned inside out left out of the second: OPPOMKLab/u-LLaVA models/loss.py).
    """
    sides = (boxes_P4 - wanted_P4).abs().sum(-1)
    ahead_P = (boxes_P4[:, 2:] >= boxes_P4[:, :2]).all(-1)
    apart = (1 - giou(boxes_P4, wanted_P4)).masked_fill(~ahead_P, 0.0)
    return (sides + apart).mean()


def boxes(reading: Reading) -> Tensor:
    """What the card's heads of boxes have to learn of `TrainBatch.regions`; 0 where no token of the batch asks for one. Raises
    `BeholderError` for a card without such a head.
    """
    heads = [config for config in reading.model.card.heads if config.output in BOXES]
    if not heads:
        raise BeholderError(f"{reading.model.card.name} has no head of boxes; train with next_token")
    loss = reading.language.hidden_BTD.new_zeros((), dtype=torch.float32)
    for config in heads:
        given = reading.given(config.output)
        if given is not None and len(given if isinstance(given, Tensor) else given[0]):
            loss = loss + BOXES[config.output](reading, config, given)
    return loss


def _regressed(reading: Reading, config: HeadConfig, given: Tensor) -> Tensor:
    """Of boxes (P, 4) in shares of whole pictures."""
    wanted = []
    for row, region in pointed(reading, config.hidden_of):
        height, width = view_of(reading, next(iter(reading.branches)), row, region.picture).original
        wanted.append([side / full for side, full in zip(region.bounds(), (width, height) * 2, strict=True)])
    return box_loss(given.float(), torch.tensor(wanted, device=given.device))


def _spoken(reading: Reading, config: SpokenBoxes, given: SpokenPlaces) -> Tensor:
    """Of boxes in shares of the view of a row's first picture."""
    wanted = []
    for row, region in pointed(reading, config.hidden_of):
        view = view_of(reading, config.branch, row, region.picture)
        height, width = view.size
        wanted.append(
            [side / full for side, full in zip(seen_box(region, view), (width, height) * 2, strict=True)]
        )
    return box_loss(given.boxes.float(), torch.tensor(wanted, device=given.boxes.device))


def _proposed(reading: Reading, config: Proposals, given: Proposed) -> Tensor:
    """Of YOLOX's head: cells that learn the box of their asking give it and are sure, others are not; per learning cell."""
    wanted = pointed(reading, config.hidden_of)
    if len(wanted) != len(given.owners):
        raise BeholderError(
            f"{len(wanted)} boxes are asked for, {len(given.owners)} behind a picture; put pictures first"
        )
    overlaps, certain, count = [], [], 0
    for boxes_N4, sure_N, owner, (row, region) in zip(
        given.boxes.float(), given.logits.float(), given.owners.tolist(), wanted, strict=True
    ):
        view, plans = view_of(reading, config.branch, row, owner[2]), reading.branches[config.branch].plans
        wanted_4 = boxes_N4.new_tensor(seen_box(region, view))
        grid = plans[row][owner[2]].grids[0]
        learns_N = learners(boxes_N4.detach(), wanted_4, (grid.height, grid.width), view)
        count += int(learns_N.sum())
        overlap_K = iou(boxes_N4[learns_N], wanted_4[None])[:, 0]
        overlaps.append((1 - overlap_K.square()).sum())  # yolox/models/losses.py `IOUloss`
        certain.append(F.binary_cross_entropy_with_logits(sure_N, learns_N.float(), reduction="sum"))
    overlap, sure = torch.stack(overlaps).sum(), torch.stack(certain).sum()
    return PROPOSED * (PROPOSAL_SHARES[0] * overlap + PROPOSAL_SHARES[1] * sure) / max(count, 1)


def learners(boxes_N4: Tensor, wanted_4: Tensor, grid: tuple[int, int], view: View) -> Tensor:
    """Which cells (N,) of a map learn a box: of those whose middles are within 1.5 cells of its middle, as many as the overlaps
    of the ten that overlap it most add up to, those of the largest overlap (SimOTA, 2107.08430, section 2.1, without classes).
    """
    rows, columns = grid
    stride_2 = boxes_N4.new_tensor([view.size[1] / columns, view.size[0] / rows])
    y_hw, x_hw = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
    cells_N2 = (torch.stack((x_hw, y_hw), -1).flatten(0, 1).to(boxes_N4) + 0.5) * stride_2
    middle_2 = (wanted_4[:2] + wanted_4[2:]) / 2
    near_N = ((cells_N2 - middle_2).abs() < RADIUS * stride_2).all(-1)
    overlap_N = iou(boxes_N4, wanted_4[None])[:, 0].masked_fill(~near_N, 0.0)
    best = overlap_N.topk(min(MOST, int(near_N.sum()))).values
    cost_N = -(overlap_N + 1e-8).log() + NEVER * ~near_N
    learns_N = torch.zeros_like(near_N)
    learns_N[cost_N.topk(max(int(best.sum()), 1), largest=False).indices] = True
    return learns_N & near_N


def masks(reading: Reading) -> Tensor:
    """Cross-entropy of each pixel and dice of every mask that answers point to, at the original's scale where the view shows it
    (LISA, 2308.00692, section 3.2; the shares are `MASK_SHARES`), for cards with a head of masks. 0 where no token of the
    batch asks for one.
    """
    head = next((h for h in reading.model.heads if isinstance(h, PromptedMasksHead | QueryMasksHead)), None)
    if head is None:
        raise BeholderError(f"{reading.model.card.name} has no head of masks; train with next_token")
    given: Masks | None = reading.given("masks")
    loss = reading.language.hidden_BTD.new_zeros((), dtype=torch.float32)
    if given is None:
        return loss
    chosen_Phw, _ = head.chosen(given)
    wanted = pointed(reading, head.config.hidden_of)
    owners, starts = (
        given.owners.tolist(),
        [i for i, (_, picture) in enumerate(given.owners.tolist()) if not picture],
    )
    for (row, region), start in zip(wanted, starts, strict=True):
        if start + region.picture >= len(owners) or owners[start + region.picture] != [row, region.picture]:
            raise BeholderError(f"row {row} has no mask of picture {region.picture}; point to another")
        view = view_of(reading, head.config.branch, row, region.picture)
        loss = loss + mask_loss(chosen_Phw[start + region.picture].float(), region, view)
    return loss / len(wanted)


def mask_loss(logits_hw: Tensor, region: Region, view: View) -> Tensor:
    """Of one mask over a view, enlarged to the original's scale; what of the view lies outside the original does not count."""
    left, top, right, bottom = extent(view)
    shown = torch.from_numpy(region.seen(view)).to(logits_hw)
    inside = (
        slice(max(-top, 0), min(bottom, view.original[0]) - top),
        slice(max(-left, 0), min(right, view.original[1]) - left),
    )
    grown = F.interpolate(logits_hw[None, None], shown.shape, mode="bilinear", align_corners=False)[0, 0][
        inside
    ]
    return pixel_losses(grown, shown[inside])


def pixel_losses(logits_HW: Tensor, wanted_HW: Tensor) -> Tensor:
    """`MASK_SHARES` of the mean cross-entropy of pixels and of dice, 1 - 2 |A B| / (|A| + |B|)."""
    cross = F.binary_cross_entropy_with_logits(logits_HW, wanted_HW)
    chances_HW = logits_HW.sigmoid()
    both, either = 2 * (chances_HW * wanted_HW).sum(), chances_HW.sum() + wanted_HW.sum()
    return MASK_SHARES[0] * cross + MASK_SHARES[1] * (1 - (both + DICE) / (either + DICE))


def object_round_trip(reading: Reading) -> Tensor:
    """Mean squared distance of the queries of objects from what comes back of them through the connector and the map of states
    to queries, for those that the language part reads (OMG-LLaVA, 2406.19389, section 3.3; `prepare_seg_pretrain_data` of its
    model/omg_llava.py), for a card with `ObjectQueries` and `QueryMasks`. 0 where the batch has no pictures.
    """
    head = head_of(reading.model, QueryMasksHead, "QueryMasks")
    branch = reading.branches.get(head.config.branch)
    if branch is None:
        return reading.language.hidden_BTD.new_zeros((), dtype=torch.float32)
    queries, returned = [], []
    tokens, moves = branch.packed.split(), branch.packed.taps[MOVES].split()
    for number in range(len(branch.encoded[0].grids)):
        queries_QC = map_of(branch.encoded[0].taps[QUERIES], number)[:, 0].T
        stays_Q = moves[2 * number + 1][1:, 0] > 0  # behind the pixels and a separator
        queries.append(queries_QC[stays_Q])
        returned.append(head.project(tokens[2 * number + 1][1:][stays_Q]))
    return F.mse_loss(torch.cat(returned).float(), torch.cat(queries).float())


BOXES: dict[str, Callable[..., Tensor]] = {
    "box vectors": _regressed,
    "spoken boxes": _spoken,
    "proposals": _proposed,
}
