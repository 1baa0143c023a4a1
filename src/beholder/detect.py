"""Detection of what phrases name: boxes in pixels of the pictures, with scores.

V pictures, N boxes, B phrases.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from beholder.errors import BeholderError
from beholder.generate.results import Result, Usage
from beholder.media.plan import Box, View
from beholder.model import Batch
from beholder.planning import Plan, check_pictures
from beholder.reply import Reply

if TYPE_CHECKING:
    from beholder.parts.heads.phrases import Found
    from beholder.pipeline import Pipeline

LIKELY = 0.1  # the score that official processors of OWL-ViT ask for unless told otherwise


@dataclass(frozen=True)
class Detection:
    """A phrase, the probability from 0 to 1 that it names what is in the box, and the box in pixels of the picture."""

    label: str
    score: float
    box: Box


def phrases_of(text: str) -> list[str]:
    """The phrases of a question, which full stops part: "a cat. a dog." """
    return [phrase.strip() for phrase in text.split(".") if phrase.strip()]


def detect(
    pipeline: Pipeline, pictures: Sequence[object], phrases: Sequence[str], threshold: float = LIKELY
) -> list[tuple[Detection, ...]]:
    """What of the phrases is seen in each picture, the likeliest first; see `Pipeline.detect`."""
    if not finds_boxes(pipeline):
        raise BeholderError(f"{pipeline.card.name} finds no boxes; choose a detector such as OWL-ViT")
    if not phrases or not all(isinstance(phrase, str) and phrase.strip() for phrase in phrases):
        raise BeholderError(
            'name what to look for, such as ["a cat", "a dog"]; an empty phrase names nothing'
        )
    if not 0 <= threshold <= 1:
        raise BeholderError(f"threshold is {threshold}; scores are from 0 to 1")
    check_pictures(pipeline.card, len(pictures))
    if not pictures:
        raise BeholderError("no picture to look at; give at least one")
    with torch.inference_mode():
        language = pipeline._read_texts(list(phrases))
        branches = pipeline.encode_pictures(pictures)
        found = pipeline.model.apply_heads(Batch(), branches, language)["boxes"]
    (branch,) = branches.values()
    plans = [plan for row in branch.plans for plan in row]
    counts = [sum(grid.num_tokens for grid in plan.grids) for plan in plans]
    detections, start = [], 0
    for plan, count in zip(plans, counts, strict=True):
        detections.append(
            _likely(found, slice(start, start + count), plan.views[0], tuple(phrases), threshold)
        )
        start += count
    return detections


def finds_boxes(pipeline: Pipeline) -> bool:
    """Whether the system is a detector."""
    return "boxes" in {head.output for head in pipeline.card.heads}


def _likely(
    found: Found, rows: slice, view: View, phrases: tuple[str, ...], threshold: float
) -> tuple[Detection, ...]:
    """The boxes of one view that a phrase names likely enough, each with its likeliest phrase."""
    assert found.logits_NB is not None
    scores_N, labels_N = found.logits_NB[rows].float().sigmoid().max(-1)
    boxes_N4 = found.boxes_N4[rows].float()
    return tuple(
        Detection(phrases[int(labels_N[n])], float(scores_N[n]), on_original(boxes_N4[n].tolist(), view))
        for n in scores_N.argsort(descending=True).tolist()
        if scores_N[n] > threshold
    )


def on_original(shares: Sequence[float], view: View) -> Box:
    """A box in shares of a view's width and height, in pixels of the original and inside it."""
    height, width = view.size
    left, top = view.to_original(shares[0] * width, shares[1] * height)
    right, bottom = view.to_original(shares[2] * width, shares[3] * height)
    bottom_most, right_most = view.original
    return Box(
        *(min(max(x, 0.0), float(limit)) for x, limit in ((left, right_most), (top, bottom_most))),
        *(min(max(x, 0.0), float(limit)) for x, limit in ((right, right_most), (bottom, bottom_most))),
    )


def reply_of(pipeline: Pipeline, picture: object, question: str, threshold: float = LIKELY) -> Reply:
    """The answer to "a cat. a dog.": a line for each box, and the boxes."""
    phrases = phrases_of(question)
    (found,) = detect(pipeline, [picture], phrases, threshold)
    lines = [f"{one.label} {one.score:.2f} at {in_words(one.box)}" for one in found]
    text = "\n".join(lines) or f"nothing of {', '.join(phrases)}"
    plan = pipeline.plan(picture)
    reply = Reply(Result(text, (), "end", Usage()), Plan(plan.card, plan.pictures))
    reply.boxes = found
    return reply


def in_words(box: Box) -> str:
    """Edges in whole pixels."""
    left, top, right, bottom = (round(edge) for edge in box)
    return f"{left},{top} to {right},{bottom}"
