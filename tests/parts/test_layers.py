"""The parts of a layer and how they are joined, against direct formulas."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from beholder.errors import BeholderError, UnknownName
from beholder.parts.blocks.attention import Attention
from beholder.parts.blocks.masks import AttentionMask, Visibility
from beholder.parts.blocks.mlp import FeedForward
from beholder.parts.blocks.norms import Norm
from beholder.parts.blocks.positions import Alibi, Rotary
from beholder.parts.blocks.step import Step
from beholder.parts.blocks.transformer import Arrangement, LayerKind, TransformerLayer
from beholder.parts.language.decoder import Decoder
from beholder.parts.language.embedding import TokenEmbedding
from tests.toys import DECODER

MIXER, MLP = Attention(num_heads=4), FeedForward(24)
FREE = Step()


def layer_of(arrangement: Arrangement) -> TransformerLayer:
    layer = TransformerLayer(16, MIXER, MLP, arrangement, norm=Norm("rms"))
    for parameter in layer.parameters():
        nn.init.normal_(parameter, std=0.3)
    return layer


def joined(layer: TransformerLayer, x: torch.Tensor) -> torch.Tensor:
    """The formula of each arrangement, written out."""
    how, f, g = layer.arrangement, layer.attn, layer.mlp
    match how.placement, how.parallel:
        case "pre", None:
            x = how.skip * x + how.scale * f(layer.norm1(x), FREE)
            return how.skip * x + how.scale * g(layer.norm2(x))
        case "pre", "one norm":
            y = layer.norm1(x)
            return x + f(y, FREE) + g(y)
        case "pre", "two norms":
            return x + f(layer.norm1(x), FREE) + g(layer.norm2(x))
        case "post", None:
            x = layer.after1(how.skip * x + f(x, FREE))
            return layer.after2(how.skip * x + g(x))
        case "after", None:
            x = x + layer.after1(f(x, FREE))
            return x + layer.after2(g(x))
        case "both", None:
            x = x + layer.after1(f(layer.norm1(x), FREE))
            return x + layer.after2(g(layer.norm2(x)))
        case "normed", None:
            y = layer.norm1(x)
            x = how.skip * y + how.scale * f(y, FREE)
            y = layer.norm2(x)
            return how.skip * y + how.scale * g(y)
    raise AssertionError(how)


@pytest.mark.parametrize(
    "arrangement",
    [
        Arrangement(),
        Arrangement(skip=2.0, scale=0.5),
        Arrangement(parallel="one norm"),
        Arrangement(parallel="two norms"),
        Arrangement("post"),
        Arrangement("post", skip=1.5),
        Arrangement("after"),
        Arrangement("both"),
        Arrangement("normed", skip=3.0, scale=0.7),
    ],
    ids=lambda how: f"{how.placement} {how.parallel} {how.skip}",
)
def test_halves_are_joined_as_arranged(arrangement: Arrangement) -> None:
    layer, x = layer_of(arrangement), torch.randn(2, 5, 16)
    assert torch.allclose(layer(x, FREE), joined(layer, x), atol=1e-5)


def test_learned_scales_multiply_what_the_halves_give() -> None:
    layer, x = layer_of(Arrangement(layer_scale=0.1)), torch.randn(2, 5, 16)
    y = x + layer.scale1 * layer.attn(layer.norm1(x), FREE)
    assert torch.allclose(layer(x, FREE), y + layer.scale2 * layer.mlp(layer.norm2(y)), atol=1e-5)
    fresh = TransformerLayer(16, MIXER, MLP, Arrangement(layer_scale=0.1), norm=Norm())
    assert torch.equal(fresh.scale1, torch.full((16,), 0.1))


def test_a_layer_may_have_no_mlp() -> None:
    layer, x = TransformerLayer(16, MIXER, None, norm=Norm()), torch.randn(2, 5, 16)
    assert torch.equal(layer(x, FREE), x + layer.attn(layer.norm1(x), FREE))
    assert not any(name.startswith(("mlp", "norm2")) for name, _ in layer.named_parameters())


def test_unknown_arrangements_are_refused() -> None:
    with pytest.raises(UnknownName, match="placement"):
        Arrangement("before")
    with pytest.raises(UnknownName, match="parallel"):
        Arrangement(parallel="three norms")


def scores_of(attention: Attention, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, nn.Module]:
    """Raw products of queries and keys (H, T, T), values (H, T, K) and the module, for one row."""
    module = attention.build(16)
    q, k, v = (t[0].unflatten(-1, (4, 4)).transpose(0, 1) for t in module.project(x))
    return q @ k.transpose(-1, -2), v, module


def test_softcap_scale_and_sinks() -> None:
    x = torch.randn(1, 6, 16)
    scores, v, module = scores_of(Attention(num_heads=4, scale=0.7, softcap=2.0, sinks=True), x)
    nn.init.normal_(module.sinks)
    capped = 2.0 * torch.tanh(0.7 * scores / 2.0)
    shared = capped.exp() / (capped.exp().sum(-1, keepdim=True) + module.sinks.exp()[:, None, None])
    want = module.out((shared @ v).transpose(0, 1).flatten(1))
    assert torch.allclose(module(x, FREE)[0], want, atol=1e-5)


def test_alibi_is_a_slope_times_the_distance() -> None:
    x = torch.randn(1, 6, 16)
    scores, v, module = scores_of(Attention(num_heads=4, alibi=Alibi()), x)
    visibility = Visibility.causal(1, 6)
    distance = torch.arange(6)[:, None] - torch.arange(6)
    slopes = torch.tensor([2.0**-2, 2.0**-4, 2.0**-6, 2.0**-8])[:, None, None]
    biased = (scores / 2.0 - slopes * distance).masked_fill(distance < 0, -math.inf)
    want = module.out((biased.softmax(-1) @ v).transpose(0, 1).flatten(1))
    step = Step(queries=visibility, positions=visibility.blocks_BT)
    assert torch.allclose(module(x, step)[0], want, atol=1e-5)
    assert torch.allclose(
        Alibi().slopes(6), torch.tensor([2.0**-2, 2.0**-4, 2.0**-6, 2.0**-8, 2.0**-1, 2.0**-3])
    )


@pytest.mark.parametrize("over", ["head", "heads", "all"])
@pytest.mark.parametrize("kind", ["rms", "layer"])
def test_queries_and_keys_are_normed(over: str, kind: str) -> None:
    x = torch.randn(1, 6, 16)
    module = Attention(num_heads=4, qk_norm=Norm(kind), qk_norm_over=over).build(16)
    for name in ("q_norm", "k_norm"):
        for parameter in getattr(module, name).parameters():
            nn.init.normal_(parameter)

    def normed(y: torch.Tensor, norm: nn.Module) -> torch.Tensor:
        y = y if over == "all" else y.unflatten(-1, (4, 4))
        if kind == "layer":
            y = y - y.mean(-1, keepdim=True)
        y = y / (y.square().mean(-1, keepdim=True) + 1e-5).sqrt() * norm.weight
        y = y if kind == "rms" else y + norm.bias
        return (y.unflatten(-1, (4, 4)) if over == "all" else y).transpose(1, 2)

    q, k, v = module.project(x)
    v = v.unflatten(-1, (4, 4)).transpose(1, 2)
    got = F.scaled_dot_product_attention(normed(q, module.q_norm), normed(k, module.k_norm), v)
    assert torch.allclose(module(x, FREE), module.out(got.transpose(1, 2).flatten(2)), atol=1e-5)


def test_projections_are_clipped_and_heads_normed_before_the_last() -> None:
    x = 10 * torch.randn(1, 6, 16)
    module = Attention(num_heads=4, clip=0.5, inner_norm=Norm()).build(16)
    assert max(t.abs().max().item() for t in module.project(x)) == 0.5
    assert min(t.abs().max().item() for t in (module.q(x), module.k(x))) > 0.5
    nn.init.normal_(module.inner_norm.weight)
    q, k, v = (t.unflatten(-1, (4, 4)).transpose(1, 2) for t in module.project(x))
    heads = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
    assert torch.allclose(module(x, FREE), module.out(module.inner_norm(heads)), atol=1e-5)


def test_keys_may_have_no_bias() -> None:
    names = {name for name, _ in Attention(4, qkv_bias=True, k_bias=False).build(16).named_parameters()}
    assert {"q.bias", "v.bias"} <= names and "k.bias" not in names


def test_an_inner_norm_acts_before_the_last_matrix_of_an_mlp() -> None:
    layer, x = FeedForward(24, "silu", gated=True, inner_norm=Norm()).build(16), torch.randn(3, 16)
    nn.init.normal_(layer.inner_norm.weight)
    want = layer.down(layer.inner_norm(F.silu(layer.gate(x)) * layer.up(x)))
    assert torch.allclose(layer(x), want, atol=1e-6)


def test_a_bias_and_a_mask_add_up_in_every_kernel() -> None:
    """With and without gradients, causal by flag or by table."""
    module, x = Attention(num_heads=4).build(16), torch.randn(2, 5, 16)
    bias = torch.randn(1, 4, 5, 5)
    plain = Visibility.causal(2, 5)
    told = Visibility(plain.segments_BT, plain.blocks_BT)
    results = []
    for visibility in (plain, told):
        step = Step(queries=visibility, positions=visibility.blocks_BT, bias_BHTS=bias)
        assert step.mask().causal == (visibility is plain)
        results.append(module(x, step))
        with torch.no_grad():
            results.append(module(x, step))
    assert all(torch.allclose(results[0], other, atol=1e-6) for other in results[1:])
    unbiased = module(x, Step(queries=plain, positions=plain.blocks_BT))
    assert not torch.allclose(results[0], unbiased, atol=1e-3)
    both = AttentionMask(causal=True).plus(bias).plus(bias)
    assert torch.equal(both.bias_BHTS, 2 * bias)


def test_a_share_of_the_channels_turns() -> None:
    rotary, x = Rotary(share=0.5), torch.randn(1, 1, 3, 8)
    turned = rotary.rotate(x, rotary.tables(torch.arange(3)[None], 8, torch.float32))
    full = Rotary()
    assert torch.equal(turned[..., 4:], x[..., 4:])
    alone = full.rotate(x[..., :4], full.tables(torch.arange(3)[None], 4, torch.float32))
    assert torch.equal(turned[..., :4], alone)
    with pytest.raises(BeholderError, match="share"):
        Rotary(share=1.5)


@pytest.mark.parametrize("interleaved", [False, True])
def test_axes_turn_their_own_frequencies(interleaved: bool) -> None:
    rotary = Rotary(sections=(2, 1, 1), interleaved=interleaved)
    positions = torch.tensor([[[3]], [[5]], [[7]]])  # one token: time 3, row 5, column 7
    cos, sin = rotary.tables(positions, 8, torch.float32)
    axes = torch.tensor([3.0, 5.0, 7.0, 3.0] if interleaved else [3.0, 3.0, 5.0, 7.0])
    angles = axes * rotary.frequencies(8)
    assert torch.allclose(cos[0, 0, 0], torch.cat((angles, angles)).cos())
    assert torch.allclose(sin[0, 0, 0], torch.cat((angles, angles)).sin())
    same = positions[:1].expand(3, 1, 1)
    assert torch.equal(
        rotary.tables(same, 8, torch.float32)[0], Rotary().tables(same[0], 8, torch.float32)[0]
    )
    with pytest.raises(BeholderError, match="sections"):
        rotary.tables(positions[:2], 8, torch.float32)


def test_layers_follow_the_pattern() -> None:
    wide = LayerKind(mlp=FeedForward(96, "silu", gated=True, bias=False))
    near = LayerKind(DECODER.attention.but(window=4))
    config = DECODER.but(num_layers=5, others=(wide, near), pattern=(1, 0, 2))
    hidden = [layer.mlp.hidden for layer in config.layers]
    windows = [layer.mixer.window for layer in config.layers]
    assert hidden == [96, 48, 48, 96, 48] and windows == [None, None, 4, None, None]
    model = config.build()
    assert [block.mlp.up.out_features for block in model.blocks] == hidden
    assert config.tiny().num_layers == 3 and config.tiny().pattern == (1, 0, 2)
    with pytest.raises(BeholderError, match="kind 3"):
        DECODER.but(others=(wide,), pattern=(0, 3))


def test_logits_are_scaled_and_capped() -> None:
    hidden = torch.randn(1, 3, 32)
    for tied in (False, True):
        config: Decoder = DECODER.but(tied=tied, head_bias=True, logit_scale=0.5, logit_softcap=3.0)
        model = config.build()
        bias = model.head_bias if tied else model.head.bias
        nn.init.normal_(bias)
        weight = model.embedding.weight if tied else model.head.weight
        want = 3.0 * torch.tanh(0.5 * (hidden @ weight.T + bias) / 3.0)
        assert torch.allclose(model.logits(hidden), want, atol=1e-5)


def test_tokens_are_scaled_placed_and_normed() -> None:
    config = TokenEmbedding(scale=3.0, norm=Norm(), width=8, positions="learned", offset=2, segments=2)
    module, ids = config.build(50, 16, 10), torch.tensor([[4, 9, 1]])
    positions = torch.tensor([[0, 1, 5]])
    want = 3.0 * module.projection(module.weight[ids]) + module.positions[positions + 2] + module.segments[0]
    assert torch.allclose(module.place(module(ids), positions), module.norm(want), atol=1e-6)
    kinds = torch.tensor([[0, 1, 1]])
    other = want - module.segments[0] + module.segments[kinds]
    assert torch.allclose(module.place(module(ids), positions, kinds), module.norm(other), atol=1e-6)
    with pytest.raises(BeholderError, match="11 tokens; this model reads at most 10"):
        module.place(module(ids), positions + 5)
