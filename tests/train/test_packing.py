"""Conversations in batches and packed rows: none sees another, none is cut within a picture, each is learned as if alone."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from beholder.cards import card
from beholder.data.order import Packed
from beholder.data.samples import Conversation, Item, Sample, Turn
from beholder.errors import BeholderError
from beholder.model import Model, build
from beholder.parts.fusion.splice import Splice
from beholder.prompts.messages import Picture, assistant, system, user
from beholder.train.collate import Collator, ItemError, TrainBatch
from beholder.train.objectives import next_token
from tests.toys import CHAT, DECODER, SEES, TEXT, TILES, byte_tokenizer

TOKENIZER = byte_tokenizer()


def picture(seed: int, height: int = 28, width: int = 28) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def conversation(seed: int, pictures: int, turns: int) -> Conversation:
    """Pictures stand in the first turns; lengths differ."""
    messages = []
    for turn in range(turns):
        shown = [Picture()] * (pictures - pictures // 2 * (turns > 1) if turn == 0 else 0)
        shown += [Picture()] * (pictures // 2 if turn == 1 else 0)
        messages += [user(*shown, f"{seed}?" * (turn + 1)), assistant("yes " * (seed % 3 + 1))]
    return Conversation(tuple(messages), tuple(picture(seed + n) for n in range(pictures)), f"talk/{seed}")


def asked(seed: int, questions: int) -> Sample:
    turns = tuple(Turn(f"What is {n}?", "a" * (n + 1), "x") for n in range(questions))
    return Sample(picture(seed), turns, f"noise/{seed}")


ITEMS: tuple[Item, ...] = (
    conversation(0, 1, 2),
    conversation(1, 0, 1),
    asked(2, 3),
    conversation(3, 2, 2),
    conversation(4, 0, 3),
    asked(5, 1),
    Conversation((system("Be brief."), user("Hi", Picture()), assistant("Hm")), (picture(6),), "talk/6"),
)


def losses(model: Model, item: TrainBatch) -> Tensor:
    """Of every answer token, in the order of the batch."""
    hidden = model.read(item.batch, model.encode(item.batch)).hidden_BTD
    logits = model.language.logits(hidden[item.answers.rows_A, item.answers.places_A])
    return F.cross_entropy(logits, item.answers.targets_A, reduction="none")


@torch.no_grad()
@pytest.mark.parametrize("tokens", [None, 120, 1000])
def test_losses_are_those_of_each_item_alone(tokens: int | None) -> None:
    model, alone = build(SEES), Collator(SEES, TOKENIZER)
    together = Collator(SEES, TOKENIZER, tokens=tokens)(ITEMS)
    wanted = torch.cat([losses(model, alone([item])) for item in ITEMS])
    torch.testing.assert_close(losses(model, together), wanted, atol=1e-5, rtol=1e-5)
    rows = {None: len(ITEMS), 1000: 1}
    assert len(together.batch.ids_BT) == rows.get(tokens, len(together.batch.ids_BT))
    assert max(together.batch.lengths) <= (tokens or 1000)


@torch.no_grad()
@settings(max_examples=15, deadline=None)
@given(st.permutations(range(len(ITEMS))), st.integers(110, 400), st.integers(8, 40))
def test_however_items_are_packed(order: list[int], tokens: int, media: int) -> None:
    model, alone = build(SEES), Collator(SEES, TOKENIZER)
    items = [ITEMS[n] for n in order]
    together = Collator(SEES, TOKENIZER, tokens=tokens, media=media)(items)
    torch.testing.assert_close(
        losses(model, together),
        torch.cat([losses(model, alone([item])) for item in items]),
        atol=1e-5,
        rtol=1e-5,
    )
    ids_BT = together.batch.ids_BT
    assert int((ids_BT == 999).sum()) == 4 * sum(len(row) for row in together.batch.plans)
    for ids, plans in zip(ids_BT, together.batch.plans, strict=True):
        places = (ids == 999).nonzero().flatten()
        assert len(places) <= media
        for n in range(len(plans)):  # no span is cut
            own = places[4 * n : 4 * n + 4]
            assert own.tolist() == list(range(int(own[0]), int(own[0]) + 4))


def test_gradients_of_packed_rows() -> None:
    """A batch's loss is the mean over its answers, packed or not, and so are its gradients."""
    model = build(SEES)
    grads = []
    for tokens in (None, 300):
        model.zero_grad()
        next_token(model, Collator(SEES, TOKENIZER, tokens=tokens)(ITEMS)).backward()
        grads.append([p.grad.clone() for p in model.parameters() if p.grad is not None])
    for one, other in zip(*grads, strict=True):
        torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-4)


