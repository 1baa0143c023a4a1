"""Readers of recurrent models: every number equal to the official config classes', refused settings, damaged files."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from beholder.errors import BeholderError
from beholder.parts.blocks.attention import Attention
from beholder.parts.blocks.gated_delta import GatedDelta
from beholder.parts.blocks.lightning import Lightning
from beholder.parts.blocks.mamba import Mamba
from beholder.parts.blocks.mamba2 import Mamba2
from beholder.parts.blocks.rg_lru import RgLru
from beholder.parts.blocks.rwkv import ChannelMix, TimeMix
from beholder.parts.blocks.short_conv import ShortConv
from beholder.parts.language.decoder import Decoder
from beholder.pipeline import load
from beholder.weights.readers import hybrids, recurrent
from beholder.weights.readers.systems import read_system

from .test_readers import JUNK, OFFICIAL

KINDS = sorted({**recurrent.READERS, **hybrids.READERS})
UNOFFICIAL = {"stripedhyena", "minimax_text_01"}  # no config class in the official library
ATTENDING = {"llama4_text"}  # no recurrent layer
SPARSE: list[dict[str, Any]] = [
    *({"model_type": kind} for kind in KINDS if kind not in UNOFFICIAL | ATTENDING),
    {"model_type": "rwkv", "hidden_size": 40, "num_hidden_layers": 3},
    {"model_type": "rwkv", "attention_hidden_size": 24, "intermediate_size": 70, "tie_word_embeddings": True},
    {"model_type": "mamba", "hidden_size": 40, "expand": 3, "use_bias": True, "intermediate_size": 7},
    {"model_type": "falcon_mamba", "time_step_rank": 7, "mixer_rms_eps": 1e-3, "use_conv_bias": False},
    {"model_type": "bamba", "mamba_n_heads": 64, "attn_layer_indices": [1, 5], "attention_bias": True},
    {"model_type": "jamba", "num_experts": 1, "attn_layer_period": 3, "attn_layer_offset": 2},
    {"model_type": "recurrent_gemma", "num_attention_heads": 8, "block_types": ["attention", "recurrent"]},
    {"model_type": "minimax", "num_hidden_layers": 3, "sliding_window": 9},
    {"model_type": "lfm2", "num_hidden_layers": 4, "full_attn_idxs": [2], "block_multiple_of": 100},
    {"model_type": "lfm2", "block_auto_adjust_ff_dim": False, "block_ff_dim": 70, "tie_embedding": False},
]


def mixer_numbers(mixer: Any) -> dict[str, Any]:
    """Under names that official configs share, and what those of one model call them."""
    match mixer:
        case Mamba():
            eps = mixer.inner_norm.eps if mixer.inner_norm else None
            return {
                "inner": mixer.inner,
                "rank": mixer.rank,
                "state": mixer.state,
                "conv": mixer.conv,
                "bias": mixer.bias,
                "conv_bias": mixer.conv_bias,
                "eps": eps,
            }
        case Mamba2():
            return {
                "heads": mixer.num_heads,
                "width": mixer.head_dim,
                "state": mixer.state,
                "groups": mixer.num_groups,
                "conv": mixer.conv,
                "bias": mixer.bias,
            }
        case GatedDelta():
            return {
                "heads": mixer.num_heads,
                "key_heads": mixer.num_key_heads,
                "conv": mixer.conv,
                "width": mixer.value_dim,
                "key_width": mixer.key_dim,
            }
        case RgLru():
            return {"inner": mixer.inner, "blocks": mixer.num_blocks, "conv": mixer.conv}
        case TimeMix():
            return {"inner": mixer.inner}
        case ChannelMix():
            return {"hidden": mixer.hidden}
        case ShortConv():
            return {"conv": mixer.conv, "bias": mixer.bias}
        case Lightning():
            return {"heads": mixer.num_heads, "width": mixer.head_dim, "tables": mixer.tables}
        case Attention():
            return {
                "heads": mixer.num_heads,
                "kv_heads": mixer.kv_heads,
                "window": mixer.window,
                "bias": mixer.qkv_bias,
                "theta": mixer.rotary and mixer.rotary.theta,
                "share": mixer.rotary and mixer.rotary.share,
            }
    raise AssertionError(mixer)


def official_mixer(full: dict[str, Any], layer: int, attends: bool) -> dict[str, Any]:
    kind, rope = full["model_type"], full.get("rope_parameters") or {}
    if attends:
        return {
            "heads": full["num_attention_heads"],
            "kv_heads": full["num_key_value_heads"],
            "window": full.get("attention_window_size", full.get("sliding_window")),
            "bias": full.get("attention_bias", False),
            "theta": rope.get("rope_theta"),
            "share": rope.get("partial_rotary_factor", 1.0) if rope else None,
        }
    if kind in ("mamba", "falcon_mamba"):
        return {
            "inner": full["expand"] * full["hidden_size"],
            "rank": full["time_step_rank"],
            "state": full["state_size"],
            "conv": full["conv_kernel"],
            "bias": full["use_bias"],
            "conv_bias": full["use_conv_bias"],
            "eps": full.get("mixer_rms_eps"),
        }
    if kind == "jamba":
        return {
            "inner": full["mamba_expand"] * full["hidden_size"],
            "rank": full["mamba_dt_rank"],
            "state": full["mamba_d_state"],
            "conv": full["mamba_d_conv"],
            "bias": full["mamba_proj_bias"],
            "conv_bias": full["mamba_conv_bias"],
            "eps": full["rms_norm_eps"],
        }
    if kind == "mamba2":
        return {
            "heads": full["num_heads"],
            "width": full["head_dim"],
            "state": full["state_size"],
            "groups": full["n_groups"],
            "conv": full["conv_kernel"],
            "bias": full["use_bias"],
        }
    if kind == "bamba":
        return {
            "heads": full["mamba_n_heads"],
            "width": full["mamba_d_head"],
            "state": full["mamba_d_state"],
            "groups": full["mamba_n_groups"],
            "conv": full["mamba_d_conv"],
            "bias": full["mamba_proj_bias"],
        }
    if kind in ("qwen3_next", "qwen3_5_text"):
        return {
            "heads": full["linear_num_value_heads"],
            "key_heads": full["linear_num_key_heads"],
            "width": full["linear_value_head_dim"],
            "key_width": full["linear_key_head_dim"],
            "conv": full["linear_conv_kernel_dim"],
        }
    if kind == "rwkv":
        mixes_time = layer % 2 == 0
        return (
            {"inner": full["attention_hidden_size"]} if mixes_time else {"hidden": full["intermediate_size"]}
        )
    if kind == "recurrent_gemma":
        conv = full["conv1d_width"]
        return {"inner": full["lru_width"], "blocks": full["num_attention_heads"], "conv": conv}
    if kind == "lfm2":
        return {"conv": full["conv_L_cache"], "bias": full["conv_bias"]}
    width = full["head_dim"] or full["hidden_size"] // full["num_attention_heads"]
    return {"heads": full["num_attention_heads"], "width": width, "tables": full["block_size"]}


def official_kinds(full: dict[str, Any]) -> list[bool]:
    """Whether each layer attends."""
    layers = range(full["num_hidden_layers"])
    match full["model_type"]:
        case "mamba" | "falcon_mamba" | "mamba2":
            return [False for _ in layers]
        case "rwkv":
            return [False for _ in layers for half in ("time", "channels")]
        case "bamba":
            return [layer in (full["attn_layer_indices"] or ()) for layer in layers]
        case "jamba":
            return [layer % full["attn_layer_period"] == full["attn_layer_offset"] for layer in layers]
        case "recurrent_gemma":
            blocks = full["block_types"]
            return [blocks[layer % len(blocks)] == "attention" for layer in layers]
    return [kind == "full_attention" for kind in full["layer_types"]]


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_every_number_is_the_official_one(oracle_python: Path) -> None:
    """Sparse files: what they leave out is what the official config classes assume."""
    done = subprocess.run(
        [oracle_python, "-c", OFFICIAL], input=json.dumps(SPARSE), capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    for sparse, full in zip(SPARSE, json.loads(done.stdout), strict=True):
        ours = read_system(sparse, name="x").card.main
        assert isinstance(ours, Decoder)
        attends = official_kinds(full)
        assert [isinstance(layer.mixer, Attention) for layer in ours.layers] == attends, sparse
        want = [official_mixer(full, layer, attending) for layer, attending in enumerate(attends)]
        assert [mixer_numbers(layer.mixer) for layer in ours.layers] == want, sparse
        eps = next(full[key] for key in ("rms_norm_eps", "layer_norm_epsilon", "norm_eps") if key in full)
        assert (ours.vocab_size, ours.dim, ours.tied, ours.norm.eps) == (
            *(full["vocab_size"], full["hidden_size"], full["tie_word_embeddings"], eps),
        ), sparse


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"model_type": "mamba2", "num_heads": 96}, "96 heads of 64 channels are not expand times 4096"),
        ({"model_type": "mamba2", "time_step_limit": [0.1]}, "expected two numbers"),
        ({"model_type": "mamba", "expand": 1e300}, "expand makes"),
        ({"model_type": "jamba", "attn_layer_offset": 8}, "attn_layer_offset is 8; expected 0 to 7"),
        ({"model_type": "recurrent_gemma", "block_types": ["recurent"]}, "block_types"),
        ({"model_type": "minimax", "layer_types": ["full_attention"]}, "layer_types"),
        ({"model_type": "minimax", "mlp_alpha_factor": 2}, "one pair is supported"),
        ({"model_type": "minimax_text_01", "postnorm": False}, "postnorm"),
        ({"model_type": "minimax_text_01", "attn_type_list": [1]}, "attn_type_list"),
        ({"model_type": "stripedhyena", "hyena_filter_groups": 256}, "hyena_filter_groups"),
        ({"model_type": "stripedhyena", "attn_layer_idxs": ["1"]}, "expected layer numbers"),
    ],
)
def test_settings_that_cannot_be_kept_are_refused(config: dict[str, Any], words: str) -> None:
    with pytest.raises(BeholderError, match=words):
        read_system(config, name="x")


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("base", [*({"model_type": kind} for kind in KINDS), *SPARSE[len(KINDS) :]])
def test_damaged_values_are_one_line_errors(base: dict[str, Any]) -> None:
    """Any value in any place is read or refused as a `BeholderError`, and never anything else."""
    keys = {
        *base,
        "hidden_size",
        "num_hidden_layers",
        "layer_types",
        "rope_parameters",
        "time_step_limit",
        "head_dim",
    }
    keys |= {
        "expand",
        "mamba_expand",
        "time_step_rank",
        "mamba_d_head",
        "mamba_n_heads",
        "attn_layer_indices",
    }
    keys |= {
        "attn_layer_offset",
        "num_experts",
        "block_types",
        "lru_width",
        "attn_type_list",
        "attn_layer_idxs",
    }
    keys |= {
        "num_attention_heads",
        "num_key_value_heads",
        "num_experts_per_tok",
        "rotary_dim",
        "full_attn_idxs",
    }
    keys |= {"block_ffn_dim_multiplier", "intermediate_size", "proj_groups", "n_groups", "mlp_alpha_factor"}
    for key in keys:
        for value in JUNK:
            try:
                read_system({**base, key: value}, name="x")
            except BeholderError as error:
                assert "\n" not in str(error)


# config.json as released: state-spaces/mamba-2.8b-hf, mistralai/Mamba-Codestral-7B-v0.1, ai21labs/Jamba-v0.1,
# google/recurrentgemma-2b, LiquidAI/LFM2-1.2B, MiniMaxAI/MiniMax-Text-01, togethercomputer/StripedHyena-Nous-7B
STARTS = {
    "time_step_floor": 1e-4,
    "time_step_init_scheme": "random",
    "time_step_max": 0.1,
    "time_step_min": 0.001,
    "time_step_scale": 1.0,
    "rescale_prenorm_residual": False,
    "residual_in_fp32": True,
    "hidden_act": "silu",
    "expand": 2,
    "conv_kernel": 4,
    "use_bias": False,
    "use_conv_bias": True,
    "initializer_range": 0.1,
}
RELEASED: list[dict[str, Any]] = [
    {
        "model_type": "mamba",
        "fused_add_norm": True,
        "hidden_size": 2560,
        "intermediate_size": 5120,
        "n_layer": 64,
        "num_hidden_layers": 64,
        "pad_vocab_size_multiple": 8,
        "rms_norm": True,
        "state_size": 16,
        "time_step_rank": 160,
        "vocab_size": 50280,
        "layer_norm_epsilon": 1e-5,
        **STARTS,
    },
    {
        "model_type": "mamba2",
        "chunk_size": 256,
        "head_dim": 64,
        "intermediate_size": 8192,
        "n_groups": 8,
        "norm_before_gate": True,
        "num_heads": 128,
        "time_step_limit": [0.0, float("inf")],
        "rms_norm": True,
        "time_step_rank": 256,
        "state_size": 128,
        **STARTS,
    },
    {
        "model_type": "jamba",
        "attn_layer_offset": 4,
        "attn_layer_period": 8,
        "expert_layer_offset": 1,
        "calc_logits_for_entire_prompt": False,
        "mamba_inner_layernorms": True,
        "n_ctx": 262144,
        "mamba_conv_bias": True,
        "mamba_d_conv": 4,
        "mamba_d_state": 16,
        "mamba_dt_rank": 256,
        "mamba_expand": 2,
        "mamba_proj_bias": False,
        "sliding_window": None,
        "use_mamba_kernels": True,
        "num_logits_to_keep": 1,
        "output_router_logits": False,
        "router_aux_loss_coef": 0.001,
    },
    {
        "model_type": "recurrent_gemma",
        "attention_bias": False,
        "attention_window_size": 2048,
        "block_types": ["recurrent", "recurrent", "attention"],
        "conv1d_width": 4,
        "head_dim": 256,
        "embeddings_scale_by_sqrt_dim": True,
        "final_w_init_variance_scale": 0.0769,
        "lru_width": 2560,
        "hidden_activation": "gelu_pytorch_tanh",
        "intermediate_size": 15360,
        "logits_soft_cap": 30.0,
        "num_key_value_heads": 1,
        "partial_rotary_factor": 0.5,
        "rope_theta": 10000.0,
        "w_init_variance_scale": 0.01,
    },
    {
        "model_type": "lfm2",
        "block_auto_adjust_ff_dim": True,
        "block_dim": 2048,
        "block_ff_dim": 12288,
        "block_ffn_dim_multiplier": 1.0,
        "block_mlp_init_scale": 1.0,
        "block_multiple_of": 256,
        "block_norm_eps": 1e-5,
        "block_out_init_scale": 1.0,
        "block_use_swiglu": True,
        "num_heads": 32,
        "block_use_xavier_init": True,
        "conv_L_cache": 3,
        "conv_bias": False,
        "conv_dim": 2048,
        "conv_dim_out": 2048,
        "conv_use_xavier_init": True,
        "full_attn_idxs": [2, 5, 8, 10, 12, 14],
        "hidden_size": 2048,
        "num_hidden_layers": 16,
        "rope_theta": 1000000.0,
        "use_pos_enc": True,
    },
    {
        "model_type": "minimax_text_01",
        "attn_type_list": [0, 0, 0, 0, 0, 0, 0, 1] * 10,
        "num_hidden_layers": 80,
        "layernorm_full_attention_alpha": 3.5565588200778455,
        "head_dim": 128,
        "layernorm_full_attention_beta": 1.0,
        "layernorm_linear_attention_alpha": 3.5565588200778455,
        "layernorm_linear_attention_beta": 1.0,
        "layernorm_mlp_alpha": 3.5565588200778455,
        "layernorm_mlp_beta": 1.0,
        "postnorm": True,
        "rope_theta": 10000000,
        "rotary_dim": 64,
        "router_jitter_noise": 0.0,
        "shared_intermediate_size": 0,
        "shared_moe_mode": "sigmoid",
        "sliding_window": None,
        "output_router_logits": False,
        "router_aux_loss_coef": 0.001,
    },
    {
        "model_type": "stripedhyena",
        "_commit_hash": None,
        "attn_layer_idxs": list(range(1, 32, 2)),
        "column_split": False,
        "column_split_hyena": True,
        "eps": 1e-5,
        "final_norm": True,
        "hyena_filter_groups": 1,
        "hyena_layer_idxs": list(range(0, 32, 2)),
        "inference_mode": False,
        "inner_mlp_size": 14336,
        "log_intermediate_values": False,
        "make_vocab_size_divisible_by": 8,
        "max_batch_size": 1,
        "max_seqlen": 32768,
        "mha_out_proj_bias": False,
        "model_parallel_size": 1,
        "mlp_init_method": "torch.nn.init.zeros_",
        "num_filters": 4096,
        "pipe_parallel_size": 1,
        "mlp_output_init_method": "torch.nn.init.zeros_",
        "prefill_style": "fft",
        "proj_groups": 4,
        "qkv_proj_bias": False,
        "rotary_emb_base": 500000,
        "short_filter_bias": True,
        "split_k0": True,
        "short_filter_length": 3,
        "smeared_gqa": False,
        "state_size": 2,
        "tie_embeddings": False,
        "use_flash_attention_2": False,
        "use_flash_attn": True,
        "use_flash_depthwise": True,
        "use_flash_rmsnorm": True,
        "use_flashfft": False,
    },
]


@pytest.mark.filterwarnings("error::UserWarning")
@pytest.mark.parametrize("config", RELEASED, ids=lambda config: config["model_type"])
def test_released_files_are_read_whole(config: dict[str, Any]) -> None:
    assert isinstance(read_system(config, name="x").card.main, Decoder)


def test_the_older_name_of_token_vectors_is_read(oracle: Callable[[str], Path], tmp_path: Path) -> None:
    """Files made for mamba_ssm, and early conversions of them, say `embedding`."""
    folder = oracle("mamba")
    weights = load_file(folder / "model.safetensors")
    weights["backbone.embedding.weight"] = weights.pop("backbone.embeddings.weight")
    (tmp_path / "config.json").write_bytes((folder / "config.json").read_bytes())
    save_file(weights, tmp_path / "model.safetensors")
    old, new = load(tmp_path).model.state_dict(), load(folder).model.state_dict()
    assert all(torch.equal(old[name], new[name]) for name in new)
