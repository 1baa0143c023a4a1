"""Names both ways: prefixes, patterns, dropped keys, conflicts and the lists of differences."""

from __future__ import annotations

import pytest
import torch

from beholder.errors import WeightsError
from beholder.weights.differences import SHOWN, Mismatch
from beholder.weights.layout import Binding, Layout, published_name, to_own, to_published
from beholder.weights.lazy import LazyTensor, lazy
from beholder.weights.ops import Fuse, Split


def tensors(*names, shape=(2,)):
    return {
        name: lazy(name, torch.full(shape, float(i)), "model.safetensors") for i, name in enumerate(names)
    }


DECODER = Layout(
    {"embed.weight": "embedding.weight", "layers.{}.fc.{}": "blocks.{}.up.{}", "layers.{}.inv_freq": None}
)
BINDINGS = [Binding("model.", "language.", DECODER)]
SHAPES = {f"language.{name}": (2,) for name in ("embedding.weight", "blocks.0.up.weight", "blocks.0.up.bias")}
KEYS = ("model.embed.weight", "model.layers.0.fc.weight", "model.layers.0.fc.bias")


def test_names_go_both_ways_and_dropped_keys_are_optional():
    for extra in ((), ("model.layers.0.inv_freq",)):
        own = to_own(tensors(*KEYS, *extra), BINDINGS, SHAPES)
        assert list(own) == list(SHAPES)
        assert own["language.blocks.0.up.bias"].load().tolist() == [2.0, 2.0]
        assert sorted(to_published(own, BINDINGS)) == sorted(KEYS)
    assert published_name("language.blocks.7.up.bias", BINDINGS) == "model.layers.7.fc.bias"
    assert published_name("vision.patch", BINDINGS) is None


def test_values_are_not_read_to_compare_names():
    def read(dtype):
        raise AssertionError("read")

    source = {key: LazyTensor(key, (2,), torch.float32, read) for key in KEYS}
    assert set(to_published(to_own(source, BINDINGS, SHAPES), BINDINGS)) == set(KEYS)


def test_the_longest_prefix_that_has_a_rule_wins():
    outer = Layout({"vision.scale": "wrong", "scale": "scale", "vision.{}": "also_wrong.{}"})
    bindings = [Binding("", "outer.", outer), Binding("vision.", "inner.", Layout({"scale": "scale"}))]
    own = to_own(tensors("vision.scale", "scale"), bindings, {"inner.scale": (2,), "outer.scale": (2,)})
    assert own["inner.scale"].load()[0] == 0
    assert own["outer.scale"].load()[0] == 1


def test_two_layouts_may_share_a_prefix_but_not_a_key():
    two = [Binding("", "a.", Layout({"x": "x"})), Binding("", "b.", Layout({"y": "y"}))]
    assert set(to_own(tensors("x", "y"), two, {"a.x": (2,), "b.y": (2,)})) == {"a.x", "b.y"}
    clash = [*two, Binding("", "c.", Layout({"{}": "{}"}))]
    with pytest.raises(WeightsError, match="two rules claim x: 'x' and '{}'"):
        to_own(tensors("x"), clash, {"a.x": (2,)})


def test_two_keys_may_not_fill_one_parameter():
    bindings = [Binding("", "", Layout({"a": "w", "b": "w"}))]
    with pytest.raises(WeightsError, match="a and b both fill w"):
        to_own(tensors("a", "b"), bindings, {"w": (2,)})
    with pytest.raises(WeightsError, match="two rules publish w: a and b"):
        to_published({"w": torch.zeros(2)}, bindings)


def test_a_binding_drops_what_the_system_leaves_unused():
    bindings = [Binding("model.", "language.", DECODER, drop=("layers.1.*",))]
    own = to_own(tensors(*KEYS, "model.layers.1.fc.weight", "model.layers.1.other"), bindings, SHAPES)
    assert set(own) == set(SHAPES)
    with pytest.raises(Mismatch, match=r"1 unexpected \(model.layers.2.fc.weight\)"):
        to_own(tensors(*KEYS, "model.layers.2.fc.weight"), bindings, SHAPES)


def test_a_wildcard_is_one_segment():
    with pytest.raises(Mismatch) as error:
        to_own(tensors(*KEYS, "model.layers.0.x.fc.weight"), BINDINGS, SHAPES)
    assert error.value.differences.unexpected == ["model.layers.0.x.fc.weight"]


