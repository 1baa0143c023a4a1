"""DeepSeek-VL's own files: names as its modules have them, values given back, colours, and the cards that are written here."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from beholder.errors import BeholderError, UnknownName
from beholder.media.geometry import CLIP_MEAN, CLIP_STD
from beholder.media.settings import geometry_from_official
from beholder.media.shapes import Inside
from beholder.model import build
from beholder.parts.blocks.attention import Attention
from beholder.weights.layout import to_own, to_published
from beholder.weights.lazy import lazy
from beholder.weights.load import state_shapes
from beholder.weights.open import folder_geometry
from beholder.weights.readers import deepseek_vl
from beholder.weights.readers.systems import read_system
from tests.weights.own_folders import assert_comes_back, assert_is_card, both, published_names

LOW = {
    "ckpt_path": "",
    "image_size": 384,
    "model_name": "siglip_large_patch16_384",
    "output_dim": 1024,
    "pixel_mean": [0.5, 0.5, 0.5],
    "pixel_std": [0.5, 0.5, 0.5],
    "select_feature": "same",
    "select_layer": -1,
}
HIGH = LOW | {
    "image_size": 1024,
    "model_name": "sam_b_downsample",
    "pixel_mean": list(CLIP_MEAN),
    "pixel_std": list(CLIP_STD),
}
ONE = {
    "image_size": 384,
    "model_name": "siglip_large_patch16_384",
    "select_feature": "same",
    "select_layer": -1,
}


def released(words: dict[str, Any], params: dict[str, Any], aligner: dict[str, Any]) -> dict[str, Any]:
    """MultiModalityConfig of deepseek_vl/models/modeling_vlm.py."""
    tower = "HybridVisionTower" if "high_res_cfg" in params else "CLIPVisionTower"
    return {
        "architectures": ["MultiModalityCausalLM"],
        "model_type": "multi_modality",
        "vision_config": {"cls": tower, "model_type": "vision", "params": params},
        "aligner_config": {"cls": "MlpProjector", "model_type": "aligner", "params": aligner},
        "language_config": {"model_type": "llama", "vocab_size": 102400} | words,
    }


TWO_MLP = {"depth": 2, "input_dim": 1024, "n_embed": 2048, "projector_type": "mlp_gelu"}
SPLIT = {"depth": 2, "input_dim": 1024, "n_embed": 4096, "projector_type": "low_high_hybrid_split_mlp_gelu"}
BOTH = {"concat_type": "tuple", "high_res_cfg": HIGH, "low_res_cfg": LOW}
CHAT_7B = released({"num_hidden_layers": 30, "max_position_embeddings": 4096}, BOTH, SPLIT)
CHAT_1B = released(
    {
        "hidden_size": 2048,
        "intermediate_size": 5632,
        "num_attention_heads": 16,
        "num_hidden_layers": 24,
        "max_position_embeddings": 16384,
    },
    ONE,
    TWO_MLP,
)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Encoders of the same names, and the settings that go with them."""
    eyes = deepseek_vl.WHOLES["siglip_large_patch16_384"].but(
        dim=32, num_layers=3, attention=Attention(2, qkv_bias=True, out_bias=True), **{"mlp.hidden": 48}
    )
    details = deepseek_vl.DETAILED["sam_b_downsample"].but(
        width=16, heads=2, hidden=24, num_layers=2, windowed=(0,), image_size=64, table=4, window=2, neck=8
    )
    monkeypatch.setitem(deepseek_vl.WHOLES, "siglip_large_patch16_384", eyes)
    monkeypatch.setitem(deepseek_vl.DETAILED, "sam_b_downsample", details)
    words = {"hidden_size": 48, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
    params = {"high_res_cfg": HIGH | {"image_size": 64}, "low_res_cfg": LOW | {"image_size": 32}}
    return released(words | {"vocab_size": 90}, params, SPLIT)


@pytest.mark.filterwarnings("error::UserWarning")
def test_released_files_are_the_cards() -> None:
    assert_is_card(CHAT_7B, "deepseek-vl-7b")
    read = read_system(CHAT_1B, name="small").card
    geometry = read.branch().geometry
    assert isinstance(geometry, Inside) and geometry.side == 384


def test_names_are_those_of_the_published_modules(small: dict[str, Any]) -> None:
    high = published_names(small, "vision_model.vision_tower_high.vision_tower.")
    blocks = ("norm1", "norm2", "attn.qkv", "attn.proj", "mlp.lin1", "mlp.lin2")
    convolutions = {"neck.0", "neck.2", "neck_hd.0", "neck_hd.2", "downsamples.0", "downsamples.1"}
    assert high == {"pos_embed", "hd_alpha_downsamples"} | {f"{name}.weight" for name in convolutions} | both(
        *("patch_embed.proj", "neck.1", "neck.3", "neck_hd.1", "neck_hd.3"),
        *(f"blocks.{n}.{part}" for n in range(2) for part in blocks),
    ) | {f"blocks.{n}.attn.rel_pos_{axis}" for n in range(2) for axis in "hw"}
    low = published_names(small, "vision_model.vision_tower_low.vision_tower.")
    layer = ("norm1", "norm2", "attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2")
    assert low == {"pos_embed"} | both(
        "patch_embed.proj", "norm", *(f"blocks.{n}.{part}" for n in range(3) for part in layer)
    )
    assert published_names(small, "aligner.") == both("high_up_proj", "low_up_proj", "layers.1")
    assert {"language_model.model.embed_tokens.weight", "language_model.lm_head.weight"} <= published_names(
        small
    )


def test_one_encoder_has_a_shorter_name(small: dict[str, Any]) -> None:
    small |= released(small["language_config"], ONE | {"select_layer": -2, "image_size": 32}, TWO_MLP)
    assert published_names(small, "aligner.") == both("layers.0", "layers.2")
    names = published_names(small, "vision_model.vision_tower.")
    assert {"blocks.1.norm1.weight", "norm.weight"} <= names and "blocks.2.norm1.weight" not in names


def test_values_come_back_and_a_folder_opens(small: dict[str, Any], tmp_path: Path) -> None:
    assert_comes_back(small, tmp_path)


def test_what_the_code_never_calls_is_left_out(small: dict[str, Any]) -> None:
    """SigLIP's pool and the norms of both towers lie in the released files."""
    reading = read_system(small, name="small")
    model = build(reading.card, device="meta")
    published = dict(to_published(model.state_dict(), reading.namings[0]))
    for key in (
        "vision_model.high_layer_norm.weight",
        "vision_model.low_layer_norm.bias",
        "vision_model.vision_tower_low.vision_tower.attn_pool.latent",
        "vision_model.vision_tower_low.vision_tower.attn_pool.mlp.fc1.weight",
    ):
        published[key] = lazy(key, torch.zeros(3))
    assert set(to_own(published, reading.namings[0], state_shapes(model))) == set(model.state_dict())


def test_colours_are_those_of_the_towers(tmp_path: Path) -> None:
    processor = {
        "image_processor_type": "VLMImageProcessor",
        "background_color": [127, 127, 127],
        "do_normalize": False,
        "image_mean": None,
        "image_size": 1024,
        "image_std": None,
        "min_size": 14,
        "processor_class": "VLChatProcessor",
        "rescale_factor": 1 / 255,
    }
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(processor))
    assert folder_geometry(tmp_path, CHAT_7B) == read_system(CHAT_7B, name="x").card.branch().geometry
    with pytest.raises(BeholderError, match="set do_normalize to false"):
        geometry_from_official(processor | {"do_normalize": True}, CHAT_7B)
    half = {"do_normalize": True, "image_size": 384, "image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    one = geometry_from_official(processor | half, CHAT_1B)
    assert one == Inside(side=384, background=(127, 127, 127))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"gen_vision_config": {}}, "Janus"),
        ({"vision_config": {"cls": "Other", "params": {}}}, "Other"),
        (released({}, ONE | {"model_name": "eva"}, TWO_MLP), "eva"),
        (released({}, ONE | {"select_layer": 30}, TWO_MLP), "select_layer is 30"),
        (released({}, ONE, SPLIT), "low_high_hybrid_split_mlp_gelu"),
        (released({}, BOTH, SPLIT | {"depth": 3}), "depth is 3"),
        (released({}, BOTH | {"high_res_cfg": HIGH | {"image_size": 512}}, SPLIT), "image_size is 512"),
    ],
)
def test_what_is_not_known_is_refused(change: dict[str, Any], says: str) -> None:
    with pytest.raises((BeholderError, UnknownName), match=says):
        read_system(CHAT_7B | change, name="x")
