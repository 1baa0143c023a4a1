"""Strict loading into modules: from the meta device, tied parameters, types, nothing half-loaded."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from beholder.errors import WeightsError
from beholder.weights.differences import Mismatch
from beholder.weights.files import open_weights, write_weights
from beholder.weights.layout import Binding, Layout, to_published
from beholder.weights.lazy import LazyTensor, lazy
from beholder.weights.load import load_state, state_shapes, state_tensors

LAYOUT = Layout({"e": "embed.weight", "fc.{}": "up.{}", "norm": "mean", "out": "head.weight"})
BINDINGS = [Binding("m.", "", LAYOUT)]


class Toy(nn.Module):
    def __init__(self, tied=True):
        super().__init__()
        self.embed = nn.Embedding(5, 3)
        self.up = nn.Linear(3, 3)
        self.register_buffer("mean", torch.randn(3))
        self.register_buffer("count", torch.tensor(3), persistent=False)
        self.head = nn.Linear(3, 5, bias=False)
        if tied:
            self.head.weight = self.embed.weight


def on_meta(**kwargs):
    with torch.device("meta"):
        toy = Toy(**kwargs)
    toy.count = torch.tensor(3)
    return toy


def published(toy):
    return to_published(state_tensors(toy), BINDINGS)


@pytest.mark.parametrize("tied", [True, False])
def test_loads_a_module_built_on_meta(tmp_path, tied):
    source, target = Toy(tied), on_meta(tied=tied)
    write_weights(tmp_path, published(source))
    load_state(target, open_weights(tmp_path), BINDINGS)
    assert set(state_shapes(target)) == {"embed.weight", "up.weight", "up.bias", "mean"} | (
        set() if tied else {"head.weight"}
    )
    for (name, a), b in zip(source.state_dict().items(), target.state_dict().values(), strict=True):
        assert torch.equal(a, b), name
    assert (target.head.weight is target.embed.weight) == tied
    assert all(isinstance(p, nn.Parameter) and p.requires_grad for p in target.parameters())
    target.up.weight.data.add_(1)
    assert torch.equal(open_weights(tmp_path)["m.fc.weight"].load(), source.up.weight), (
        "training never writes to the file"
    )


def test_a_published_copy_of_a_tied_parameter_must_be_equal():
    source = Toy()
    copy = {**published(source), "m.out": lazy("m.out", source.embed.weight.detach().clone())}
    target = on_meta()
    load_state(target, copy, BINDINGS)
    assert target.head.weight is target.embed.weight
    with pytest.raises(WeightsError, match=r"m.out should be a copy of m.e but differs"):
        load_state(on_meta(), {**copy, "m.out": lazy("m.out", torch.zeros(5, 3))}, BINDINGS)


def test_types_and_frozen_parameters():
    source, target = Toy(), on_meta()
    target.up.requires_grad_(False)
    load_state(target, published(source), BINDINGS, dtype=torch.bfloat16)
    assert {p.dtype for p in target.parameters()} == {torch.bfloat16}
    assert torch.equal(target.up.weight, source.up.weight.bfloat16())
    assert not target.up.weight.requires_grad
    assert target.embed.weight.requires_grad


def failing(dtype):
    raise WeightsError("cannot be read")


@pytest.mark.parametrize(
    "change",
    [
        {"m.extra": lazy("m.extra", torch.zeros(1))},
        {"m.e": lazy("m.e", torch.zeros(6, 3))},
        {"m.norm": LazyTensor("m.norm", (3,), torch.float32, failing)},
    ],
)
def test_an_error_leaves_the_module_as_it_was(change):
    target = Toy()
    before = {name: value.clone() for name, value in target.state_dict().items()}
    with pytest.raises(WeightsError):
        load_state(target, {**published(Toy()), **change}, BINDINGS)
    for name, value in target.state_dict().items():
        assert torch.equal(value, before[name])


def test_a_missing_parameter_is_named_both_ways():
    source = published(Toy())
    del source["m.fc.bias"]
    with pytest.raises(Mismatch, match=r"1 missing \(m.fc.bias\)") as error:
        load_state(on_meta(), source, BINDINGS)
    assert "m.fc.bias -> up.bias" in str(error.value)
