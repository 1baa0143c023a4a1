"""Dual encoders: names of older releases, and damaged files."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from beholder.cards import card
from beholder.errors import BeholderError
from beholder.parity import compare_folder
from beholder.parts.heads.similarity import Similarity, SimilarityHead
from beholder.parts.language import sizes_text as sizes
from beholder.parts.language.text_tower import TextTower
from beholder.pipeline import load
from beholder.weights.readers.systems import read_system


def test_altclip_under_its_first_names(oracle: Callable[[str], Path], tmp_path: Path) -> None:
    shutil.copytree(oracle("altclip"), tmp_path, dirs_exist_ok=True)
    weights = load_file(tmp_path / "model.safetensors")
    renamed = {
        key.replace("encoder.layer.", "encoder.layers.") if key.startswith("vision") else key: tensor
        for key, tensor in weights.items()
    }
    assert renamed.keys() != weights.keys()
    save_file(renamed, tmp_path / "model.safetensors")
    results = compare_folder(tmp_path)
    assert results and all(result.ok for result in results)


def test_the_temperature_divides() -> None:
    head = SimilarityHead(Similarity(scale=0.5, divides=True))
    one_D = torch.tensor([[0.6, 0.8]])
    assert torch.allclose(head.compare(one_D, one_D), torch.tensor([[2.0]]))


def test_an_idle_pooler_is_kept_and_not_read(oracle: Callable[[str], Path]) -> None:
    pipeline = load(oracle("align"))
    pooler = dict(pipeline.model.named_parameters())["languages.main.pooler.weight"]
    assert not pooler.requires_grad
    before = pipeline.model.language.state_dict()["pooler.weight"]
    assert torch.equal(
        before, load_file(oracle("align") / "model.safetensors")["text_model.pooler.dense.weight"]
    )


def test_two_maps_in_a_row_have_no_function_between() -> None:
    tower = TextTower.of(sizes.BERT_BASE.but(projection=8, projection_act=None), through=24).tiny()
    model = tower.build()
    first, second = (layer.weight for layer in model.projection)  # type: ignore[union-attr]
    assert (first.shape, second.shape) == ((24, 32), (32, 24))
    x_D = torch.randn(32)
    both = model.projection(2 * x_D) - model.projection(x_D)
    assert torch.allclose(both, second @ first @ x_D, atol=1e-5)


def test_a_map_needs_a_projection_behind_it() -> None:
    with pytest.raises(BeholderError, match="set pool, projection"):
        TextTower.of(sizes.BERT_BASE.but(projection=0), through=24)


def test_aligns_pictures_have_the_width_of_its_projection(oracle: Callable[[str], Path]) -> None:
    config = json.loads((oracle("align") / "config.json").read_text(encoding="utf-8"))
    with pytest.raises(BeholderError, match="projection_dim is 24, but pictures have 16 channels"):
        read_system(config | {"projection_dim": 24}, name="x")


def test_the_naflex_cards_are_what_their_files_say() -> None:
    wide = {
        "hidden_size": 1152,
        "intermediate_size": 4304,
        "num_hidden_layers": 27,
        "num_attention_heads": 16,
    }
    for name, sizes_ in (("siglip2-b-16-naflex", {}), ("siglip2-so400m-16-naflex", wide)):
        config = {
            "model_type": "siglip2",
            "text_config": {"vocab_size": 256000, **sizes_},
            "vision_config": sizes_,
        }
        read, own = read_system(config, name=name).card, card(name)
        assert read.branches[0].encoders == own.branches[0].encoders
        assert read.main == own.main
