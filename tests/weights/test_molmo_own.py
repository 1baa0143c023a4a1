"""Molmo's own files of 2024: names as its modules have them, values given back, and the cards that are written here."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from beholder.cards import card
from beholder.errors import BeholderError
from beholder.media.geometry import CLIP_MEAN, CLIP_STD
from beholder.model import build
from beholder.parts.blocks.attention import Attention
from beholder.parts.vision.vit import Take
from beholder.weights.layout import to_published
from beholder.weights.open import folder_geometry
from beholder.weights.readers import molmo_first
from beholder.weights.readers.systems import read_system
from tests.weights.own_folders import assert_comes_back, assert_is_card, both, published_names

# The fields that olmo/hf_molmo.py of allenai/molmo reads; numbers: launch_scripts/utils.py there
QWEN2_7B: dict[str, Any] = {
    "architectures": ["MolmoForCausalLM"],
    "model_type": "molmo",
    "attention_layer_norm": False,
    "clip_qkv": None,
    "embedding_size": 152064,
    "hidden_size": 3584,
    "intermediate_size": 37888,
    "layer_norm_eps": 1e-06,
    "layer_norm_type": "rms",
    "max_position_embeddings": 4096,
    "norm_after": False,
    "num_attention_heads": 28,
    "num_hidden_layers": 28,
    "num_key_value_heads": 4,
    "qkv_bias": True,
    "rope_theta": 1000000.0,
    "tie_word_embeddings": False,
    "use_cache": True,
    "use_position_ids": True,
    "vocab_size": 152064,
    "weight_tying": False,
}
OLMO_7B = QWEN2_7B | {
    "attention_layer_norm": True,
    "embedding_size": 100352,
    "hidden_size": 4096,
    "intermediate_size": 22016,
    "norm_after": True,
    "num_attention_heads": 32,
    "num_hidden_layers": 32,
    "num_key_value_heads": 32,
    "qkv_bias": False,
    "rope_theta": 500000.0,
    "vocab_size": 100278,
}
# config.json of allenai/MolmoE-1B-0924, without what training alone reads
MOLMO_E: dict[str, Any] = {
    "architectures": ["OLMoForCausalLM"],
    "model_type": "molmo",
    "activation_type": "swiglu",
    "additional_vocab_size": 128,
    "alibi": False,
    "attention_layer_norm": True,
    "block_type": "moe",
    "clip_qkv": None,
    "crop_mode": "overlap-and-resize-c2",
    "d_model": 2048,
    "embedding_size": 50304,
    "image_padding_embed": "pad_and_partial_pad",
    "image_pooling_2d": "attention-meanq",
    "image_pooling_h": 2,
    "image_projector": "mlp",
    "include_bias": False,
    "init_device": "meta",
    "layer_norm_eps": 1e-05,
    "layer_norm_type": "rms",
    "max_position_embeddings": 32768,
    "max_sequence_length": 4096,
    "mlp_hidden_size": None,
    "mlp_ratio": 1,
    "moe_interleave": False,
    "moe_num_experts": 64,
    "moe_shared_expert": False,
    "moe_top_k": 8,
    "n_heads": 16,
    "n_kv_heads": None,
    "n_layers": 16,
    "norm_after": False,
    "normalize_input_embeds": False,
    "qkv_bias": False,
    "rope": True,
    "rope_impl": "llama",
    "rope_theta": 10000.0,
    "scale_logits": False,
    "use_cls_feature": False,
    "use_position_ids": True,
    "vision_backbone": {
        "image_default_input_size": [336, 336],
        "image_emb_dim": 1024,
        "image_head_dim": 64,
        "image_mlp_activations": "quick_gelu",
        "image_mlp_dim": 4096,
        "image_model_type": "openai",
        "image_num_heads": 16,
        "image_num_layers": 23,
        "image_num_pos": 577,
        "image_patch_size": 14,
    },
    "vit_layers": [-2, -9],
    "vocab_size": 50280,
    "weight_tying": False,
}
EYES_E = MOLMO_E["vision_backbone"] | {"image_emb_dim": 24, "image_mlp_dim": 40, "image_num_heads": 2}
SMALL_E = MOLMO_E | {"d_model": 32, "embedding_size": 90, "n_heads": 2, "n_layers": 2, "vocab_size": 88}
SMALL_E |= {
    "mlp_ratio": 2,
    "moe_num_experts": 4,
    "moe_top_k": 2,
    "vision_backbone": EYES_E | {"image_num_layers": 3},
}
SIZES = {"embedding_size": 90, "vocab_size": 88, "hidden_size": 32, "intermediate_size": 96}
SIZES |= {"num_attention_heads": 2, "num_hidden_layers": 2, "num_key_value_heads": 1}
SMALL, SMALL_AFTER = QWEN2_7B | SIZES, OLMO_7B | SIZES | {"num_key_value_heads": 2}


@pytest.fixture(autouse=True)
def small_eyes(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """The code alone has the encoder's numbers."""
    if "released" not in request.node.name:
        heads = Attention(2, qkv_bias=True, out_bias=True)
        eyes = molmo_first.EYES.but(
            dim=24, num_layers=3, attention=heads, take=Take((-2, -3), norm=False), **{"mlp.hidden": 40}
        )
        monkeypatch.setattr(molmo_first, "EYES", eyes)


