"""Layers that read inputs of their own, several residual streams, shared keys, sparse MLPs, learned residual paths."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from beholder.errors import BeholderError
from beholder.parts.blocks.masks import Visibility
from beholder.parts.blocks.mlp import FeedForward
from beholder.parts.blocks.norms import Norm
from beholder.parts.blocks.positions import Rotary
from beholder.parts.blocks.rotary_scaling import Proportional
from beholder.parts.blocks.shared_keys import SharedKeysAttention
from beholder.parts.blocks.step import Step
from beholder.parts.blocks.transformer import Arrangement, LayerKind
from beholder.parts.contracts import LanguageInputs
from beholder.parts.language.layer_inputs import (
    InputLayer,
    LayerInputDecoder,
    LayerInputModel,
    LayerInputs,
    StreamMix,
    Streams,
)
from beholder.parts.language.state import State

RMS = Norm("rms", 1e-6)
OWN = SharedKeysAttention(4, 2, 8, rotary=Rotary(), qk_norm=RMS, v_norm=RMS.but(learned=False))
NEAR = OWN.but(window=3, lends="near")
FIRST = SharedKeysAttention(2, 1, 4)
MLP = FeedForward(48, "gelu_tanh", gated=True, bias=False)
KINDS = (LayerKind(NEAR), LayerKind(OWN.but(borrows="full")), LayerKind(NEAR.but(lends=None, borrows="near")))


def decoder(**more: object) -> LayerInputDecoder:
    usual = {
        "num_layers": 4,
        "attention": OWN.but(lends="full", keys_as_values=True),
        "mlp": MLP,
        "norm": RMS,
        "others": KINDS,
        "pattern": (1, 0, 3, 2),
        "arrangement": Arrangement("both", laurel=4),
        "inputs": LayerInputs(8, 50),
        "streams": Streams(3, active=1),
        "layer_scalar": True,
    }
    return LayerInputDecoder(vocab_size=64, dim=32, **{**usual, **more})  # type: ignore[arg-type]


def built(**more: object) -> LayerInputModel:
    torch.manual_seed(0)
    model = decoder(**more).build()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return model


def read(model: LayerInputModel, ids: torch.Tensor, state: State | None = None) -> torch.Tensor:
    start = 0 if state is None else state.lengths[0]
    seen = Visibility.causal(1, ids.shape[1], start=start)
    return model(LanguageInputs(ids, model.embed(ids), seen.blocks_BT, seen), state).hidden_BTD


@pytest.mark.parametrize("streams", [None, Streams(3, active=1), Streams(2, scaled=False, clip=0.1)])
def test_steps_give_what_the_whole_gives(streams: Streams | None) -> None:
    """The state keeps one layer's keys for all that borrow them; ids beyond the inputs' table are known to the words' one."""
    model, ids = built(streams=streams).eval(), torch.tensor([[3, 9, 63, 7, 55, 1, 2, 8]])
    with torch.no_grad():
        whole = read(model, ids)
        state = State(1)
        parts = [read(model, ids[:, :5], state), *(read(model, ids[:, n : n + 1], state) for n in (5, 6, 7))]
    assert torch.allclose(torch.cat(parts, 1), whole, atol=1e-5)
    assert {layer for _, layer in state.layers} == {0, 1}, "borrowers keep nothing"


def test_everything_learns() -> None:
    model = built().train()
    read(model, torch.tensor([[3, 9, 7, 55]])).square().sum().backward()
    assert not [name for name, p in model.named_parameters() if p.grad is None and name != "head.weight"]


def test_each_layer_reads_its_own_part() -> None:
    """What the table holds for one layer changes that layer's output, not the one before."""
    model, ids = built(streams=None).eval(), torch.tensor([[3, 9, 7]])
    seen = Visibility.causal(1, 3)

    def taps() -> dict[int, torch.Tensor]:
        inputs = LanguageInputs(ids, model.embed(ids), seen.blocks_BT, seen)
        with torch.no_grad():
            return dict(model(inputs, taps=(1, 2, 3)).taps)

    before = taps()
    assert model.layer_inputs is not None
    with torch.no_grad():
        model.layer_inputs.weight[:, 16:24] += 1.0  # layer 2's
    after = taps()
    assert torch.equal(before[1], after[1]) and torch.equal(before[2], after[2])
    assert not torch.allclose(before[3], after[3])


def test_a_layer_multiplies_by_its_number() -> None:
    model, ids = (
        built(streams=None, num_layers=1, pattern=(), others=(), inputs=None).eval(),
        torch.tensor([[3, 9]]),
    )
    (layer,) = model.blocks
    assert isinstance(layer, InputLayer) and layer.scalar is not None
    seen = Visibility.causal(1, 2)
    inputs = LanguageInputs(ids, model.embed(ids), seen.blocks_BT, seen)
    with torch.no_grad():
        once = model(inputs, taps=(1,)).taps[1]
        layer.scalar.fill_(0.5)
        assert torch.allclose(model(inputs, taps=(1,)).taps[1], once / 2)


def test_streams_that_nothing_routes_stay_and_move_together() -> None:
    """tanh(0) = 0: predictions are the streams themselves, and all get the same news."""
    mix, x = StreamMix(Streams(3, active=2), 6, RMS), torch.randn(3, 2, 4, 6)
    torch.nn.init.zeros_(mix.router.weight)
    assert torch.equal(mix.predict(x), x)
    computed = torch.randn(2, 4, 6)
    moved = mix.correct(x, computed)
    assert torch.allclose(moved[2], computed, atol=1e-6)
    assert torch.allclose(moved[0], x[0] + computed - x[2], atol=1e-6)


