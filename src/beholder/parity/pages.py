"""Pictures whose patches were recorded with their rows and columns, counted from 1, and padding behind (Pix2Struct)."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from beholder.media.plan import Box, PicturePlan, View, in_order
from beholder.model import Batch, Model
from beholder.parity.rows import left_aligned, per_row
from beholder.planning import placed


def batch_of_pages(model: Model, inputs: Mapping[str, Tensor]) -> Batch | None:
    """Patches (V, N, 2 + values), one picture a row."""
    patches_VNP = inputs.get("flattened_patches")
    if patches_VNP is None:
        return None
    branch = model.card.branches[0]
    ids_BT, lengths = left_aligned(inputs.get("input_ids"), inputs.get("attention_mask"))
    views, plans = [page(patches_NP) for patches_NP in patches_VNP], []
    for view, patches_NP in zip(views, patches_VNP, strict=True):
        size = (view.shape[1], view.shape[2])
        spare = int((patches_NP[:, 0] == 0).sum())
        view_plan = View(size, (), Box(0, 0, size[1], size[0]), spare=spare)
        out = branch.grids((view_plan,), (branch.view_grid(view_plan),))
        plan = PicturePlan(branch.name, size, (view_plan,), out, (in_order(out),))
        plans.append(placed(model.card, plan))
    rows = 1 if ids_BT is None else len(ids_BT)
    return Batch(ids_BT, lengths, {branch.name: views}, per_row(model, plans, ids_BT, rows))


def page(patches_NP: Tensor) -> Tensor:
    """The view (3, h, w) of its patches (N, 2 + p p 3)."""
    rows, columns = (int(patches_NP[:, axis].max()) for axis in (0, 1))
    values = patches_NP[: rows * columns, 2:]
    side = round((values.shape[1] / 3) ** 0.5)
    view = values.reshape(rows, columns, side, side, 3).permute(4, 0, 2, 1, 3)
    return view.reshape(3, rows * side, columns * side)
