"""Words whose boxes on their page are recorded in thousandths of its sides (LayoutLMv3)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from torch import Tensor

from beholder.media.plan import Box
from beholder.media.regions import Region
from beholder.model import Batch


def on_page(batch: Batch, inputs: Mapping[str, Tensor]) -> Batch:
    """`batch` with a region for each token, in pixels of its row's picture."""
    rows = []
    for boxes_T4, keep_T, (plan,) in zip(inputs["bbox"], inputs["attention_mask"], batch.plans, strict=True):
        down, across = (side / 1000 for side in plan.original)
        boxes = boxes_T4[keep_T.bool()].tolist()
        rows.append(
            tuple(
                Region(Box(left * across, top * down, right * across, bottom * down))
                for left, top, right, bottom in boxes
            )
        )
    return replace(batch, regions=tuple(rows))
