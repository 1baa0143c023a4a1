"""Recurrent mixers: one forward equals many, rows keep to themselves, and each recurrence equals its formula."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch

from beholder.cards.schema import Card
from beholder.errors import BeholderError
from beholder.generate.loop import answers, generate
from beholder.generate.sampling import Sampling
from beholder.generate.steps import advance, prefill
from beholder.model import Batch, build
from beholder.parts.blocks import hyena, mamba, recurrence
from beholder.parts.blocks.attention import Attention
from beholder.parts.blocks.gated_delta import GatedDelta, GatedHeadAttention, delta_attention
from beholder.parts.blocks.hyena import Hyena
from beholder.parts.blocks.lightning import Lightning
from beholder.parts.blocks.mamba import Mamba
from beholder.parts.blocks.mamba2 import Mamba2
from beholder.parts.blocks.masks import Visibility
from beholder.parts.blocks.norms import Norm
from beholder.parts.blocks.positions import Rotary
from beholder.parts.blocks.recurrence import decayed_attention, scan
from beholder.parts.blocks.rg_lru import RgLru
from beholder.parts.blocks.rwkv import ChannelMix, TimeMix
from beholder.parts.blocks.short_conv import ShortConv
from beholder.parts.blocks.step import Step
from beholder.parts.blocks.transformer import LayerKind
from beholder.parts.heads.next_token import NextToken
from beholder.parts.language.state import State
from tests.toys import DECODER

MIXERS = {
    "mamba": Mamba(inner=64, rank=2, state=8),
    "mamba with norms": Mamba(inner=64, rank=4, state=8, inner_norm=Norm("rms", 1e-6)),
    "mamba-2": Mamba2(num_heads=8, head_dim=8, state=8, num_groups=2),
    "rg-lru": RgLru(inner=48, num_blocks=4),
    "hyena": Hyena(num_blocks=4),
    "lightning": Lightning(num_heads=4, head_dim=8, depth=4),
    "short convolution": ShortConv(),
    "rwkv's time": TimeMix(inner=48),
    "rwkv's channels": ChannelMix(hidden=40),
    "gated delta": GatedDelta(num_heads=4, num_key_heads=2, key_dim=8, value_dim=6),
}
ATTENTION = LayerKind(Attention(num_heads=4, num_kv_heads=1, rotary=Rotary(share=0.5), window=4))


def decoder_of(name):
    """The mixer's layers with one of local attention between them, as hybrids have it."""
    return DECODER.but(attention=MIXERS[name], num_layers=3, others=(ATTENTION,), pattern=(0, 1, 0))


@pytest.fixture(params=MIXERS, scope="module")
def model(request):
    torch.manual_seed(5)
    model = build(Card(name="toy", language=decoder_of(request.param), heads=(NextToken(),)), seed=2)
    with torch.no_grad():  # make scores differ enough for greedy choices to be safe from rounding
        model.language.embedding.weight.mul_(3)
    return model


def scores(model, ids, state=None, lengths=None):
    with torch.no_grad():
        return model(Batch(ids_BT=ids, lengths=lengths), state).heads["text"]


def test_pieces_of_a_text_equal_the_whole(model):
    ids = torch.randint(0, 300, (2, 11))
    state = State(2)
    pieces = [scores(model, piece, state) for piece in ids.split([5, 3, 1, 1, 1], 1)]
    assert torch.allclose(torch.cat(pieces, 1), scores(model, ids), atol=2e-5)


def test_rows_of_unequal_lengths_equal_each_alone(model):
    ids, lengths = torch.randint(0, 300, (3, 9)), (9, 1, 4)
    more = torch.randint(0, 300, (3, 2))
    state = State(3)
    together = scores(model, ids, state, lengths)
    later = scores(model, more, state)
    for row, length in enumerate(lengths):
        alone = State(1)
        mine = scores(model, ids[row : row + 1, :length], alone)
        assert torch.allclose(together[row, :length], mine[0], atol=2e-5)
        assert torch.allclose(later[row], scores(model, more[row : row + 1], alone)[0], atol=2e-5)


def test_state_can_be_reordered_forked_and_kept(model):
    ids, more = torch.randint(0, 300, (2, 6)), torch.randint(0, 300, (3, 1))
    state = State(2)
    scores(model, ids, state, (6, 3))
    kept, chosen = state.snapshot(), state.reorder([1, 0, 1])
    first = scores(model, more, chosen)
    assert torch.allclose(first[1], scores(model, more[1:2], state.reorder([0]))[0], atol=2e-5)
    assert torch.allclose(first[2], scores(model, more[2:], state.reorder([1]))[0], atol=2e-5)
    once = scores(model, more[:2], state)
    assert torch.equal(once, scores(model, more[:2], kept.snapshot()))
    assert torch.allclose(once, scores(model, more[:2], kept), atol=1e-6)


