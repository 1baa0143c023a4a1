"""What is looked at: pictures and recordings of conversations, decoded, and the views that encoders take."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from beholder.cards.schema import Branch, Card
from beholder.errors import BeholderError, MediaError
from beholder.hearing import decode_sounds, sound_plans, writes_down
from beholder.media.at_once import every
from beholder.media.decode import decode_many
from beholder.media.pixels import load_masks, load_recording, load_views
from beholder.media.plan import PicturePlan
from beholder.media.recordings import Recording, blank, decode_clip, is_clip
from beholder.media.waves import is_sound
from beholder.parts.contracts import VisionConfig
from beholder.parts.vision.patches import MASK_MEAN, MASK_STD
from beholder.planning import (
    Plan,
    chat_format,
    check_pictures,
    clip_frames,
    image_branches,
    is_size,
    listed,
    media_geometry,
    media_plan,
)
from beholder.prompts.chat import ChatFormat, render
from beholder.prompts.messages import Clip, Message, Part, Picture, Sound, Still, filled, pictures_of, user
from beholder.prompts.tokenizer import Tokenizer

Seen = tuple[Picture | Clip, np.ndarray | Recording]  # a part of a message and its pixels
Looked = tuple[Clip, Recording, tuple[tuple[str, ...], ...]]


def part_of(source: Any) -> Picture | Clip | Sound:
    """A source as the part of a message that it is: files of clips are recordings, those of sounds alone sounds, others
    pictures.
    """
    if isinstance(source, (Picture, Clip, Sound)):
        return source
    if is_sound(source):
        return Sound(source)
    return Clip(source) if is_clip(source) else Picture(source)


def decode_media(
    card: Card, conversations: Sequence[Sequence[Message]]
) -> tuple[list[list[Message]], list[list[Seen]]]:
    """The conversations with recordings cut into their frames where the card reads those one by one, and for each the decoded
    pictures and recordings, in order. Raises as `with_pixels`.
    """
    opened = with_pixels(card, conversations)
    return [spoken(card, messages) for messages in opened], [seen_in(messages) for messages in opened]


def with_pixels(
    card: Card, conversations: Sequence[Sequence[Message]], *, outline: bool = False
) -> list[list[Message]]:
    """The conversations with what is seen decoded, as the sources of its parts, and recordings cut into their frames where the
    card reads those one by one. outline: for plans, frames are blank and of the right size. Raises `MediaError` for what
    cannot be decoded and `BeholderError` for recordings that the card cannot read.
    """
    parts = [part for row in conversations for part in pictures_of(row)]
    recordings = _recordings(card, parts, outline=outline)
    cut = [
        [replace(message, parts=tuple(_cut(card, message.parts, recordings))) for message in messages]
        for messages in conversations
    ]
    sources = [part.source for row in cut for part in pictures_of(row) if isinstance(part, Picture)]
    pictures = iter(decode_many(sources))
    clips = {id(clip): recording for clip, recording, _ in recordings}
    whole = [
        [clips[id(part)] for part in pictures_of(messages) if isinstance(part, Clip)] for messages in cut
    ]
    return [
        list(filled(filled(messages, Picture, pictures), Clip, own))
        for messages, own in zip(cut, whole, strict=True)
    ]


def seen_in(messages: Sequence[Message]) -> list[Seen]:
    """What is seen in messages of `with_pixels`, in order."""
    return [(part, part.source) for part in pictures_of(messages)]


def shown(branch: Branch, seen: Sequence[Seen]) -> list[Seen]:
    """What of all that is seen a branch looks at: recordings as one are seen by branches with a rule of frames alone."""
    return [(part, item) for part, item in seen if _looks(branch, part)]


def _looks(branch: Branch, part: Part) -> bool:
    if isinstance(part, Clip):
        return branch.frames is not None
    return not isinstance(part, Still) or not part.only or branch.name in part.only


def spoken(card: Card, messages: Sequence[Message]) -> list[Message]:
    """Messages of `with_pixels` without frames that stand in no prompt."""
    first = image_branches(card)[:1]
    return [
        replace(
            message, parts=tuple(part for part in message.parts if all(_looks(own, part) for own in first))
        )
        for message in messages
    ]


def _recordings(card: Card, parts: Sequence[Picture | Clip], *, outline: bool) -> list[Looked]:
    """Clips with what is looked at of them, and for each frame the branches that look at it, () where all do."""
    clips = [part for part in parts if isinstance(part, Clip)]
    for number, part in enumerate(parts, start=1):
        what = "clip" if isinstance(part, Clip) else "picture"
        if part.source is None:
            raise BeholderError(
                f"{what} {number} of the messages has no source; give a path, bytes, array or image"
            )
    look = partial(_looked_at, card, outline=outline)
    return [
        (clip, *looked)
        for clip, looked in zip(clips, every(look, clips, range(1, len(clips) + 1)), strict=True)
    ]


def _looked_at(
    card: Card, clip: Clip, number: int, *, outline: bool
) -> tuple[Recording, tuple[tuple[str, ...], ...]]:
    decode = partial(decode_clip, clip.source, name=clip.name or f"clip {number}", outline=outline)
    branches, frames = image_branches(card), clip_frames(card)
    chosen: dict[str, set[int]] = {}

    def choose(times: Sequence[float]) -> list[int]:
        chosen.update({branch.name: set((branch.frames or frames).choose(times)) for branch in branches})
        return sorted(set().union(*chosen.values()))

    if all(branch.frames is None for branch in branches[1:]):
        return decode(frames.choose), ()
    recording = decode(choose)
    numbers = sorted(set().union(*chosen.values()))
    return recording, tuple(
        tuple(branch.name for branch in branches if number in chosen[branch.name]) for number in numbers
    )


def _cut(card: Card, parts: Sequence[Part], recordings: Sequence[Looked]) -> Iterator[Part]:
    """The parts, recordings replaced by their frames where they stand as pictures of their own."""
    for part in parts:
        if isinstance(part, Clip) and (frames := clip_frames(card)).apart:
            recording, owners = next((recording, own) for clip, recording, own in recordings if clip is part)
            prompted = image_branches(card)[0].name
            count, number = sum(not own or prompted in own for own in owners) or len(recording.frames), 0
            if frames.joined is not None:
                yield Still(frames.joined.picture(recording.frames), frames.label, frames.end)
                continue
            for pixels, seconds, own in zip(
                recording.frames, recording.times, owners or ((),) * len(recording.frames), strict=True
            ):
                if own and prompted not in own:
                    yield Still(pixels, seconds=seconds, only=own)
                    continue
                number += 1
                when = (number, seconds, count, recording.duration)
                label = frames.between * (number > 1) + frames.caption(*when)
                yield Still(pixels, label, frames.caption(*when, behind=True), seconds, own)
        else:
            yield part


def plan(
    card: Card,
    pictures: Any = (),
    text: str = "",
    *,
    tokenizer: Tokenizer | None = None,
    chat: ChatFormat | None = None,
) -> Plan:
    """The plan of pictures, recordings, sounds and a text for a card; no weights are needed.

    pictures: sources as in `media.decode` and `media.recordings`, or sizes (height, width) in pixels. The prompt is planned
    where a tokenizer is given. Raises `BeholderError` for what the card cannot take.
    """
    parts = [Picture(blank((*item, 3))) if is_size(item) else part_of(item) for item in listed(pictures)]
    check_pictures(card, sum(not isinstance(part, Sound) for part in parts))
    (messages,), (seen,) = decode_media(card, [[user(*parts, text)]])
    first = image_branches(card)[:1]
    plans = [media_plan(card, branch, part, item) for branch in first for part, item in shown(branch, seen)]
    (heard,) = decode_sounds(card, [messages])
    sounds = tuple(sound_plans(card, heard))
    prompt = None
    if tokenizer is not None and not writes_down(card):
        prompt = render(messages, chat or chat_format(card, tokenizer), tokenizer, plans, sounds)
    context = None if card.main is None else card.main.context
    return Plan(card.name, tuple(plans), prompt, context, sounds, card.virtual_tokens)


def load_media(branch: Branch, seen: Sequence[Seen], plans: Sequence[PicturePlan]) -> list[Tensor]:
    """The views of a branch for what it looks at, planned by `plans`, one after the other; made in threads."""
    seen = shown(branch, seen)
    if len(seen) != len(plans):
        raise ValueError(f"{len(seen)} pictures but {len(plans)} plans; plan each picture once")

    def load(number: int, one: Seen, plan: PicturePlan) -> list[Tensor]:
        part, item = one
        geometry = media_geometry(branch, part)
        try:
            if isinstance(item, Recording):
                return load_recording(item.frames, plan.views, geometry)
            return load_views(item, plan.views, geometry)
        except MemoryError:
            raise MediaError(
                f"image {number}: no memory for its {len(plan.views)} views; scale it down or give fewer at once"
            ) from None

    made = every(load, range(1, len(seen) + 1), seen, plans)
    return [view for views in made for view in views]


def views_of(
    card: Card,
    seen: Sequence[Seen],
    by_branch: Sequence[Sequence[Sequence[PicturePlan]]],
    device: torch.device,
) -> dict[str, list[Tensor]]:
    """Every branch's views of all pictures and recordings, row after row; `by_branch` has for each row each branch's plans."""
    views: dict[str, list[Tensor]] = {}
    for number, branch in enumerate(image_branches(card)):
        plans = [plan for row in by_branch for plan in row[number]]
        if plans:
            views[branch.name] = [view.to(device) for view in load_media(branch, seen, plans)]
    return views


def masked(
    card: Card,
    branch: Branch,
    views: Sequence[Tensor],
    masks: Sequence[np.ndarray],
    plans: Sequence[PicturePlan],
) -> list[Tensor]:
    """The views with their masks as fourth channels. Raises `BeholderError` where the encoder reads none."""
    encoder, geometry = branch.encoders[0], branch.geometry
    if not isinstance(encoder, VisionConfig) or not encoder.reads_masks or geometry is None:
        raise BeholderError(f"{card.name} reads no masks; choose a system that does, such as alpha-clip-l-14")
    channels = [
        (mask - MASK_MEAN) / MASK_STD
        for mask_HW, plan in zip(masks, plans, strict=True)
        for mask in load_masks(mask_HW, plan.views, geometry)
    ]
    return [torch.cat((view, mask.to(view))) for view, mask in zip(views, channels, strict=True)]
