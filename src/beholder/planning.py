"""The plan of a request: what its pictures become, and its prompt, before anything is computed."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from beholder.cards.schema import Branch, Card
from beholder.errors import BeholderError
from beholder.media.clips import Frames, plan_recording
from beholder.media.geometry import Geometry, plan_picture
from beholder.media.plan import Media, PicturePlan, Size, Tag
from beholder.media.recordings import Recording
from beholder.prompts.chat import ChatFormat, Prompt
from beholder.prompts.formats import PLAIN
from beholder.prompts.messages import Clip, Picture, Still
from beholder.prompts.registry import format_from_template
from beholder.prompts.tokenizer import Tokenizer


@dataclass(frozen=True, eq=False)
class Plan:
    """pictures, sounds: plans in prompt order. prompt: None where no tokenizer was given. context: the model's limit
    in tokens. virtual: tokens that adapters put in front of the prompt.
    """

    card: str
    pictures: tuple[PicturePlan, ...]
    prompt: Prompt | None = None
    context: int | None = None
    sounds: tuple[PicturePlan, ...] = ()
    virtual: int = 0

    @property
    def image_tokens(self) -> int:
        """Feature tokens of all pictures."""
        return sum(plan.num_tokens for plan in self.pictures)

    @property
    def num_tokens(self) -> int | None:
        """Tokens of the whole prompt and of adapters in front of it, None without a tokenizer."""
        return None if self.prompt is None else self.virtual + len(self.prompt)


def listed(pictures: Any) -> list[Any]:
    """No picture (None), one or several as a list."""
    if pictures is None:
        return []
    if isinstance(pictures, (list, tuple)) and not is_size(pictures):
        return list(pictures)
    return [pictures]


def is_size(item: Any) -> bool:
    """Whether `item` is a (height, width)."""
    return isinstance(item, tuple) and len(item) == 2 and all(type(side) is int for side in item)


def placeholders(card: Card) -> list[tuple[str, int]]:
    """(branch, token id) of every fusion that puts features into the prompt."""
    return [place for place in (fusion.placeholder() for fusion in card.fusion) if place is not None]


def image_branches(card: Card) -> list[Branch]:
    """The branches that see pictures; the one whose features stand in the prompt is first."""
    branches = {branch.name: branch for branch in card.branches if branch.modality == "image"}
    first = next((branch for branch, _ in placeholders(card) if branch in branches), "")
    return sorted(branches.values(), key=lambda branch: branch.name != first)


def check_pictures(card: Card, count: int) -> None:
    """Raises `BeholderError` where the card takes no pictures but `count` are given."""
    if count and not image_branches(card):
        pictures = "1 picture" if count == 1 else f"{count} pictures"
        reads = "no pictures" if card.branches or card.codecs else "text alone"
        raise BeholderError(
            f"{card.name} reads {reads} but {pictures} came with it; choose a model that sees pictures"
        )


def check_answers(card: Card) -> None:
    """Raises `BeholderError` where the card writes no text, with what else it is good for."""
    modalities = {branch.modality for branch in card.branches}
    outputs = {head.output for head in card.heads}
    if "text" in outputs:
        return
    if card.codecs:
        instead = "turn pictures or sounds into codes and back with model.codecs"
    elif "labels" in outputs and "image" in modalities:
        instead = "tell its labels with classify"
    elif "audio" in modalities:
        instead = "take its features of sounds from the model (docs/backbones.md)"
    elif "similarity" in outputs:
        instead = "compare pictures and texts with embed"
    else:
        instead = f"take its vectors of {'texts' if card.main else 'pictures'} with embed"
    raise BeholderError(
        f"{card.name} writes no text and cannot answer; {instead}, or ask a system with a language model, such as mini"
    )


def branch_plan(card: Card, branch: Branch, size: Size) -> PicturePlan:
    """What a picture of (height, width) pixels becomes in one branch."""
    if branch.geometry is None:
        raise BeholderError(
            f"{card.name} does not say how pictures are cut and scaled; its folder lacks preprocessor_config.json"
        )
    height, width = int(size[0]), int(size[1])
    planned = plan_picture((height, width), branch.geometry, branch.view_grid, branch.grids, branch.name)
    return placed(card, planned)


def media_plan(card: Card, branch: Branch, part: Picture | Clip, item: np.ndarray | Recording) -> PicturePlan:
    """What a decoded picture or recording, a part of a message, becomes in one branch."""
    frames = branch.frames
    if isinstance(item, Recording):
        geometry = (frames and frames.geometry) or branch.geometry
        if frames is None or geometry is None:
            raise BeholderError(f"{card.name} reads no recordings as one; see check_clips")
        size = (item.shape[0], item.shape[1])
        return placed(
            card,
            plan_recording(
                size,
                item.times,
                item.duration,
                frames,
                geometry,
                branch.view_grid,
                branch.grids,
                branch.name,
            ),
        )
    if isinstance(part, Still) and frames is not None and frames.geometry is not None:
        branch = branch.but(geometry=frames.geometry)
    planned = branch_plan(card, branch, (item.shape[0], item.shape[1]))
    if isinstance(part, Still) and branch.name not in [name for name, _ in placeholders(card)]:
        return replace(planned, times=(part.seconds,))  # what heads follow; words have the captions
    return planned


def media_geometry(branch: Branch, part: Picture | Clip) -> Geometry:
    """How the pixels of a part of a message are cut and scaled."""
    own = branch.frames.geometry if branch.frames and isinstance(part, (Still, Clip)) else None
    geometry = own or branch.geometry
    assert geometry is not None, "checked by the plan"
    return geometry


def clip_frames(card: Card) -> Frames:
    """Which frames of recordings the card looks at. Raises `BeholderError` where it reads none."""
    branches = image_branches(card)
    if not branches or branches[0].frames is None:
        raise BeholderError(
            f"{card.name} reads no recordings; give it single pictures, or choose a system that does: beholder list "
            "--input video"
        )
    return branches[0].frames


def placed(card: Card, planned: PicturePlan) -> PicturePlan:
    """The plan with what the card's fusions put into the prompt."""
    for fusion in card.fusion:
        planned = fusion.placed(planned)
    branches = [branch for branch, _ in placeholders(card)]
    if branches and planned.branch not in branches:
        # what heads read, or layers by themselves, takes no place in the prompt
        kept = (piece for piece in planned.pieces if isinstance(piece, (Media, Tag)))
        planned = replace(planned, pieces=tuple(kept))
    return planned


