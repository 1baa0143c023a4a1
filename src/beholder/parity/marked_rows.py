"""Pictures recorded as the whole and its tiles, whose rows are marked (Phi-4-multimodal)."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from beholder.errors import BeholderError
from beholder.media.hd import HdTiles
from beholder.media.plan import Box, PicturePlan, View
from beholder.model import Batch, Model
from beholder.parity.rows import left_aligned, per_row
from beholder.planning import placed


def whole_and_tiles(model: Model, inputs: Mapping[str, Tensor]) -> Batch | None:
    """Views (B, n, 3, h, w) of pictures of `image_sizes` (B, 2) pixels, the whole first, in whose tiles nothing is padding."""
    masks, pixels = inputs.get("image_attention_mask"), inputs.get("pixel_values")
    if masks is None or masks.ndim != 4 or pixels is None or pixels.ndim != 5:
        return None
    if not bool(masks.all()):
        raise BeholderError(
            "image_attention_mask has padding; only tiles that the picture fills are compared"
        )
    branch = model.card.branches[0]
    ids_BT, lengths = left_aligned(inputs["input_ids"], inputs.get("attention_mask"))
    plans, views = list[PicturePlan](), list[Tensor]()
    side = pixels.shape[-1]
    for size, (whole, *tiles) in zip(inputs["image_sizes"].tolist(), pixels, strict=True):
        rows, columns = (length // side for length in size)
        original = (rows * side, columns * side)
        planned = tuple(
            View(original, (), Box(x * side, y * side, (x + 1) * side, (y + 1) * side), role="tile")
            for y in range(rows)
            for x in range(columns)
        )
        planned += (View(original, ((side, side),), Box(0, 0, side, side), role="thumbnail"),)
        grids = branch.grids(planned, tuple(branch.view_grid(view) for view in planned))
        pieces = HdTiles(tile=side, most=rows * columns).pieces(planned, grids)
        plans.append(placed(model.card, PicturePlan(branch.name, original, planned, grids, pieces)))
        views += [*tiles[: rows * columns], whole]
    assert ids_BT is not None
    return Batch(ids_BT, lengths, {branch.name: views}, per_row(model, plans, ids_BT, len(ids_BT)))
