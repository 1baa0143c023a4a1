"""Attention, rotary positions and the small blocks, against plain formulas."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from beholder.errors import BeholderError, UnknownName
from beholder.parts.blocks import attention
from beholder.parts.blocks.activations import ACTIVATIONS, activation
from beholder.parts.blocks.attention import Attention, attend, prepend
from beholder.parts.blocks.masks import AttentionMask
from beholder.parts.blocks.mlp import FeedForward
from beholder.parts.blocks.norms import Norm
from beholder.parts.blocks.positions import Rotary
from beholder.parts.blocks.rotary_scaling import LinearScaling, Llama3Scaling


def plain_attention(q, k, v, allowed=None):
    """softmax(q k' / sqrt(K)) v for one head each."""
    scores = q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])
    if allowed is not None:
        scores = scores.masked_fill(~allowed, -math.inf)
    return scores.softmax(-1) @ v


@pytest.mark.parametrize("kv_heads", [1, 2, 4])
@pytest.mark.parametrize("num_queries", [1, 5])
def test_shared_keys_equal_repeated_ones(kv_heads, num_queries):
    q, k, v = (
        torch.randn(2, 4, num_queries, 8),
        torch.randn(2, kv_heads, 5, 8),
        torch.randn(2, kv_heads, 5, 8),
    )
    repeated = [x[:, [head * kv_heads // 4 for head in range(4)]] for x in (k, v)]
    assert torch.allclose(attend(q, k, v, AttentionMask()), plain_attention(q, *repeated), atol=1e-6)


@pytest.mark.parametrize("kv_heads", [1, 4])
def test_masks_reach_the_scores(kv_heads):
    q, k, v = torch.randn(2, 4, 5, 8), torch.randn(2, kv_heads, 5, 8), torch.randn(2, kv_heads, 5, 8)
    repeated = [x.expand(2, 4, 5, 8) for x in (k, v)]
    causal = torch.ones(5, 5).tril().bool()
    assert torch.allclose(
        attend(q, k, v, AttentionMask(causal=True)), plain_attention(q, *repeated, causal), atol=1e-6
    )
    allowed = torch.rand(2, 1, 5, 5) > 0.4
    allowed |= torch.eye(5).bool()
    got = attend(q, k, v, AttentionMask(allowed_B1TS=allowed))
    assert torch.allclose(got, plain_attention(q, *repeated, allowed), atol=1e-6)


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 9), st.integers(0, 9), st.none() | st.integers(1, 20), st.sampled_from([1, 2, 4]))
def test_queries_behind_earlier_keys(queries, before, window, kv_heads):
    """Pieces of queries give what the table of all gives."""
    mask = AttentionMask(causal=True, window=window)
    q, (k, v) = torch.randn(2, 4, queries, 8), torch.randn(2, 2, kv_heads, before + queries, 8)
    allowed = mask.allowed(queries, before + queries, q.device)
    want = attend(q, k, v, AttentionMask(allowed_B1TS=allowed))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(attention, "QUERIES_AT_ONCE", 4)
        assert torch.allclose(attend(q, k, v, mask), want, atol=1e-6)
    assert torch.allclose(attend(q, k, v, mask.plus(torch.zeros(1))), want, atol=1e-6)


@pytest.mark.parametrize("mask", ["none", "causal", "dense"])
def test_prefix_keys_are_seen_by_all_and_the_rest_as_before(mask):
    q, k, v = (torch.randn(1, 2, 4, 8) for _ in range(3))
    prefix = (torch.randn(1, 2, 3, 8), torch.randn(1, 2, 3, 8))
    dense = torch.eye(4).bool()[None, None]
    given = {
        "none": AttentionMask(),
        "causal": AttentionMask(causal=True),
        "dense": AttentionMask(allowed_B1TS=dense),
    }[mask]
    allowed = {
        "none": torch.ones(4, 4).bool(),
        "causal": torch.ones(4, 4).tril().bool(),
        "dense": dense[0, 0],
    }[mask]
    want = plain_attention(
        q,
        *(torch.cat(pair, 2) for pair in zip(prefix, (k, v), strict=True)),
        torch.cat((torch.ones(4, 3).bool(), allowed), 1),
    )
    assert torch.allclose(attend(q, *prepend(k, v, prefix, given, 4)), want, atol=1e-6)


def test_heads_that_do_not_divide():
    with pytest.raises(BeholderError, match="6 query heads cannot share 4 key heads"):
        Attention(num_heads=6, num_kv_heads=4).width(48)
    with pytest.raises(BeholderError, match="width 50 does not divide into 4 heads"):
        Attention(num_heads=4).width(50)
    assert Attention(num_heads=4, head_dim=16).width(50) == 16


def turned(rotary, x, positions):
    return rotary.rotate(x, rotary.tables(positions, x.shape[-1], x.dtype))


def test_rotary_turns_pairs_by_position_times_frequency():
    """Against complex multiplication, as the paper writes it."""
    x, positions = torch.randn(1, 1, 6, 8), torch.tensor([[0, 1, 2, 5, 9, 30]])
    frequencies = 100.0 ** (-torch.arange(0, 8, 2) / 8)
    turn = torch.polar(torch.ones(6, 4), positions[0][:, None] * frequencies)
    want = torch.view_as_real(torch.view_as_complex(x.unflatten(-1, (4, 2))) * turn).flatten(-2)
    assert torch.allclose(turned(Rotary(100.0, "adjacent"), x, positions), want, atol=1e-5)


def test_half_and_adjacent_pairs_differ_by_a_permutation():
    x, positions = torch.randn(2, 3, 6, 8), torch.arange(12).view(2, 6)
    order = torch.tensor([0, 2, 4, 6, 1, 3, 5, 7])  # adjacent channels to halves
    half, adjacent = Rotary(50.0, "half"), Rotary(50.0, "adjacent")
    assert torch.allclose(
        turned(half, x[..., order], positions), turned(adjacent, x, positions)[..., order], atol=1e-6
    )


@pytest.mark.parametrize("pairs", ["half", "adjacent"])
def test_scores_depend_on_distance_alone(pairs):
    rotary = Rotary(1000.0, pairs)
    q, k = torch.randn(1, 1, 1, 16), torch.randn(1, 1, 1, 16)

    def score(i, j):
        return float((turned(rotary, q, torch.tensor([[i]])) * turned(rotary, k, torch.tensor([[j]]))).sum())

    assert score(3, 1) == pytest.approx(score(103, 101), abs=1e-4)
    assert abs(score(3, 1) - score(3, 2)) > 1e-3


def test_scalings():
    plain, kept = Rotary(500000.0), Llama3Scaling(8.0, 1.0, 4.0, 8192)
    scaled = plain.but(scaling=kept).frequencies(128) / plain.frequencies(128)
    assert scaled[0] == 1.0  # short wavelengths stay
    assert scaled[-1] == pytest.approx(1 / 8)  # long ones are divided
    assert ((scaled[1:] - scaled[:-1]) <= 1e-6).all()
    halved = Rotary(scaling=LinearScaling(2.0))
    x = torch.randn(1, 1, 3, 8)
    want = turned(Rotary(), x, torch.tensor([[0, 1, 2]]))
    assert torch.allclose(turned(halved, x, torch.tensor([[0, 2, 4]])), want, atol=1e-6)


def test_gated_and_plain_mlp():
    x = torch.randn(3, 8)
    mlp = FeedForward(12, act="silu", gated=True).build(8)
    want = mlp.down(torch.nn.functional.silu(mlp.gate(x)) * mlp.up(x))
    assert torch.equal(mlp(x), want)
    mlp = FeedForward(12, act="relu", bias=False).build(8)
    assert torch.equal(mlp(x), mlp.down(mlp.up(x).clamp(min=0)))
    assert mlp.up.bias is None
    assert mlp.gate is None


def test_activations():
    x = torch.linspace(-4, 8, 25)
    assert torch.allclose(activation("quick_gelu")(x), x / (1 + torch.exp(-1.702 * x)), atol=1e-6)
    erf = x * (1 + torch.erf(x / math.sqrt(2))) / 2
    assert torch.allclose(activation("gelu")(x), erf, atol=1e-6)
    assert 0 < (activation("gelu_tanh")(x) - erf).abs().max() < 1e-3
    assert activation("relu6")(x).max() == 6
    assert torch.equal(activation("relu2")(x), x.clamp(min=0) ** 2)
    xielu = activation("xielu")(x)
    below = 0.8 * (torch.expm1(x) - x) + 0.5 * x
    assert torch.allclose(xielu, torch.where(x > 0, 0.8 * x * x + 0.5 * x, below), atol=1e-5)
    assert set(ACTIVATIONS) >= {"silu", "relu"}
    with pytest.raises(UnknownName, match="gelu"):
        activation("gellu")


def test_norms():
    x = torch.randn(2, 5, 16) * 3 + 1
    rms = Norm("rms", 1e-5).build(16)
    torch.nn.init.normal_(rms.weight)
    assert torch.allclose(rms(x), x / (x.pow(2).mean(-1, keepdim=True) + 1e-5).sqrt() * rms.weight, atol=1e-5)
    centred = x - x.mean(-1, keepdim=True)
    want = centred / (centred.pow(2).mean(-1, keepdim=True) + 1e-6).sqrt()
    assert torch.allclose(Norm("layer", 1e-6).build(16)(x), want, atol=1e-5)
    with pytest.raises(UnknownName):
        Norm("batch").build(4)
