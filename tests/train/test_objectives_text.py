"""Losses over words, against their formulas written out."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from beholder.cards import card
from beholder.data.samples import Conversation, Sample, Turn
from beholder.errors import BeholderError, UnknownName
from beholder.model import Batch, build
from beholder.parts.blocks.masks import Visibility
from beholder.prompts import formats
from beholder.prompts.chat import ChatFormat
from beholder.prompts.messages import Picture, assistant, user
from beholder.train.collate import Collator
from beholder.train.objectives import (
    Answered,
    MaskedWords,
    PrefixLm,
    Sum,
    captions_both_ways,
    named,
    next_token,
)
from beholder.train.objectives.reading import AUX_SHARES, read
from beholder.train.objectives.text import prefixed
from beholder.train.pairs import PairCollator
from tests.toys import SEES, TEXT, byte_tokenizer
from tests.train.learning import learn, pictures, stirred, titled, untouched

TOKENIZER = byte_tokenizer()
TALK = Conversation(
    (user(Picture(), "What?"), assistant("a cat"), user("How many?"), assistant("3")),
    tuple(pictures(1)),
    "talk",
)
WORDS = Conversation((user("Say one."), assistant("one"), user("And?"), assistant("two, three")), (), "words")


def by_hand(model, item) -> list[list[float]]:
    """-log of the chance of each token of each answer, answer by answer, from the scores at every place."""
    scores_BTV = model(item.batch).heads["text"].log_softmax(-1)
    losses, last = [], None
    answers = item.answers
    places = (x.tolist() for x in (answers.rows_A, answers.places_A, answers.targets_A))
    for row, place, token in zip(*places, strict=True):
        if last != (row, place - 1):
            losses.append([])
        losses[-1].append(-float(scores_BTV[row, place, token]))
        last = row, place
    return losses


@torch.no_grad()
@pytest.mark.parametrize("per", ["answer", "token", "root"])
def test_answers_weigh_as_they_are_told(per: str) -> None:
    """Multi-turn rows with and without a picture: 1/n, 1, 1/sqrt(n) of each token of an answer of n tokens."""
    model, item = stirred(SEES), Collator(SEES, TOKENIZER)([TALK, WORDS])
    losses = by_hand(model, item)
    assert [len(each) for each in losses] == [6, 2, 4, 11]
    power = {"answer": 1.0, "root": 0.5, "token": 0.0}[per]
    total = sum(sum(each) / len(each) ** power for each in losses)
    want = total / sum(len(each) ** (1 - power) for each in losses)
    assert float(Sum((Answered(per),))(model, item)) == pytest.approx(want, rel=1e-5)
    if per == "answer":
        assert float(next_token(model, item)) == pytest.approx(
            np.mean([np.mean(e) for e in losses]), rel=1e-5
        )


@torch.no_grad()
def test_smoothed_labels() -> None:
    model, item = stirred(SEES), Collator(SEES, TOKENIZER)([WORDS])
    chances = model(item.batch).heads["text"].log_softmax(-1)[item.answers.rows_A, item.answers.places_A]
    own = chances[torch.arange(len(chances)), item.answers.targets_A]
    want = (-0.9 * own - 0.1 * chances.mean(-1)).mean()
    assert torch.allclose(Sum((Answered("token", 0.1),))(model, item), want, atol=1e-5)


FORMATS = [value for value in vars(formats).values() if isinstance(value, ChatFormat)]


@pytest.mark.parametrize("chat", FORMATS, ids=lambda chat: chat.name)
def test_answers_alone_are_learned_in_every_format(chat: ChatFormat) -> None:
    """What is learned spells the answers, with whatever ends each, and nothing that the user said."""
    system = Sample(pictures(1)[0], (Turn("QUESTION", "ANSWER", "x"),), "one")
    item = Collator(SEES.but(prompt=chat, language=SEES.main.but(context=4096)), TOKENIZER)([system])
    learned = TOKENIZER.decode(item.answers.targets_A.tolist(), skip_special=False)
    assert learned.lstrip().startswith("ANSWER") and "QUESTION" not in learned
    assert learned.count("ANSWER") == 1


def test_nothing_to_learn_is_an_error() -> None:
    model, item = build(SEES), Collator(SEES, TOKENIZER)([WORDS])
    none = replace(item.answers, **{name: value[:0] for name, value in vars(item.answers).items()})
    with pytest.raises(BeholderError, match="no token of the batch is an answer"):
        next_token(model, replace(item, answers=none))
    with pytest.raises(UnknownName, match="weight of answers 'word'"):
        Answered("word")
    with pytest.raises(BeholderError, match="2 terms of a loss but 1 shares"):
        Sum((Answered(), Answered()), (1.0,))


def test_experts_add_their_shares() -> None:
    """0.01 of how unevenly tokens are dealt out and 0.001 of the routers' squared log-sums."""
    chosen = card("moe-llava-phi-2-2.7b").tiny()
    model = build(chosen, seed=1)
    item = Collator(chosen.but(prompt=SEES.prompt), TOKENIZER)([WORDS])
    reading = read(model, item)
    assert set(reading.language.aux_losses) == set(AUX_SHARES)
    loss = next_token(model, item)
    aux = reading.language.aux_losses
    want = Answered()(reading) + 0.01 * aux["load balance"] + 0.001 * aux["router z"]
    assert torch.allclose(loss, want, atol=1e-6) and bool(want > Answered()(reading))
    loss.backward()
    routers = [p.grad for name, p in model.named_parameters() if "router" in name]
    assert routers and all(gradient is not None and gradient.abs().sum() for gradient in routers)


