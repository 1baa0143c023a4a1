"""Pickles of one's own to safetensors: one file or a whole folder, in a child process that loads nothing but tensors."""

from __future__ import annotations

import argparse
import hashlib
import json
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch

from beholder.errors import WeightsError
from beholder.weights.files import open_weights
from beholder.weights.pickles import convert_folder, tensors_of_pickle
from tests.cli.conftest import Run, run

__all__ = ["run"]  # a fixture

STATE = {"a.weight": torch.arange(6.0).reshape(2, 3), "b": torch.tensor([1, 2], dtype=torch.bfloat16)}


def saved(path: Path, content: Any, **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(content, path, **options)
    return path


def values(path: Path) -> dict[str, torch.Tensor]:
    return {name: tensor.load().clone() for name, tensor in open_weights(path).items()}


def assert_same(found: dict[str, torch.Tensor], want: dict[str, torch.Tensor]) -> None:
    assert found.keys() == want.keys()
    for name, value in want.items():
        assert found[name].dtype == value.dtype and torch.equal(found[name], value)


@pytest.mark.parametrize("zipped", [True, False])
def test_what_stands_beside_the_state_is_told(tmp_path: Path, zipped: bool) -> None:
    content = {"model": STATE, "epoch": 3, "optimizer": {"lr": 1.0}, "notes": ["x"]}
    path = saved(tmp_path / "x.pth", content, _use_new_zipfile_serialization=zipped)
    told = tensors_of_pickle(path, tmp_path / "x.safetensors")
    assert_same(values(tmp_path / "x.safetensors"), STATE)
    assert (told.tensors, told.left_out) == (2, ("epoch", "optimizer", "notes"))
    assert (told.size, told.sha256) == (path.stat().st_size, hashlib.sha256(path.read_bytes()).hexdigest())


def test_dicts_in_dicts_are_joined_by_dots(tmp_path: Path) -> None:
    parts = {"projector": {"projector.0.weight": torch.ones(2)}, "llm_backbone": {"llm.norm": torch.zeros(1)}}
    tensors_of_pickle(saved(tmp_path / "x.pt", {"model": parts}), tmp_path / "x.safetensors")
    assert set(values(tmp_path / "x.safetensors")) == {
        "projector.projector.0.weight",
        "llm_backbone.llm.norm",
    }


def test_one_tensor_alone(tmp_path: Path) -> None:
    tensors_of_pickle(saved(tmp_path / "x.pth", torch.ones(2, 3)), tmp_path / "x.safetensors")
    assert_same(values(tmp_path / "x.safetensors"), {"tensor": torch.ones(2, 3)})


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ({"model": STATE | {"steps": 3}}, "steps is a int"),
        ({"model": STATE, "args": argparse.Namespace(lr=1)}, r"argparse\.Namespace, which is no tensor"),
        ([torch.zeros(1)], "but a list"),
        ({"a": [torch.zeros(1)]}, "a is a list"),
    ],
)
def test_anything_but_tensors_is_refused(content: Any, says: str, tmp_path: Path) -> None:
    path = saved(tmp_path / "x.pth", content)
    with pytest.raises(WeightsError, match=says):
        tensors_of_pickle(path, tmp_path / "x.safetensors")
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("data", [b"", b"\x80\x04.", b"not a pickle", pickle.dumps({"a": 1})[:-3]])
def test_damaged_files_are_refused(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "x.bin").write_bytes(data)
    with pytest.raises(WeightsError, match=r"x\.bin: cannot be converted \(it is damaged"):
        tensors_of_pickle(tmp_path / "x.bin", tmp_path / "x.safetensors")


def test_a_folder_keeps_its_shards_index_and_settings(tmp_path: Path) -> None:
    source = tmp_path / "in"
    names = [f"pytorch_model-0000{n}-of-00002.bin" for n in (1, 2)]
    for name, (key, value) in zip(names, STATE.items(), strict=True):
        saved(source / name, {key: value})
    index = {"metadata": {"total_size": 1}, "weight_map": dict(zip(STATE, names, strict=True))}
    (source / "pytorch_model.bin.index.json").write_text(json.dumps(index))
    (source / "config.json").write_text("{}")
    (source / "code.py").write_text("")
    (source / "training_args.bin").write_bytes(b"anything")
    saved(source / "inside" / "tower.pth", {"c": torch.ones(1)})
    target = tmp_path / "out"
    found = convert_folder(source, target)
    assert_same(values(target), STATE)
    assert_same(values(target / "inside"), {"c": torch.ones(1)})
    assert sorted(each.target.relative_to(target).as_posix() for each in found) == [
        "inside/tower.safetensors",
        *(name.replace(".bin", ".safetensors") for name in names),
    ]
    assert (target / "config.json").is_file() and not (target / "code.py").exists()
    assert not (target / "training_args.safetensors").exists()


def test_a_folder_with_one_bad_file_is_not_written(tmp_path: Path) -> None:
    saved(tmp_path / "in" / "a.bin", STATE)
    saved(tmp_path / "in" / "b.bin", ["no state"])
    with pytest.raises(WeightsError, match=r"b\.bin: cannot be converted"):
        convert_folder(tmp_path / "in", tmp_path / "out")
    (tmp_path / "empty").mkdir()
    with pytest.raises(WeightsError, match="holds no pickles"):
        convert_folder(tmp_path / "empty", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_command_tells_size_and_digest(run: Run, tmp_path: Path) -> None:
    path = saved(tmp_path / "x.pth", {"model": STATE, "epoch": 1})
    target = tmp_path / "x.safetensors"
    shown = run("convert", path, target)
    assert shown.code == 0 and "2 tensors" in shown.out and "left out: epoch" in shown.out
    assert hashlib.sha256(path.read_bytes()).hexdigest() in shown.out
    assert_same(values(target), STATE)
    run("convert", path, target).assert_refused("exists")
    run("convert", path, tmp_path / "out").assert_refused("name a .safetensors file")
    run("convert", path, tmp_path / "y.safetensors", "--dtype", "float16").assert_refused("--dtype")
    document = run("convert", tmp_path, tmp_path / "new", "--to", "safetensors", "--json").json
    assert [row["tensors"] for row in document["converted"]] == [2]
    run("convert", target, tmp_path / "other", "--to", "safetensors").assert_refused("no pickle")
