"""From a name or a folder to a model: every naming of a release, and what is said of folders that cannot be opened."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from beholder.errors import BeholderError
from beholder.model import build
from beholder.pipeline import load
from beholder.weights.files import open_weights, write_weights
from beholder.weights.layout import to_published
from beholder.weights.load import state_tensors
from beholder.weights.open import (
    Published,
    open_beholder,
    open_named,
    open_official,
    read_folder_config,
    read_json,
)
from beholder.weights.save import read_folder, save_folder

from ..toys import SEES

# Prefixes of the files of each release, as published: llava-hf up to 2025, and what later versions of the library write.
RELEASED = {
    "llava": (
        (
            "vision_tower.vision_model.",
            "multi_modal_projector.",
            "language_model.model.",
            "language_model.lm_head.",
        ),
        ("vision_tower.", "multi_modal_projector.", "language_model.model.", "language_model.lm_head."),
        (
            "model.vision_tower.vision_model.",
            "model.multi_modal_projector.",
            "model.language_model.",
            "lm_head.",
        ),
        ("model.vision_tower.", "model.multi_modal_projector.", "model.language_model.", "lm_head."),
    ),
}


@pytest.mark.parametrize("number", range(4))
def test_every_released_naming_opens_to_the_same_model(
    number: int, oracle: Callable[[str], Path], tmp_path: Path
) -> None:
    source = oracle("llava")
    opened = open_official(source)
    own = state_tensors(opened.model)
    namings = read_folder_config(source, read_json(source / "config.json")).namings
    shutil.copy(source / "config.json", tmp_path)
    published = to_published(own, namings[number])
    assert {key for key in published if not key.startswith(RELEASED["llava"][number])} == set()
    write_weights(tmp_path, published)
    again = open_official(tmp_path)
    assert again.published is not None and again.published.naming == number
    assert all(torch.equal(value, own[name]) for name, value in state_tensors(again.model).items())


def test_a_clip_file_of_the_first_releases_opens(oracle: Callable[[str], Path], tmp_path: Path) -> None:
    """They hold the position ids, which are no parameters."""
    source = oracle("clip")
    tensors = {name: tensor.load() for name, tensor in open_weights(source).items()}
    for tower in ("text_model", "vision_model"):
        tensors[f"{tower}.embeddings.position_ids"] = torch.arange(4)[None]
    write_weights(tmp_path, tensors)
    shutil.copy(source / "config.json", tmp_path)
    own = state_tensors(open_official(source).model)
    assert all(
        torch.equal(value, own[name]) for name, value in state_tensors(open_official(tmp_path).model).items()
    )


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"\xff\xfe", "not UTF-8"),
        (b"[" * 100_000, "nested too deeply"),
        (b"[]", "expected an object, got a list"),
        (b"{", "not valid JSON"),
        (None, "no config.json; is it a checkpoint folder"),
    ],
)
def test_a_damaged_config_is_named(content: bytes | None, says: str, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "config.json").write_bytes(content)
    with pytest.raises(BeholderError, match=says) as caught:
        open_official(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_weight_file_by_itself_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"x")
    monkeypatch.chdir(tmp_path)
    for name in (tmp_path / "model.safetensors", "model.safetensors"):
        with pytest.raises(BeholderError, match="name the folder that holds it"):
            open_named(name)


@pytest.mark.parametrize(
    "official",
    [
        {},
        {"config": {"model_type": "llama"}, "naming": 5, "files": {}},
        {"config": {"model_type": "llama"}, "naming": True, "files": {}},
        {"config": {"model_type": "llama"}, "naming": 0, "files": {"a.json": 3}},
        {"config": [], "naming": 0, "files": {}},
    ],
)
def test_a_damaged_record_of_the_publisher_is_refused(official: object, tmp_path: Path) -> None:
    model = build(SEES)
    extra = {"official.json": json.dumps(official).encode()}
    save_folder(tmp_path / "x", SEES.to_data(), state_tensors(model), extra)
    with pytest.raises(BeholderError, match=r"official\.json: damaged"):
        open_beholder(tmp_path / "x")


def test_the_record_of_the_publisher_reads_back(tmp_path: Path) -> None:
    published = Published({"model_type": "llama"}, 0, {"generation_config.json": "{}"})
    (tmp_path / "official.json").write_bytes(published.to_json())
    assert Published.read(tmp_path / "official.json") == published


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_written_as_it_was_read(
    dtype: torch.dtype, oracle: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A processor may compute in float32; what is saved and exported has the bytes that were read."""
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "DEFAULT")
    published = {name: tensor.load(dtype) for name, tensor in open_weights(oracle("llava")).items()}
    write_weights(tmp_path / "half", published)
    shutil.copy(oracle("llava") / "config.json", tmp_path / "half")
    pipeline = load(tmp_path / "half")
    assert pipeline.model.dtype == torch.float32
    pipeline.export(tmp_path / "first")
    pipeline.save(tmp_path / "ours")
    load(tmp_path / "ours").export(tmp_path / "second")
    for folder in ("first", "second"):
        written = open_weights(tmp_path / folder)
        assert all(tensor.dtype == dtype for tensor in written.values())
        assert all(torch.equal(tensor.load(), published[name]) for name, tensor in written.items())
    with torch.no_grad():
        pipeline.model.languages["main"].norm.weight.add_(1e-6)
    pipeline.save(tmp_path / "trained")
    types = {name: tensor.dtype for name, tensor in read_folder(tmp_path / "trained").tensors.items()}
    assert {name for name, kept in types.items() if kept != dtype} == {"languages.main.norm.weight"}