def dense(seen: Visibility) -> torch.Tensor:
    """(B, T, T): who sees whom, by the rule of the masks."""
    segments, blocks = seen.segments_BT.tolist(), seen.blocks_BT.tolist()
    width = len(segments[0])
    out = torch.zeros(len(segments), width, width, dtype=torch.bool)
    for row, query, key in itertools.product(range(len(segments)), range(width), range(width)):
        above, segment = [], segments[row][query]
        while segment >= 0:
            above.append(segment)
            segment = seen.parents[segment]
        out[row, query, key] = segments[row][key] in above and blocks[row][key] <= blocks[row][query]
    return out


def test_a_prefix_is_read_both_ways() -> None:
    """Prompt tokens, the picture's too, see each other; answers see what is before them."""
    one = Sample(pictures(1)[0], (Turn("Q?", "yes", "x"),), "one")
    item = Collator(SEES, TOKENIZER)([one, TALK])
    batch = prefixed(item)
    seen = dense(batch.visibility)
    for row, length in enumerate(item.batch.lengths):
        start = int(item.answers.places_A[item.answers.rows_A == row].min()) + 1
        want = torch.ones(length, length, dtype=torch.bool).tril()
        want[:start, :start] = True
        assert torch.equal(seen[row, :length, :length], want)
    assert torch.equal(batch.positions, torch.arange(seen.shape[1]).expand(2, -1))


def test_questions_beside_each_other_stay_apart_behind_a_prefix() -> None:
    turns = (Turn("Q?", "yes", "x"), Turn("And?", "no", "x"))
    item = Collator(SEES, TOKENIZER)([Sample(pictures(1)[0], turns, "two")])
    before, seen = item.batch.visibility, dense(prefixed(item).visibility)[0]
    segments = before.segments_BT[0]
    trunk, first, second = (torch.nonzero(segments == n).flatten().tolist() for n in range(3))
    assert seen[trunk][:, trunk].all() and not seen[trunk][:, first].any()
    assert not seen[first][:, second].any() and seen[second][:, trunk].all()
    start = next(int(p) for p in item.answers.places_A if int(p) in second) + 1
    prompt = [t for t in second if t < start]
    assert len(prompt) > 2 and seen[prompt][:, prompt].all() and not seen[prompt][:, [start]].any()


@torch.no_grad()
def test_prefix_lm_is_the_mean_over_what_follows() -> None:
    """One row by itself through a forward whose mask is that of a prefix."""
    one = Sample(pictures(1)[0], (Turn("Q?", "yes", "x"),), "one")
    model, item = stirred(SEES), Collator(SEES, TOKENIZER)([one])
    start, length = int(item.answers.places_A[0]) + 1, item.batch.lengths[0]
    blocks = torch.arange(length)
    blocks[:start] = 0
    by_hand_batch = replace(
        item.batch,
        positions=torch.arange(length)[None],
        visibility=Visibility(torch.zeros(1, length, dtype=torch.long), blocks[None]),
    )
    scores = model(by_hand_batch).heads["text"][0, start - 1 : length - 1]
    want = F.cross_entropy(scores, item.batch.ids_BT[0, start:])
    assert torch.allclose(PrefixLm()(model, item), want, atol=1e-5)
    assert abs(float(next_token(model, item) - want)) > 1e-4


BERT = card("visualbert").tiny()


def masked_item():
    collate = PairCollator(BERT, byte_tokenizer(("[SEP]", "[CLS]", "[PAD]", "[MASK]")))
    return collate(titled(("a black cat", "two", "deep sea"), (70, 90)))