def test_streams_are_mixed_as_routed() -> None:
    mix, x = StreamMix(Streams(2), 6, RMS), torch.randn(2, 1, 1, 6)
    active = F.rms_norm(x[0, 0, 0], (6,), eps=1e-6)
    routed = torch.tanh(mix.router.weight @ active / 6)
    table = (mix.predictor.weight @ routed).view(2, 2)
    want = torch.stack([x[n, 0, 0] + sum(table[n, m] * x[m, 0, 0] for m in (0, 1)) for n in (0, 1)])
    assert torch.allclose(mix.predict(x)[:, 0, 0], want, atol=1e-6)


def test_borrowed_keys_are_the_lenders() -> None:
    """A borrower's heads against a loop over the keys that its lender made, normed values included."""
    lender, borrower = OWN.but(lends="k").build(32), OWN.but(borrows="k").build(32, 1)
    seen, x, y = Visibility.causal(1, 5), torch.randn(1, 5, 32), torch.randn(1, 5, 32)
    step = Step(queries=seen, positions=seen.blocks_BT)
    lender(x, step)
    given = borrower(y, step)
    q = borrower._prepare(borrower.q(y), borrower.q_norm, step)
    k = lender._prepare(lender.k(x), lender.k_norm, step, keys=True)
    v = F.rms_norm(lender.v(x).unflatten(-1, (2, 8)), (8,), eps=1e-6).transpose(1, 2)
    heads = torch.zeros(1, 4, 5, 8)
    for head in range(4):
        for place in range(5):
            scores = k[0, head // 2, : place + 1] @ q[0, head, place] / 8**0.5
            heads[0, head, place] = scores.softmax(0) @ v[0, head // 2, : place + 1]
    assert torch.allclose(given, borrower.merge(heads), atol=1e-5)
    assert not [name for name, _ in borrower.named_parameters() if name[:2] in ("k.", "v.", "k_")]


def test_values_may_be_keys() -> None:
    attention, x = OWN.but(keys_as_values=True, v_norm=None).build(32), torch.randn(1, 3, 32)
    _, k, v = attention.project(x)
    assert torch.equal(k, v) and not hasattr(attention, "v")


def test_keys_that_nobody_lends() -> None:
    seen = Visibility.causal(1, 2)
    with pytest.raises(BeholderError, match="'k', which no layer before it lends"):
        OWN.but(borrows="k").build(32, 3)(torch.randn(1, 2, 32), Step(queries=seen, positions=seen.blocks_BT))
    with pytest.raises(BeholderError, match="none to lend"):
        OWN.but(borrows="k", lends="k")


def test_a_fusion_cannot_change_keys_that_are_borrowed() -> None:
    seen = Visibility.causal(1, 2)
    step = Step(queries=seen, positions=seen.blocks_BT)
    with pytest.raises(BeholderError, match="slot 'prefix'"):
        OWN.but(borrows="k").build(32)(torch.randn(1, 2, 32), step, {"prefix": torch.nn.Identity()})


def test_a_share_of_channels_is_silent() -> None:
    """Of normally spread channels; what is left counts from the threshold on."""
    torch.manual_seed(0)
    mlp = FeedForward(4096, "relu", gated=True, bias=False, sparsity=0.95).build(64)
    x = torch.randn(3, 64)
    gates = mlp.gate(x) if mlp.gate is not None else x
    active = mlp.active(gates)
    assert torch.all((active > 0).float().mean(-1).sub(0.05).abs() < 0.01)
    cut = gates.mean(-1, keepdim=True) + 1.6448536 * gates.std(-1, correction=0, keepdim=True)
    assert torch.allclose(active, F.relu(gates - cut), atol=1e-6)
    with pytest.raises(BeholderError, match="share of 1.0"):
        FeedForward(8, sparsity=1.0)


def test_a_learned_path_joins_the_usual_one() -> None:
    layer = (
        LayerInputDecoder(16, 8, 1, FIRST, None, RMS, arrangement=Arrangement("both", laurel=2))
        .build()
        .blocks[0]
    )
    x, seen = torch.randn(1, 3, 8), Visibility.causal(1, 3)
    step = Step(queries=seen, positions=seen.blocks_BT)
    y = layer.norm1(x)
    path = y + layer.laurel.norm(layer.laurel.up(layer.laurel.down(y)))
    want = (x + layer.after1(layer.attn(y, step)) + path) / 2**0.5
    assert torch.allclose(layer(x, step), want, atol=1e-6)
    with pytest.raises(BeholderError, match="learned residual path"):
        Arrangement("post", laurel=2)


def test_only_the_first_pairs_turn() -> None:
    """Wavelengths are those of all pairs."""
    turned = Rotary(scaling=Proportional(0.25, factor=2.0)).frequencies(16)
    assert torch.allclose(turned[:2], Rotary().frequencies(16)[:2] / 2) and not turned[2:].any()
    with pytest.raises(BeholderError, match="share of 1.5"):
        Proportional(1.5)


def test_streams_need_inputs() -> None:
    with pytest.raises(BeholderError, match="set inputs"):
        decoder(inputs=None)
    with pytest.raises(BeholderError, match="stream 3 of 3"):
        Streams(3, active=3)
