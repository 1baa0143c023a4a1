"""Choices that only some decoders make: scaled rotary positions, queries that grow, norms with an offset."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from beholder.cards.schema import Card
from beholder.model import Batch, build
from beholder.parts.blocks.attention import Attention
from beholder.parts.blocks.mlp import FeedForward
from beholder.parts.blocks.norms import Norm
from beholder.parts.blocks.positions import QueryScale, Rotary
from beholder.parts.blocks.rotary_scaling import DynamicScaling, LongRope, NtkScaling, SteppedScaling
from beholder.parts.heads.next_token import NextToken
from beholder.parts.language.decoder import Decoder

SMALL = Decoder(
    vocab_size=60,
    dim=32,
    num_layers=2,
    attention=Attention(num_heads=4, num_kv_heads=2, rotary=Rotary()),
    mlp=FeedForward(48, act="silu", gated=True, bias=False),
    norm=Norm("rms"),
    context=64,
)
LONG = LongRope((1.0, 1.1, 1.3, 1.7), (1.5, 2.0, 4.0, 9.0), 6, attention_factor=1.2)


@pytest.mark.parametrize("scaling", [DynamicScaling(2.0, 4), SteppedScaling(4), LONG])
def test_rows_do_not_change_each_other(scaling: Any) -> None:
    """Frequencies follow the length of a row, not of the longest one or of its padding."""
    card = Card(name="x", language=SMALL.but(**{"attention.rotary.scaling": scaling}), heads=(NextToken(),))
    model, ids = build(card), torch.randint(0, 60, (2, 12))
    with torch.inference_mode():
        both = model(Batch(ids, (12, 5))).heads["text"]
        for row, length in enumerate((12, 5)):
            alone = model(Batch(ids[row : row + 1, :length])).heads["text"]
            assert torch.allclose(both[row, :length], alone[0], atol=1e-5)
        unscaled = build(card.but(language=SMALL))(Batch(ids[:1])).heads["text"]
    assert not torch.allclose(both[:1], unscaled, atol=1e-3)


def test_long_rope_changes_its_factors_beyond_the_trained_length() -> None:
    short, long = (Rotary(scaling=LONG).frequencies(8, length=length) for length in (6, 7))
    plain = Rotary().frequencies(8)
    assert torch.allclose(plain / short, torch.tensor(LONG.short_factors))
    assert torch.allclose(plain / long, torch.tensor(LONG.long_factors))
    cos, sin = Rotary(scaling=LONG).tables(torch.arange(3)[None], 8, torch.float32)
    assert torch.allclose(cos**2 + sin**2, torch.full_like(cos, 1.2**2))


def test_ntk_stretches_the_longest_wave_alone() -> None:
    plain, stretched = Rotary().frequencies(8), Rotary(scaling=NtkScaling(3.0)).frequencies(8)
    assert torch.allclose(plain / stretched, torch.tensor([1.0, 3 ** (1 / 3), 3 ** (2 / 3), 3.0]))


@pytest.mark.parametrize(("length", "growth"), [(3, 1), (4, 1), (5, 3), (8, 3), (9, 7), (17, 15)])
def test_stepped_scaling_grows_by_octaves(length: int, growth: int) -> None:
    rotary = Rotary(scaling=SteppedScaling(4))
    assert torch.equal(
        rotary.frequencies(8, length=length), Rotary(scaling=NtkScaling(growth)).frequencies(8)
    )


def test_queries_grow_with_their_position() -> None:
    positions = torch.tensor([[0, 3, 4, 15, 255]])
    logs = QueryScale(4).factors(positions).flatten()
    assert torch.allclose(logs, torch.tensor([1.0, 1.0, math.log(5, 4), 2.0, 4.0]))
    steps = QueryScale(4, beta=0.5).factors(positions).flatten()
    want = [1 + 0.5 * math.log(1 + place // 4) for place in positions[0].tolist()]
    assert torch.allclose(steps, torch.tensor(want))
    assert torch.equal(QueryScale(4).factors(positions.expand(3, 1, 5)).flatten(), logs)


def test_layer_norm_with_an_offset_starts_as_one_without() -> None:
    x, plain = torch.randn(3, 16), Norm("layer").build(16)
    offset = Norm("layer", offset=1.0).build(16)
    assert torch.allclose(offset(x), plain(x), atol=1e-6)
    with torch.no_grad():
        offset.weight += 0.5
    assert torch.allclose(offset(x), 1.5 * plain(x), atol=1e-6)
