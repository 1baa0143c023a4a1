"""The official forward's arguments as rows of ours: left-aligned ids, pictures dealt out to them, pixels put together."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from beholder.media.plan import Box, PicturePlan, View
from beholder.model import Model
from beholder.parts.contracts import EncoderConfig
from beholder.parts.fusion.splice import Splice
from beholder.parts.heads.queried import QueryRetrieval
from beholder.parts.vision.tiled_vit import TiledViT


def per_row(
    model: Model, plans: Sequence[PicturePlan], ids_BT: Tensor | None, rows: int
) -> tuple[tuple[PicturePlan, ...], ...]:
    """Pictures dealt out to rows by the number of placeholders each row has."""
    placeholders = [p for p in (fusion.placeholder() for fusion in model.card.fusion) if p]
    own = [p for p in placeholders if plans and p[0] == plans[0].branch]
    placeholder = next(iter((*own, *placeholders)), None)
    if any(fusion.by_row for fusion in model.card.fusion) and len(plans) % rows == 0:
        each = len(plans) // rows
        return tuple(tuple(plans[row * each : (row + 1) * each]) for row in range(rows))
    if placeholder is None or ids_BT is None:
        return (tuple(plans),) + ((),) * (rows - 1)
    dealt, rest = [], list(plans)
    for ids_T in ids_BT:
        room, mine = int((ids_T == placeholder[1]).sum()), []
        while rest and room > 0:
            room -= rest[0].num_tokens
            mine.append(rest.pop(0))
        dealt.append(tuple(mine))
    return tuple(dealt)


def left_aligned(
    ids_BT: Tensor | None, mask_BT: Tensor | None
) -> tuple[Tensor | None, tuple[int, ...] | None]:
    if ids_BT is None or mask_BT is None or bool(mask_BT.all()):
        return ids_BT, None
    rows = [ids_T[mask_T.bool()] for ids_T, mask_T in zip(ids_BT, mask_BT, strict=True)]
    aligned = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
    return aligned, tuple(len(row) for row in rows)


def clips(pixels_VF3hw: Tensor) -> list[Tensor]:
    """Recorded clips, frames first, as views (3, frames, h, w)."""
    return list(pixels_VF3hw.transpose(1, 2))


def regions(inputs: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Features of regions (V, N, D) as views (V, D, 1, N) with their sizes, padding cut off."""
    features_VND = inputs["visual_embeds"]
    keep_VN = inputs.get("visual_attention_mask", torch.ones(features_VND.shape[:2]))
    counts_V = keep_VN.sum(1).long()
    return features_VND.transpose(1, 2)[:, :, None], torch.stack((torch.ones_like(counts_V), counts_V), 1)


def patches(numbers_BNP: Tensor) -> Tensor:
    """Patches whose pixels were recorded row by row, channels together, as views of one patch, (B N, 3, p, p)."""
    side = math.isqrt(numbers_BNP.shape[-1] // 3)
    return numbers_BNP.reshape(-1, side, side, 3).permute(0, 3, 1, 2)


def pictures(numbers_BNP: Tensor, shapes_B2: Tensor) -> tuple[Tensor, Tensor]:
    """The same of pictures that have rows and columns of patches `shapes_B2`, padding last: (B, 3, H, W), their sizes."""
    pictures = [
        patches(numbers_NP[None, : rows * columns])
        .unflatten(0, (rows, columns))
        .permute(2, 0, 3, 1, 4)
        .flatten(3)
        .flatten(1, 2)
        for numbers_NP, (rows, columns) in zip(numbers_BNP, shapes_B2.tolist(), strict=True)
    ]
    sizes_B2 = torch.tensor([picture.shape[1:] for picture in pictures])
    down, across = sizes_B2.amax(0).tolist()
    padded = [
        torch.nn.functional.pad(picture, (0, across - picture.shape[2], 0, down - picture.shape[1]))
        for picture in pictures
    ]
    return torch.stack(padded), sizes_B2


def canvases(encoder: EncoderConfig, pixels: Tensor, shapes: Tensor) -> list[Tensor]:
    """Tiles (rows, pictures, L, 3, h, w) put together; shapes: the number of each picture's, 0 for none."""
    assert isinstance(encoder, TiledViT)
    views = []
    for tiles, number in zip(pixels.flatten(0, 1), shapes.flatten().tolist(), strict=True):
        if number:
            rows, columns = encoder.shapes[number - 1]
            grid = tiles[: rows * columns].unflatten(0, (rows, columns))
            views.append(grid.permute(2, 0, 3, 1, 4).flatten(3).flatten(1, 2))
    return views


def marked(model: Model, inputs: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """Arguments whose ids have the card's placeholder where a mask says that features stand (Kosmos-2)."""
    places_BT = inputs.get("image_embeds_position_mask")
    places = [place[1] for place in (fusion.placeholder() for fusion in model.card.fusion) if place]
    if places_BT is None or not places:
        return inputs
    return {**inputs, "input_ids": inputs["input_ids"].masked_fill(places_BT.bool(), places[0])}


def features_first(model: Model, inputs: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """Arguments with placeholders in front of the words where the official forward puts features there (GIT)."""
    apart = next((each for each in model.card.fusion if isinstance(each, Splice) and each.apart), None)
    if apart is None or "pixel_values" not in inputs:
        return inputs
    branch, size = model.card.branch(apart.branch), (*inputs["pixel_values"].shape[-2:],)
    view = View((size[0], size[1]), (), Box(0, 0, size[1], size[0]))
    count = sum(grid.num_tokens for grid in branch.grids((view,), (branch.view_grid(view),)))
    ids_BT = inputs["input_ids"]
    return {
        **inputs,
        "input_ids": F.pad(ids_BT, (count, 0), value=apart.token_id),
        "attention_mask": F.pad(inputs.get("attention_mask", torch.ones_like(ids_BT)), (count, 0), value=1),
    }


def words_alone(model: Model, inputs: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """Arguments without the ids in front that stand for queries, which the official forward cuts off whatever they are, where
    a head reads pictures and words (`Blip2ForImageTextRetrieval`).
    """
    counts = [head.stack.queries for head in model.card.heads if isinstance(head, QueryRetrieval)]
    if not counts:
        return inputs
    cut = {name: inputs[name][:, counts[0] :] for name in ("input_ids", "attention_mask") if name in inputs}
    return {**inputs, **cut}


def without_question(
    model: Model, inputs: Mapping[str, Tensor], ids_BT: Tensor | None
) -> tuple[int, ...] | None:
    """No token is the question where questions could be read both ways but no kinds of tokens say which: the official
    PaliGemma then reads all as an answer, and ColPali, which gives none, with it.
    """
    read_both_ways = any(fusion.reads_prompt for fusion in model.card.fusion)
    return (
        (0,) * len(ids_BT)
        if read_both_ways and ids_BT is not None and "token_type_ids" not in inputs
        else None
    )


def question(inputs: Mapping[str, Tensor]) -> tuple[Tensor, Tensor] | None:
    """What a Q-Former reads of the question, and which of it is no padding."""
    ids_BW = inputs.get("qformer_input_ids")
    return None if ids_BW is None else (ids_BW, inputs.get("qformer_attention_mask", torch.ones_like(ids_BW)))


def written(model: Model, inputs: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """Arguments in which what a decoder has written is its own, where it is told of pictures by its memory alone."""
    main, decoded = model.card.main, inputs.get("decoder_input_ids")
    if decoded is None or main is None or main.reads_apart or {"input_ids", "input_features"} & inputs.keys():
        return inputs
    return {**inputs, "input_ids": decoded, "attention_mask": torch.ones_like(decoded)}
