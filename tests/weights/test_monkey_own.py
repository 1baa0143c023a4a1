"""Monkey's own files: names as its modules have them, values given back, and the card that is written here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

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


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"architectures": ["TextMonkeyLMHeadModel"]}, "TextMonkeyLMHeadModel"),
        ({"visual": EYES | {"lora_repeat_num": 3}}, "lora_repeat_num 3"),
        ({"visual": EYES | {"image_size": 900}}, "image_size is 900"),
    ],
)
def test_what_is_not_known_is_refused(change: dict[str, Any], says: str) -> None:
    with pytest.raises((BeholderError, UnknownName), match=says):
        read_system(SMALL | change, name="small")