@torch.no_grad()
def test_tiles_and_several_sizes() -> None:
    model, items = build(TILES), [conversation(7, 1, 1), conversation(8, 1, 1)]
    items[1] = replace(items[1], pictures=(picture(1, 90, 50),))
    alone, packed = Collator(TILES, TOKENIZER), Collator(TILES, TOKENIZER, tokens=2000)
    wanted = torch.cat([losses(model, alone([item])) for item in items])
    torch.testing.assert_close(losses(model, packed(items)), wanted, atol=1e-5, rtol=1e-5)


def test_the_order_of_packing_gives_the_rows_that_it_planned() -> None:
    items = [conversation(seed, seed % 3 % 2, 1 + seed % 4) for seed in range(60)]
    alone = Collator(SEES, TOKENIZER)
    sizes = [alone.measure(item.messages, [(28, 28)] * len(item.pictures)) for item in items]
    order = Packed(
        items, [size for size, _ in sizes], 3, 4, tokens=256, media=[m for _, m in sizes], most_media=12
    )
    collator, batches = Collator(SEES, TOKENIZER, tokens=256, media=12), order.batches()
    taken = 0
    for _ in range(4):
        batch = collator([items[index] for index in next(batches)]).batch
        assert len(batch.ids_BT) == 4
        taken += sum(batch.lengths)
    assert taken > 0.85 * 4 * 4 * 256


def test_text_alone() -> None:
    for chosen in (SEES, TEXT):
        item = Collator(chosen, TOKENIZER)([conversation(1, 0, 2), conversation(2, 0, 1)])
        assert item.batch.plans == ((), ()) and not any(item.batch.views.values())
        assert torch.isfinite(next_token(build(chosen), item))
    with pytest.raises(ItemError, match="sample talk/3: toy-text reads text alone but 2 pictures came"):
        Collator(TEXT, TOKENIZER)([conversation(3, 2, 1)])


def test_every_answer_of_a_conversation_counts_alike() -> None:
    item = Collator(SEES, TOKENIZER)([conversation(2, 0, 3)])
    assert TOKENIZER.decode(item.answers.targets_A.tolist(), skip_special=False) == "yes yes yes </s>" * 3
    assert item.answers.weights_A.sum().item() == pytest.approx(3)
    assert [turn.answer for turn in item.turns[0]] == ["yes yes yes "] * 3 and item.num_questions == 3


def test_what_is_too_long() -> None:
    short = SEES.but(language=DECODER.but(context=64))
    long = conversation(9, 2, 4)
    with pytest.raises(
        ItemError, match=r"sample talk/9: 76 tokens, 8 of them of pictures; at most 64 .*longest='cut'"
    ):
        Collator(short, TOKENIZER)([long])
    cut = Collator(short, TOKENIZER, longest="cut")([long])
    assert cut.batch.lengths[0] <= 64
    whole = Collator(SEES, TOKENIZER)([long])
    assert torch.equal(cut.batch.ids_BT[0], whole.batch.ids_BT[0, : cut.batch.lengths[0]])
    assert 1 <= len(cut.turns[0]) < 4 and len(cut.batch.views["image"]) == len(cut.batch.plans[0])
    sample = Collator(short, TOKENIZER, longest="cut", tokens=64)([asked(2, 4)])
    assert 1 <= sample.num_questions < 4 and sample.batch.lengths[0] <= 64
    with pytest.raises(ItemError, match="even its first turn alone is too long"):
        Collator(SEES.but(language=DECODER.but(context=12)), TOKENIZER, longest="cut")([long])


