"""Hyper attention: gates, shared queries and norm, keys turned by the places of pictures, generation."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import nn

from beholder.errors import BeholderError, UnknownName
from beholder.model import Batch, build
from beholder.parts.fusion.cross_attention import Layers
from beholder.parts.fusion.hyper_attention import HyperAttention
from beholder.parts.language.state import State
from tests.parts.test_cross_attention import SEES, batch, logits, made, pictures
from tests.toys import DECODER

HYPER = HyperAttention(token_id=5)
CARD = SEES.but(connector=None, fusion=(HYPER,))
GATES = pytest.mark.parametrize("gate", ["token", "channels"])


def card_with(gate: str):
    return CARD.but(fusion=(HYPER.but(gate=gate),))


@GATES
@torch.no_grad()
def test_a_layer_equals_the_equations(gate):
    """One layer: shared norm and queries, keys at the place of their picture, heads mixed before they are joined."""
    model = made(card_with(gate).but(**{"language.num_layers": 1}))
    ids, views = [[7, 5, 9, 11]], pictures(1)
    hyper, block = model.fusion[0].layers[0], model.languages["main"].blocks[0]
    seen = model.branches["image"](views).tokens_ND
    x = block.norm1(model.language.embed(torch.tensor(ids)))[0]
    rotary, attn = DECODER.attention.rotary, block.attn

    def turned(y, places):
        heads = y.view(1, len(y), -1, 8).transpose(1, 2)
        return rotary.rotate(heads, rotary.tables(places[None], 8, y.dtype))[0]

    text = torch.arange(4)
    q, k, v = turned(attn.q(x), text), turned(attn.k(x), text), attn.v(x).view(4, 2, 8).transpose(0, 1)
    normed = block.norm1(seen)
    k_seen, v_seen = (
        turned(hyper.k(normed), torch.ones(4).long()),
        hyper.v(normed).view(4, 2, 8).transpose(0, 1),
    )

    def attended(k, v, mask=None):
        k, v = (y.repeat_interleave(2, 0) for y in (k, v))
        scores = q @ k.transpose(1, 2) / 8**0.5
        scores = scores if mask is None else scores.masked_fill(~mask, float("-inf"))
        return scores.softmax(-1) @ v

    own, other = attended(k, v, torch.ones(4, 4).tril().bool()), attended(k_seen, v_seen)
    share = hyper.of_token(x).sigmoid() if gate == "token" else hyper.gate.sigmoid().view(4, 1, 8)
    mixed = own * (1 - share) + other * share
    mixed[:, :1] = own[:, :1]  # the first token stands before the picture
    hidden = model.language.embed(torch.tensor(ids))[0] + attn.out(mixed.transpose(0, 1).flatten(1))
    hidden = hidden + block.mlp(block.norm2(hidden))
    want = model.language.logits(model.language.norm(hidden))
    assert torch.allclose(logits(model, ids, views)[0], want, atol=1e-4)


@torch.no_grad()
def test_closed_gates_leave_the_language_model_unchanged():
    model = made(card_with("channels"))
    for layer in model.fusion[0].layers:
        nn.init.constant_(layer.gate, -1e4)
    ids = torch.tensor([[7, 5, 9, 11]])
    alone = model(Batch(ids.where(ids != 5, torch.tensor(6)))).heads["text"]
    nn.init.zeros_(model.languages["main"].embedding.weight[5]).copy_(
        model.languages["main"].embedding.weight[6]
    )
    assert torch.equal(logits(model, ids.tolist(), pictures(1)), alone)


@torch.no_grad()
def test_a_picture_is_seen_from_its_place_on():
    model = made(card_with("token"))
    ids, views = [[7, 5, 9, 5, 11]], pictures(2)
    first = logits(model, ids, views)
    for number, start in enumerate((1, 3)):
        other = [*views]
        other[number] = pictures(1, seed=9)[0]
        moved = (logits(model, ids, other) - first).abs().amax(-1)[0] > 1e-6
        assert moved.tolist() == [place >= start for place in range(5)]


@torch.no_grad()
def test_keys_turn_with_the_place_of_their_picture():
    """What a picture gives depends on how far back it stands, not on where the text begins."""
    model = made(card_with("channels").but(**{"language.num_layers": 1}))
    plain, views = batch(CARD, [[5, 9, 11, 13]], pictures(1)), pictures(1)
    moved = dataclasses.replace(plain, positions=torch.arange(4)[None] + 7)
    apart = dataclasses.replace(plain, positions=torch.tensor([[0, 3, 4, 5]]))
    first, same, other = (model(given).heads["text"] for given in (plain, moved, apart))
    assert torch.allclose(first, same, atol=1e-4) and not torch.allclose(first, other, atol=1e-3)
    assert len(views) == 1


@GATES
@torch.no_grad()
def test_generation_and_rows_of_unequal_numbers(gate):
    model = made(card_with(gate))
    rows, views = [[7, 5, 9, 5, 11], [8, 12], [5, 13, 14]], pictures(3)
    state = State(3)
    together, used = logits(model, rows, views, state), 0
    for row, (ids, count) in enumerate(zip(rows, (2, 0, 1), strict=True)):
        own = views[used : used + count]
        used += count
        assert torch.allclose(together[row, : len(ids)], logits(model, [ids], own)[0], atol=1e-5)
    step = model(Batch(torch.tensor([[17], [17], [17]])), state).heads["text"]
    whole = logits(model, [[*ids, 17] for ids in rows], views)
    for row, ids in enumerate(rows):
        assert torch.allclose(step[row, 0], whole[row, len(ids)], atol=1e-5)


def test_what_cannot_be_built():
    with pytest.raises(UnknownName, match="gate"):
        HYPER.but(gate="layer")
    with pytest.raises(BeholderError, match="decoder whose layers attend"):
        HYPER.build(None)
    chosen = build(CARD.but(fusion=(HYPER.but(layers=Layers(numbers=(1,))),)))
    assert list(chosen.layer_parts) == [1] and list(chosen.layer_parts[1]) == ["heads"]
