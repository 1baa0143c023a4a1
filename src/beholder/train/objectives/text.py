"""Losses over words: the next one, behind a prefix that is read both ways, masked ones, and the one before.

B rows, T positions, A answer tokens, V words of the vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, NamedTuple, Self

import torch
from torch import Tensor
from torch.nn import functional as F

from beholder.errors import BeholderError, UnknownName
from beholder.model import Batch, Model
from beholder.parts.blocks.masks import PADDING, Visibility
from beholder.parts.contracts import HeadInputs
from beholder.parts.heads.backward import PreviousTokenHead
from beholder.parts.heads.masked_token import MaskedTokenHead
from beholder.prompts.tokenizer import Tokenizer
from beholder.train.collate import TrainBatch
from beholder.train.cross_entropy import answer_loss
from beholder.train.objectives.reading import Reading, Sum, generator_of, head_of, read, words_of

POWERS = {"answer": 1.0, "root": 0.5, "token": 0.0}


@dataclass(frozen=True)
class Answered:
    """Cross-entropy of the answers' tokens, whose places the collator read off the chat format; scores over the vocabulary are
    computed at those places alone. per: what weighs alike: each `answer`, each `token`, or between both the `root` of an
    answer's length (InternVL 2.5, 2412.05271, section 3.3). smoothing: of labels.
    """

    per: Literal["answer", "root", "token"] = "answer"
    smoothing: float = 0.0

    def __post_init__(self) -> None:
        if self.per not in POWERS:
            raise UnknownName("weight of answers", self.per, POWERS)

    def __call__(self, reading: Reading) -> Tensor:
        hidden_AD, targets_A, weights_A = answered_places(reading)
        weights_A = weights_A ** POWERS[self.per]
        weights_A, scores = weights_A / weights_A.sum(), reading.model.language.logits
        if not self.smoothing:
            return answer_loss(hidden_AD, scores, targets_A, weights_A)
        smooth = self.smoothing
        losses_A = F.cross_entropy(
            scores(hidden_AD).float(), targets_A, reduction="none", label_smoothing=smooth
        )
        return (losses_A * weights_A).sum()


def answered_places(reading: Reading) -> tuple[Tensor, Tensor, Tensor]:
    """States (A, D) in front of the answers' tokens, these, and their weights. Raises `BeholderError` where there are none."""
    answers, hidden_BTD = reading.item.answers, reading.language.hidden_BTD
    if not len(answers.targets_A):
        raise BeholderError(
            "no token of the batch is an answer, so nothing is learned; give rows with answers"
        )
    hidden_AD = hidden_BTD[answers.rows_A, answers.places_A]
    return hidden_AD, answers.targets_A.to(hidden_AD.device), answers.weights_A.to(hidden_AD.device)


def next_token(model: Model, item: TrainBatch) -> Tensor:
    """Cross-entropy of the answers' tokens, the mean over answers of the mean over each one's tokens, and what layers of
    experts add to it. `Sum((Answered("token"),))` is the mean over tokens.
    """
    return Sum((Answered(),))(model, item)


@dataclass(frozen=True)
class PrefixLm:
    """`next_token` where what stands before a row's first answer, pictures included, is read both ways (UniLM's sequence to
    sequence mask, 1905.03197, section 2.3; PaliGemma, 2407.07726, section 3.2). Cards whose splice reads prompts so by itself
    do it in `next_token` too.
    """

    per: Literal["answer", "root", "token"] = "answer"

    def __call__(self, model: Model, item: TrainBatch) -> Tensor:
        return Sum((Answered(self.per),))(model, replace(item, batch=prefixed(item)))


def prefixed(item: TrainBatch) -> Batch:
    """The batch with the tokens in front of the first answer of each segment in one block. A prefix that only one question
    follows becomes one with it, so that pictures see the question; several questions behind a picture stay apart. What an
    encoder reads for a decoder is read both ways already.
    """
    batch, (ids_BT, lengths) = item.batch, words_of(item.batch)
    if batch.target_BT is not None:
        return batch
    seen = batch.visibility or Visibility.causal_rows(lengths, ids_BT.shape[1], device=ids_BT.device)
    segments_BT, blocks_BT = seen.segments_BT.clone(), seen.blocks_BT.clone()
    columns_T = torch.arange(ids_BT.shape[1], device=ids_BT.device)
    first = first_answers(item, seen)
    for (row, segment), place in first.items():
        parent = seen.parents[segment]
        own_T = (seen.segments_BT[row] == segment) & (columns_T <= place)
        above_T = (seen.segments_BT[row] == parent) & (parent != PADDING)
        siblings = [key for key in first if key[0] == row and seen.parents[key[1]] == parent]
        if len(siblings) == 1 and parent != PADDING:
            segments_BT[row, seen.segments_BT[row] == segment] = parent
            own_T = own_T | above_T
        for together_T in (own_T, above_T):
            if together_T.any():
                blocks_BT[row, together_T] = seen.blocks_BT[row, together_T].min()
    both = replace(seen, segments_BT=segments_BT).sharing(blocks_BT)
    positions = seen.blocks_BT if batch.positions is None else batch.positions
    return replace(batch, positions=positions, visibility=both)


