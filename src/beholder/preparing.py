"""Conversations made ready for a model: media decoded, planned and scaled, prompts written.

B rows, T positions.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from beholder.cards.schema import Card
from beholder.generate.rows import check_context
from beholder.generate.sampling import Sampling
from beholder.hearing import decode_sounds, sound_plans, with_sounds
from beholder.media.plan import PicturePlan
from beholder.model import Batch, Model
from beholder.planning import Plan, check_pictures, image_branches, media_plan, place_features, placeholders
from beholder.prompts.chat import ChatFormat, Prompt, render
from beholder.prompts.messages import Message, pictures_of, regions_of
from beholder.prompts.tokenizer import Tokenizer
from beholder.questions import question_words
from beholder.referring import count_regions
from beholder.seeing import decode_media, shown, views_of


@dataclass(frozen=True, eq=False)
class Prepared:
    """Conversations ready for the model, and the seconds that took."""

    batch: Batch
    plans: tuple[Plan, ...]
    seconds_plan: float
    seconds_media: float

    @property
    def prompts(self) -> list[Prompt]:
        return [plan.prompt for plan in self.plans if plan.prompt is not None]

    @property
    def ends(self) -> list[int]:
        """Ids that end an answer."""
        return sorted({token_id for prompt in self.prompts for token_id in prompt.stop_ids})

    def samplings(self, sampling: Sampling) -> list[Sampling]:
        """One for each conversation, with what ends an answer in its format."""
        return [replace(sampling, stops=(*sampling.stops, *prompt.stops)) for prompt in self.prompts]


def prepare(
    model: Model,
    tokenizer: Tokenizer,
    chat: ChatFormat,
    words: Tokenizer | None,
    conversations: Sequence[Sequence[Message]],
) -> Prepared:
    """Decode, plan, write the prompts, check the context, and only then scale pictures. words: of a connector that reads
    questions in a vocabulary of its own. Raises `BeholderError` for what the system cannot take.
    """
    start = time.perf_counter()
    card = model.card
    check_pictures(card, sum(len(pictures_of(messages)) for messages in conversations))
    before = time.perf_counter()
    conversations, seen = decode_media(card, conversations)
    heard = decode_sounds(card, conversations)
    decoding = time.perf_counter() - before
    branches = image_branches(card)
    by_branch = [
        [[media_plan(card, branch, *one) for one in shown(branch, row)] for branch in branches]
        for row in seen
    ]
    conversations = [
        count_regions(card, messages, row[0] if row else ())
        for messages, row in zip(conversations, by_branch, strict=True)
    ]
    sounds = [sound_plans(card, row) for row in heard]
    prompts = [
        render(messages, chat, tokenizer, row[0] if row else (), own)
        for messages, row, own in zip(conversations, by_branch, sounds, strict=True)
    ]
    asked = question_words(card, words, conversations, model.device)
    regions = tuple(regions_of(messages) for messages in conversations)
    planned_rows = [[*row, own] for row, own in zip(by_branch, sounds, strict=True)]
    batch = replace(_rows(card, prompts, planned_rows, model.device), words=asked, regions=regions)
    check_context(model, batch)
    planned = time.perf_counter()
    here = torch.device("cpu")  # where pixels wait until an encoder is free for them
    views = views_of(card, [pair for row in seen for pair in row], by_branch, here)
    batch = with_sounds(replace(batch, views=views), card, heard, sounds, model.device)
    context = None if card.main is None else card.main.context
    plans = tuple(
        Plan(card.name, tuple(row[0] if row else ()), prompt, context, tuple(own), card.virtual_tokens)
        for row, prompt, own in zip(by_branch, prompts, sounds, strict=True)
    )
    media = decoding + time.perf_counter() - planned
    return Prepared(batch, plans, planned - start - decoding, media)


def _rows(
    card: Card,
    prompts: Sequence[Prompt],
    by_branch: Sequence[Sequence[Sequence[PicturePlan]]],
    device: torch.device,
) -> Batch:
    """Prompts as one table, rows left-aligned."""
    rows = [place_features(prompt, card) for prompt in prompts]
    width = max(map(len, rows))
    taken = {token_id for _, token_id in placeholders(card)}
    blank = next(token_id for token_id in range(len(taken) + 1) if token_id not in taken)
    ids_BT = torch.tensor([row + [blank] * (width - len(row)) for row in rows], device=device)
    plans = tuple(tuple(plan for branch in row for plan in branch) for row in by_branch)
    return Batch(ids_BT=ids_BT, lengths=tuple(map(len, rows)), plans=plans)
