"""Safetensors: round trips, agreement with the official package, damaged files, pickles, no space."""

from __future__ import annotations

import errno
import json
import struct

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from beholder.errors import WeightsError
from beholder.files import DiskError
from beholder.weights import files
from beholder.weights.files import (
    DTYPES,
    MAX_HEADER_BYTES,
    open_weights,
    read_header,
    write_safetensors,
    write_weights,
)
from beholder.weights.lazy import LazyTensor

ALL_DTYPES = list(DTYPES.values())


def sample(dtype, shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    count = torch.Size(shape).numel() * dtype.itemsize
    if dtype == torch.bool:
        return torch.randint(0, 2, shape, generator=generator).bool()
    return torch.randint(0, 256, (count,), generator=generator, dtype=torch.uint8).view(dtype).view(shape)


def raw(tensor):
    return bytes(tensor.contiguous().reshape(-1).view(torch.uint8).numpy()) if tensor.numel() else b""


def same(a, b):
    return a.dtype == b.dtype and a.shape == b.shape and raw(a) == raw(b)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    spec=st.dictionaries(
        st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), min_size=1).filter(
            lambda n: n != "__metadata__"
        ),
        st.tuples(st.sampled_from(ALL_DTYPES), st.lists(st.integers(0, 4), max_size=3)),
        max_size=6,
    ),
    shard=st.integers(1, 400),
)
def test_round_trip_is_byte_equal(tmp_path, spec, shard):
    tensors = {name: sample(dtype, shape, i) for i, (name, (dtype, shape)) in enumerate(spec.items())}
    write_weights(tmp_path, tensors, {"a": "b"}, max_shard_bytes=shard)
    back = open_weights(tmp_path)
    assert set(back) == set(tensors)
    for name, tensor in tensors.items():
        assert back[name].shape == tuple(tensor.shape)
        assert same(back[name].load(), tensor)
    first = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    write_weights(tmp_path, dict(reversed(back.items())), {"a": "b"}, max_shard_bytes=shard)
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == first


def test_agrees_with_the_official_package(tmp_path):
    tensors = {f"t{i}": sample(dtype, (2, 3), i) for i, dtype in enumerate(ALL_DTYPES)}
    write_safetensors(tmp_path / "ours.safetensors", tensors, {"format": "pt"})
    official = load_file(tmp_path / "ours.safetensors")
    assert all(same(official[name], tensor) for name, tensor in tensors.items())
    with safe_open(tmp_path / "ours.safetensors", "pt") as file:
        assert file.metadata() == {"format": "pt"}
    save_file(tensors, tmp_path / "theirs.safetensors")
    ours = open_weights(tmp_path / "theirs.safetensors")
    assert all(same(ours[name].load(), tensor) for name, tensor in tensors.items())


def test_transposed_and_shared_tensors_are_written_as_they_look(tmp_path):
    x = torch.arange(6.0).view(2, 3)
    write_safetensors(tmp_path / "x.safetensors", {"a": x.T, "b": x, "c": x})
    back = open_weights(tmp_path / "x.safetensors")
    assert torch.equal(back["a"].load(), x.T)
    assert torch.equal(back["c"].load(), x)


def test_a_loaded_tensor_is_ours_to_change(tmp_path):
    write_safetensors(tmp_path / "x.safetensors", {"a": torch.zeros(3)})
    before = (tmp_path / "x.safetensors").read_bytes()
    open_weights(tmp_path / "x.safetensors")["a"].load().fill_(7)
    assert (tmp_path / "x.safetensors").read_bytes() == before


def test_tensors_are_aligned_to_their_type(tmp_path):
    mixed = {
        "a": torch.zeros(3, dtype=torch.uint8),
        "b": torch.ones(3),
        "c": torch.ones(1, dtype=torch.int64),
    }
    write_safetensors(tmp_path / "x.safetensors", mixed)
    assert all(
        entry.begin % entry.dtype.itemsize == 0
        for entry in read_header(tmp_path / "x.safetensors")[0].values()
    )
    header = {"a": one("U8", (1,), (0, 1)), "b": one("F32", (2,), (1, 9))}
    crooked = open_weights(header_file(tmp_path / "y.safetensors", header, b"\1" + struct.pack("<2f", 2, 3)))
    values = crooked["b"].load()
    assert values.tolist() == [2, 3]
    assert values.data_ptr() % 4 == 0


