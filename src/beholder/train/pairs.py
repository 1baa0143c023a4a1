"""Batches of pictures each with a text that belongs to it: for dual encoders, for systems that caption or compare, and of texts
or pictures alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch

from beholder.cards.schema import Card
from beholder.data.samples import Item, Sample, turns_of
from beholder.errors import BeholderError
from beholder.media.pixels import load_views
from beholder.media.plan import PicturePlan
from beholder.model import Batch
from beholder.planning import branch_plan, chat_format, image_branches, placeholders
from beholder.prompts.chat import complete, render
from beholder.prompts.messages import pictures_of, sounds_of
from beholder.prompts.tokenizer import Tokenizer
from beholder.train.collate import Answers, Collator, TrainBatch
from beholder.train.objectives.pairs import represented as represented
from beholder.train.objectives.pairs import sigmoid_pairs as sigmoid_pairs


class PairCollator:
    """Makes batches for a card whose pictures take no place among the words: row i of the texts is the answer of sample i's
    first turn, and where the card writes, all its tokens but the first are the answer. A card without words gets pictures
    alone. Raises `BeholderError` for another card, and for a text beyond the context.

    texts: so many turns of each sample are rows of texts, and there are no pictures. longest: what becomes of a text beyond the
    context: an error, or `cut`, which leaves its beginning and its last token.
    """

    def __init__(
        self, card: Card, tokenizer: Tokenizer, *, texts: int = 0, longest: Literal["error", "cut"] = "error"
    ) -> None:
        branches = image_branches(card)
        if not branches or placeholders(card) or branches[0].geometry is None:
            raise BeholderError(
                f"card {card.name} compares no pictures with texts and captions none; choose a dual encoder or a captioner"
            )
        if texts and card.main is None:
            raise BeholderError(f"card {card.name} reads no texts; leave texts=0")
        self.card, self.tokenizer, self.branch, self.texts = card, tokenizer, branches[0], texts
        self.chat, self.longest = chat_format(card, tokenizer), longest
        self.writes = "text" in {head.output for head in card.heads}

    def __call__(self, items: Sequence[Item]) -> TrainBatch:
        samples = [self._sample(item) for item in items]
        plans: list[PicturePlan] = []
        views: list[torch.Tensor] = []
        for sample in () if self.texts else samples:
            assert self.branch.geometry is not None
            height, width = sample.pixels.shape[:2]
            plan = branch_plan(self.card, self.branch, (height, width))
            plans.append(plan)
            views += load_views(sample.pixels, plan.views, self.branch.geometry)
        rows = [self._ids(sample, turn) for sample in samples for turn in range(self.texts or 1)]
        ids_BT, lengths = self._padded(rows)
        batch = Batch(
            ids_BT=ids_BT,
            lengths=lengths,
            views={} if self.texts else {self.branch.name: views},
            plans=tuple((plan,) for plan in plans),
        )
        return TrainBatch(batch, self._answers(rows), tuple(sample.turns for sample in samples))

    def _sample(self, item: Item) -> Sample:
        """A conversation about one picture as a sample; where texts alone are read, of any pictures."""
        if isinstance(item, Sample):
            return item
        places = len(pictures_of(item.messages)) + len(sounds_of(item.messages))
        if not len(item.pictures) == places == 1 and not self.texts:
            moving = places - len(item.pictures)
            more = f" and {moving} clips or sounds" if moving else ""
            raise BeholderError(
                f"conversation {item.key} has {len(item.pictures)} pictures{more}; {self.card.name} compares one with its text"
            )
        pixels = item.pictures[0] if item.pictures else np.zeros((0, 0, 3), np.uint8)
        return Sample(pixels, turns_of(item.messages), item.key)

    def _padded(self, rows: Sequence[Sequence[int]]) -> tuple[torch.Tensor | None, tuple[int, ...] | None]:
        if self.card.main is None:
            return None, None
        fills = self.card.main.fills_context
        width, blank = self.card.main.context if fills else max(map(len, rows)), self.tokenizer.pad_id or 0
        ids_BT = torch.tensor([[*row, *[blank] * (width - len(row))] for row in rows])
        return ids_BT, None if fills else tuple(map(len, rows))

    def _answers(self, rows: Sequence[Sequence[int]]) -> Answers:
        return Answers.of(
            [
                (row, place, token, 1 / (len(ids) - 1))
                for row, ids in enumerate(rows if self.writes else ())
                for place, token in enumerate(ids[1:])
            ]
        )

    def _ids(self, sample: Sample, turn: int) -> list[int]:
        main = self.card.main
        if main is None:
            return []
        if turn >= len(sample.turns):
            raise BeholderError(
                f"sample {sample.key} has {len(sample.turns)} turns; its texts are turns 1 to {turn + 1}"
            )
        ids = list(render(complete(sample.turns[turn].answer), self.chat, self.tokenizer).ids)
        if self.writes and self.tokenizer.eos_ids and ids[-1] not in self.tokenizer.eos_ids:
            ids.append(self.tokenizer.eos_ids[0])
        if len(ids) > main.context and self.longest == "cut":
            return [*ids[: main.context - 1], ids[-1]]
        if len(ids) > main.context:
            raise BeholderError(
                f"sample {sample.key}: a text of {len(ids)} tokens; {self.card.name} reads at most {main.context}"
            )
        return ids


OF_PAIRS = ("contrast", "sigmoids", "masked-words", "labels", "next-token, previous-token")


def collator_of(
    objective: str, card: Card, tokenizer: Tokenizer, *, longest: Literal["error", "cut"] = "error"
) -> Collator | PairCollator:
    """What makes the batches that the objective of this name reads."""
    if not objective.startswith(OF_PAIRS):
        return Collator(card, tokenizer, longest=longest)
    return PairCollator(card, tokenizer, texts=2 if objective == "contrast, texts" else 0, longest=longest)