def first_answers(item: TrainBatch, seen: Visibility) -> dict[tuple[int, int], int]:
    """(row, segment) -> the place from which its first answer is foretold, in their order."""
    rows_A, places_A = item.answers.rows_A, item.answers.places_A
    segments_A = seen.segments_BT[rows_A, places_A + 1]
    found: dict[tuple[int, int], int] = {}
    for row, segment, place in zip(rows_A.tolist(), segments_A.tolist(), places_A.tolist(), strict=True):
        found[row, segment] = min(place, found.get((row, segment), place))
    return dict(sorted(found.items()))


class Masked(NamedTuple):
    """Ids (B, T) in which some words are hidden, and which (B, T) those are."""

    ids_BT: Tensor
    hidden_BT: Tensor


@dataclass(frozen=True)
class MaskedWords:
    """Cross-entropy of words that are hidden, for a card with the head `MaskedToken`: `share` of a text's words are drawn, 80 %
    of these become [MASK], 10 % a random word, 10 % stay (BERT, 1810.04805, section 3.1; ALBEF, 2107.07651, section 3.2;
    VisualBERT, 1908.03557, section 3.3, with the picture in view). A batch in which none was drawn hides one.

    mask_id: of [MASK]; kept: ids that are never drawn, which are [CLS], [SEP] and [PAD].
    """

    mask_id: int
    kept: tuple[int, ...] = ()
    share: float = 0.15

    @classmethod
    def of(cls, tokenizer: Tokenizer | None) -> Self:
        """With the ids of a tokenizer. Raises `BeholderError` where it has no [MASK]."""
        controls = {} if tokenizer is None else tokenizer.controls
        if "[MASK]" not in controls:
            raise BeholderError(
                "masked words need a tokenizer with [MASK]; give one, or MaskedWords(mask_id=...)"
            )
        return cls(controls["[MASK]"].id, tuple(control.id for control in controls.values()))

    def __call__(self, model: Model, item: TrainBatch) -> Tensor:
        head = head_of(model, MaskedTokenHead, "MaskedToken")
        masked = self.masked(item.batch, len(head.bias))
        reading = read(model, replace(item, batch=replace(item.batch, ids_BT=masked.ids_BT)))
        width = masked.ids_BT.shape[1]
        hidden_AD = reading.language.hidden_BTD[:, :width][masked.hidden_BT]
        logits_1AV = head(HeadInputs(hidden_AD[None], unembed=model.language.logits))
        ids_BT, _ = words_of(item.batch)
        return F.cross_entropy(logits_1AV[0].float(), ids_BT[masked.hidden_BT])

    def masked(self, batch: Batch, vocab_size: int) -> Masked:
        """Which words are hidden, the same ones each time for the same batch. Raises `BeholderError` where none may be."""
        ids_BT, lengths = words_of(batch)
        generator = generator_of(batch)
        chances_BT, kinds_BT = (torch.rand(ids_BT.shape, generator=generator) for _ in range(2))
        words_BT = torch.randint(vocab_size, ids_BT.shape, generator=generator)
        columns_T = torch.arange(ids_BT.shape[1])
        special_BT = torch.isin(ids_BT.cpu(), torch.tensor(self.kept, dtype=ids_BT.dtype))
        may_BT = (columns_T < torch.tensor(lengths)[:, None]) & ~special_BT
        if not may_BT.any():
            raise BeholderError("no word of the batch may be hidden; give texts of more than control tokens")
        chances_BT = chances_BT.masked_fill(~may_BT, 2.0)
        hidden_BT = chances_BT <= max(self.share, float(chances_BT.min()))
        hidden_BT = hidden_BT.to(ids_BT.device)
        words_BT = torch.where(kinds_BT < 0.9, words_BT, ids_BT.cpu())
        words_BT = torch.where(kinds_BT < 0.8, self.mask_id, words_BT).to(ids_BT.device)
        return Masked(torch.where(hidden_BT, words_BT, ids_BT), hidden_BT)


def previous_token(reading: Reading) -> Tensor:
    """Cross-entropy of each token of a text from those behind it, the mean over tokens: the other direction of captions, for
    a card with the head `PreviousToken` (VirTex, 2006.06666, section 3).
    """
    head_of(reading.model, PreviousTokenHead, "PreviousToken")
    backward_BTD = reading.language.backward_BTD
    if backward_BTD is None:
        raise BeholderError("captions are learned from pictures; give every text one")
    ids_BT, lengths = words_of(reading.item.batch)
    hidden, targets = [], []
    for row_TD, ids_T, length in zip(backward_BTD, ids_BT, lengths, strict=True):
        hidden.append(
            row_TD[: length - 1]
        )  # place i has read the text from its end down to token length - 1 - i
        targets.append(ids_T[: length - 1].flip(0))
    targets_A = torch.cat(targets)
    weights_A = torch.full(targets_A.shape, 1 / len(targets_A), device=targets_A.device)
    return answer_loss(torch.cat(hidden), reading.model.language.logits, targets_A, weights_A)


# captions from either end, added up: VirTex (2006.06666, section 3; kdexd/virtex virtex/models/captioning.py)
captions_both_ways = Sum((Answered("token"), previous_token))