def test_loading_as_another_type(tmp_path):
    write_safetensors(tmp_path / "x.safetensors", {"a": torch.ones(3) / 3, "n": torch.arange(3)})
    back = open_weights(tmp_path / "x.safetensors")
    assert torch.equal(back["a"].load(torch.bfloat16), (torch.ones(3) / 3).bfloat16())
    assert back["n"].load(torch.bfloat16).dtype == torch.int64


def header_file(path, header, data=b"", size=None):
    body = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(body) if size is None else size) + body + data)
    return path


def one(dtype="F32", shape=(2,), offsets=(0, 8)):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}


DAMAGED = {
    "end past the file": ({"a": one(shape=(4,), offsets=(0, 16))}, bytes(8), "a ends at byte .* cut off"),
    "overlap": ({"a": one(), "b": one(offsets=(4, 12))}, bytes(12), "b overlaps the tensor before it"),
    "hole": ({"a": one(), "b": one(offsets=(12, 20))}, bytes(20), "b leaves a hole before it"),
    "trailing bytes": ({"a": one()}, bytes(9), "1 bytes follow the last tensor"),
    "type lie": ({"a": one(dtype="F64")}, bytes(8), r"a of F64 \[2\] needs 16 bytes but has 8"),
    "unknown type": ({"a": one(dtype="F3")}, bytes(8), "unknown type 'F3'"),
    "negative": ({"a": one(shape=(-2,))}, bytes(8), "a has shape"),
    "reversed": ({"a": one(shape=(0,), offsets=(8, 0))}, bytes(8), "a has shape"),
    "true as a number": ({"a": one(shape=(True, 2))}, bytes(8), "a has shape"),
    "huge": ({"a": one(shape=(2**62, 2**62, 0), offsets=(0, 8))}, bytes(8), "needs 0 bytes but has 8"),
    "no fields": ({"a": 3}, b"", "a has no dtype, shape and data_offsets"),
    "twice": (
        b'{"a":{"dtype":"U8","shape":[0],"data_offsets":[0,0]},"a":{}}',
        b"",
        "a is in its header twice",
    ),
    "not json": (b"{nothing", b"", "no safetensors file"),
    "deep": (b"[" * 100_000, b"", "no safetensors file"),
    "list": (b"[]", b"", "not an object"),
    "metadata": ({"__metadata__": {"a": 1}}, b"", "__metadata__"),
}


