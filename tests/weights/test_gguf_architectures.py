"""GGUF files of every architecture that is read, made of official tiny checkpoints as llama.cpp's converters make them:
names by the `gguf` package's own map, values changed as in conversion/*.py.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from beholder.errors import BeholderError
from beholder.model import Batch, build
from beholder.weights.files import open_weights
from beholder.weights.gguf_files import read_metadata
from beholder.weights.open import open_gguf_file
from beholder.weights.readers.gguf import ARCHITECTURES, gguf_card

Numbers = dict[str, Any]
COUNTS = {
    "block_count": ("num_hidden_layers", "n_layer", "n_layers"),
    "context_length": ("max_position_embeddings", "n_positions", "max_seq_len"),
    "embedding_length": ("hidden_size", "n_embd", "d_model"),
    "attention.head_count": ("num_attention_heads", "n_head", "n_heads"),
    "attention.head_count_kv": ("num_key_value_heads",),
    "feed_forward_length": ("intermediate_size", "ffn_hidden_size"),
    "attention.layer_norm_rms_epsilon": ("rms_norm_eps",),
    "attention.layer_norm_epsilon": ("layer_norm_epsilon", "layer_norm_eps", "norm_epsilon"),
    "attention.key_length": ("head_dim",),
    "attn_logit_softcapping": ("attn_logit_softcapping",),
    "final_logit_softcapping": ("final_logit_softcapping",),
    "attention.sliding_window": ("sliding_window",),
    "attention.scale": ("attention_multiplier",),
    "embedding_scale": ("embedding_multiplier",),
    "residual_scale": ("residual_multiplier",),
    "logit_scale": ("logits_scaling", "logit_scale"),
    "use_parallel_residual": ("use_parallel_residual",),
}


def numbers_of(config: Numbers) -> Numbers:
    """What the converters write for this config."""
    numbers = {
        key: config[name] for key, names in COUNTS.items() for name in names if config.get(name) is not None
    }
    width = numbers["embedding_length"] // numbers["attention.head_count"]
    numbers.setdefault("feed_forward_length", 4 * numbers["embedding_length"])
    numbers.setdefault("context_length", 2048)
    rope = config.get("rope_parameters", {})
    rope = rope.get("full_attention", rope)
    if rope:
        numbers["rope.freq_base"] = rope["rope_theta"]
        numbers["rope.dimension_count"] = int(
            config.get("head_dim", width) * rope.get("partial_rotary_factor", 1.0)
        )
    if rope.get("rope_type") in ("linear", "yarn"):
        numbers["rope.scaling.type"], numbers["rope.scaling.factor"] = rope["rope_type"], rope["factor"]
    if "original_max_position_embeddings" in rope:
        numbers["rope.scaling.original_context_length"] = rope["original_max_position_embeddings"]
    return numbers


def by_head(tensor: Tensor, config: Numbers) -> Tensor:
    """Fused rows sorted into queries, keys, values."""
    heads = config.get("num_attention_heads") or config["n_head"]
    keys = 1 if config.get("multi_query") else heads
    keys = config["num_kv_heads"] if config.get("new_decoder_architecture") else keys
    grouped = tensor.view(keys, heads // keys + 2, -1, *tensor.shape[1:])
    parts = (grouped[:, :-2], grouped[:, -2:-1], grouped[:, -1:])
    return torch.cat([part.reshape(-1, *tensor.shape[1:]) for part in parts])


def permuted(tensor: Tensor, heads: int) -> Tensor:
    return tensor.view(heads, 2, -1, *tensor.shape[1:]).transpose(1, 2).reshape(tensor.shape)


def converted(architecture: str, name: str, tensor: Tensor, config: Numbers) -> Tensor:
    if architecture == "gpt2" and name.endswith(("c_attn.weight", "c_proj.weight", "c_fc.weight")):
        return tensor.T
    if architecture.startswith("gemma") and name.endswith("norm.weight"):
        return tensor + 1
    if architecture in ("falcon", "bloom", "gptneox") and "query_key_value" in name:
        return by_head(tensor, config)
    if architecture in ("llama", "granite", "arcee") and "q_proj" in name:
        return permuted(tensor, config["num_attention_heads"])
    if architecture in ("llama", "granite", "arcee") and "k_proj" in name:
        return permuted(tensor, config["num_key_value_heads"])
    return tensor


def llama3_factors(config: Numbers) -> Tensor:
    rope, factors = config["rope_parameters"], []
    length, low, high = (
        rope[key] for key in ("original_max_position_embeddings", "low_freq_factor", "high_freq_factor")
    )
    for i in range(0, config["head_dim"], 2):
        turns = length / (2 * math.pi * rope["rope_theta"] ** (i / config["head_dim"]))
        smooth = min(max((turns - low) / (high - low), 0.0), 1.0)
        factors.append(1 / ((1 - smooth) / rope["factor"] + smooth))
    return torch.tensor(factors)


def write(path: Path, source: Path, architecture: str, **more: Any) -> None:
    config = json.loads((source / "config.json").read_text(encoding="utf-8"))
    weights = load_file(source / "model.safetensors")
    writer = gguf.GGUFWriter(path, architecture)
    numbers = {**numbers_of(config), **more}
    for key, value in numbers.items():
        add = {
            bool: writer.add_bool,
            int: writer.add_uint32,
            float: writer.add_float32,
            str: writer.add_string,
            list: writer.add_array,
        }
        add[type(value)](f"{architecture}.{key}", value)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list([*(chr(code) for code in range(256, 512)), *(f"<{i}>" for i in range(256))])
    writer.add_token_types([1] * 256 + [3] * 256)
    writer.add_token_merges([])
    (kind,) = (key for key, value in gguf.MODEL_ARCH_NAMES.items() if value == architecture)
    names = gguf.get_tensor_name_map(kind, numbers["block_count"])
    for name, tensor in weights.items():
        # BLOOM's names are mapped without their prefix; Cohere's tiny model alone has an output matrix of its own
        known = name.removeprefix("transformer.") if architecture == "bloom" else name
        own = names.get_name(known, try_suffixes=(".weight", ".bias"))
        own = "output.weight" if own is None and name == "lm_head.weight" else own
        assert own is not None, name
        writer.add_tensor(own, converted(architecture, name, tensor, config).contiguous().numpy())
    rope = config.get("rope_parameters", {})
    extra = {f"rope_factors_{kind}.weight": rope.get(f"{kind}_factor") for kind in ("long", "short")}
    if rope.get("rope_type") == "llama3":
        extra["rope_freqs.weight"] = llama3_factors(config).tolist()
    for name, factors in extra.items():
        if factors:
            writer.add_tensor(name, torch.tensor(factors).numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


PATTERN = "attention.sliding_window_pattern"
SCORES = {"attention.scale": 16**-0.5}  # the tiny Gemmas' query_pre_attn_scalar is not their head's width
FAMILIES: list[tuple[str, str, Numbers]] = [
    ("llama", "llama", {}),
    ("llama_3_rope", "llama", {}),
    ("llama_linear_rope", "llama", {}),
    ("llama_yarn_rope", "llama", {}),
    ("granite", "granite", {}),
    ("arcee", "arcee", {}),
    ("qwen3", "qwen3", {}),
    ("olmo2", "olmo2", {}),
    ("olmo3", "olmo2", {PATTERN: [True, False]}),
    ("olmo3_yarn_rope", "olmo2", {PATTERN: [True, True, True, False]}),
    ("cohere", "command-r", {}),
    ("stablelm", "stablelm", {}),
    ("phi", "phi2", {}),
    ("phi3", "phi3", {}),
    ("phi3_long_rope", "phi3", {"rope.scaling.attn_factor": math.sqrt(1 + math.log(64) / math.log(8))}),
    ("starcoder2", "starcoder2", {}),
    ("gemma", "gemma", {}),
    ("gemma2", "gemma2", SCORES),
    ("gemma3_text", "gemma3", {**SCORES, PATTERN: 2}),
    ("gpt2", "gpt2", {}),
    ("gpt_bigcode", "starcoder", {}),
    ("gpt_neox", "gptneox", {"use_parallel_residual": True}),
    ("gpt_neox_in_turn", "gptneox", {}),
    ("falcon_mqa", "falcon", {"attention.head_count_kv": 1}),
    ("falcon_new", "falcon", {"attention.head_count_kv": 2}),
    ("bloom", "bloom", {}),
    ("mpt", "mpt", {"attention.max_alibi_bias": 8.0}),
    (
        "mpt_six_heads",
        "mpt",
        {"attention.max_alibi_bias": 8.0, "attention.clamp_kqv": 0.3, "attention.scale": 0.2},
    ),
]


@pytest.mark.parametrize(("family", "architecture", "more"), FAMILIES, ids=[name for name, _, _ in FAMILIES])
@pytest.mark.filterwarnings("error::UserWarning")
def test_logits_equal_the_official_ones(
    family: str, architecture: str, more: Numbers, oracle: Callable[[str], Path], tmp_path: Path
) -> None:
    write(tmp_path / "model.gguf", oracle(family), architecture, **more)
    opened, _ = open_gguf_file(tmp_path / "model.gguf", dtype=torch.float32)
    recorded = load_file(oracle(family) / "reference.safetensors")["logits"]
    ids_BT = load_file(oracle(family) / "inputs.safetensors")["input_ids"]
    with torch.inference_mode():
        logits = opened.model(Batch(ids_BT[:1])).heads["text"]
    assert (logits - recorded[:1]).abs().max() < 1e-4 * recorded.std()


def test_every_architecture_is_compared() -> None:
    assert {architecture for _, architecture, _ in FAMILIES} | {"qwen2"} == set(ARCHITECTURES)


@pytest.mark.parametrize(
    ("family", "architecture"),
    [("gemma2", "gemma2"), ("phi3", "phi3"), ("mpt", "mpt"), ("gpt_neox", "gptneox")],
)
def test_damaged_metadata_is_one_line(
    family: str, architecture: str, oracle: Callable[[str], Path], tmp_path: Path
) -> None:
    path = tmp_path / "model.gguf"
    write(path, oracle(family), architecture, **{"rope.scaling.type": "yarn", "rope.scaling.factor": 2.0})
    metadata, tensors = read_metadata(path), open_weights(path)
    keys = [key for key in metadata if key.startswith(f"{architecture}.")]
    for key in (
        *keys,
        f"{architecture}.{PATTERN}",
        f"{architecture}.rope.dimension_count",
    ):
        for junk in (None, [1], "4", -1, 0, True, 3, 10**12, float("nan")):
            try:
                build(gguf_card(path, {**metadata, key: junk}, tensors), device="meta")
            except BeholderError as error:
                assert "\n" not in str(error)
