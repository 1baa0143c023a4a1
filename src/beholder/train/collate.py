"""Samples to batches: the questions about a picture stand as siblings behind one prefix that holds the picture, so that
the picture is read once, and every question sees just what it would see alone.

B rows, T positions, A answer tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from beholder.cards.schema import Branch, Card
from beholder.data.samples import Sample, Turn
from beholder.errors import BeholderError
from beholder.media.pixels import load_views
from beholder.media.plan import PicturePlan
from beholder.media.regions import Region
from beholder.model import Batch
from beholder.parts.blocks.masks import PADDING, Visibility
from beholder.planning import branch_plan, image_branches
from beholder.prompts.chat import render
from beholder.prompts.messages import Picture, assistant, user
from beholder.prompts.tokenizer import Tokenizer
from beholder.questions import reads_questions


@dataclass(frozen=True)
class Answers:
    """Where answer tokens are predicted: at (rows_A, places_A) the token targets_A comes next. weights_A: the tokens of
    one answer share a weight of 1, so that long answers do not drown short ones.
    """

    rows_A: Tensor
    places_A: Tensor
    targets_A: Tensor
    weights_A: Tensor


@dataclass(frozen=True)
class TrainBatch:
    """A batch, where its answers stand, and the turns of each sample. regions: of each row, what its answers point to, in the
    order of the tokens that stand for them; () where nothing is pointed to.
    """

    batch: Batch
    answers: Answers
    turns: tuple[tuple[Turn, ...], ...]
    regions: tuple[tuple[Region, ...], ...] = ()

    @property
    def num_questions(self) -> int:
        return sum(len(turns) for turns in self.turns)


@dataclass(frozen=True)
class _Row:
    """A sample's tokens: a shared prefix, then per question its tokens and which of them are answer."""

    prefix: list[int]
    questions: list[tuple[list[int], list[bool]]]

    @property
    def prompt(self) -> int:
        """Tokens before the answer to the first question."""
        return len(self.prefix) + self.questions[0][1].index(True)

    @property
    def width(self) -> int:
        return len(self.prefix) + sum(len(ids) for ids, _ in self.questions)