def test_a_recurrent_state_cannot_be_cut(model):
    state = State(1)
    scores(model, torch.randint(0, 300, (1, 5)), state)
    size = state.nbytes
    with pytest.raises(ValueError, match="take a snapshot"):
        state.truncate([3])
    scores(model, torch.randint(0, 300, (1, 5)), state)
    assert state.nbytes == size  # the attention layer's keys have room, and a recurrent state never grows


def test_what_a_recurrence_cannot_do_is_refused(model):
    ids = torch.randint(0, 300, (1, 4))
    two = Visibility(torch.tensor([[0, 0, 1, 1]]), torch.tensor([[0, 1, 0, 1]]), (-1, -1))
    with pytest.raises(BeholderError, match="2 segments; give one row for each"):
        model(Batch(ids, visibility=two, positions=two.blocks_BT))
    for slot in ("qkv", "prefix"):
        with pytest.raises(BeholderError, match=f"layer 0 has no queries and keys for the slot '{slot}'"):
            model.language.blocks[0](torch.randn(1, 4, 32), Step(), {slot: torch.nn.Identity()})


class Numbers:
    """Ids written as `<id>`."""

    def add(self, token_id: int) -> str:
        return f"<{token_id}>"

    def finish(self) -> str:
        return ""


def test_generation_equals_reading_the_whole_text_again(model):
    prompts = ([5, 9, 200, 31, 8], [7, 3])
    batch = Batch(torch.tensor([[5, 9, 200, 31, 8], [7, 3, 0, 0, 0]]), lengths=(5, 2))
    results = answers(
        generate(model, batch, [Sampling(max_tokens=7), Sampling(max_tokens=4)], eos_ids=(), decode=Numbers)
    )
    for prompt, result in zip(prompts, results, strict=True):
        ids = list(prompt)
        for token in result.ids:
            assert int(scores(model, torch.tensor([ids]))[0, -1].argmax()) == token
            ids.append(token)


def test_one_token_at_a_time_equals_a_long_prompt(model):
    """Longer than any block, segment or chunk that recurrences are cut into."""
    ids = torch.randint(0, 300, (1, 290))
    whole = State(1, capacity=300)
    prefill(model, Batch(ids[:, :-1]), {}, whole)
    pieces = State(1, capacity=300)
    for piece in ids[:, :-1].split(37, 1):
        scores(model, piece, pieces)
    last = [advance(model, [int(ids[0, -1])], state) for state in (whole, pieces)]
    assert torch.allclose(*last, atol=5e-5)


def test_every_parameter_gets_a_gradient(model):
    model.zero_grad()
    text = model(Batch(torch.randint(0, 300, (2, 9)), lengths=(9, 5))).heads["text"]
    text[0].square().mean().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().max() > 0, name


@pytest.mark.parametrize("name", MIXERS)
def test_short_floats_are_added_up_in_long_ones(name):
    exact = build(Card(name="toy", language=decoder_of(name), heads=(NextToken(),)), seed=2)
    ids = torch.randint(0, 300, (1, 40))
    want = scores(exact, ids)
    state = State(1)
    got = scores(exact.to(torch.bfloat16), ids, state)
    assert got.dtype == torch.bfloat16
    assert (got.float() - want).norm() < 0.05 * want.norm()
    recurrent = state.recurrent(0).values.get("state")
    assert recurrent is None or recurrent.dtype in (torch.float32, torch.complex64)


@pytest.mark.parametrize("length", [1, 2, 3, 4, 5, 15, 16, 17, 23])
@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128])
def test_scan_is_the_recurrence(length, dtype):
    a, b = torch.randn(2, length, 3, dtype=dtype) * 0.7, torch.randn(2, length, 3, dtype=dtype)
    state = torch.randn(2, 3, dtype=dtype)
    got = scan(a, b, state)
    for t in range(length):
        state = a[:, t] * state + b[:, t]
        assert torch.allclose(got[:, t], state)