def test_words_are_hidden_in_the_published_shares() -> None:
    """15 % are drawn; of these 80 % [MASK], 10 % another word, 10 % the same. Padding and control tokens never."""
    words = MaskedWords(mask_id=3, kept=(0, 1, 2, 3))
    ids = torch.randint(4, 5000, (400, 100), generator=torch.Generator().manual_seed(0))
    ids[:, 0] = 1
    batch = Batch(ids, lengths=(60,) * 200 + (100,) * 200)
    masked = words.masked(batch, 5000)
    assert not masked.hidden_BT[:, 0].any() and not masked.hidden_BT[:200, 60:].any()
    may = 200 * 59 + 200 * 99
    assert int(masked.hidden_BT.sum()) / may == pytest.approx(0.15, abs=0.01)
    new, old = masked.ids_BT[masked.hidden_BT], ids[masked.hidden_BT]
    assert float((new == 3).float().mean()) == pytest.approx(0.8, abs=0.02)
    assert float((new == old).float().mean()) == pytest.approx(0.1, abs=0.02)
    assert torch.equal(masked.ids_BT[~masked.hidden_BT], ids[~masked.hidden_BT])
    assert torch.equal(words.masked(batch, 5000).ids_BT, masked.ids_BT)
    single = words.masked(Batch(torch.tensor([[1, 9, 2]])), 5000)
    assert single.hidden_BT.tolist() == [[False, True, False]]
    with pytest.raises(BeholderError, match="no word of the batch may be hidden"):
        words.masked(Batch(torch.tensor([[1, 2]])), 5000)


@torch.no_grad()
def test_masked_words_beside_a_picture() -> None:
    """Cross-entropy of the head's scores at hidden places, the picture in view."""
    model, item = stirred(BERT), masked_item()
    words = MaskedWords(mask_id=259, kept=(256, 257, 258, 259), share=0.3)
    masked = words.masked(item.batch, BERT.main.vocab_size)
    scores = model(replace(item.batch, ids_BT=masked.ids_BT)).heads["words"]
    places = masked.hidden_BT.nonzero().tolist()
    losses = [F.cross_entropy(scores[b, t], item.batch.ids_BT[b, t]) for b, t in places]
    assert len(places) > 3
    assert torch.allclose(words(model, item), torch.stack(losses).mean(), atol=1e-5)
    assert named("masked-words", byte_tokenizer(("[SEP]", "[CLS]", "[PAD]", "[MASK]"))).mask_id == 259
    with pytest.raises(BeholderError, match=r"a tokenizer with \[MASK\]"):
        named("masked-words", TOKENIZER)


def test_masked_words_are_learned() -> None:
    model = stirred(BERT)
    words = MaskedWords(mask_id=259, kept=(256, 257, 258, 259), share=0.3)
    learn(model, words, masked_item(), steps=5, lr=2e-2)
    assert all("heads.1" in name or "pool" in name or "projection" in name for name in untouched(model)), (
        untouched(model)
    )
    with pytest.raises(BeholderError, match="no head MaskedToken"):
        words(build(TEXT), masked_item())


VIRTEX = card("virtex").tiny()


def captions():
    return PairCollator(VIRTEX, byte_tokenizer(("[EOS]", "[SOS]")))(
        titled(("a cat", "two of it", "sea"), (40, 40))
    )


@torch.no_grad()
def test_captions_are_written_from_either_end() -> None:
    """Row by row: each word from those before it, and from those behind it in the turned text; means over words, added."""
    model, item = stirred(VIRTEX), captions()
    ahead, back = [], []
    for row, length in enumerate(item.batch.lengths):
        ids = item.batch.ids_BT[row : row + 1, :length]
        alone = type(item.batch)(
            ids, views={"image": [item.batch.views["image"][row]]}, plans=item.batch.plans[row : row + 1]
        )
        output = model(alone)
        ahead += [F.cross_entropy(output.heads["text"][0, t], ids[0, t + 1]) for t in range(length - 1)]
        turned = ids.flip(1)
        scores = output.heads["backward text"][0]
        back += [F.cross_entropy(scores[t], turned[0, t + 1]) for t in range(length - 1)]
    want = torch.stack(ahead).mean() + torch.stack(back).mean()
    assert len(set(item.batch.lengths)) == 3
    assert torch.allclose(captions_both_ways(model, item), want, atol=1e-5)


def test_captions_are_learned_in_both_directions() -> None:
    model = stirred(VIRTEX)
    learn(model, captions_both_ways, captions(), steps=8, lr=1e-2)
    assert not untouched(model)


def test_a_prefix_lm_learns() -> None:
    model = stirred(SEES)
    learn(model, PrefixLm(), Collator(SEES, TOKENIZER)([TALK, WORDS]))
    assert not untouched(model)