def test_nothing_to_learn_is_named() -> None:
    with pytest.raises(ItemError, match="sample talk/x: no token of it is an answer"):
        Collator(SEES, TOKENIZER)([Conversation((user("Hm?"),), (), "talk/x")])
    with pytest.raises(ItemError, match="sample talk/x: message 2: a system message can only be the first"):
        Collator(SEES, TOKENIZER)([Conversation((user("Hm?"), system("x"), assistant("y")), (), "talk/x")])


def test_cards_that_cannot_share_rows_say_so() -> None:
    for changed in (
        SEES.but(fusion=(Splice(token_id=999, sees="prompt"),)),
        card("videollama3-2b").tiny().but(prompt=CHAT),
    ):
        with pytest.raises(BeholderError, match="cannot read several texts side by side"):
            Collator(changed, TOKENIZER, tokens=100)


def test_questions_that_are_read_in_a_way_of_their_own_come_apart() -> None:
    """PaliGemma's pictures see their question: each answer gets a row, in which only the last one is learned."""
    chosen = SEES.but(fusion=(Splice(token_id=999, sees="prompt"),))
    item = Collator(chosen, TOKENIZER)([conversation(2, 1, 2), asked(3, 2)])
    assert len(item.batch.ids_BT) == 4
    assert [len(turns) for turns in item.turns] == [1, 1, 1, 1]
    answers = [item.answers.targets_A[item.answers.rows_A == row] for row in range(4)]
    texts = [TOKENIZER.decode(ids.tolist(), skip_special=False) for ids in answers]
    assert texts == ["yes yes yes </s>"] * 2 + ["a</s>", "aa</s>"]
    for row in range(4):  # a prompt ends where its answer begins
        first = item.answers.places_A[item.answers.rows_A == row].min()
        assert item.batch.prompts[row] == first + 1


def encoder_decoder() -> Any:
    small = card("blip-2-flan-t5-xl").tiny()
    main = small.main
    return small.but(
        prompt=CHAT,
        language=main.but(encoder=main.encoder.but(context=256), decoder=main.decoder.but(context=64)),
    )


@torch.no_grad()
def test_an_encoder_reads_the_question_and_a_decoder_writes_the_answer() -> None:
    chosen = encoder_decoder()
    model, collate = build(chosen), Collator(chosen, TOKENIZER)
    items = [conversation(0, 1, 1), conversation(2, 1, 2)]
    item = collate(items)
    assert item.batch.target_BT.shape[0] == len(item.batch.ids_BT) == 3
    assert (
        TOKENIZER.decode(item.answers.targets_A.tolist(), skip_special=False)
        == "yes </s>" + "yes yes yes </s>" * 2
    )
    alone = [losses(model, collate([one])) for one in items]
    torch.testing.assert_close(losses(model, item), torch.cat(alone), atol=1e-5, rtol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("name", ["qwen2-vl-2b", "qwen2.5-vl-3b", "internlm-xcomposer2-vl-7b", "mini"])
def test_cards_of_other_kinds_pack(name: str) -> None:
    """Positions of several axes, changes of weights for pictures alone, a real card."""
    chosen = card(name).tiny().but(prompt=CHAT)
    model, alone = build(chosen), Collator(chosen, TOKENIZER)
    items = [ITEMS[2], ITEMS[0], ITEMS[1], ITEMS[3]]
    packed = Collator(chosen, TOKENIZER, tokens=2000)(items)
    each = [alone([replace(item, turns=(turn,))]) for item in items[:1] for turn in item.turns]
    each += [alone([item]) for item in items[1:]]
    wanted = torch.cat([losses(model, item) for item in each])
    assert len(packed.batch.ids_BT) == 1
    torch.testing.assert_close(losses(model, packed), wanted, atol=1e-5, rtol=1e-5)
