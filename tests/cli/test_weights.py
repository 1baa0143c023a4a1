"""`parity`, `convert` and `pull`."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.cli.conftest import Run

Oracle = Callable[[str], Path]
pytestmark = pytest.mark.parity


def test_parity_within_tolerance(run: Run, oracle: Oracle) -> None:
    document = run("parity", oracle("llava"), oracle("clip"), "--json").json
    assert document["ok"] and [each["ok"] for each in document["folders"]] == [True, True]
    stages = {row["stage"]: row for row in document["folders"][0]["stages"]}
    assert {"vision", "connector", "logits", "greedy"} <= set(stages)
    assert all(0 <= row["error"] <= row["tolerance"] for row in stages.values())
    shown = run("parity", oracle("llava"))
    assert shown.code == 0 and "logits" in shown.out and "beyond" not in shown.out


def test_parity_beyond_tolerance_is_1(run: Run, oracle: Oracle, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(oracle("llava"), tmp_path / "changed"))
    tensors = load_file(folder / "model.safetensors")
    name = next(name for name in tensors if "projector" in name)
    tensors[name] = tensors[name] + 0.1
    save_file(tensors, folder / "model.safetensors")
    shown = run("parity", folder, "--json")
    stages = {row["stage"]: row["ok"] for row in shown.json["folders"][0]["stages"]}
    assert shown.code == 1 and not shown.json["ok"]
    assert stages["vision"] and not stages["connector"] and not stages["logits"]
    assert "beyond" in run("parity", folder).out


def test_parity_goes_on_after_a_folder_it_cannot_use(run: Run, oracle: Oracle, tmp_path: Path) -> None:
    shown = run("parity", tmp_path, oracle("clip"), "--json")
    assert shown.code == 2 and len(shown.err.splitlines()) == 1
    assert [each["ok"] for each in shown.json["folders"]] == [False, True]
    assert "config.json" in shown.json["folders"][0]["error"]


@pytest.mark.parametrize(
    "name", ["config.json", "model.safetensors", "inputs.safetensors", "reference.safetensors"]
)
def test_parity_names_the_file_that_is_missing(run: Run, oracle: Oracle, tmp_path: Path, name: str) -> None:
    folder = Path(shutil.copytree(oracle("bert"), tmp_path / "bert"))
    (folder / name).unlink()
    run("parity", folder).assert_refused("has no " + name.replace("model.", "model*."))


def test_parity_of_several_tells_which_folder_is_damaged(run: Run, oracle: Oracle, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(oracle("whisper"), tmp_path / "damaged"))
    (folder / "config.json").write_text('{"model_type": "whisper", "d_model": -4}')
    shown = run("parity", folder, oracle("encodec_plain"), "--json")
    assert shown.code == 2 and [each["ok"] for each in shown.json["folders"]] == [False, True]
    assert "damaged" in shown.err and "d_model is -4" in shown.err


def test_convert_there_and_back(run: Run, oracle: Oracle, tmp_path: Path) -> None:
    source = oracle("llava")
    document = run("convert", source, tmp_path / "own", "--json").json
    assert document["layout"] == "beholder" and document["parameters"] > 0
    assert {file["name"] for file in document["files"]} >= {"beholder.json", "model.safetensors"}
    assert run("convert", source, tmp_path / "official", "--to", "official").code == 0
    ours, theirs = load_file(tmp_path / "official/model.safetensors"), load_file(source / "model.safetensors")
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    again = run("convert", tmp_path / "own", tmp_path / "again", "--json").json
    assert again["parameters"] == document["parameters"]
    first, second = (tmp_path / name / "model.safetensors" for name in ("own", "again"))
    assert first.read_bytes() == second.read_bytes()


def test_convert_keeps_half_precision_unless_told(run: Run, oracle: Oracle, tmp_path: Path) -> None:
    run("convert", oracle("llama"), tmp_path / "half", "--dtype", "float16")
    run("convert", tmp_path / "half", tmp_path / "kept")
    kinds = {tensor.dtype for tensor in load_file(tmp_path / "kept" / "model.safetensors").values()}
    assert kinds == {torch.float16}


def test_pull_reports_what_it_fetched(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from beholder.weights import pull

    def pretend(name: str, *, progress: Callable[[str, int, int], None]) -> Path:
        for done in range(3):
            progress("fetch", done, 2)
        (tmp_path / "weights").write_bytes(b"12345")
        return tmp_path

    monkeypatch.setattr(pull, "pull", pretend)
    shown = run("pull", "mini", "--json")
    assert shown.json["files"] == [{"name": "weights", "bytes": 5}] and shown.err == ""
    assert "5 bytes" in run("pull").out


def test_interrupted_pull_keeps_nothing_and_is_130(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    from beholder.weights import pull

    def interrupted(name: str, *, progress: Callable[[str, int, int], None]) -> Path:
        progress("fetch", 1, 2)
        raise KeyboardInterrupt

    monkeypatch.setattr(pull, "pull", interrupted)
    assert run("pull", "mini") == (130, "", "")
