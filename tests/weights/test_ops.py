"""Every operation gives the parameters it should, and its inverse gives the published bytes back."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from beholder.errors import UnknownName, WeightsError
from beholder.weights.layout import Binding, Layout, to_own, to_published
from beholder.weights.lazy import lazy
from beholder.weights.ops import (
    Behind,
    Copies,
    Exchange,
    Fuse,
    Grouped,
    Leading,
    Pointwise,
    Rename,
    Reshape,
    RopePermute,
    Split,
    Tied,
    Transpose,
)

DTYPES = st.sampled_from([torch.float32, torch.float16, torch.bfloat16, torch.int64])
SIZES = st.integers(1, 5)


def random_tensor(shape, dtype, seed):
    generator = torch.Generator().manual_seed(seed)
    if dtype == torch.int64:
        return torch.randint(-99, 99, shape, generator=generator)
    return torch.randn(shape, generator=generator).to(dtype)


def round_trip(rules, published, own_shapes, numbers=None):
    """Published tensors through a layout and back; returns ours."""
    bindings = [Binding("p.", "o.", Layout(rules), numbers or {})]
    source = {f"p.{key}": lazy(f"p.{key}", value) for key, value in published.items()}
    own = to_own(source, bindings, {f"o.{name}": shape for name, shape in own_shapes.items()})
    values = {name: tensor.load() for name, tensor in own.items()}
    for name, shape in own_shapes.items():
        assert tuple(values[f"o.{name}"].shape) == shape
    back = to_published(values, bindings)
    assert set(back) == set(source)
    for key, tensor in back.items():
        again = tensor.load()
        assert tensor.shape == tuple(again.shape) == source[key].shape
        assert again.dtype == source[key].dtype
        raw = [t.contiguous().reshape(-1).view(torch.uint8) for t in (again, source[key].load())]
        assert torch.equal(*raw)
    return {name.removeprefix("o."): value for name, value in values.items()}


@given(dtype=DTYPES, a=SIZES, b=SIZES, rows=SIZES, seed=st.integers(0, 99))
def test_behind(dtype, a, b, rows, seed):
    """Rows in front that nobody reads are zeros afterwards."""
    x = random_tensor((a, b), dtype, seed)
    published = torch.cat((x.new_zeros(rows, b), x))
    own = round_trip({"w": Leading(Behind("w", rows))}, {"w": published[None]}, {"w": (a, b)})
    assert torch.equal(own["w"], x)


@given(dtype=DTYPES, a=SIZES, b=SIZES, seed=st.integers(0, 99))
def test_copies(dtype, a, b, seed):
    x = random_tensor((a, b), dtype, seed)
    own = round_trip({"w": Copies(("v", "w"))}, {"w": x}, {"v": (a, b), "w": (a, b)})
    assert torch.equal(own["v"], x) and torch.equal(own["w"], x)
    with pytest.raises(WeightsError, match="published as one tensor but differ"):
        Copies(("v", "w")).save([x, x + 1], {})


@given(dtype=DTYPES, rows=SIZES, start=SIZES, dim=SIZES, places=SIZES, seed=st.integers(0, 99))
def test_exchange(dtype, rows, start, dim, places, seed):
    """As `pixel_unshuffle` orders channels: by channel, then place."""
    x = random_tensor((rows, start + dim * places + 1), dtype, seed)
    rule = Exchange("w", start, "dim", places)
    own = round_trip({"w": rule}, {"w": x}, {"w": tuple(x.shape)}, {"dim": dim})["w"]
    for channel in range(dim):
        for place in range(places):
            theirs, ours = start + channel * places + place, start + place * dim + channel
            assert torch.equal(own[:, ours], x[:, theirs])
    assert torch.equal(own[:, :start], x[:, :start]) and torch.equal(own[:, -1], x[:, -1])


@given(dtype=DTYPES, a=SIZES, b=SIZES, c=SIZES, order=st.permutations((0, 1, 2)), seed=st.integers(0, 99))
def test_transpose(dtype, a, b, c, order, seed):
    x = random_tensor((a, b, c), dtype, seed)
    own = round_trip({"w": Transpose("w", tuple(order))}, {"w": x}, {"w": tuple(x.permute(order).shape)})
    assert torch.equal(own["w"], x.permute(order))


@given(dtype=DTYPES, a=SIZES, b=SIZES, c=SIZES, seed=st.integers(0, 99))
def test_reshape(dtype, a, b, c, seed):
    x = random_tensor((a, b * c), dtype, seed)
    own = round_trip({"w": Reshape("w", (-1, "bc"))}, {"w": x}, {"w": (a, b, c)}, {"bc": b * c})
    assert torch.equal(own["w"], x.view(a, b, c))


@given(dtype=DTYPES, a=SIZES, b=SIZES, axes=st.integers(1, 3), seed=st.integers(0, 99))
def test_leading(dtype, a, b, axes, seed):
    x = random_tensor((*(1,) * axes, a, b), dtype, seed)
    own = round_trip({"w": Leading("w", axes)}, {"w": x}, {"w": (a, b)})
    assert torch.equal(own["w"], x.view(a, b))


@given(dtype=DTYPES, a=SIZES, b=SIZES, axes=st.integers(1, 3), seed=st.integers(0, 99))
def test_pointwise(dtype, a, b, axes, seed):
    x = random_tensor((a, b, *(1,) * axes), dtype, seed)
    own = round_trip({"w": Pointwise("w", axes)}, {"w": x}, {"w": (a, b)})
    assert torch.equal(own["w"], x.reshape(a, b))


@given(dtype=DTYPES, heads=SIZES, half=SIZES, width=SIZES, bias=st.booleans(), seed=st.integers(0, 99))
def test_rope_permute_turns_pairs_into_halves(dtype, heads, half, width, bias, seed):
    x = random_tensor((heads * 2 * half,) if bias else (heads * 2 * half, width), dtype, seed)
    own = round_trip({"w": RopePermute("w", "heads")}, {"w": x}, {"w": tuple(x.shape)}, {"heads": heads})
    for head in range(heads):
        rows = x[head * 2 * half :][: 2 * half]
        assert torch.equal(own["w"][head * 2 * half :][: 2 * half], torch.cat([rows[0::2], rows[1::2]]))


@given(dtype=DTYPES, q=SIZES, k=SIZES, groups=SIZES, width=SIZES, seed=st.integers(0, 99))
def test_grouped_rows_are_those_of_the_split_joined(dtype, q, k, groups, width, seed):
    x = random_tensor((groups * (q + 2 * k), width), dtype, seed)
    numbers = {"groups": groups, "q": q * groups, "k": k * groups}
    op = Grouped("qkv", ("q", "k", "k"), "groups")
    own = round_trip({"qkv": op}, {"qkv": x}, {"qkv": tuple(x.shape)}, numbers)
    blocks = x.split(q + 2 * k)
    parts = [[block[at : at + size] for block in blocks] for at, size in ((0, q), (q, k), (q + k, k))]
    assert torch.equal(own["qkv"], torch.cat([row for part in parts for row in part]))


@given(
    dtype=DTYPES,
    q=SIZES,
    k=SIZES,
    groups=SIZES,
    width=SIZES,
    dim=st.sampled_from([0, 1]),
    seed=st.integers(0, 99),
)
def test_split_in_groups(dtype, q, k, groups, width, dim, seed):
    total = groups * (q + 2 * k)
    x = random_tensor((total, width) if dim == 0 else (width, total), dtype, seed)
    sizes = {"q": q * groups, "k": k * groups, "v": k * groups}
    shapes = {name: (n, width) if dim == 0 else (width, n) for name, n in sizes.items()}
    own = round_trip({"qkv": Split(("q", "k", "v"), dim, "groups")}, {"qkv": x}, shapes, {"groups": groups})
    blocks = x.split(q + 2 * k, dim)
    for name, at, size in (("q", 0, q), ("k", q, k), ("v", q + k, k)):
        assert torch.equal(own[name], torch.cat([block.narrow(dim, at, size) for block in blocks], dim))


@given(dtype=DTYPES, q=SIZES, k=SIZES, unit=SIZES, width=SIZES, seed=st.integers(0, 99))
def test_fuse(dtype, q, k, unit, width, seed):
    share = ("q", "k", "k")
    rules = {name: Fuse("qkv", i, share) for i, name in enumerate(("a", "b", "c"))}
    pieces = {
        name: random_tensor((n * unit, width), dtype, seed + i)
        for i, (name, n) in enumerate((("a", q), ("b", k), ("c", k)))
    }
    own = round_trip(rules, pieces, {"qkv": ((q + 2 * k) * unit, width)}, {"q": q, "k": k})
    assert torch.equal(own["qkv"], torch.cat(list(pieces.values())))


@settings(max_examples=30)
@given(heads=SIZES, half=SIZES, width=SIZES, seed=st.integers(0, 99))
def test_operations_nest(heads, half, width, seed):
    rows = heads * 2 * half
    x = random_tensor((width, 2 * rows), torch.float32, seed)
    split = Split((RopePermute(Transpose("q"), "heads"), Transpose("v")))
    rules = {"qv": Transpose(Reshape("t", (-1, width)))}
    own = round_trip(rules, {"qv": x}, {"t": (2, rows, width)})
    assert torch.equal(own["t"], x.T.reshape(2, rows, width))
    own = round_trip(
        {"qv": split}, {"qv": x.T.contiguous()}, {"q": (width, rows), "v": (width, rows)}, {"heads": heads}
    )
    assert torch.equal(own["v"], x.T[rows:].T)


def test_rename_is_what_a_string_means():
    x = torch.arange(3.0)
    assert torch.equal(round_trip({"a": Rename("b")}, {"a": x}, {"b": (3,)})["b"], x)
    assert torch.equal(round_trip({"a": "b"}, {"a": x}, {"b": (3,)})["b"], x)


def tied(published):
    bindings = [Binding("", "", Layout({"e": "embed", "head": Tied("embed")}))]
    source = {key: lazy(key, value) for key, value in published.items()}
    own = to_own(source, bindings, {"embed": (2, 2)})
    return own["embed"].load(), to_published(own, bindings)


def test_a_tied_copy_may_be_absent_or_equal_or_alone_and_is_not_written():
    x = torch.arange(4.0).view(2, 2)
    for published in ({"e": x}, {"e": x, "head": x.clone()}, {"head": x}):
        own, back = tied(published)
        assert torch.equal(own, x)
        assert list(back) == ["e"]


def test_a_tied_copy_that_differs_is_refused():
    with pytest.raises(WeightsError, match=r"head should be a copy of e but differs"):
        tied({"e": torch.zeros(2, 2), "head": torch.ones(2, 2)})


@pytest.mark.parametrize(
    ("op", "shape", "message"),
    [
        (RopePermute("w", 3), (8, 2), r"w: \(8, 2\) rows are not 3 heads of pairs"),
        (Transpose("w"), (2, 2, 2), r"has 3 axes, the layout speaks of 2"),
        (Reshape("w", (3, -1)), (4, 2), r"cannot be published as \(3, -1\)"),
        (Fuse("w", 0, (1, 2)), (4, 2), r"does not divide along axis 0 in shares \[1, 2\]"),
    ],
)
def test_shapes_an_operation_cannot_give(op, shape, message):
    with pytest.raises(WeightsError, match=message):
        op.published_shape(shape, {})


def test_a_number_the_binding_lacks():
    with pytest.raises(UnknownName, match="'heads'"):
        RopePermute("w", "heads").published_shape((8, 2), {"num_heads": 2})
