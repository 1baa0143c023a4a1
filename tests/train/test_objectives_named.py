"""Names of objectives in cards."""

from __future__ import annotations

import pytest

from beholder.cards import card, card_names
from beholder.cards.schema import Stage
from beholder.errors import BeholderError, UnknownName
from beholder.train.objectives import NAMED, PROGRAMS, Made, MomentumPairs, named, next_token
from beholder.train.pairs import collator_of
from beholder.train.stages import prepare_stage
from tests.toys import CHAT, byte_tokenizer
from tests.train.learning import stirred, titled

STAGES = [(name, stage) for name in card_names() for stage in card(name).stages]


def test_every_stage_names_an_objective_or_says_what_it_needs() -> None:
    assert len(STAGES) > 500
    assert {stage.objective for _, stage in STAGES} <= set(NAMED) | set(PROGRAMS)
    assert not set(NAMED) & set(PROGRAMS)


NEEDS = {  # what of a card an objective reads, by the outputs of its heads
    "next-token": {"text"},
    "next-token, contrast": {"text", "similarity"},
    "next-token, teacher": {"text", "alignment"},
    "next-token, objects": {"text", "masks"},
    "next-token, patches": {"text", "patches"},
    "next-token, masks": {"text", "masks"},
    "next-token, masks, boxes": {"text", "masks", "spoken boxes"},
    "contrast": {"similarity"},
    "contrast, bound": {"bound"},
    "contrast, momentum": {"similarity"},
    "masked-words, matching": {"words", "matching"},
    "contrast, texts": {"similarity"},
    "contrast, matching, captions": {"similarity"},
    "sigmoids": {"similarity"},
    "labels": {"labels"},
    "words": {"text"},
    "things": set(),
}


def test_cards_have_the_heads_that_their_stages_train() -> None:
    for name, stage in STAGES:
        outputs = {head.output for head in card(name).heads}
        if stage.objective == "next-token, boxes":
            assert outputs & {"box vectors", "proposals"}, name
        elif stage.objective not in PROGRAMS:
            assert NEEDS[stage.objective] <= outputs, (name, stage.objective)


def test_heads_that_only_their_own_loss_trains_are_not_left_out() -> None:
    """A rule for a head of regions, or of a teacher, would train nothing under `next-token`."""
    silent = {"alignment", "masks", "box vectors", "spoken boxes", "proposals", "labels", "patches"}
    for name, stage in STAGES:
        heads = card(name).heads
        for rule in (rule for rule in stage.rules if rule.pattern.startswith("heads.") and rule.lr):
            number = rule.pattern.split(".")[1]
            if number.isdigit() and heads[int(number)].output in silent:
                assert stage.objective != "next-token", (name, stage.name)


# those whose batches need regions, sounds, composed pictures, all answers of a task or answers written while training are
# tested elsewhere
OWN = ("next-token", "words", "things", "contrast, bound", "next-token, objects", *PROGRAMS)
OTHERS = [
    (name, s) for name, s in STAGES if s.objective not in OWN and not s.objective.endswith(("masks", "boxes"))
]


@pytest.mark.parametrize(("name", "stage"), OTHERS, ids=lambda each: getattr(each, "name", each))
def test_a_stage_trains_all_that_it_says(name: str, stage: Stage) -> None:
    """From pictures and texts through the stage's own collator and objective, with its rules, to finite gradients."""
    tokenizer = byte_tokenizer(("[SEP]", "[CLS]", "[PAD]", "[MASK]"))
    chosen = card(name).tiny()
    chosen = chosen.but(prompt=CHAT) if stage.objective.startswith("next-token") else chosen
    model = stirred(chosen).train()
    number = [each.name for each in card(name).stages].index(stage.name)
    prepare_stage(model, chosen.stages[number])
    titles = chosen.heads[0].words[:4] if stage.objective == "labels" else ("a|b", "c|d", "e|f", "gh|i")
    objective = named(stage.objective, tokenizer)
    getattr(objective, "prepare", lambda _model: None)(model)
    item = collator_of(stage.objective, chosen, tokenizer)(titled(titles, (56, 84)))
    objective(model, item).backward()
    trained = {key for key, parameter in model.named_parameters() if parameter.requires_grad}
    assert trained and all(
        model.get_parameter(key).grad is None for key in set(dict(model.named_parameters())) - trained
    )
    missing = {key for key in trained - model.unused_parameters() if model.get_parameter(key).grad is None}
    assert not missing
    gradients = [model.get_parameter(key).grad for key in trained - model.unused_parameters()]
    assert all(bool(gradient.isfinite().all()) for gradient in gradients)


def test_names_are_looked_up_exactly() -> None:
    assert named("next-token") is next_token
    with pytest.raises(UnknownName, match="unknown objective 'contrastive'; nearest: contrast"):
        named("contrastive")
    with pytest.raises(
        BeholderError, match="'rewards' is no loss of a batch; it needs answers that the model writes"
    ):
        named("rewards")


def test_objectives_with_a_state_are_new_each_time() -> None:
    made = [name for name, objective in NAMED.items() if isinstance(objective, Made)]
    assert {"contrast, momentum", "distillation", "preferences"} <= set(made)
    first, second = named("contrast, momentum"), named("contrast, momentum")
    assert isinstance(first, MomentumPairs) and first is not second
