"""Masks and boxes that an answer means: what heads make of its tokens, over the originals and with their phrases.

H W rows and columns of an original, h w of what the head gives, P masks.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from beholder.cards.schema import Card
from beholder.media.plan import PicturePlan, View
from beholder.model import Batch, Model
from beholder.parts.heads.masks import PromptedMasksHead
from beholder.parts.heads.query_masks import QueryMasksHead
from beholder.parts.heads.spoken_boxes import SpokenBoxesHead
from beholder.planning import placeholders
from beholder.prompts.tasks import Region
from beholder.prompts.tokenizer import Tokenizer

Speaking = PromptedMasksHead | QueryMasksHead | SpokenBoxesHead
SPEAKING = (PromptedMasksHead, QueryMasksHead, SpokenBoxesHead)


@dataclass(frozen=True, eq=False)
class Segment:
    """mask (H, W), booleans over an original; label: the phrase that it belongs to; score: how good it is thought to be, about
    0 to 1; picture: its number in the conversation, counted from 0 (a frame, where a recording was looked at).
    """

    label: str
    mask: np.ndarray
    score: float
    picture: int = 0

    def to_data(self) -> dict[str, object]:
        """JSON-ready, the mask as lengths of runs down the columns, the first of them outside (COCO's `counts`)."""
        ends = np.flatnonzero(np.diff(self.mask.ravel("F").astype(np.int8))) + 1
        counts = np.diff([0, *ends, self.mask.size]).tolist()
        counts = [0, *counts] if self.mask.ravel("F")[0] else counts
        size = list(self.mask.shape)
        return {
            "label": self.label,
            "score": self.score,
            "picture": self.picture,
            "size": size,
            "counts": counts,
        }


def read_batch(card: Card, batch: Batch) -> Batch:
    """The batch without views of branches that heads alone read once the answer stands."""
    read = {branch for branch, _ in placeholders(card)} | {fusion.region_branch for fusion in card.fusion}
    late = {getattr(head, "branch", None) for head in card.heads if head.hidden_of} - read
    return replace(batch, views={name: views for name, views in batch.views.items() if name not in late})


def row_of(batch: Batch, row: int, ids: Sequence[int]) -> Batch:
    """One row of a batch, with further tokens behind."""
    assert batch.ids_BT is not None
    length = batch.ids_BT.shape[1] if batch.lengths is None else batch.lengths[row]
    ids_1T = torch.cat((batch.ids_BT[row, :length], batch.ids_BT.new_tensor(list(ids))))[None]
    views = {}
    for name, given in batch.views.items():
        counts = [sum(len(plan.views) for plan in plans if plan.branch == name) for plans in batch.plans]
        first = sum(counts[:row])
        views[name] = given[first : first + counts[row]]
    words = None if batch.words is None else (batch.words[0][row : row + 1], batch.words[1][row : row + 1])
    regions = batch.regions[row : row + 1]
    return Batch(ids_1T, views=views, plans=batch.plans[row : row + 1], words=words, regions=regions)


@dataclass(frozen=True, eq=False)
class Track:
    """What a token of an answer means in each frame of a recording that is followed. label: its phrase; times: seconds."""

    label: str
    frames: tuple[Segment, ...]
    times: tuple[float, ...]

    def to_data(self) -> dict[str, object]:
        """JSON-ready: the masks as `Segment.to_data` gives them, each with its seconds."""
        frames = [
            {"seconds": time} | segment.to_data()
            for time, segment in zip(self.times, self.frames, strict=True)
        ]
        return {"label": self.label, "frames": frames}


class Meant(NamedTuple):
    """What tokens of an answer mean, in order: masks of pictures, tracks through recordings, boxes in pixels of the first
    picture.
    """

    masks: tuple[Segment, ...] = ()
    tracks: tuple[Track, ...] = ()
    boxes: tuple[Region, ...] = ()


def looks_again(model: Model) -> bool:
    """Whether `meant_by` may need the pixels of a batch."""
    return any(isinstance(head, SPEAKING) for head in model.heads)


@torch.inference_mode()
def meant_by(model: Model, batch: Batch, row: int, ids: Sequence[int], tokenizer: Tokenizer) -> Meant:
    """What the answer's tokens `ids` to a row of the batch mean to the heads that read them."""
    heads = [
        head for head in model.heads if isinstance(head, SPEAKING) and set(ids) & set(head.config.token_ids)
    ]
    if not heads:
        return Meant()
    own = row_of(batch, row, ids)
    given, meant = model(own).heads, Meant()
    for head in heads:
        found = given.get(head.config.output)
        if found is None:
            continue
        plans = [plan for plan in own.plans[0] if plan.branch == head.config.branch]
        labels = _labels(own, head, ids, tokenizer)
        if isinstance(head, SpokenBoxesHead):
            boxes = (plans[0].views[0].box_on_original(shares) for shares in found.boxes.tolist())
            regions = (
                Region(label, box) for label, box in zip(labels, boxes, strict=True) if label is not None
            )
            meant = meant._replace(boxes=tuple(regions))
        else:
            masks = list(_segments(*head.chosen(found), found.owners, plans, labels))
            stills = [each for segments in masks for each in segments if not plans[each.picture].times]
            tracks = [track for segments in masks for track in _tracks(segments, plans)]
            meant = meant._replace(masks=tuple(stills), tracks=tuple(tracks))
    return meant


def _labels(own: Batch, head: Speaking, ids: Sequence[int], tokenizer: Tokenizer) -> list[str | None]:
    """The phrase of each token that the head reads; None for those of the prompt."""
    assert own.ids_BT is not None
    said, labels = len(own.ids_BT[0]) - len(ids), list[str | None]()
    for place, token_id in enumerate(own.ids_BT[0].tolist()):
        if token_id in head.config.token_ids:
            before, after = ids[: max(place - said, 0)], ids[max(place - said, 0) :]
            behind = getattr(head.config, "named_behind", False)
            words = tokenizer.decode(list(after if behind else before), skip_special=False)
            label = phrase_in(words, head.config.phrases, number=0 if behind else -1)
            labels.append(label if place >= said else None)
    return labels


def _tracks(segments: Sequence[Segment], plans: Sequence[PicturePlan]) -> Iterator[Track]:
    """The masks of one token in a recording's frames, if there are any."""
    frames = tuple(segment for segment in segments if plans[segment.picture].times)
    if frames:
        yield Track(frames[0].label, frames, tuple(plans[frame.picture].times[0] for frame in frames))


def _segments(
    logits_Phw: Tensor,
    scores_P: Tensor,
    owners_P2: Tensor,
    plans: Sequence[PicturePlan],
    labels: Sequence[str | None],
) -> Iterator[list[Segment]]:
    """The masks of each token that has a label: one, or one for each frame where there are several."""
    pictures = owners_P2[:, 1].tolist()
    before = len(pictures) // max(pictures.count(0), 1)  # masks of one token: one a frame
    scores = scores_P.tolist()
    for number, label in enumerate(labels):
        if label is not None:
            own = range(number * before, (number + 1) * before)
            yield [
                Segment(label, over_original(logits_Phw[i], plans[pictures[i]]) > 0, scores[i], pictures[i])
                for i in own
            ]


def phrase_in(words: str, marks: tuple[str, str], *, number: int = -1) -> str:
    """A phrase between the marks, by default the last one, which several tokens may share; "" where there is none."""
    phrases = re.findall(f"{re.escape(marks[0])}(.*?){re.escape(marks[1])}", words, flags=re.DOTALL)
    return phrases[number].strip() if phrases else ""


def over_original(logits_hw: Tensor, plan: PicturePlan) -> np.ndarray:
    """A view's logits at the original's size (H, W); what the view does not show is far below 0."""
    view = plan.views[0]
    height, width = view.original
    logits_HW = F.interpolate(logits_hw[None, None].float(), view.size, mode="bilinear")[0, 0]
    top, left, bottom, right = _shown(view)
    part = logits_HW[top:bottom, left:right]
    (x0, y0), (x1, y1) = view.to_original(left, top), view.to_original(right, bottom)
    rows, columns = (max(round(y0), 0), min(round(y1), height)), (max(round(x0), 0), min(round(x1), width))
    size = (max(rows[1] - rows[0], 1), max(columns[1] - columns[0], 1))
    whole = np.full((height, width), -1e4, dtype=np.float32)
    scaled = F.interpolate(part[None, None], size, mode="bilinear")[0, 0]
    whole[rows[0] : rows[1], columns[0] : columns[1]] = scaled.cpu().numpy()
    return whole


def _shown(view: View) -> tuple[int, int, int, int]:
    """Top, left, bottom and right of the original in a view, in its pixels."""
    (left, top), (right, bottom) = (
        view.from_original(0, 0),
        view.from_original(view.original[1], view.original[0]),
    )
    height, width = view.size
    return max(round(top), 0), max(round(left), 0), min(round(bottom), height), min(round(right), width)