@pytest.mark.filterwarnings("error::UserWarning")
@pytest.mark.parametrize(
    ("name", "config"), [("molmo-7b-d", QWEN2_7B), ("molmo-7b-o", OLMO_7B), ("molmoe-1b", MOLMO_E)]
)
def test_released_files_are_the_cards(name: str, config: dict[str, Any]) -> None:
    assert_is_card(config, name)


def test_names_are_those_of_the_published_modules() -> None:
    eyes = published_names(SMALL, "model.vision_backbone.")
    layer = ("attention_norm", "ffn_norm", "feed_forward.w1", "feed_forward.w2")
    layer += tuple(f"attention.w{key}" for key in "qkvo")
    assert eyes == {
        "pad_embed",
        *(f"image_projector.w{n}.weight" for n in (1, 2, 3)),
        *both(*(f"image_pooling_2d.w{key}" for key in "qkvo")),
        *(
            f"image_vit.{name}"
            for name in ("class_embedding", "positional_embedding", "patch_embedding.weight")
        ),
        *both(
            "image_vit.pre_ln",
            *(f"image_vit.transformer.resblocks.{n}.{part}" for n in range(3) for part in layer),
        ),
    }
    parts = {
        f"{name}.weight" for name in ("att_proj", "attn_out", "ff_proj", "ff_out", "attn_norm", "ff_norm")
    }
    words = {"wte.embedding", "wte.new_embedding", "ln_f.weight", "ff_out.weight"}
    for config, further in ((SMALL, {"att_proj.bias"}), (SMALL_AFTER, {"q_norm.weight", "k_norm.weight"})):
        names = {f"blocks.{n}.{part}" for n in range(2) for part in parts | further}
        assert published_names(config, "model.transformer.") == names | words


def test_names_of_experts_are_those_of_modeling_molmoe() -> None:
    attn = {f"attn.{name}.weight" for name in ("att_proj", "attn_out", "attn_norm", "q_norm", "k_norm")}
    experts = {f"mlp.experts.{n}.{name}_proj.weight" for n in range(4) for name in ("gate", "up", "down")}
    layer = attn | experts | {"mlp.gate.weight", "mlp.ff_norm.weight"}
    words = {"wte.embedding", "wte.new_embedding", "ln_f.weight", "ff_out.weight"}
    found = published_names(SMALL_E, "model.transformer.")
    assert found == {f"blocks.{n}.{name}" for n in range(2) for name in layer} | words
    assert published_names(SMALL_E, "model.vision_backbone.") == published_names(
        SMALL, "model.vision_backbone."
    )


def test_values_and_gates_and_tables() -> None:
    """`SwiGLU` of olmo/model.py gates with the second half; new words have a table of their own."""
    reading = read_system(SMALL, name="small")
    state = build(reading.card, seed=3).state_dict()
    published = {name: value.load() for name, value in to_published(state, reading.namings[0]).items()}
    up, gate = (state[f"languages.main.blocks.1.mlp.{half}.weight"] for half in ("up", "gate"))
    assert torch.equal(published["model.transformer.blocks.1.ff_proj.weight"], torch.cat((up, gate)))
    tables = [published[f"model.transformer.wte.{name}"] for name in ("embedding", "new_embedding")]
    assert [len(table) for table in tables] == [90, 128]
    assert torch.equal(torch.cat(tables), state["languages.main.embedding.weight"])


@pytest.mark.parametrize("config", [SMALL, SMALL_AFTER, SMALL_E])
def test_values_come_back_and_a_folder_opens(config: dict[str, Any], tmp_path: Path) -> None:
    assert_comes_back(config, tmp_path)


def test_the_processor_of_released_files(tmp_path: Path) -> None:
    settings = {
        "auto_map": {"AutoImageProcessor": "image_preprocessing_molmo.MolmoImageProcessor"},
        "base_image_input_size": [336, 336],
        "do_normalize": True,
        "image_mean": list(CLIP_MEAN),
        "image_std": list(CLIP_STD),
        "image_padding_mask": True,
        "image_patch_size": 14,
        "image_processor_type": "MolmoImageProcessor",
        "image_token_length_h": 12,
        "image_token_length_w": 12,
        "max_crops": 12,
        "overlap_margins": [4, 4],
        "processor_class": "MolmoProcessor",
    }
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(settings))
    assert folder_geometry(tmp_path, {}) == card("molmo-7b-d").branch().geometry
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(settings | {"overlap_margins": [4, 2]}))
    with pytest.raises(BeholderError, match="expected squares"):
        folder_geometry(tmp_path, {})


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (SMALL_E | {"moe_shared_expert": True}, "moe_shared_expert is True"),
        (SMALL_E | {"vit_layers": [-2]}, r"vit_layers is \[-2\]"),
        ({"hidden_size": None}, "hidden_size is missing"),
        ({"weight_tying": True}, "weight_tying is True"),
        ({"intermediate_size": 95}, "intermediate_size 95"),
        ({"layer_norm_type": "default"}, "layer_norm_type is 'default'"),
    ],
)
def test_what_was_not_released_is_refused(change: dict[str, Any], says: str) -> None:
    with pytest.raises(BeholderError, match=says):
        read_system(SMALL | change, name="small")