@pytest.mark.parametrize("length", [1, 5, 64, 70, 150])
def test_decayed_attention_is_the_recurrence(length):
    q, k = torch.randn(2, 2, length, 2, 4, dtype=torch.float64).unbind(0)  # two key heads
    v = torch.randn(2, length, 6, 5, dtype=torch.float64)  # six value heads
    decay = -torch.rand(2, length, 6, dtype=torch.float64)
    state = torch.randn(2, 6, 4, 5, dtype=torch.float64)
    got, last = decayed_attention(q, k, v, decay, state)
    for t in range(length):
        keys, queries = (x[:, t].repeat_interleave(3, 1) for x in (k, q))
        state = state * decay[:, t, :, None, None].exp() + keys[..., None] * v[:, t, :, None]
        assert torch.allclose(got[:, t], torch.einsum("bhn,bhnp->bhp", queries, state))
    assert torch.allclose(last, state)


@pytest.mark.parametrize("length", [1, 5, 64, 70, 150])
def test_delta_attention_is_the_recurrence(length):
    q, k = torch.randn(2, 2, length, 3, 4, dtype=torch.float64).unbind(0)
    k = k / k.norm(dim=-1, keepdim=True)
    v = torch.randn(2, length, 3, 5, dtype=torch.float64)
    decay, strength = (
        -torch.rand(2, length, 3, dtype=torch.float64),
        torch.rand(2, length, 3, dtype=torch.float64),
    )
    state = torch.randn(2, 3, 4, 5, dtype=torch.float64)
    got, last = delta_attention(q, k, v, decay, strength, state)
    for t in range(length):
        state = state * decay[:, t, :, None, None].exp()
        known = torch.einsum("bhk,bhkp->bhp", k[:, t], state)
        state = state + k[:, t, :, :, None] * (strength[:, t, :, None] * (v[:, t] - known))[:, :, None]
        assert torch.allclose(got[:, t], torch.einsum("bhk,bhkp->bhp", q[:, t], state))
    assert torch.allclose(last, state)


def test_gates_scale_each_head():
    """Heads are multiplied before they are joined; a gate of zeros halves them."""
    gated = GatedHeadAttention(num_heads=4, head_dim=8).build(32)
    plain = Attention(num_heads=4, head_dim=8).build(32)
    plain.load_state_dict({name: value for name, value in gated.state_dict().items() if "gate" not in name})
    x = torch.randn(2, 5, 32)
    want = plain(x, Step())
    assert torch.allclose(gated(x, Step()), plain.out(gated.gate(x).sigmoid() * joined(plain, x)), atol=1e-6)
    torch.nn.init.zeros_(gated.gate.weight)
    assert torch.allclose(gated(x, Step()), want / 2, atol=1e-6)


def joined(attention, x):
    return attention.heads(x, Step(), {}).transpose(1, 2).flatten(2)


@pytest.mark.parametrize(("module", "name"), [(mamba, "mamba"), (hyena, "hyena")])
def test_segments_are_only_a_matter_of_memory(module, name, monkeypatch):
    model = build(Card(name="toy", language=decoder_of(name), heads=(NextToken(),)), seed=2)
    ids, lengths = torch.randint(0, 300, (2, 13)), (13, 6)
    states = State(2), State(2)
    want = scores(model, ids, states[0], lengths)
    monkeypatch.setattr(module, "SEGMENT", 4)
    got = scores(model, ids, states[1], lengths)
    assert torch.allclose(got[0], want[0], atol=1e-5) and torch.allclose(got[1, :6], want[1, :6], atol=1e-5)
    values = [state.recurrent(0).values["state"] for state in states]
    assert torch.allclose(*values, atol=1e-5)


def test_mamba_is_its_recurrence():
    """Algorithm 2 of 2312.00752 written out for one row, discretised as section 3.2 and its official code do."""
    layer = Mamba(inner=6, rank=2, state=3).build(4).double()
    x = torch.randn(5, 4, dtype=torch.float64)
    with torch.no_grad():
        u, gate = layer.input(x).chunk(2, -1)
        padded = torch.cat((torch.zeros(3, 6, dtype=torch.float64), u))
        u = sum(padded[i : i + 5] * layer.conv.weight[:, 0, i] for i in range(4)) + layer.conv.bias
        u = u * u.sigmoid()
        dt, b, c = layer.select(u).split((2, 3, 3), -1)
        dt = torch.log1p(layer.dt(dt).exp())
        h, rows = torch.zeros(6, 3, dtype=torch.float64), []
        for t in range(5):
            h = torch.exp(-layer.a_log.exp() * dt[t, :, None]) * h + (dt[t] * u[t])[:, None] * b[t]
            rows.append(h @ c[t] + layer.skip * u[t])
        want = layer.output(torch.stack(rows) * gate * gate.sigmoid())
        assert torch.allclose(layer(x[None], Step())[0], want)