@pytest.mark.parametrize("kind", DAMAGED)
def test_damaged_files_are_refused_before_mapping(tmp_path, monkeypatch, kind):
    header, data, message = DAMAGED[kind]
    monkeypatch.setattr(files.mmap, "mmap", lambda *args, **kwargs: pytest.fail("mapped a damaged file"))
    path = header_file(tmp_path / "x.safetensors", header, data)
    with pytest.raises(WeightsError, match=message) as error:
        open_weights(path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("dtype", ["F4", None, ["F32"], {}])
def test_a_type_that_is_none_is_refused(tmp_path, dtype):
    header = {"w": {"dtype": dtype, "shape": [1], "data_offsets": [0, 4]}}
    path = header_file(tmp_path / "x.safetensors", header, bytes(4))
    with pytest.raises(WeightsError, match="w has the unknown type"):
        open_weights(path)


@pytest.mark.parametrize("content", [b"", b"\x01\x02", b"<html>not found</html>"])
def test_no_safetensors_at_all(tmp_path, content):
    (tmp_path / "x.safetensors").write_bytes(content)
    with pytest.raises(WeightsError, match="damaged"):
        open_weights(tmp_path / "x.safetensors")


def test_a_huge_header_is_refused_without_reading_it(tmp_path):
    path = header_file(tmp_path / "x.safetensors", b"{}", size=100_000_000)
    with pytest.raises(WeightsError, match="header would be 100,000,000 bytes in a file of 10"):
        open_weights(path)
    with path.open("r+b") as file:
        file.write(struct.pack("<Q", MAX_HEADER_BYTES + 1))
        file.truncate(MAX_HEADER_BYTES + 100)  # sparse: takes no space
    with pytest.raises(WeightsError, match="the format allows 100,000,000"):
        open_weights(path)


def sharded(folder):
    tensors = {f"t{i}": torch.full((4,), float(i)) for i in range(4)}
    write_weights(folder, tensors, max_shard_bytes=32)
    return (
        folder / "model-00001-of-00002.safetensors",
        folder / "model-00002-of-00002.safetensors",
        folder / files.INDEX,
    )


def test_shards(tmp_path):
    first, second, index = sharded(tmp_path)
    assert json.loads(index.read_text())["metadata"]["total_size"] == 64
    assert set(read_header(first)[0]) == {"t0", "t1"}
    assert sorted(open_weights(index)) == ["t0", "t1", "t2", "t3"]
    second.unlink()
    with pytest.raises(WeightsError, match=r"model-00002-of-00002.safetensors: missing shard"):
        open_weights(tmp_path)


def test_shards_that_contradict_the_index(tmp_path):
    first, second, index = sharded(tmp_path)
    good = json.loads(index.read_text())

    def with_map(**changes):
        weight_map = {**good["weight_map"], **changes}
        index.write_text(json.dumps({"weight_map": {k: v for k, v in weight_map.items() if v is not None}}))
        return pytest.raises(WeightsError)

    with with_map(t9=first.name) as error:
        open_weights(tmp_path)
    assert "lacks t9 (1 of 5 are absent)" in str(error.value)
    with with_map(t0=None) as error:
        open_weights(tmp_path)
    assert "says nothing of it" in str(error.value)
    with with_map(t0="../secret.safetensors") as error:
        open_weights(tmp_path)
    assert "is not a safetensors file beside it" in str(error.value)
    with with_map():
        second.write_bytes(first.read_bytes())
        open_weights(tmp_path)
    index.write_text("{}")
    with pytest.raises(WeightsError, match="not an index"):
        open_weights(tmp_path)


def test_a_key_in_two_shards(tmp_path):
    _, second, _ = sharded(tmp_path)
    write_safetensors(second, {"t1": torch.zeros(1), "t2": torch.zeros(1), "t3": torch.zeros(1)})
    with pytest.raises(WeightsError, match="t1 is in two shards"):
        open_weights(tmp_path)


def test_writing_again_removes_shards_that_no_longer_belong(tmp_path):
    sharded(tmp_path)
    (tmp_path / "notes.txt").write_text("mine")
    write_weights(tmp_path, {"a": torch.zeros(1)})
    assert sorted(p.name for p in tmp_path.iterdir()) == ["model.safetensors", "notes.txt"]
    assert list(open_weights(tmp_path)) == ["a"]


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "model.pth", "last.ckpt"])
def test_pickles_are_refused_with_the_remedy(tmp_path, name):
    (tmp_path / name).write_bytes(b"\x80\x04.")
    for path in (tmp_path, tmp_path / name):
        with pytest.raises(WeightsError, match="pickle files can run code") as error:
            open_weights(path)
        assert "safetensors" in str(error.value)


def test_folders_without_one_answer(tmp_path):
    with pytest.raises(WeightsError, match="no such file"):
        open_weights(tmp_path / "absent")
    with pytest.raises(WeightsError, match="holds no weights"):
        open_weights(tmp_path)
    write_safetensors(tmp_path / "a.safetensors", {"a": torch.zeros(1)})
    assert list(open_weights(tmp_path)) == ["a"]
    write_safetensors(tmp_path / "b.safetensors", {"b": torch.zeros(1)})
    with pytest.raises(WeightsError, match=r"2 weight files \(a.safetensors, b.safetensors\)"):
        open_weights(tmp_path)


def test_no_space_left_keeps_the_old_weights(tmp_path, monkeypatch):
    sharded(tmp_path)
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    written = []
    real = files._write_values

    def write_values(file, tensor):
        if len(written) == 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        written.append(tensor.name)
        real(file, tensor)

    monkeypatch.setattr(files, "_write_values", write_values)
    with pytest.raises(DiskError, match="no space left") as error:
        write_weights(tmp_path, {f"t{i}": torch.ones(4) for i in range(4)}, max_shard_bytes=32)
    assert len(written) == 2
    assert str(tmp_path) in str(error.value)
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before


def test_a_tensor_that_is_not_what_it_says_is_not_written(tmp_path):
    lying = LazyTensor("a", (3,), torch.float32, lambda dtype: torch.zeros(2))
    with pytest.raises(WeightsError, match=r"a: torch.float32 \(2,\) instead of"):
        write_safetensors(tmp_path / "x.safetensors", {"a": lying})
    assert list(tmp_path.iterdir()) == []
