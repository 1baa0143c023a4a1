"""Losses against what something else knows, by their formulas."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from beholder.cards import card
from beholder.cards.schema import Stage, Trains
from beholder.data.samples import Sample, Turn
from beholder.errors import BeholderError
from beholder.model import Model, build
from beholder.parts.adapters import named as adapters
from beholder.parts.adapters.apply import put_on
from beholder.train.collate import Collator, TrainBatch
from beholder.train.objectives import (
    Answered,
    Distilled,
    Grounded,
    Preferred,
    Sum,
    Words,
    aligned,
    named,
    next_token,
)
from beholder.train.objectives.reading import read
from beholder.train.objectives.teachers import alignment, frozen_copy
from beholder.train.stages import prepare_stage
from tests.toys import CHAT, DECODER, SEES, TEXT, byte_tokenizer
from tests.train.learning import learn, pictures, stirred, titled, untouched

TOKENIZER = byte_tokenizer()
ADAPTED = Stage("adapt", rules=(Trains("languages.main.blocks.*.attn.q.weight", lr=1e-3, rank=2),))


def asked(*answers: str, question: str = "What?") -> TrainBatch:
    """A picture for each answer; several answers behind one picture are parted by |."""
    samples = [
        Sample(pixels, tuple(Turn(question, each, "x") for each in answer.split("|")), str(row))
        for row, (pixels, answer) in enumerate(zip(pictures(len(answers)), answers, strict=True))
    ]
    return Collator(SEES, TOKENIZER)(samples)


def chances(model: Model, item: TrainBatch, temperature: float = 1.0) -> Tensor:
    scores = model(item.batch).heads["text"] / temperature
    return scores.log_softmax(-1)[item.answers.rows_A, item.answers.places_A]


@torch.no_grad()
@pytest.mark.parametrize(("temperature", "share"), [(1.0, 0.0), (2.0, 0.3)])
def test_a_larger_model_teaches(temperature: float, share: float) -> None:
    """T^2 sum p_teacher (log p_teacher - log p) at every answer token, softened by T, the mean over answers."""
    wide = SEES.but(language=DECODER.but(num_layers=3))
    model, teacher, item = stirred(SEES), stirred(wide, seed=8), asked("a cat", "3")
    objective = Distilled(teacher, temperature=temperature, share=share)
    objective.prepare(model)
    ours, theirs = (chances(each, item, temperature) for each in (model, teacher))
    apart = (theirs.exp() * (theirs - ours)).sum(-1)
    lengths = [6, 2]
    per_answer = [each.mean() for each in apart.split(lengths)]
    want = temperature**2 * sum(per_answer) / 2 + share * next_token(model, item)
    assert torch.allclose(objective(model, item), want, atol=1e-5)
    assert not objective.state_dict()


def test_distillation_is_learned() -> None:
    teacher, model, item = stirred(SEES, seed=8, spread=0.3), stirred(SEES), asked("a cat", "3")
    learn(model, Distilled(teacher), item, steps=15)
    assert not untouched(model) and not any(p.grad is not None for p in teacher.parameters())


def test_a_model_is_held_to_what_it_is_without_adapters() -> None:
    """The reference shares every frozen tensor, and has adapters that add nothing."""
    plain, model, item = stirred(SEES), stirred(SEES), asked("a cat", "3")
    prepare_stage(model, ADAPTED)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("lora_b"):
                parameter.fill_(0.3)
    objective = named("distillation")
    objective.prepare(model)
    assert set(objective.state_dict()) == {n for n, p in model.named_parameters() if p.requires_grad}
    with torch.no_grad():
        ours, theirs = chances(model, item), chances(plain, item)
        apart = (theirs.exp() * (theirs - ours)).sum(-1)
        want = sum(each.mean() for each in apart.split([6, 2])) / 2
        assert float(want) > 1e-3
        assert torch.allclose(objective(model, item), want, atol=1e-5)
    kept = dict(model.named_parameters())
    shared = [n for n, p in objective.teacher.named_parameters() if p is kept[n]]
    assert len(shared) == len(kept) - 4
    learn(model, objective, item, lr=2e-2)


@pytest.mark.parametrize("kind", ["lora", "dora", "mixture", "ia3", "bottleneck"])
@torch.no_grad()
def test_a_copy_without_adapters_leaves_the_model_alone(kind: str) -> None:
    """Of every kind in linear maps, also where adapters are frozen, and so shared."""
    plain, model, item = stirred(SEES), stirred(SEES), asked("a cat", "3")
    owned = set(dict(model.named_parameters()))
    pattern = "languages.main.blocks.*.attn.[qo]*.weight"
    put_on(model, adapters.chosen(kind, 2, pattern))
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(False)
        if name not in owned:
            parameter.add_(0.3)
    before = chances(model, item)
    copied = frozen_copy(model, adapters=False)
    assert torch.allclose(chances(copied, item), chances(plain, item), atol=1e-5)
    assert torch.equal(chances(model, item), before)
    assert not torch.allclose(before, chances(plain, item), atol=1e-3)


def test_prefixes_cannot_be_left_out() -> None:
    model = stirred(SEES)
    put_on(model, adapters.chosen("prefix", 2, "languages.main.blocks.*.attn.*"))
    with pytest.raises(BeholderError, match="stand in the layers"):
        frozen_copy(model, adapters=False)


def test_another_vocabulary_is_no_teacher() -> None:
    model, item = stirred(SEES), asked("a cat")
    with pytest.raises(BeholderError, match="toy-text has 290 words and toy-sees 300"):
        Distilled(build(TEXT.but(language=DECODER.but(vocab_size=290)))).prepare(model)
    with pytest.raises(BeholderError, match="call prepare"):
        Distilled()(model, item)
    with pytest.raises(BeholderError, match="temperature 0 of a teacher"):
        Distilled(temperature=0)


def test_better_answers_are_preferred() -> None:
    """-log sigmoid(beta (log p(better)/p_ref(better) - log p(worse)/p_ref(worse))), the mean over questions."""
    model, item = stirred(SEES), asked("a cat|a dog or so", "3|4")
    objective = Preferred(beta=0.5)
    objective.prepare(model)
    reference = stirred(SEES)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.02)
        picked = torch.arange(len(item.answers.targets_A)), item.answers.targets_A
        gains = (chances(model, item) - chances(reference, item))[picked]
        sums = [each.sum() for each in gains.split([6, 12, 2, 2])]
        pairs = [sums[0] - sums[1], sums[2] - sums[3]]
        want = sum(torch.log1p(torch.exp(-0.5 * pair)) for pair in pairs) / 2
        assert torch.allclose(objective(model, item), want, atol=1e-5)
    saved = {name: value.clone() for name, value in objective.state_dict().items()}
    again = Preferred(beta=0.5)
    again.prepare(model)
    again.load_state_dict(saved)
    assert torch.equal(again(model, item), objective(model, item))


def test_preferences_are_learned() -> None:
    model, item = stirred(SEES), asked("a cat|a dog", "3|4")
    learn(model, Preferred(beta=1.0), item, steps=15)
    assert not untouched(model)


def test_a_preference_needs_two_answers_to_one_question() -> None:
    model = stirred(SEES)
    objective = Preferred()
    objective.prepare(model)
    with pytest.raises(BeholderError, match="two answers to each question"):
        objective(model, asked("a cat", "3", "4"))
    turns = (Turn("What?", "a", "x"), Turn("How many?", "3", "x"))
    with pytest.raises(BeholderError, match="two answers to each question"):
        objective(model, Collator(SEES, TOKENIZER)([Sample(pictures(1)[0], turns, "one")]))


def test_words_are_learned_beside_answers() -> None:
    model = stirred(SEES)
    words = Words(model, TOKENIZER, {"x": ("cat", "dog", "3")})
    item = asked("cat", "dog", "3")
    both = Grounded(words, share=0.1)
    with torch.no_grad():
        (alone,) = words.losses(item, model.encode(item.batch))
        assert torch.allclose(both(model, item), next_token(model, item) + 0.1 * alone, atol=1e-5)
    learn(model, both, item)
    assert not untouched(model)
    fresh = stirred(SEES)
    for parameter in fresh.languages.parameters():
        parameter.requires_grad_(False)
    learn(fresh, words, item)
    with pytest.raises(BeholderError, match="only the data know"):
        named("words")


def test_a_vision_teacher_is_followed() -> None:
    """EVE: the answers' loss and how far states lie from what the teacher sees, alike; the teacher does not learn."""
    chosen = card("eve-7b-aligning").tiny().but(prompt=CHAT)
    model = stirred(chosen)
    item = Collator(chosen, TOKENIZER)(
        [replace(s, turns=(Turn("Q", "yes", "x"),)) for s in titled(("a", "b"), (56, 84))]
    )
    for parameter in model.branch("teacher").parameters():
        parameter.requires_grad_(False)
    with torch.no_grad():
        reading = read(model, item)
        assert torch.allclose(aligned(model, item), Answered()(reading) + alignment(reading), atol=1e-5)
        assert float(alignment(reading)) == pytest.approx(
            float(model(item.batch).heads["alignment"]), abs=1e-5
        )
    learn(model, Sum((alignment,)), item, steps=20, lr=5e-3)
    with pytest.raises(BeholderError, match="no head TeacherAlignment"):
        aligned(stirred(SEES), asked("a"))
