"""Decoders of GPT's form: published parameter counts, MPT against its formulas, older names and types, damaged files."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional as F

from beholder.errors import BeholderError
from beholder.model import Batch, NoDraws
from beholder.parts.blocks.positions import Alibi, Rotary
from beholder.parts.blocks.step import Step
from beholder.parts.language import sizes_gpt
from beholder.pipeline import load
from beholder.weights.readers.systems import read_system

COUNTS = {
    "GPT2": 124_439_808,  # sums of the tensors in the released files
    "GPT2_MEDIUM": 354_823_168,
    "GPT2_LARGE": 774_030_080,
    "GPT2_XL": 1_557_611_200,
    "PYTHIA_70M": 70_426_624,  # EleutherAI/pythia README
    "PYTHIA_160M": 162_322_944,
    "PYTHIA_410M": 405_334_016,
    "PYTHIA_1B": 1_011_781_632,
    "PYTHIA_1_4B": 1_414_647_808,
    "PYTHIA_2_8B": 2_775_208_960,
    "PYTHIA_6_9B": 6_857_302_016,
    "PYTHIA_12B": 11_846_072_320,
    "GPT_NEOX_20B": 20_554_567_680,  # EleutherAI/gpt-neox-20b model card
    "BLOOM_560M": 559_214_592,  # bigscience/bloom-* model cards
    "BLOOM_1_1B": 1_065_314_304,
    "BLOOM_1_7B": 1_722_408_960,
    "BLOOM_3B": 3_002_557_440,
    "BLOOM_7_1B": 7_069_016_064,
    "BLOOM_176B": 176_247_271_424,
    "FALCON_7B": 6_921_720_704,  # half the bytes in pytorch_model.bin.index.json
    "MPT_7B": 6_649_286_656,
    "GPT_J_6B": 6_050_882_784,  # as others counted the opened files
    "OPT_1_3B": 1_315_758_080,
    "FALCON_RW_1B": 1_311_625_216,  # keras-hub: falcon_presets.py
}
ROUNDED = {  # by their names, and what those leave out
    "GPT_NEO_125M": (124.5e6, 125.5e6),
    "GPT_NEO_1_3B": (1.25e9, 1.35e9),
    "GPT_NEO_2_7B": (2.65e9, 2.75e9),
    "REDPAJAMA_3B": (2.75e9, 2.85e9),  # 2.8B in its release notes
    "OPT_125M": (124.5e6, 125.5e6),
    "OPT_350M": (330.5e6, 350.5e6),  # 350M counts tables of the model's full width
    "OPT_2_7B": (2.65e9, 2.75e9),
    "OPT_6_7B": (6.65e9, 6.75e9),
    "OPT_13B": (12.5e9, 13.5e9),
    "OPT_30B": (29.5e9, 30.5e9),
    "OPT_66B": (65.5e9, 66.5e9),
    "MPT_7B_STORYWRITER": (6.5e9, 7.5e9),
    "MPT_30B": (29.5e9, 30.5e9),
    "MPT_1B": (1.25e9, 1.35e9),
    "FALCON_40B": (40e9, 42e9),
    "FALCON_180B": (175e9, 185e9),
    "PERSIMMON_8B": (9.35e9, 9.45e9),  # 9.4B in its files: the name leaves a table of 262,144 tokens out
}


def count(name: str) -> int:
    with torch.device("meta"), NoDraws():
        return sum(p.numel() for p in getattr(sizes_gpt, name).build().parameters())


@pytest.mark.parametrize("name", COUNTS)
def test_published_sizes_have_their_parameters(name: str) -> None:
    assert count(name) == COUNTS[name]


@pytest.mark.parametrize("name", ROUNDED)
def test_other_published_sizes_are_as_large_as_their_names_say(name: str) -> None:
    low, high = ROUNDED[name]
    assert low <= count(name) < high


@pytest.mark.filterwarnings("error::UserWarning")
def test_published_sizes_are_what_their_files_say() -> None:
    files: dict[str, dict[str, Any]] = {
        "GPT2": {"model_type": "gpt2"},
        "GPT_J_6B": {
            "model_type": "gptj",
            "rotary": True,
            "scale_attn_weights": True,
            "summary_type": "cls_index",
        },
        "GPT_NEO_1_3B": {"model_type": "gpt_neo"},
        "FALCON_7B": {"model_type": "falcon", "apply_residual_connection_post_layernorm": False},
        "OPT_125M": {"model_type": "opt", "prefix": "</s>", "init_std": 0.02},
        "PERSIMMON_8B": {"model_type": "persimmon", "rope_theta": 25000.0, "num_key_value_heads": 64},
        "GPT_NEOX_20B": {"model_type": "gpt_neox", "hidden_act": "gelu_fast"},
        "MPT_7B": {"model_type": "mpt", "d_model": 4096, "n_heads": 32, "n_layers": 32, "vocab_size": 50432},
    }
    for name, file in files.items():
        read, size = read_system(file, name="x").card.main, getattr(sizes_gpt, name)
        assert read.layers == size.layers and read.but(pattern=()) == size.but(pattern=()), name


# ---------------------------------------------------------------------------- MPT


MPT_SETTINGS: dict[str, dict[str, Any]] = {
    "learned positions, grouped keys, norms, clips and biases": {
        "attn_config": {
            "alibi": False,
            "attn_type": "grouped_query_attention",
            "kv_n_heads": 2,
            "qk_ln": True,
            "clip_qkv": 0.7,
            "softmax_scale": 0.5,
        },
        "no_bias": False,
        "expansion_ratio": 2,
        "logit_scale": "inv_sqrt_d_model",
    },
    "steep ALiBi, one key head, gated MLP, RMS norms": {
        "attn_config": {"alibi": True, "alibi_bias_max": 16, "attn_type": "multiquery_attention"},
        "ffn_config": {"ffn_type": "mptglu", "ffn_hidden_size": 40, "ffn_act_fn": {"name": "silu"}},
        "no_bias": True,
        "norm_type": "low_precision_rmsnorm",
        "logit_scale": 0.5,
    },
    "rotary positions, norms by head": {
        "attn_config": {"alibi": False, "rope": True, "rope_theta": 500, "qk_gn": True},
        "no_bias": True,
    },
    "no positions": {"attn_config": {"alibi": False}, "no_bias": True, "learned_pos_emb": False},
}


def mpt_weights(config: dict[str, Any]) -> dict[str, Tensor]:
    attention, mlp = config["attn_config"], config.get("ffn_config", {})
    kind = attention.get("attn_type", "multihead_attention")
    keys = {"multihead_attention": 4, "multiquery_attention": 1}.get(kind, attention.get("kv_n_heads", 4)) * 8
    hidden = mlp.get("ffn_hidden_size", config.get("expansion_ratio", 4) * 32)
    norm_q, norm_k = (32, keys) if attention.get("qk_ln") else (8, 8)
    layer = {"norm_1": (32,), "norm_2": (32,), "attn.Wqkv": (32 + 2 * keys, 32), "attn.out_proj": (32, 32)}
    layer |= {"ffn.up_proj": (hidden, 32), "ffn.down_proj": (32, hidden)}
    if attention.get("qk_ln") or attention.get("qk_gn"):
        layer |= {"attn.q_ln": (norm_q,), "attn.k_ln": (norm_k,)}
    if mlp.get("ffn_type") == "mptglu":
        layer["ffn.gate_proj"] = (hidden, 32)
    shapes = {f"blocks.{i}.{name}": shape for i in range(2) for name, shape in layer.items()} | {
        "norm_f": (32,)
    }
    weights = {"transformer.wte.weight": torch.randn(99, 32)}
    for name, shape in shapes.items():
        weights[f"transformer.{name}.weight"] = torch.randn(shape) * 0.3 + (len(shape) == 1)
        if not config["no_bias"]:
            weights[f"transformer.{name}.bias"] = torch.randn(shape[0]) * 0.3
    if not attention["alibi"] and not attention.get("rope") and config.get("learned_pos_emb", True):
        weights["transformer.wpe.weight"] = torch.randn(64, 32)
    return weights


def mpt_logits(weights: dict[str, Tensor], config: dict[str, Any], ids_T: Tensor) -> Tensor:
    """The formulas of llm-foundry's MPT, one head at a time."""
    attention, count = config["attn_config"], len(ids_T)
    rms = "rms" in config.get("norm_type", "")

    def part(name: str) -> tuple[Tensor, Tensor | None]:
        return weights[f"transformer.{name}.weight"], weights.get(f"transformer.{name}.bias")

    def linear(name: str, x: Tensor) -> Tensor:
        weight, bias = part(name)
        return x @ weight.T + (0 if bias is None else bias)

    def norm(name: str, x: Tensor) -> Tensor:
        weight, bias = part(name)
        centred = x if rms else x - x.mean(-1, keepdim=True)
        return centred / (centred.pow(2).mean(-1, keepdim=True) + 1e-5).sqrt() * weight + (
            0 if bias is None else bias
        )

    def turn(x_TK: Tensor) -> Tensor:
        angles = torch.arange(count)[:, None] / attention["rope_theta"] ** (torch.arange(0, 8, 2) / 8)
        a, b = x_TK[:, :4], x_TK[:, 4:]
        return torch.cat((a * angles.cos() - b * angles.sin(), b * angles.cos() + a * angles.sin()), 1)

    x = weights["transformer.wte.weight"][ids_T]
    if "transformer.wpe.weight" in weights:
        x = x + weights["transformer.wpe.weight"][:count]
    distance = torch.arange(count)[None] - torch.arange(count)[:, None]
    for i in range(2):
        at = f"blocks.{i}."
        qkv = linear(f"{at}attn.Wqkv", norm(f"{at}norm_1", x))
        if "clip_qkv" in attention:
            qkv = qkv.clamp(-attention["clip_qkv"], attention["clip_qkv"])
        keys = (qkv.shape[1] - 32) // 2
        q, k, v = qkv.split([32, keys, keys], 1)
        if attention.get("qk_ln"):
            q, k = norm(f"{at}attn.q_ln", q), norm(f"{at}attn.k_ln", k)
        outs = []
        for head in range(4):
            shared = head * (keys // 8) // 4
            q_TK, k_TK = q[:, head * 8 : head * 8 + 8], k[:, shared * 8 : shared * 8 + 8]
            if attention.get("qk_gn"):
                q_TK, k_TK = norm(f"{at}attn.q_ln", q_TK), norm(f"{at}attn.k_ln", k_TK)
            if attention.get("rope"):
                q_TK, k_TK = turn(q_TK), turn(k_TK)
            scores = q_TK @ k_TK.T * attention.get("softmax_scale", 8**-0.5)
            if attention["alibi"]:
                scores = scores + 2.0 ** -(attention["alibi_bias_max"] * (head + 1) / 4) * distance
            outs.append(
                scores.masked_fill(distance > 0, -math.inf).softmax(-1) @ v[:, shared * 8 : shared * 8 + 8]
            )
        x = x + linear(f"{at}attn.out_proj", torch.cat(outs, 1))
        y = norm(f"{at}norm_2", x)
        up = linear(f"{at}ffn.up_proj", y)
        gated = config.get("ffn_config", {}).get("ffn_type") == "mptglu"
        x = x + linear(
            f"{at}ffn.down_proj", F.silu(linear(f"{at}ffn.gate_proj", y)) * up if gated else F.gelu(up)
        )
    scale = config.get("logit_scale", 1.0)
    return (
        norm("norm_f", x)
        @ weights["transformer.wte.weight"].T
        * (32**-0.5 if isinstance(scale, str) else scale)
    )


def open_folder(folder: Path, config: dict[str, Any], weights: dict[str, Tensor]) -> Any:
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    save_file({name: tensor.contiguous() for name, tensor in weights.items()}, folder / "model.safetensors")
    return load(folder, dtype=torch.float32)


def logits_of(pipeline: Any, ids_BT: Tensor) -> Tensor:
    with torch.inference_mode():
        return pipeline.model(Batch(ids_BT)).heads["text"]


MPT_TINY = {"d_model": 32, "n_heads": 4, "n_layers": 2, "max_seq_len": 64, "vocab_size": 99}


@pytest.mark.parametrize("name", MPT_SETTINGS)
def test_mpt_equals_its_formulas(name: str, tmp_path: Path) -> None:
    config = {"model_type": "mpt", "architectures": ["MPTForCausalLM"], **MPT_TINY, **MPT_SETTINGS[name]}
    weights, ids_BT = mpt_weights(config), torch.randint(0, 99, (1, 11))
    pipeline = open_folder(tmp_path / "in", config, weights)
    expected = mpt_logits(weights, config, ids_BT[0])
    assert (logits_of(pipeline, ids_BT)[0] - expected).abs().max() < 1e-4 * expected.std()
    pipeline.export(tmp_path / "out")
    exported = load_file(tmp_path / "out" / "model.safetensors")
    assert exported.keys() == weights.keys()
    assert all(torch.equal(exported[key], weights[key]) for key in weights)


def test_mosaic_gpt_is_mpt_under_older_names(tmp_path: Path) -> None:
    inner = {"alibi": True, "alibi_bias_max": 8, "qk_ln": True}
    config = {**MPT_TINY, "no_bias": True, "attn_config": inner}
    weights, ids_BT = mpt_weights(config), torch.randint(0, 99, (1, 9))
    expected = mpt_logits(weights, config, ids_BT[0])
    older = {"norm_": "ln_", "ffn.up_proj": "mlp.mlp_up", "ffn.down_proj": "mlp.mlp_down"}
    renamed = {}
    for key, tensor in weights.items():
        for new, old in older.items():
            key = key.replace(new, old)
        renamed[key] = tensor
    file = {"model_type": "mosaic_gpt", **MPT_TINY, "no_bias": True, "alibi": True, "attn_qk_ln": True}
    pipeline = open_folder(tmp_path / "in", file, renamed)
    assert (logits_of(pipeline, ids_BT)[0] - expected).abs().max() < 1e-4 * expected.std()


def test_transformers_own_mpt_ignores_most_of_its_config() -> None:
    chosen = {"attn_config": {"alibi": False, "qk_ln": True}, "expansion_ratio": 2, "no_bias": False}
    native, foundry = (
        read_system({"model_type": "mpt", "architectures": [name], **chosen}, name="x").card.main
        for name in ("MptForCausalLM", "MPTForCausalLM")
    )
    assert native == read_system({"model_type": "mpt"}, name="x").card.main
    assert foundry.attention.alibi is None and foundry.attention.qk_norm and foundry.mlp.hidden == 4096


# ---------------------------------------------------------------------------- names, types and numbers of older files


@pytest.mark.parametrize(
    ("family", "prefix", "other"),
    [("gpt2", "transformer.", ""), ("bloom", "transformer.", ""), ("opt", "model.decoder.", "decoder.")],
)
def test_releases_with_other_prefixes_open(
    family: str, prefix: str, other: str, oracle: Callable[[str], Path], tmp_path: Path
) -> None:
    weights = {
        key.replace(prefix, other): tensor
        for key, tensor in load_file(oracle(family) / "model.safetensors").items()
    }
    if family == "gpt2":
        weights["h.0.attn.bias"] = torch.ones(1, 1, 256, 256).tril()
    config = json.loads((oracle(family) / "config.json").read_text(encoding="utf-8"))
    ids_BT = torch.randint(0, 512, (1, 7))
    again = logits_of(open_folder(tmp_path / "in", config, weights), ids_BT)
    assert torch.equal(again, logits_of(load(oracle(family), dtype=torch.float32), ids_BT))


def test_first_releases_of_falcon_say_the_same() -> None:
    numbers = {"hidden_size": 8192, "n_head": 128, "n_head_kv": 8, "n_layer": 60, "parallel_attn": True}
    falcon_40b = {"model_type": "RefinedWeb", **numbers, "alibi": False, "bias": False}
    assert read_system(falcon_40b, name="x").card.main == sizes_gpt.FALCON_40B
    falcon_7b = {"model_type": "RefinedWebModel", "n_head": 71, "n_layer": 32, "multi_query": True}
    assert read_system(falcon_7b, name="x").card.main == sizes_gpt.FALCON_7B
    falcon_rw = {"model_type": "RefinedWebModel", "hidden_size": 2048, "n_head": 32, "n_layer": 24}
    falcon_rw |= {
        "alibi": True,
        "bias": True,
        "multi_query": False,
        "parallel_attn": False,
        "vocab_size": 50304,
    }
    assert read_system(falcon_rw, name="x").card.main == sizes_gpt.FALCON_RW_1B


def test_older_names_of_numbers() -> None:
    """As bigscience/bloom-560m and EleutherAI/pythia-70m have them."""
    bloom = {
        "model_type": "bloom",
        "n_embed": 1024,
        "n_layer": 24,
        "num_attention_heads": 16,
        "n_inner": None,
    }
    bloom |= {"seq_length": 2048, "offset_alibi": 100, "masked_softmax_fusion": True, "unk_token_id": 0}
    assert read_system(bloom, name="x").card.main == sizes_gpt.BLOOM_560M
    pythia = {"model_type": "gpt_neox", "hidden_size": 512, "num_hidden_layers": 6, "num_attention_heads": 8}
    pythia |= {"intermediate_size": 2048, "vocab_size": 50304, "rotary_pct": 0.25, "rotary_emb_base": 10000}
    assert read_system(pythia, name="x").card.main == sizes_gpt.PYTHIA_70M
    redpajama = {"hidden_size": 2560, "num_hidden_layers": 32, "num_attention_heads": 32}
    redpajama |= {"intermediate_size": 10240, "rotary_pct": 1.0, "use_parallel_residual": False}
    assert read_system({"model_type": "gpt_neox", **redpajama}, name="x").card.main == sizes_gpt.REDPAJAMA_3B


# ---------------------------------------------------------------------------- positions


def test_rounded_alibi_has_the_steps_of_bfloat16() -> None:
    """2^-0.5 is 0.70703125 in bfloat16, and 300 * 0.70703125 rounds to 212."""
    keys_BS = torch.tensor([[0, 1, 300]])
    bias = Alibi(factor=0.5, rounded=True).bias(torch.tensor([[0]]), keys_BS, 16)[0, 0, 0]
    assert bias.tolist() == [0.0, 0.5 * 0.70703125, 0.5 * 212.0]
    plain = Alibi(factor=0.5).bias(torch.tensor([[0]]), keys_BS, 16)[0, 0, 0]
    assert torch.allclose(plain, 0.5 * 2**-0.5 * keys_BS[0])


def test_layers_share_what_distance_adds() -> None:
    step = Step(positions=torch.arange(5)[None])
    first = step.alibi(Alibi(), 4)
    assert step.alibi(Alibi(), 4) is first and step.alibi(Alibi(16.0), 4) is not first
    assert torch.equal(first, Alibi().bias(step.positions, step.positions, 4))


def test_a_share_is_a_whole_number_of_channels() -> None:
    wrong = [
        (turned, width)
        for width in range(2, 257, 2)
        for turned in range(2, width + 1, 2)
        if Rotary(share=turned / width).turned(width) != turned
    ]
    assert not wrong


# ---------------------------------------------------------------------------- damaged files


KINDS = ("gpt2", "gpt_bigcode", "gpt_neo", "gptj", "codegen", "gpt_neox", "persimmon", "falcon", "RefinedWeb")
KINDS += ("RefinedWebModel", "bloom", "mpt", "mosaic_gpt", "opt", "xglm", "biogpt")
JUNK = (None, True, -1, 0, 1e300, float("nan"), "x", [], [1], {}, {"a": 1}, 10**30)
KEYS = (
    "hidden_size",
    "n_head",
    "num_heads",
    "n_layers",
    "n_inner",
    "rotary_dim",
    "attention_types",
    "norm_type",
)
KEYS += ("attn_config", "ffn_config", "rope_parameters", "rotary_pct", "num_kv_heads", "word_embed_proj_dim")
KEYS += (
    "logit_scale",
    "no_bias",
    "activation",
    "hidden_act",
    "layer_norm_epsilon",
    "multi_query",
    "architectures",
)
INNER = (
    "attn_type",
    "kv_n_heads",
    "clip_qkv",
    "alibi_bias_max",
    "rope_theta",
    "softmax_scale",
    "rope_dail_config",
)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_damaged_values_are_one_line_errors(kind: str) -> None:
    files = [{key: value} for key in KEYS for value in JUNK]
    files += [{"attn_config": {"rope": True, key: value}} for key in INNER for value in JUNK]
    for file in files:
        try:
            read_system({"model_type": kind, **file}, name="x")
        except BeholderError as error:
            assert "\n" not in str(error)


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"model_type": "gptj", "rotary_dim": 300}, "a head has 256 channels"),
        ({"model_type": "gpt_neo", "num_layers": 3}, "attention_types are of 24 layers"),
        ({"model_type": "gpt2", "n_head": 7}, "width 768 does not divide into 7 heads"),
        (
            {"model_type": "falcon", "new_decoder_architecture": True, "parallel_attn": False},
            "parallel_attn is false",
        ),
        ({"model_type": "mpt", "attn_config": {"prefix_lm": True}}, "prefix_lm is True; only False"),
        (
            {"model_type": "mpt", "attn_config": {"attn_type": "grouped_query_attention"}},
            "kv_n_heads is missing",
        ),
        ({"model_type": "mpt", "norm_type": "batchnorm"}, "norm_type"),
    ],
)
def test_settings_that_cannot_be_kept_are_refused(config: dict[str, Any], words: str) -> None:
    with pytest.raises(BeholderError, match=words):
        read_system(config, name="x")