class Collator:
    """Makes batches for a card with a splice, every branch's views of each sample's picture, in the token layout that
    answering uses.
    """

    def __init__(self, card: Card, tokenizer: Tokenizer) -> None:
        if card.prompt is None or card.main is None:
            raise BeholderError(
                f"card {card.name} has no chat format or no language part; it cannot learn to answer"
            )
        if card.main.reads_apart:
            raise BeholderError(
                f"card {card.name} reads prompts with an encoder; only decoders are trained so far"
            )
        if reads_questions(card):
            raise BeholderError(
                f"card {card.name} reads each question with the picture; samples share one picture among several so far"
            )
        self.card, self.tokenizer, self.chat = card, tokenizer, card.prompt
        self.branches = image_branches(card)
        placeholder = next((p for fusion in card.fusion if (p := fusion.placeholder()) is not None), None)
        if placeholder is None or not all(branch.geometry for branch in self.branches):
            raise BeholderError(
                f"card {card.name} has no placeholders for its picture's features in the prompt"
            )
        self.placeholder = placeholder[1]
        self.reads_prompt = any(fusion.reads_prompt for fusion in card.fusion)

    def __call__(self, samples: Sequence[Sample]) -> TrainBatch:
        if self.reads_prompt:
            samples = [replace(sample, turns=(turn,)) for sample in samples for turn in sample.turns]
        plans = [tuple(self._plan(sample, branch) for branch in self.branches) for sample in samples]
        views: dict[str, list[Tensor]] = {}
        for number, branch in enumerate(self.branches):
            assert branch.geometry is not None
            pairs = zip(samples, (row[number] for row in plans), strict=True)
            loaded = [load_views(sample.pixels, plan.views, branch.geometry) for sample, plan in pairs]
            views[branch.name] = [view for picture in loaded for view in picture]
        rows = [self._row(sample, row[0]) for sample, row in zip(samples, plans, strict=True)]
        ids_BT, visibility, answers = pack(rows)
        batch = Batch(
            ids_BT=ids_BT,
            lengths=tuple(row.width for row in rows),
            views=views,
            plans=tuple(plans),
            visibility=visibility,
            prompts=tuple(row.prompt for row in rows) if self.reads_prompt else None,
        )
        return TrainBatch(batch, answers, tuple(sample.turns for sample in samples))

    def plan(self, sample: Sample) -> PicturePlan:
        """The plan of a sample's picture, as it stands in the prompt."""
        return self._plan(sample, self.branches[0])

    def _plan(self, sample: Sample, branch: Branch) -> PicturePlan:
        geometry = branch.geometry and branch.geometry.drawn(str(sample.key))
        height, width = sample.pixels.shape[:2]
        return branch_plan(self.card, branch.but(geometry=geometry), (height, width))

    def _row(self, sample: Sample, plan: PicturePlan) -> _Row:
        if not sample.turns:
            raise BeholderError(f"sample {sample.key} has no question to learn from")
        prefix: list[int] = []
        questions: list[tuple[list[int], list[bool]]] = []
        for turn in sample.turns:
            ids, answer, start = self._conversation(turn, plan)
            start = 0 if self.reads_prompt else start  # the picture sees its question, so nothing is shared
            if questions and ids[:start] != prefix:
                raise BeholderError(
                    f"sample {sample.key}: the tokens before {turn.question!r} depend on the question"
                )
            prefix = ids[:start]
            questions.append((ids[start:], answer[start:]))
        return _Row(prefix, questions)

    def _conversation(self, turn: Turn, plan: PicturePlan) -> tuple[list[int], list[bool], int]:
        """Ids up to the end of the answer, which of them are answer, and where the picture ends."""
        messages = [user(Picture(), turn.question), assistant(turn.answer)]
        prompt = render(messages, self.chat, self.tokenizer, [plan], generate=False)
        ids = list(prompt.ids)
        for span in prompt.spans:
            ids[span.start : span.stop] = [self.placeholder] * (span.stop - span.start)
        end = len(ids) - prompt.answer[::-1].index(True)
        return ids[:end], list(prompt.answer[:end]), prompt.spans[-1].stop


def pack(rows: Sequence[_Row]) -> tuple[Tensor, Visibility, Answers]:
    """Ids (B, T), who sees whom, and the answers' places. Segment 0 is a row's prefix, 1, 2, ... its questions; blocks
    are positions, which go on from the prefix's end in every question.
    """
    width = max(row.width for row in rows)
    ids_BT = torch.zeros(len(rows), width, dtype=torch.long)
    segments_BT = torch.full_like(ids_BT, PADDING)
    blocks_BT = torch.zeros_like(ids_BT)
    places: list[tuple[int, int, int]] = []
    weights: list[float] = []
    for b, row in enumerate(rows):
        at = 0
        for segment, (ids, answer) in enumerate([(row.prefix, [False] * len(row.prefix)), *row.questions]):
            first, stop = len(row.prefix) if segment else 0, at + len(ids)
            ids_BT[b, at:stop] = torch.tensor(ids)
            segments_BT[b, at:stop] = segment
            blocks_BT[b, at:stop] = torch.arange(first, first + len(ids))
            places += [(b, at + i - 1, ids[i]) for i, counts in enumerate(answer) if counts]
            weights += [1 / num_answer] * num_answer if (num_answer := sum(answer)) else []
            at = stop
    parents = (PADDING,) + (0,) * max(len(row.questions) for row in rows)
    rows_A, places_A, targets_A = torch.tensor(places).unbind(1)
    return (
        ids_BT,
        Visibility(segments_BT, blocks_BT, parents),
        Answers(rows_A, places_A, targets_A, torch.tensor(weights)),
    )