def test_the_error_prints_all_lists_and_the_first_line_stands_alone():
    source = {**tensors(*KEYS[:1], "adapter.x"), **tensors("model.layers.0.fc.bias", shape=(3,))}
    with pytest.raises(Mismatch) as error:
        to_own(source, BINDINGS, SHAPES)
    lines = str(error.value).splitlines()
    assert lines[0] == (
        "model.safetensors: weights do not fit: 1 missing (model.layers.0.fc.weight), 1 unexpected (adapter.x), "
        "1 reshaped (model.layers.0.fc.bias); another size of the same architecture; "
        "use the config.json that came with this checkpoint"
    )
    assert lines[1:] == [
        "  missing (1):",
        "    model.layers.0.fc.weight -> language.blocks.0.up.weight",
        "  unexpected (1):",
        "    adapter.x",
        "  reshaped (1):",
        "    model.layers.0.fc.bias: (3,) in the file, (2,) here",
    ]


def test_long_lists_are_cut_and_counted():
    with pytest.raises(Mismatch) as error:
        to_own(tensors(*KEYS, *(f"extra.{i}" for i in range(SHOWN + 5))), BINDINGS, SHAPES)
    assert f"unexpected ({SHOWN + 5}):" in str(error.value)
    assert "... and 5 more" in str(error.value)
    assert len(str(error.value).splitlines()) == SHOWN + 3


@pytest.mark.parametrize(
    ("source", "cause"),
    [
        (tensors("a", "b"), "no key is known here"),
        (tensors(*KEYS, "model.layers.0.fc.weight_scale"), "quantized"),
        (tensors(*KEYS, "model.layers.0.fc.lora_A.weight"), "low-rank adapters"),
        (tensors(*KEYS[:2]), "incomplete"),
        (tensors(*KEYS, "more"), "holds more than this system uses"),
        ({**tensors(*KEYS), **tensors(KEYS[0], shape=(5,))}, "another vocabulary"),
        (tensors(*KEYS[:2], "more"), "of different releases"),
    ],
)
def test_the_likely_cause(source, cause):
    with pytest.raises(Mismatch, match=cause):
        to_own(source, BINDINGS, SHAPES)


def test_what_we_hold_must_be_published():
    with pytest.raises(WeightsError, match="no published name for 1 of our parameters: language.extra"):
        to_published({"language.extra": torch.zeros(2)}, BINDINGS)


def test_pieces_must_be_complete():
    fuse = [Binding("", "", Layout({"q": Fuse("qk", 0, (1, 1)), "k": Fuse("qk", 1, (1, 1))}))]
    with pytest.raises(Mismatch) as error:
        to_own(tensors("q"), fuse, {"qk": (4,)})
    assert error.value.differences.missing == [("k", "qk")]
    split = [Binding("", "", Layout({"qk": Split(("q", "k"))}))]
    with pytest.raises(WeightsError, match="qk is made of q, k but k is absent"):
        to_published({"q": torch.zeros(2)}, split)
    with pytest.raises(Mismatch, match="reshaped"):
        to_own(tensors("qk", shape=(5,)), split, {"q": (2,), "k": (2,)})


def test_layouts_are_checked_when_written():
    for rules in ({"a.{}.b": "a.b"}, {"a.*": "b"}, {"a.*": "b.{}"}, {"a.{}": Split(("b.{}", "c"))}):
        with pytest.raises(ValueError, match="differ in their wildcards"):
            Layout(rules)


def test_a_star_keeps_any_rest():
    bindings = [Binding("ema.", "model.", Layout({"x.{}.*": "y.{}.*"})), Binding("", "", Layout({"*": "*"}))]
    own = to_own(tensors("ema.x.1.a.b", "c.d"), bindings, {"model.y.1.a.b": (2,), "c.d": (2,)})
    assert sorted(to_published(own, bindings)) == ["c.d", "ema.x.1.a.b"]


def test_but_replaces_rules():
    layout = Layout({"a": "x", "b": "y"}, "first")
    other = layout.but({"b": None}, name="second")
    assert dict(other.rules) == {"a": "x", "b": None}
    assert other.name == "second"
    assert layout.rules["b"] == "y"
