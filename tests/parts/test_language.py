"""Language parts: a plain Llama layer as reference, tied heads, pooling, and the slots fusions may fill."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from beholder.errors import BeholderError, UnknownName
from beholder.parts.blocks.masks import Visibility
from beholder.parts.contracts import SLOTS, LanguageInputs
from beholder.parts.language.state import State, Tensors
from tests.toys import DECODER, TEXT_TOWER


def inputs_of(model, ids, lengths=None, starts=None):
    lengths = lengths or (ids.shape[1],) * len(ids)
    visibility = Visibility.causal_rows(lengths, ids.shape[1], starts=starts)
    return LanguageInputs(ids, model.embed(ids), visibility.blocks_BT, visibility, lengths)


def hidden_of(model, ids, **kwargs):
    with torch.no_grad():
        return model(inputs_of(model, ids), **kwargs).hidden_BTD


@pytest.fixture
def decoder():
    torch.manual_seed(3)
    return DECODER.build().eval()


@pytest.mark.parametrize("window", [None, 3])
def test_decoder_equals_the_formulas_written_out(window):
    config = DECODER.but(**{"attention.window": window})
    model = config.build()
    ids = torch.randint(0, 300, (1, 7))
    x = model.embedding.weight[ids[0]]

    def rms(x, norm):
        return x / (x.pow(2).mean(-1, keepdim=True) + 1e-5).sqrt() * norm.weight

    def turn(x):  # (T, K)
        angles = torch.arange(7)[:, None] / 10000 ** (torch.arange(0, 8, 2) / 8)
        a, b = x[:, :4], x[:, 4:]
        return torch.cat((a * angles.cos() - b * angles.sin(), b * angles.cos() + a * angles.sin()), 1)

    for block in model.blocks:
        y, heads = rms(x, block.norm1), []
        q, k, v = (part(y).view(7, -1, 8) for part in (block.attn.q, block.attn.k, block.attn.v))
        for head in range(4):
            scores = turn(q[:, head]) @ turn(k[:, head // 2]).T / math.sqrt(8)
            near = torch.ones(7, 7).tril() - torch.ones(7, 7).tril(-(window or 7))
            heads.append(scores.masked_fill(near == 0, -math.inf).softmax(-1) @ v[:, head // 2])
        x = x + block.attn.out(torch.cat(heads, 1))
        y = rms(x, block.norm2)
        x = x + block.mlp.down(nn.functional.silu(block.mlp.gate(y)) * block.mlp.up(y))
    assert torch.allclose(hidden_of(model, ids)[0], rms(x, model.norm), atol=1e-5)


def test_tied_scores_use_the_embedding(decoder):
    hidden = torch.randn(2, 32)
    assert torch.equal(decoder.logits(hidden), decoder.head(hidden))
    tied = DECODER.but(tied=True).build()
    assert tied.head is None
    assert torch.allclose(tied.logits(hidden), hidden @ tied.embedding.weight.T)


def test_taps_are_the_embeddings_and_what_each_layer_gives(decoder):
    ids = torch.randint(0, 300, (2, 5))
    output = decoder(inputs_of(decoder, ids), taps=(0, 1, 2))
    assert torch.equal(output.taps[0], decoder.embed(ids))
    assert torch.allclose(decoder.norm(output.taps[2]), output.hidden_BTD)
    assert not torch.equal(output.taps[1], output.taps[2])


class Around(nn.Module):
    def __init__(self, gate: float = 1.0) -> None:
        super().__init__()
        self.gate = gate

    def forward(self, hidden, inputs, state):
        assert isinstance(inputs, LanguageInputs)
        return hidden + self.gate * torch.linspace(-1, 1, hidden.shape[-1])


class Projection(Around):
    def forward(self, x, base, inputs):
        q, k, v = base(x)
        return q + self.gate * torch.linspace(-1, 1, q.shape[-1]), k, v


class Inside(Around):
    def forward(self, x, base, inputs):
        return base(x) + self.gate * torch.linspace(-1, 1, x.shape[-1])


class Between(Around):
    def forward(self, hidden, step):
        return super().forward(hidden, step.inputs, step.state)


class Heads(Around):
    def forward(self, heads, queries, x, step):
        assert heads.shape == queries.shape
        return super().forward(heads, step.inputs, step.state)


class Prefix(Around):
    """Three keys every query sees."""

    def forward(self, step):
        shape = (len(step.inputs.ids_BT), 2, 3, 8)
        return torch.ones(shape), self.gate * torch.ones(shape)


SLOT_MODULES = {
    **dict.fromkeys(("before", "after"), Around),
    **dict.fromkeys(("norm1", "out", "norm2", "mlp"), Inside),
    "qkv": Projection,
    "heads": Heads,
    "between": Between,
}


@pytest.mark.parametrize("slot", SLOT_MODULES)
def test_a_part_acts_in_its_slot_and_a_zero_gate_changes_nothing(decoder, slot):
    ids = torch.randint(0, 300, (2, 5))
    plain = hidden_of(decoder, ids)
    acting = hidden_of(decoder, ids, layer_parts={1: {slot: SLOT_MODULES[slot](1.0)}})
    assert (acting - plain).abs().max() > 1e-3
    gated = hidden_of(decoder, ids, layer_parts={1: {slot: SLOT_MODULES[slot](0.0)}})
    assert torch.equal(gated, plain)
    first = decoder(inputs_of(decoder, ids), layer_parts={1: {slot: SLOT_MODULES[slot](1.0)}}, taps=(1,))
    assert torch.equal(
        first.taps[1], decoder(inputs_of(decoder, ids), taps=(1,)).taps[1]
    )  # layer 0 is as before


def test_prefix_keys_act_with_and_without_a_state(decoder):
    ids = torch.randint(0, 300, (2, 6))
    plain = hidden_of(decoder, ids)
    parts = {0: {"prefix": Prefix()}}
    acting = hidden_of(decoder, ids, layer_parts=parts)
    assert (acting - plain).abs().max() > 1e-3
    state = State(rows=2)
    with torch.no_grad():
        start = decoder(inputs_of(decoder, ids[:, :4]), state, layer_parts=parts).hidden_BTD
        for t in (4, 5):
            step = inputs_of(decoder, ids[:, t : t + 1], starts=state.lengths)
            last = decoder(step, state, layer_parts=parts).hidden_BTD
            assert torch.allclose(last[:, 0], acting[:, t], atol=1e-5)
    assert torch.allclose(start, acting[:, :4], atol=1e-5)


class Hides(nn.Module):
    """Hides token 1 of every row; the others keep their positions."""

    def forward(self, hidden, layer, step):
        hidden_BS = torch.zeros(hidden.shape[:2], dtype=torch.bool)
        hidden_BS[:, 1] = True
        step.hide(hidden_BS, step.positions)


def test_what_a_layer_hides_is_not_seen_from_there_on(decoder):
    ids = torch.tensor([[5, 6, 7, 8, 9], [5, 106, 7, 8, 9]])
    one, other = hidden_of(decoder, ids, layer_parts={0: {"sees": Hides()}})
    assert torch.allclose(one[2:], other[2:], atol=1e-6)  # no layer sees the token in which the rows differ
    later = hidden_of(decoder, ids, layer_parts={1: {"sees": Hides()}})
    assert not torch.allclose(later[0, 2:], later[1, 2:], atol=1e-4)  # layer 0 does
    assert not torch.allclose(later[0, 2:], hidden_of(decoder, ids)[0, 2:], atol=1e-4)


def test_slots_are_those_of_the_contract():
    assert {*SLOT_MODULES, "prefix", "sees"} == set(SLOTS)


@pytest.mark.parametrize(("pool", "place"), [("end", 2), ("highest", 3), ("last", 5)])
def test_text_tower_pools_where_it_should(pool, place):
    model = TEXT_TOWER.but(pool=pool, causal=pool != "last").build().eval()
    ids = torch.tensor([[7, 9, 256, 290, 256, 0]])
    output = model(inputs_of(model, ids))
    assert torch.allclose(output.pooled_BD, model.projection(output.hidden_BTD[:, place]))
    assert model.config.fills_context == (pool == "last")


def test_a_causal_tower_does_not_look_ahead_and_a_bidirectional_one_does():
    for causal in (True, False):
        model = TEXT_TOWER.but(causal=causal).build().eval()
        one, two = torch.tensor([[5, 6, 7, 8]]), torch.tensor([[5, 6, 7, 99]])
        same = torch.allclose(hidden_of(model, one)[:, :3], hidden_of(model, two)[:, :3], atol=1e-6)
        assert same == causal


@pytest.mark.parametrize("slot", SLOT_MODULES)
def test_a_text_tower_has_the_same_slots_and_taps(slot):
    model, ids = TEXT_TOWER.build().eval(), torch.tensor([[5, 6, 7, 8]])
    plain = hidden_of(model, ids)
    acting, gated = (
        hidden_of(model, ids, layer_parts={1: {slot: SLOT_MODULES[slot](gate)}}) for gate in (1.0, 0.0)
    )
    assert (acting - plain).abs().max() > 1e-3 and torch.equal(gated, plain)
    with torch.no_grad():
        taps = model(inputs_of(model, ids), taps=(0, 2)).taps
        assert taps.keys() == {0, 2} and torch.equal(model.norm(taps[2]), plain)


def test_padding_changes_no_text():
    model = TEXT_TOWER.but(causal=False).build().eval()
    ids = torch.tensor([[5, 6, 256, 0, 0], [5, 6, 7, 8, 256]])
    with torch.no_grad():
        both = model(inputs_of(model, ids, (3, 5))).pooled_BD
        alone = model(inputs_of(model, ids[:1, :3])).pooled_BD
    assert torch.allclose(both[:1], alone, atol=1e-5)


def test_a_text_beyond_the_table():
    model = TEXT_TOWER.build()
    with pytest.raises(BeholderError, match="a text of 41 tokens; this text tower reads at most 40"):
        model(inputs_of(model, torch.ones(1, 41, dtype=torch.long)))
    with pytest.raises(UnknownName, match="last"):
        TEXT_TOWER.but(pool="lats")


def test_state_counts_its_bytes_and_refuses_what_it_cannot_do(decoder):
    state = State(rows=2, capacity=16)
    assert state.nbytes == 0
    with torch.no_grad():
        decoder(inputs_of(decoder, torch.randint(0, 300, (2, 5))), state)
    assert (
        state.nbytes == 2 * 2 * (2 * 2 * 16 * 8) * 4
    )  # layers, keys and values, (rows, heads, capacity, width), float32
    with pytest.raises(ValueError, match="row 1 holds 5 tokens and cannot be cut to 6"):
        state.truncate([5, 6])
    state.layers["recurrent", 0] = Tensors({"h": torch.zeros(2, 3)}, recurrent=True)
    with pytest.raises(ValueError, match="take a snapshot"):
        state.truncate([4, 4])
    assert state.lengths == [5, 5]


def test_tensors_follow_rows_and_snapshots_stay():
    held = Tensors({"keys": torch.arange(6.0).view(3, 2)})
    kept = held.snapshot()
    assert held.reorder(torch.tensor([2, 2, 0])).values["keys"].tolist() == [[4, 5], [4, 5], [0, 1]]
    held.values["keys"].zero_()
    assert kept.values["keys"].sum() == 15
    held.truncate([0, 0, 0])  # cross-attention's keys do not depend on the length
    assert held.nbytes == 24
