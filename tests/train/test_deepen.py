"""Deeper models out of trained ones."""

from __future__ import annotations

import pytest
import torch

from beholder.cards import card
from beholder.errors import BeholderError
from beholder.model import Batch, build
from beholder.parts.language import sizes
from beholder.parts.language.sizes_llama import YI_9B as YI_9B_SIZE
from beholder.train.deepen import YI_9B, deepened
from tests.toys import DECODER, TEXT

CARD = TEXT.but(language=DECODER.but(num_layers=4))
IDS = torch.tensor([[3, 1, 4, 1, 5, 9]])


@torch.inference_mode()
def test_repeated_layers_are_run_again_with_the_same_weights() -> None:
    model = build(CARD, seed=2)
    order = (0, 1, 2, 1, 2, 3)
    deeper = deepened(model, order, name="deeper")
    assert deeper.card.name == "deeper" and deeper.card.main.num_layers == 6
    language = deeper.language
    blocks = list(model.language.blocks)
    for block, layer in zip(language.blocks, order, strict=True):
        for (name, ours), theirs in zip(block.named_parameters(), blocks[layer].parameters(), strict=True):
            assert torch.equal(ours, theirs) and ours.data_ptr() != theirs.data_ptr(), name
    model.language.blocks = torch.nn.ModuleList(blocks[layer] for layer in order)
    wanted = model(Batch(IDS)).heads["text"]
    assert torch.allclose(deeper(Batch(IDS)).heads["text"], wanted, atol=1e-6)


@torch.inference_mode()
def test_each_layer_once_is_the_model_itself() -> None:
    model = build(CARD, seed=2)
    again = deepened(model, range(4))
    assert torch.equal(again(Batch(IDS)).heads["text"], model(Batch(IDS)).heads["text"])


def test_training_goes_on_and_copies_part_ways() -> None:
    deeper = deepened(build(CARD, seed=2), (0, 1, 1, 2, 3))
    twins = [deeper.language.blocks[number].mlp.up.weight for number in (1, 2)]
    optimizer = torch.optim.AdamW(deeper.parameters(), lr=3e-3)
    losses = []
    for _ in range(12):
        logits_BTV = deeper(Batch(IDS)).heads["text"]
        loss = torch.nn.functional.cross_entropy(logits_BTV[0, :-1], IDS[0, 1:])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] and not torch.allclose(*twins)


def test_yi_9b_has_the_middle_of_yi_6b_twice() -> None:
    assert len(YI_9B) == YI_9B_SIZE.num_layers == card("yi-9b").main.num_layers == 48
    assert [YI_9B.count(layer) for layer in range(sizes.YI_6B.num_layers)] == [1] * 12 + [2] * 16 + [1] * 4


def test_layers_that_there_are_not() -> None:
    with pytest.raises(BeholderError, match="which has 4"):
        deepened(build(CARD, seed=2), (0, 4))
    with pytest.raises(BeholderError, match="no stack of equal layers"):
        deepened(build(card("stripedhyena-7b").tiny()), (0,))
