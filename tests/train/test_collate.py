"""Packing several questions behind one picture changes nothing for any of them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from beholder.data.samples import Sample, Turn
from beholder.errors import BeholderError
from beholder.model import build
from beholder.pipeline import Pipeline
from beholder.prompts.messages import Picture, user
from beholder.train.collate import Collator
from beholder.train.objectives import next_token
from tests.toys import DUAL, SEES, byte_tokenizer

TURNS = (
    Turn("What?", "a cat", "naming"),
    Turn("How many are there?", "3", "counting"),
    Turn("Is <s> it</s>?", "no", "presence"),
)


def sample(seed: int, turns: tuple[Turn, ...] = TURNS) -> Sample:
    pixels = np.random.default_rng(seed).integers(0, 256, (28, 28, 3), dtype=np.uint8)
    return Sample(pixels, turns, f"noise/{seed}")


def answer_logits(model, item) -> torch.Tensor:
    hidden = model.read(item.batch, model.encode(item.batch)).hidden_BTD
    return model.language.logits(hidden[item.answers.rows_A, item.answers.places_A])


@torch.no_grad()
def test_packed_logits_equal_those_of_each_question_alone() -> None:
    model, collate = build(SEES), Collator(SEES, byte_tokenizer())
    samples = [sample(0), sample(1, TURNS[:1]), sample(2, TURNS[1:])]
    packed = collate(samples)
    alone = [collate([replace(each, turns=(turn,))]) for each in samples for turn in each.turns]
    assert packed.answers.targets_A.tolist() == [t for item in alone for t in item.answers.targets_A.tolist()]
    torch.testing.assert_close(
        answer_logits(model, packed),
        torch.cat([answer_logits(model, item) for item in alone]),
        atol=1e-5,
        rtol=1e-5,
    )


@torch.no_grad()
def test_the_order_of_questions_does_not_matter() -> None:
    model, collate = build(SEES), Collator(SEES, byte_tokenizer())
    forward, backward = (next_token(model, collate([sample(0, turns)])) for turns in (TURNS, TURNS[::-1]))
    torch.testing.assert_close(forward, backward)


def test_tokens_are_those_that_answering_uses() -> None:
    """The ids before the answer, prefix and question together, are the prompt of a request."""
    tokenizer = byte_tokenizer()
    pipeline = Pipeline(build(SEES), tokenizer)
    one = sample(3)
    item = Collator(SEES, tokenizer)([one])
    ids, segments = item.batch.ids_BT[0], item.batch.visibility.segments_BT[0]
    for number, turn in enumerate(one.turns, start=1):
        asked = pipeline.prepare([[user(Picture(one.pixels), turn.question)]]).batch.ids_BT[0]
        row = torch.cat((ids[segments == 0], ids[segments == number]))
        assert torch.equal(row[: len(asked)], asked)
        assert tokenizer.decode(row[len(asked) :].tolist(), skip_special=False) == f"{turn.answer}</s>"


def test_answers_end_with_the_end_token_and_nothing_else_counts() -> None:
    tokenizer = byte_tokenizer()
    item = Collator(SEES, tokenizer)([sample(0), sample(1, TURNS[:1])])
    texts = tokenizer.decode(item.answers.targets_A.tolist(), skip_special=False)
    assert texts == "a cat</s>3</s>no</s>a cat</s>"
    following = item.batch.ids_BT[item.answers.rows_A, item.answers.places_A + 1]
    assert torch.equal(following, item.answers.targets_A)


@torch.no_grad()
def test_every_answer_counts_alike() -> None:
    model, collate = build(SEES), Collator(SEES, byte_tokenizer())
    together = next_token(model, collate([sample(0)]))
    alone = [next_token(model, collate([sample(0, (turn,))])) for turn in TURNS]
    torch.testing.assert_close(together, torch.stack(alone).mean())


def test_padding_is_invisible() -> None:
    item = Collator(SEES, byte_tokenizer())([sample(0), sample(1, TURNS[:1])])
    lengths = item.batch.lengths
    assert lengths[0] > lengths[1]
    assert (item.batch.visibility.segments_BT[1, lengths[1] :] == -1).all()
    assert item.num_questions == 4


def test_a_sample_without_questions_is_named() -> None:
    with pytest.raises(BeholderError, match="noise/7 has no question"):
        Collator(SEES, byte_tokenizer())([sample(7, ())])


def test_a_card_that_cannot_answer_is_refused() -> None:
    with pytest.raises(BeholderError, match="toy-dual"):
        Collator(DUAL, byte_tokenizer())
