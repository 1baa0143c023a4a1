"""Config readers: every number equal to the official config classes', old forms of files, and damaged ones."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from beholder.cards.schema import Card
from beholder.errors import BeholderError
from beholder.parts.blocks.rotary_scaling import Llama3Scaling
from beholder.parts.language.decoder import Decoder
from beholder.parts.language.text_encoder import TextEncoder
from beholder.parts.vision.vit import ViT
from beholder.weights.readers.systems import SYSTEMS, read_system

OFFICIAL = """
import json, sys
from transformers import CONFIG_MAPPING
configs = json.load(sys.stdin)
full = [CONFIG_MAPPING[config["model_type"]].from_dict(config).to_dict() for config in configs]
json.dump(full, sys.stdout, default=str)
"""
LLAVA_15 = {  # llava-hf/llava-1.5-7b-hf as released: what equals a default is left out
    "model_type": "llava",
    "image_token_index": 32000,
    "pad_token_id": 32001,
    "projector_hidden_act": "gelu",
    "text_config": {
        "model_type": "llama",
        "max_position_embeddings": 4096,
        "rms_norm_eps": 1e-05,
        "vocab_size": 32064,
    },
    "tie_word_embeddings": False,
    "vision_config": {
        "hidden_size": 1024,
        "image_size": 336,
        "intermediate_size": 4096,
        "model_type": "clip_vision_model",
        "num_attention_heads": 16,
        "num_hidden_layers": 24,
        "patch_size": 14,
        "projection_dim": 768,
        "vocab_size": 32000,
    },
    "vision_feature_layer": -2,
    "vision_feature_select_strategy": "default",
    "vocab_size": 32064,
}
SMOLVLM_256M = {  # HuggingFaceTB/SmolVLM-256M-Instruct: the encoder has the system's own type
    "model_type": "idefics3",
    "image_token_id": 49190,
    "scale_factor": 4,
    "text_config": {
        "model_type": "llama",
        "head_dim": 64,
        "hidden_size": 576,
        "intermediate_size": 1536,
        "max_position_embeddings": 8192,
        "num_attention_heads": 9,
        "num_hidden_layers": 30,
        "num_key_value_heads": 3,
        "rms_norm_eps": 1e-05,
        "rope_theta": 100000,
        "vocab_size": 49280,
    },
    "vision_config": {
        "hidden_size": 768,
        "image_size": 512,
        "max_image_size": {"longest_edge": 512},
        "model_type": "idefics3",
        "num_attention_heads": 12,
        "patch_size": 16,
        "size": {"longest_edge": 2048},
        "tie_word_embeddings": False,
        "use_base_siglip": True,
    },
}
LLAMA_3_ROPE = {"rope_type": "llama3", "factor": 32, "low_freq_factor": 1, "high_freq_factor": 4}
FIRST = ("clip", "idefics3", "llama", "llava", "llava_next", "mistral", "qwen2", "siglip", "smolvlm")
SPARSE: list[dict[str, Any]] = [
    *({"model_type": kind} for kind in FIRST),
    LLAVA_15,
    SMOLVLM_256M,
    {"model_type": "llava", "text_config": {"model_type": "mistral"}},
    {"model_type": "llava", "text_config": {"model_type": "qwen2", "tie_word_embeddings": True}},
    {"model_type": "llava", "vision_config": {}},
    {"model_type": "llava", "vision_config": {"hidden_size": 512, "num_attention_heads": 8}},
    {"model_type": "llava_next", "text_config": {}},
    {"model_type": "idefics3", "text_config": {}},
    {"model_type": "smolvlm", "vision_config": {}},
    {"model_type": "clip", "text_config_dict": {"vocab_size": 99}, "text_config": {"vocab_size": 77}},
    {"model_type": "siglip", "text_config": {"projection_size": 512}},
    {"model_type": "mistral", "num_attention_heads": 16, "sliding_window": None},
    {"model_type": "qwen2", "num_attention_heads": 64},
    {"model_type": "qwen2", "use_sliding_window": True, "num_hidden_layers": 30},
    {
        "model_type": "qwen2",
        "use_sliding_window": True,
        "num_hidden_layers": 2,
        "layer_types": ["sliding_attention"] * 2,
    },
    {"model_type": "llama", "num_attention_heads": 16, "attention_bias": True, "mlp_bias": True},
    {"model_type": "llama", "rope_theta": 500000, "rope_scaling": {"type": "linear", "factor": 4}},
    {"model_type": "llama", "max_position_embeddings": 4096, "rope_scaling": LLAMA_3_ROPE},
]
ACTS = {"gelu_tanh": "gelu_pytorch_tanh"}


def decoder_numbers(decoder: Decoder) -> dict[str, Any]:
    rotary = decoder.attention.rotary
    assert rotary is not None
    return {
        "vocab_size": decoder.vocab_size,
        "hidden_size": decoder.dim,
        "num_hidden_layers": decoder.num_layers,
        "num_attention_heads": decoder.attention.num_heads,
        "num_key_value_heads": decoder.attention.kv_heads,
        "intermediate_size": decoder.mlp.hidden,
        "hidden_act": decoder.mlp.act,
        "rms_norm_eps": decoder.norm.eps,
        "max_position_embeddings": decoder.context,
        "rope_theta": rotary.theta,
        "factor": rotary.scaling.factor if rotary.scaling else None,
        "original": rotary.scaling.original_length if isinstance(rotary.scaling, Llama3Scaling) else None,
        "windows": [layer.mixer.window for layer in decoder.layers],
    }


def official_decoder(full: dict[str, Any]) -> dict[str, Any]:
    rope, window = full["rope_parameters"], full.get("sliding_window")
    kinds = full.get("layer_types") or ["sliding_attention"] * full["num_hidden_layers"]
    return full | {
        "rope_theta": rope["rope_theta"],
        "factor": rope.get("factor"),
        "original": rope.get("original_max_position_embeddings") if rope["rope_type"] == "llama3" else None,
        "windows": [window if kind == "sliding_attention" else None for kind in kinds],
    }


def tower_numbers(tower: ViT | TextEncoder) -> dict[str, Any]:
    own = (
        {"image_size": tower.image_size, "patch_size": tower.patch}
        if isinstance(tower, ViT)
        else {"vocab_size": tower.vocab_size, "max_position_embeddings": tower.context}
    )
    return own | {
        "hidden_size": tower.dim,
        "num_hidden_layers": tower.num_layers,
        "num_attention_heads": tower.attention.num_heads,
        "intermediate_size": tower.mlp.hidden,
        "hidden_act": ACTS.get(tower.mlp.act, tower.mlp.act),
        "layer_norm_eps": tower.norm.eps,
    }


def differences(card: Card, full: dict[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    """(name, ours, official) of every number that differs."""
    pairs: list[tuple[dict[str, Any], dict[str, Any]]] = []
    for branch in card.branches:
        vit = branch.encoders[0]
        assert isinstance(vit, ViT)
        pairs.append((tower_numbers(vit), full.get("vision_config", full)))
    if isinstance(card.main, Decoder):
        top = {"tied": card.main.tied}, {"tied": full["tie_word_embeddings"]}
        pairs += [(decoder_numbers(card.main), official_decoder(full.get("text_config", full))), top]
    elif isinstance(card.main, TextEncoder):
        text = full.get("text_config", full)
        width = full.get("projection_dim") or text.get("projection_size")
        own = tower_numbers(card.main)
        pairs.append(
            (
                own | ({"width": card.main.projection} if "text_config" in full else {}),
                text | {"width": width},
            )
        )
    for ours, theirs in pairs:
        yield from ((key, value, theirs[key]) for key, value in ours.items() if value != theirs[key])


def test_every_number_is_the_official_one(oracle_python: Path) -> None:
    """Sparse files, as published: what they leave out is what the official config classes assume."""
    done = subprocess.run(
        [oracle_python, "-c", OFFICIAL], input=json.dumps(SPARSE), capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    for sparse, full in zip(SPARSE, json.loads(done.stdout), strict=True):
        card = read_system(sparse, name="x").card
        assert list(differences(card, full)) == [], sparse


def described(data: dict[str, Any]) -> Any:
    """The card as data, or why there is none: some official classes leave out what no model can do without."""
    try:
        return read_system(data, name="x").card.to_data()
    except BeholderError as error:
        return str(error)


KNOWN = """
import json, sys
from transformers import CONFIG_MAPPING
kinds = [kind for kind in json.load(sys.stdin) if kind in CONFIG_MAPPING]
json.dump({kind: CONFIG_MAPPING[kind]().to_dict() for kind in kinds}, sys.stdout, default=str)
"""


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_what_a_file_leaves_out_is_what_the_official_classes_assume(oracle_python: Path) -> None:
    """Every type that the official library knows: a file of nothing but the type is read like one of all its defaults."""
    done = subprocess.run(
        [oracle_python, "-c", KNOWN],
        input=json.dumps(list(SYSTEMS)),
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    official = json.loads(done.stdout)
    assert len(official) >= len(FIRST)
    wrong = {}
    for kind, full in official.items():
        sparse, filled = described({"model_type": kind}), described(full)
        if sparse != filled:
            wrong[kind] = (sparse, filled)
    assert not wrong


def test_only_llama_has_biases_to_choose() -> None:
    chosen = {"attention_bias": True, "mlp_bias": True}
    llama, mistral, qwen2 = (
        read_system({"model_type": kind, **given}, name="x").card.main
        for kind, given in (("llama", chosen), ("mistral", {}), ("qwen2", {}))
    )
    assert isinstance(llama, Decoder) and isinstance(mistral, Decoder) and isinstance(qwen2, Decoder)
    for decoder, want in (
        (llama, (True, True, True)),
        (mistral, (False,) * 3),
        (qwen2, (True, False, False)),
    ):
        assert (decoder.attention.qkv_bias, decoder.attention.out_bias, decoder.mlp.bias) == want
    with pytest.warns(UserWarning, match="not understood and ignored: attention_bias"):
        read_system({"model_type": "mistral", "attention_bias": True}, name="x")


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"model_type": "llama", "rope_scaling": {"type": "linear"}}, "factor is missing"),
        ({"model_type": "llama", "rope_scaling": {"type": "spiral"}}, "rope type 'spiral'"),
        ({"model_type": "llama", "num_hidden_layers": 10**9}, "expected 1 to 4096"),
        ({"model_type": "llava", "vision_feature_layer": 99}, "no features at depths"),
        ({"model_type": "llava", "vision_feature_layer": "last"}, "vision_feature_layer"),
        (
            {
                "model_type": "qwen2",
                "use_sliding_window": True,
                "layer_types": ["sliding_attention", "full_attention"],
            },
            "layer_types",
        ),
    ],
)
def test_settings_that_cannot_be_kept_are_refused(config: dict[str, Any], words: str) -> None:
    with pytest.raises(BeholderError, match=words):
        read_system(config, name="x")


JUNK = (None, True, -1, 0, 1e300, float("nan"), "x", [], [1], {}, {"a": 1}, 10**30)


@pytest.mark.parametrize("base", [LLAVA_15, SMOLVLM_256M, *SPARSE[: len(SYSTEMS)]])
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_damaged_values_are_one_line_errors(base: dict[str, Any]) -> None:
    """Any value in any place is read or refused as a `BeholderError`, and never anything else."""
    keys = {
        "hidden_size",
        "head_dim",
        "rope_scaling",
        "rope_parameters",
        "rope_theta",
        "layer_types",
        "num_hidden_layers",
    }
    keys |= {
        "sliding_window",
        "max_window_layers",
        "image_size",
        "hidden_act",
        "eos_token_id",
        "model_type",
        "vocab_size",
    }
    keys |= {
        "layer_norm_eps",
        "text_config",
        "vision_config",
        "vision_feature_layer",
        "projection_dim",
        "scale_factor",
    }
    keys |= set(base)
    for key in keys:
        for value in JUNK:
            for part in (None, "text_config", "vision_config"):
                damaged = json.loads(json.dumps(base))
                inner = damaged if part is None else damaged.setdefault(part, {})
                inner[key] = value
                try:
                    read_system(damaged, name="x")
                except BeholderError as error:
                    assert "\n" not in str(error)