def prompt_plan(card: Card, size: Size) -> PicturePlan:
    """The plan of the branch whose features stand in the prompt."""
    return branch_plan(card, image_branches(card)[0], size)


def chat_format(card: Card, tokenizer: Tokenizer) -> ChatFormat:
    """The card's own, else the one the tokenizer's published template writes, else plain text."""
    if card.prompt is not None:
        return card.prompt
    return PLAIN if tokenizer.chat_template is None else format_from_template(tokenizer.chat_template)


def place_features(prompt: Prompt, card: Card) -> list[int]:
    """The prompt's ids with the card's own placeholder id where features stand."""
    ids = np.array(prompt.ids, dtype=np.int64)
    places = placeholders(card)
    if (prompt.spans or prompt.sounds) and not places:
        raise BeholderError(
            f"{card.name} has no place for pictures in its prompt; use embed() to compare pictures and texts"
        )
    sounds = {branch.name for branch in card.branches if branch.modality == "audio"}
    heard = [(branch, token) for branch, token in places if branch in sounds]
    seen = [place for place in places if place not in heard]
    for spans, own in ((prompt.spans, seen), (prompt.sounds, heard)):
        for start, stop, *_ in spans:
            ids[start:stop] = (own or places)[0][1]
    return [int(token_id) for token_id in ids]