def test_hyena_is_a_long_convolution():
    """Section 3 of 2302.10866 written out: the filter sum(Re(residue pole^t)) slides over the gated values."""
    layer = Hyena(num_blocks=1).build(4).double()
    x = torch.randn(1, 12, 4, dtype=torch.float64)
    with torch.no_grad():
        z = layer.input(x)
        padded = torch.cat((torch.zeros(1, 2, 12, dtype=torch.float64), z), 1)
        z = sum(padded[:, i : i + 12] * layer.conv.weight[:, 0, i] for i in range(3)) + layer.conv.bias
        outer, inner, value = z.chunk(3, -1)
        u = inner * value
        poles, residues = (torch.view_as_complex(p.detach()) for p in (layer.poles, layer.residues))
        h = torch.stack([(residues * poles**t).real.sum(-1) for t in range(12)])
        y = torch.stack([sum(h[t - s] * u[0, s] for s in range(t + 1)) for t in range(12)])
        want = layer.output((y + u[0] * layer.skip) * outer[0])
        assert torch.allclose(layer(x, Step())[0], want)


def test_late_lightning_layers_forget_more_slowly():
    config = Lightning(num_heads=8, head_dim=4, depth=6)
    slopes = [config.build(16, index).slopes() for index in range(6)]
    assert torch.allclose(slopes[0], 2.0 ** -torch.arange(1, 9), rtol=1e-4)  # ALiBi's
    assert all((late < early).all() and (late > 0).all() for early, late in pairwise(slopes))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Mamba2(num_heads=6, num_groups=4), "6 heads do not divide into 4 groups"),
        (lambda: GatedDelta(num_heads=6, num_key_heads=4), "6 value heads cannot share 4 key heads"),
        (lambda: RgLru(inner=10, num_blocks=4), "10 channels do not divide into 4 blocks"),
        (lambda: Hyena(num_blocks=3).build(32), "width 32 does not divide into 3 blocks"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(make, words):
    with pytest.raises(BeholderError, match=words):
        make()


def test_the_convolution_keeps_what_it_has_not_seen_pass():
    conv = recurrence.CausalConv(3, 4, bias=False)
    x, memory = torch.randn(2, 6, 3), {}
    whole = conv(x, {}, None)
    parts = [conv(piece, memory, None) for piece in x.split([1, 2, 3], 1)]
    assert torch.allclose(torch.cat(parts, 1), whole, atol=1e-6)
    assert torch.equal(memory["conv"], x[:, -3:])
    conv(x, memory := {}, (6, 2))
    assert torch.equal(memory["conv"][1], torch.cat((torch.zeros(1, 3), x[1, :2])))


def test_what_rwkv_remembers_is_a_weighted_mean() -> None:
    """Against exponents written out, with weights of every earlier token."""
    torch.manual_seed(0)
    mixer, keys, values = TimeMix(inner=6).build(4), torch.randn(1, 7, 6), torch.randn(1, 7, 6)
    with torch.no_grad():
        mixer.first.normal_()
    given = mixer._remembered(keys, values, {}, None)[0]
    fading = mixer.decay.exp()
    for place in range(7):
        weights = [(keys[0, t] - (place - 1 - t) * fading).exp() for t in range(place)]
        weights.append((keys[0, place] + mixer.first).exp())
        total = sum(weight * values[0, t] for t, weight in enumerate(weights))
        assert torch.allclose(given[place], total / sum(weights), rtol=1e-4, atol=1e-6)


def test_rwkv_does_not_overflow() -> None:
    mixer, keys = TimeMix(inner=4).build(4), torch.full((1, 5, 4), 300.0)
    assert torch.allclose(mixer._remembered(keys, torch.ones(1, 5, 4), {}, None), torch.ones(1, 5, 4))


def test_rwkv_reads_shares_of_the_token_before() -> None:
    mixer, x = ChannelMix(hidden=5).build(3), torch.randn(1, 4, 3)
    memory = {"last": torch.randn(1, 1, 3)}
    before = torch.cat((memory["last"], x[:, :-1]), 1)
    key, _ = mixer.mixed(x, memory, None)
    share = mixer.shares["key"]
    assert torch.allclose(key, share * x + (1 - share) * before, atol=1e-6)
    assert torch.equal(memory["last"], x[:, -1:])
