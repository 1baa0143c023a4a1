"""Pictures recorded as patches of the whole and of its crops, with the numbers of those that are pooled (Molmo 2)."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from beholder.errors import BeholderError
from beholder.media.plan import Box, PicturePlan, View, in_order
from beholder.model import Batch, Model
from beholder.parity.rows import left_aligned, patches, per_row
from beholder.parts.connectors.crops import SquarePool
from beholder.parts.vision.vit import ViT
from beholder.planning import placed


def batch_of_crops(model: Model, inputs: Mapping[str, Tensor]) -> Batch | None:
    """Views (V, patches, values) of pictures with `image_num_crops` (B) of them and `image_grids` (B, 4): rows and columns
    of tokens of the whole picture, and of its crops together.
    """
    if "image_token_pooling" not in inputs or "pixel_values" not in inputs:
        return None
    branch = model.card.branches[0]
    encoder, pool = branch.encoders[0], branch.connector
    assert isinstance(encoder, ViT) and isinstance(pool, SquarePool)
    ids_BT, lengths = left_aligned(inputs["input_ids"], inputs.get("attention_mask"))
    cells = encoder.image_size // encoder.patch
    pixels_VNP = inputs["pixel_values"]
    parts = patches(pixels_VNP).unflatten(0, (len(pixels_VNP), cells, cells))
    views = list(parts.permute(0, 3, 1, 4, 2, 5).flatten(2, 3).flatten(3))
    plans = []
    for count, grid in zip(inputs["image_num_crops"].tolist(), inputs["image_grids"].tolist(), strict=True):
        planned = _views(encoder.image_size, count - 1, cells, pool, (grid[2], grid[3]))
        grids = branch.grids(planned, tuple(branch.view_grid(view) for view in planned))
        if [side for one in grids for side in (one.height, one.width)] != grid:
            raise BeholderError(
                f"the recorded grids are {grid}; crops of {cells} patches a side give {grids}"
            )
        plan = PicturePlan(branch.name, planned[0].original, planned, grids, (in_order(grids),))
        plans.append(placed(model.card, plan))
    assert ids_BT is not None
    return Batch(
        ids_BT,
        lengths,
        {branch.name: views},
        per_row(model, plans, ids_BT, len(ids_BT)),
        prompts=None if "mm_token_type_ids" in inputs else (0,) * len(ids_BT),
    )


def _views(size: int, count: int, cells: int, pool: SquarePool, joint: tuple[int, int]) -> tuple[View, ...]:
    """The whole picture and `count` crops whose tokens make a map of `joint` squares."""
    inner = cells - 2 * pool.margin
    rows = next(
        rows
        for rows in range(1, count + 1)
        if count % rows == 0 and -(-(rows * inner + 2 * pool.margin) // pool.side) == joint[0]
    )
    step = size * inner // cells
    whole = View((size, size), (), Box(0, 0, size, size), role="thumbnail")
    corners = ((row * step, column * step) for row in range(rows) for column in range(count // rows))
    return whole, *(
        View((size, size), (), Box(left, top, left + size, top + size), "tile") for top, left in corners
    )
