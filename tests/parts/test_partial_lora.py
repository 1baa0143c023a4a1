"""Low-rank changes for tokens of pictures alone: zero ones change nothing, others are as if those had matrices of their own."""

from __future__ import annotations

import pytest
import torch

from beholder.cards.schema import Card
from beholder.errors import BeholderError
from beholder.model import Batch, build
from beholder.parts.fusion.experts import VisualExpert
from beholder.parts.fusion.partial_lora import PartialLora
from beholder.parts.language.state import State
from tests.parts.test_visual_experts import ROW, batch, logits, made, pictures, sees
from tests.toys import DECODER, TEXT_TOWER

LORA = PartialLora(rank=3, alpha=6.0)


def with_lora() -> Card:
    return sees(VisualExpert()).but(fusion=(sees(VisualExpert()).fusion[0], LORA))


def test_zero_changes_give_the_base_model_and_text_is_equal_bit_for_bit():
    model = made(with_lora())
    plain = build(sees(VisualExpert()).but(fusion=(model.card.fusion[0],)))
    plain.load_state_dict({k: v for k, v in model.state_dict().items() if not k.startswith("fusion.1.")})
    text = [[7, 9, 8, 11]]
    assert torch.equal(logits(model, text, []), logits(plain, text, []))
    assert not torch.allclose(logits(model, [ROW], pictures(1)), logits(plain, [ROW], pictures(1)), atol=1e-4)
    for name, parameter in model.named_parameters():
        if name.endswith("low.b") or (".low." in name and name.endswith(".b")):
            torch.nn.init.zeros_(parameter)
    assert torch.allclose(logits(model, [ROW], pictures(1)), logits(plain, [ROW], pictures(1)), atol=1e-5)
    fresh = build(with_lora())
    assert all(not low.any() for name, low in fresh.named_parameters() if name.endswith(".b"))


def test_changes_equal_matrices_of_their_own_for_pictures():
    """W x + s B A x at pictures is (W + s B A) x: a visual expert with the changed matrices."""
    model, expert = made(with_lora()), made(sees(VisualExpert()))
    own = {k: v for k, v in model.state_dict().items() if not k.startswith("fusion.1.")}
    expert.load_state_dict(own, strict=False)
    for block, slots, layer in zip(
        model.language.blocks, model.fusion[1].layers, expert.fusion[1].layers, strict=True
    ):
        changes = slots["qkv"].low.change().split(slots["qkv"].widths)
        with torch.no_grad():
            for part, change in zip("qkv", changes, strict=True):
                layer["qkv"].own[part].weight.copy_(getattr(block.attn, part).weight + change)
            layer["out"].own.weight.copy_(block.attn.out.weight + slots["out"].low.change())
            for part, low in slots["mlp"].low.items():
                getattr(layer["mlp"].own, part).weight.copy_(getattr(block.mlp, part).weight + low.change())
    rows, views = [ROW, [6, *[5] * 4, 9, *[5] * 4, 8]], pictures(3)
    assert torch.allclose(logits(model, rows, views), logits(expert, rows, views), atol=1e-5)


@torch.no_grad()
def test_generation_behind_a_picture_uses_the_words_matrices():
    model = made(with_lora())
    state = State(1)
    model(batch(model.card, [ROW], pictures(1)), state)
    for token in (11, 12):
        step = model(Batch(torch.tensor([[token]])), state).heads["text"][0, 0]
        row = [*ROW, 11] if token == 11 else [*ROW, 11, 12]
        assert torch.allclose(step, logits(model, [row], pictures(1))[0, -1], atol=1e-5)


def test_what_cannot_be_changed_is_refused():
    with pytest.raises(BeholderError, match="decoder"):
        LORA.build(TEXT_TOWER)
    with pytest.raises(BeholderError, match="rank 0"):
        PartialLora(rank=0)
    with pytest.raises(BeholderError, match="attention and an MLP"):
        LORA.build(DECODER.but(mlp=None))


def test_only_the_changes_train_in_their_stage():
    from beholder.cards.schema import Stage, Trains
    from beholder.train.stages import prepare_stage

    model = made(with_lora())
    plan = prepare_stage(model, Stage("s", rules=(Trains("fusion.1.*", lr=1e-4),)))
    assert plan.trained and all(name.startswith("fusion.1.layers.") for name in plan.trained)
    asked = batch(model.card, [ROW], pictures(1))
    model(asked).heads["text"].square().sum().backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in plan.trained.values())
