"""Config files of decoders: older forms, and what cannot be."""

from __future__ import annotations

import json
import subprocess
import warnings
from pathlib import Path
from typing import Any

import pytest

from beholder.errors import BeholderError, UnknownName
from beholder.weights.readers.systems import read_system


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"model_type": "gemma2", "num_hidden_layers": 2, "layer_types": ["full_attention"]}, "layer_types"),
        ({"model_type": "gemma", "use_bidirectional_attention": True}, "only causal text"),
        ({"model_type": "smollm3", "num_hidden_layers": 2, "no_rope_layers": [1]}, "no_rope_layers has 1"),
        ({"model_type": "olmo", "clip_qkv": -1.0}, "clip_qkv"),
        ({"model_type": "cohere", "logit_scale": 0.0}, "logit_scale"),
        ({"model_type": "phi3", "rope_scaling": {"type": "longrope"}}, "short_factor is missing"),
        (
            {"model_type": "phi3", "rope_scaling": {"type": "su", "short_factor": [0], "long_factor": [1]}},
            "numbers above 0",
        ),
        (
            {"model_type": "phi3", "rope_scaling": {"type": "su", "short_factor": [1], "long_factor": [1]}},
            "heads have 48",
        ),
        (
            {"model_type": "qwen2_vl_text", "rope_scaling": {"mrope_section": [16, 24]}},
            "mrope_section is for 40",
        ),
        ({"model_type": "qwen2_vl_text", "rope_scaling": {"mrope_section": [64, 0, 0]}}, "above 0"),
        ({"model_type": "chatglm", "position_encoding_2d": True}, "multi_query_group_num is missing"),
        (
            {"model_type": "chatglm", "multi_query_group_num": 2, "padded_vocab_size": 9, "rmsnorm": False},
            "rmsnorm",
        ),
        ({"model_type": "internlm", "rotary": {"type": "spiral"}}, "origin or dynamic"),
        ({"model_type": "baichuan", "vocab_size": 125696}, "only the first"),
        ({"model_type": "baichuan", "model_max_length": 4096}, "only the first"),
        ({"model_type": "minicpm", "scale_depth": 0}, "scale_depth"),
        ({"model_type": "phi-msft", "rotary_dim": 96}, "cannot turn"),
        ({"model_type": "ministral3", "rope_parameters": {"rope_type": "default"}}, "llama_4_scaling_beta"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(config: dict[str, Any], words: str) -> None:
    with pytest.raises((BeholderError, UnknownName), match=words) as caught:
        read_system(config, name="x")
    assert "\n" not in str(caught.value)


LONG_FACTORS = {"short_factor": [1.0] * 48, "long_factor": [2.0] * 48}
PHI_3_LONG = {
    "model_type": "phi3",
    "max_position_embeddings": 131072,
    "original_max_position_embeddings": 4096,
    "sliding_window": 262144,
}
YARN = {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768}
OLDER: list[dict[str, Any]] = [  # forms of files from before `rope_parameters` and `layer_types`
    {**PHI_3_LONG, "rope_scaling": {**LONG_FACTORS, "type": "yarn"}},
    {
        **PHI_3_LONG,
        "rope_scaling": {"type": "longrope", "short_factor": [1.0] * 36, "long_factor": [2.0] * 36},
        "partial_rotary_factor": 0.75,
    },
    {"model_type": "phi", "partial_rotary_factor": 0.4, "rope_theta": 10000.0, "rope_scaling": None},
    {"model_type": "stablelm", "partial_rotary_factor": 0.5, "rope_theta": 20000},
    {
        "model_type": "gemma3_text",
        "rope_theta": 1000000,
        "rope_local_base_freq": 20000.0,
        "rope_scaling": {"rope_type": "linear", "factor": 8.0},
        "sliding_window_pattern": 3,
    },
    {
        "model_type": "gemma2",
        "query_pre_attn_scalar": 144,
        "num_hidden_layers": 7,
        "attn_logit_softcapping": None,
    },
    {"model_type": "gemma", "hidden_act": "gelu"},
    {
        "model_type": "olmo3",
        "rope_theta": 500000,
        "rope_scaling": {"rope_type": "yarn", "factor": 8.0, "original_max_position_embeddings": 8192},
        "max_position_embeddings": 65536,
    },
    {
        "model_type": "cohere2",
        "rope_theta": 50000.0,
        "sliding_window_pattern": 3,
        "use_parallel_block": True,
        "num_hidden_layers": 9,
    },
    {"model_type": "cohere", "rope_theta": 8000000.0, "model_max_length": 131072},
    {"model_type": "qwen3", "rope_scaling": {**YARN, "rope_type": "yarn"}},
    {"model_type": "qwen2", "rope_theta": 1e6, "rope_scaling": YARN},
    {"model_type": "llama", "rope_scaling": {"type": "dynamic", "factor": 4.0}},
    {"model_type": "glm", "rope_theta": 5000000.0},
    {"model_type": "glm4", "partial_rotary_factor": 0.25},
    {
        "model_type": "smollm3",
        "no_rope_layer_interval": 3,
        "num_hidden_layers": 7,
        "use_sliding_window": True,
        "sliding_window": 32,
    },
    {"model_type": "nemotron", "partial_rotary_factor": 0.25, "num_key_value_heads": 8},
    {"model_type": "starcoder2", "use_bias": False, "sliding_window": 4096, "rope_theta": 999999.4420358813},
    {"model_type": "internlm3", "rope_scaling": {"rope_type": "dynamic", "factor": 6.0}, "rope_theta": 5e7},
    {
        "model_type": "hunyuan_v1_dense",
        "head_dim": 128,
        "rope_scaling": {"type": "dynamic", "alpha": 1000.0, "factor": 1.0, "beta_fast": 32, "beta_slow": 1},
    },
    {"model_type": "exaone4", "sliding_window_pattern": 3, "num_hidden_layers": 8},
]
OFFICIAL = """
import json, sys
from transformers import CONFIG_MAPPING
whole = [CONFIG_MAPPING[config["model_type"]].from_dict(config).to_dict() for config in json.load(sys.stdin)]
json.dump(whole, sys.stdout, default=str)
"""


@pytest.mark.filterwarnings("error::UserWarning")
def test_older_files_are_read_as_the_official_classes_read_them(oracle_python: Path) -> None:
    done = subprocess.run(
        [oracle_python, "-c", OFFICIAL], input=json.dumps(OLDER), capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    for older, whole in zip(OLDER, json.loads(done.stdout), strict=True):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # official files written anew keep fields that nobody reads
            official = read_system(whole, name="x").card
        assert read_system(older, name="x").card == official, older


def test_stablelm_under_its_older_type() -> None:
    """stabilityai/stablelm-3b-4e1t as first released."""
    older = {"rope_pct": 0.5, "norm_eps": 1e-4, "num_heads": 32, "rotary_scaling_factor": 1.0}
    newer = {"partial_rotary_factor": 0.5, "layer_norm_eps": 1e-4}
    files = [
        read_system({"model_type": kind, **given}, name="x").card
        for kind, given in (("stablelm_epoch", older), ("stablelm", newer))
    ]
    assert files[0] == files[1]


def test_windows_may_be_told_by_letters() -> None:
    """EXAONE 4 as released, which today's official class cannot read."""
    letters = {"model_type": "exaone4", "sliding_window_pattern": "LLLG"}
    assert read_system(letters, name="x").card == read_system({"model_type": "exaone4"}, name="x").card
