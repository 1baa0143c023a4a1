"""Monkey's own files: names as its modules have them, values given back, and the card that is written here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import beholder
from beholder.cards import card
from beholder.errors import BeholderError, UnknownName
from beholder.model import build
from beholder.weights.layout import to_published
from beholder.weights.readers.systems import read_system
from tests.weights.own_folders import assert_comes_back, assert_is_card, both, published_names

# monkey_model/config.json of Yuliang-Liu/Monkey
QWEN: dict[str, Any] = {
    "architectures": ["MonkeyLMHeadModel"],
    "model_type": "monkey",
    "bf16": True,
    "kv_channels": 128,
    "max_position_embeddings": 8192,
    "no_bias": True,
    "onnx_safe": None,
    "rotary_emb_base": 10000,
    "rotary_pct": 1.0,
    "seq_length": 2048,
    "tie_word_embeddings": False,
    "tokenizer_type": "QWenTokenizer",
    "use_dynamic_ntk": True,
    "use_logn_attn": True,
}
EYES = {
    "image_size": 896,
    "image_start_id": 151857,
    "mlp_ratio": 4.9231,
    "patch_size": 14,
    "lora_repeat_num": 4,
}
RELEASED = QWEN | {
    "visual": EYES | {"heads": 16, "layers": 48, "output_dim": 4096, "width": 1664},
    "hidden_size": 4096,
    "intermediate_size": 22016,
    "layer_norm_epsilon": 1e-06,
    "num_attention_heads": 32,
    "num_hidden_layers": 32,
    "vocab_size": 151936,
}
SMALL = QWEN | {
    "visual": EYES | {"heads": 2, "layers": 2, "output_dim": 128, "width": 32, "n_queries": 4},
    "hidden_size": 128,
    "intermediate_size": 96,
    "kv_channels": 64,
    "num_attention_heads": 2,
    "num_hidden_layers": 1,
    "vocab_size": 90,
}


@pytest.mark.filterwarnings("error::UserWarning")
def test_the_released_file_is_the_card() -> None:
    assert_is_card(RELEASED, "monkey-10b")


def test_names_are_those_of_the_published_modules() -> None:
    names = published_names(SMALL, "transformer.visual.transformer.resblocks.1.")
    changes = {
        f"{part}_lora.{tile}.lora_{leaf}"
        for part in ("attn.in_proj", "attn.out_proj", "mlp")
        for tile in range(4)
        for leaf in ("a.weight", "b.weight", "scale")
    }
    assert names == changes | both("ln_1", "ln_2", "attn.in_proj", "attn.out_proj", "mlp.c_fc", "mlp.c_proj")
    whole = published_names(SMALL)
    assert {"lm_head.weight", "transformer.visual.proj", "transformer.visual.attn_pool.query"} <= whole


def test_values_come_back_and_a_folder_opens(tmp_path: Path) -> None:
    assert_comes_back(SMALL, tmp_path)


def test_changes_of_q_k_and_v_alternate_head_by_head() -> None:
    """The first head's q, k and v come before the second's, as the official `view(heads, 3 * width)` has them."""
    reading = read_system(SMALL, name="small")
    state = build(reading.card, seed=3).state_dict()
    own_OR = state["branches.image.vision.tiles.2.0.qkv.b.weight"]
    published = to_published(state, reading.namings[0])
    key = "transformer.visual.transformer.resblocks.0.attn.in_proj_lora.2.lora_b.weight"
    q, k, v = own_OR.chunk(3)
    assert torch.equal(published[key].load(), torch.cat([x[h : h + 16] for h in (0, 16) for x in (q, k, v)]))


# what finetune_multitask_dialouge_doc.py writes with the settings of finetune/finetune_textmonkey.sh
WINDOWED = {
    "image_size": [896, 896],
    "lora_repeat_num": 0,
    "add_window": True,
    "use_global": True,
    "resampler": True,
    "r": 512,
    "n_queries": 768,
}
TEXT = SMALL | {
    "architectures": ["TextMonkeyLMHeadModel"],
    "visual": SMALL["visual"] | WINDOWED | {"layers": 48},  # windows are before number 46
}


def test_textmonkeys_settings_are_the_card() -> None:
    assert_is_card(RELEASED | {"visual": RELEASED["visual"] | WINDOWED}, "textmonkey-10b")


def test_textmonkeys_names_are_those_of_the_published_modules() -> None:
    names = published_names(TEXT, "transformer.visual.")
    blocks = {name for name in names if name.startswith("transformer.resblocks.5.")}
    block = both("ln_1", "ln_2", "attn.in_proj", "attn.out_proj", "mlp.c_fc", "mlp.c_proj")
    assert blocks == {f"transformer.resblocks.5.{name}" for name in block}
    inner = both("norm1", "norm2", "attn.qkv", "attn.proj") | {
        "downsample.weight",
        "attn.relative_position_bias_table",
        "mlp.fc1.weight",
        "mlp.fc2.weight",
        "mlp.scale",
    }
    windows = {name for name in names if "window_attention" in name}
    assert windows == {
        f"transformer.window_attention.{number}.{name}"
        for number in range(4)
        for name in ("position_embedding", *(f"shift_attn.{name}" for name in inner))
    }
    layer = both("0.norm_media", "0.norm_latents", "1.norm") | {"1.scale"}
    layer |= {f"{name}.weight" for name in ("0.to_q", "0.to_kv", "0.to_out", "1.fc1", "1.fc2")}
    kept = {name for name in names if name.startswith("downresampler.")}
    assert kept == {
        "downresampler.downsample.weight",
        *(f"downresampler.layers.0.{name}" for name in layer),
    }
    assert {"attn_pool.query", "attn_pool.pos_embed", "ln_post.weight", "proj", "conv1.weight"} <= names
    model = build(read_system(TEXT, name="small").card, device="meta")
    window = model.branches["image"].vision.windows[1]
    assert window.places.shape == (64 * 64, 32) and window.bias.table.shape == (23 * 23, 8)


def test_textmonkeys_values_come_back_and_a_folder_opens(tmp_path: Path) -> None:
    assert_comes_back(TEXT, tmp_path)


def test_textmonkeys_picture_is_768_tokens() -> None:
    plan = beholder.plan(card("textmonkey-10b"), [np.zeros((300, 500, 3), np.uint8)])
    assert plan.image_tokens == 512 + 256


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"resampler": False}, "resampler is False"),
        ({"lora_repeat_num": 4}, "lora_repeat_num is 4"),
        ({"n_queries": 256}, "n_queries is 256; expected .* 768"),
        ({"image_size": 900}, "image_size is 900"),
    ],
)
def test_a_textmonkey_that_sees_otherwise_is_refused(change: dict[str, Any], says: str) -> None:
    with pytest.raises(BeholderError, match=says):
        read_system(TEXT | {"visual": TEXT["visual"] | change}, name="small")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"architectures": ["MonkeyForAnything"]}, "MonkeyForAnything"),
        ({"visual": EYES | {"lora_repeat_num": 3}}, "lora_repeat_num 3"),
        ({"visual": EYES | {"image_size": 900}}, "image_size is 900"),
    ],
)
def test_what_is_not_known_is_refused(change: dict[str, Any], says: str) -> None:
    with pytest.raises((BeholderError, UnknownName), match=says):
        read_system(SMALL | change, name="small")
