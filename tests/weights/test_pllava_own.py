"""PLLaVA's own files: adapters beside what they change, under peft's names, in one checkpoint."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from beholder import load
from beholder.cards import card
from beholder.errors import UnknownName, WeightsError
from beholder.media.geometry import AnyRes
from beholder.model import build
from beholder.weights.layout import to_published
from beholder.weights.load import state_tensors
from beholder.weights.readers.systems import read_system
from tests.weights.own_folders import assert_is_card, published_names

# What models/pllava/configuration_pllava.py writes
EYES = {"model_type": "clip_vision_model", "hidden_size": 1024, "intermediate_size": 4096, "image_size": 336}
EYES |= {"num_hidden_layers": 24, "num_attention_heads": 16, "patch_size": 14, "projection_dim": 768}
EYES |= {"vocab_size": 32000}
WORDS: dict[str, Any] = {
    "model_type": "llama",
    "max_position_embeddings": 4096,
    "rms_norm_eps": 1e-05,
    "vocab_size": 32064,
}
PLLAVA: dict[str, Any] = {
    "architectures": ["PllavaForConditionalGeneration"],
    "model_type": "llava",
    "frame_shape": [24, 24],
    "gradient_checkpointing": False,
    "image_token_index": 32000,
    "num_frames": 16,
    "pooling_method": "avg",
    "pooling_shape": [16, 12, 12],
    "projector_hidden_act": "gelu",
    "text_config": WORDS,
    "use_image_newline_parameter": True,
    "use_pooling": True,
    "vision_config": EYES,
    "vision_feature_layer": -2,
    "vision_feature_select_strategy": "default",
    "vocab_size": 32064,
}
SMALL_EYES = EYES | {"hidden_size": 24, "intermediate_size": 40, "image_size": 336, "num_hidden_layers": 3}
SMALL_EYES |= {"num_attention_heads": 2}
SMALL_WORDS = WORDS | {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "vocab_size": 90}
SMALL_WORDS |= {"num_attention_heads": 2}
SMALL = PLLAVA | {"vision_config": SMALL_EYES, "text_config": SMALL_WORDS, "vocab_size": 90}
INSIDE = "language_model.base_model.model."


@pytest.mark.filterwarnings("error::UserWarning")
def test_released_settings_are_the_card() -> None:
    assert_is_card(PLLAVA, "pllava-7b")
    tiles = AnyRes(
        tile=336, pinpoints=((336, 672),)
    )  # preprocessor_config.json of LLaVA-NeXT, which it was trained from
    read = read_system(PLLAVA, name="x", geometry=tiles).card
    assert read.branch().geometry == card("pllava-7b").branch().geometry


def test_another_pooling_is_refused() -> None:
    for change in ({"pooling_method": "max"}, {"use_pooling": False}):
        with pytest.raises(UnknownName, match="pooling_method"):
            read_system(PLLAVA | change, name="x")


def folder_of(where: Path, *, bases: bool = True) -> dict[str, torch.Tensor]:
    """As peft 0.10 saves a wrapped language model."""
    torch.manual_seed(1)
    reading = read_system(SMALL, name="small")
    state = state_tensors(build(reading.card, seed=3))
    found: dict[str, torch.Tensor] = {}
    for name, lazy in to_published(state, reading.namings[0]).items():
        value = lazy.load().contiguous()
        inside = INSIDE + name.removeprefix("language_model.") if name.startswith("language_model.") else name
        layer = inside.removesuffix(".weight")
        if not layer.endswith(("q_proj", "v_proj")) or not inside.startswith(INSIDE):
            found[inside] = value
            continue
        found |= {f"{layer}.base_layer.weight": value} if bases else {}
        found[f"{layer}.lora_A.default.weight"] = torch.randn(8, value.shape[1])
        found[f"{layer}.lora_B.default.weight"] = torch.randn(value.shape[0], 8)
    where.mkdir()
    save_file(found, where / "model.safetensors")
    (where / "config.json").write_text(json.dumps(SMALL))
    return found


def test_changes_are_multiplied_in(tmp_path: Path) -> None:
    found = folder_of(tmp_path / "in")
    base = state_tensors(build(read_system(SMALL, name="small").card, seed=3))
    pipeline = load(tmp_path / "in", dtype=torch.float32)
    state = state_tensors(pipeline.model)
    for name, value in base.items():
        part = name.removeprefix("languages.main.blocks.").split(".")
        if "languages" not in name or part[1:3] not in (["attn", "q"], ["attn", "v"]):
            assert torch.equal(state[name], value), name
            continue
        layer = f"{INSIDE}model.layers.{part[0]}.self_attn.{part[2]}_proj.lora_"
        change = found[f"{layer}B.default.weight"] @ found[f"{layer}A.default.weight"] * (4 / 8)
        assert torch.allclose(state[name], value + change, atol=1e-6)
        assert not torch.allclose(state[name], value)
    again = state_tensors(load(pipeline.export(tmp_path / "back"), dtype=torch.float32).model)
    assert all(torch.equal(again[name], value) for name, value in state.items())
    assert set(published_names(SMALL, "multi_modal_projector.")) == {
        f"linear_{n}.{leaf}" for n in (1, 2) for leaf in ("weight", "bias")
    }


def test_adapters_without_their_matrices_are_refused(tmp_path: Path) -> None:
    folder_of(tmp_path / "in", bases=False)
    with pytest.raises(WeightsError, match=r"self_attn\.q_proj\.weight without its matrix"):
        load(tmp_path / "in")
