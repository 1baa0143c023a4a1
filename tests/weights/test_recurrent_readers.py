"""Readers of recurrent models: every number equal to the official config classes', refused settings, damaged files, and
StripedHyena against its equations under its published names.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional as F

from beholder.errors import BeholderError
from beholder.model import Batch
from beholder.parts.blocks.attention import Attention
from beholder.parts.blocks.gated_delta import GatedDelta
from beholder.parts.blocks.lightning import Lightning
from beholder.parts.blocks.mamba import Mamba
from beholder.parts.blocks.mamba2 import Mamba2
from beholder.parts.blocks.rg_lru import RgLru
from beholder.parts.blocks.short_conv import ShortConv
from beholder.parts.language.decoder import Decoder
from beholder.pipeline import load
from beholder.weights.readers import hybrids, recurrent
from beholder.weights.readers.systems import read_system

from .test_readers import JUNK, OFFICIAL

KINDS = sorted({**recurrent.READERS, **hybrids.READERS})
UNOFFICIAL = {"stripedhyena", "minimax_text_01"}  # no config class in the official library
SPARSE: list[dict[str, Any]] = [
    *({"model_type": kind} for kind in KINDS if kind not in UNOFFICIAL),
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


def official_mixer(full: dict[str, Any], attends: bool) -> dict[str, Any]:
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
    if kind == "qwen3_next":
        return {
            "heads": full["linear_num_value_heads"],
            "key_heads": full["linear_num_key_heads"],
            "width": full["linear_value_head_dim"],
            "key_width": full["linear_key_head_dim"],
            "conv": full["linear_conv_kernel_dim"],
        }
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
        want = [official_mixer(full, attending) for attending in attends]
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


STRIPED = {
    "model_type": "stripedhyena",
    "vocab_size": 40,
    "hidden_size": 16,
    "inner_mlp_size": 24,
    "num_layers": 3,
    "num_attention_heads": 4,
    "attn_layer_idxs": [1],
    "hyena_layer_idxs": [0, 2],
    "proj_groups": 2,
    "state_size": 3,
    "max_seqlen": 64,
}


def striped_weights() -> dict[str, Tensor]:
    """Random values under the names and shapes of togethercomputer/stripedhyena, stripedhyena/model.py."""
    torch.manual_seed(0)
    weights = {"embedding_layer.weight": torch.randn(40, 16), "unembed.weight": torch.randn(40, 16)}
    weights["norm.scale"] = torch.rand(16) + 0.5
    for layer in range(3):
        at = f"blocks.{layer}."
        for name in ("pre_norm.scale", "post_norm.scale"):
            weights[at + name] = torch.rand(16) + 0.5
        for name, shape in (("l1", (24, 16)), ("l2", (24, 16)), ("l3", (16, 24))):
            weights[f"{at}mlp.{name}.weight"] = torch.randn(shape) * 0.3
        if layer == 1:
            weights[at + "inner_mha_cls.Wqkv.weight"] = torch.randn(16 + 2 * 8, 16) * 0.3
            weights[at + "inner_mha_cls.out_proj.weight"] = torch.randn(16, 16) * 0.3
            weights[at + "inner_mha_cls.rotary_emb.inv_freq"] = 500000.0 ** -torch.tensor([0.0, 0.5])
            continue
        for name, rows in (("projections", 48), ("out_filter_dense", 16)):
            weights[f"{at}{name}.weight"] = torch.randn(rows, 16) * 0.3
            weights[f"{at}{name}.bias"] = torch.randn(rows) * 0.3
        weights[at + "filter.short_filter_weight"] = torch.randn(48, 1, 3)
        weights[at + "filter.short_filter_bias"] = torch.randn(48)
        weights[at + "filter.D"] = torch.randn(16)
        radius, angle = torch.rand(16, 3, 1) * 0.9, torch.rand(16, 3, 1) * 3
        weights[at + "filter.poles"] = torch.stack((radius * angle.cos(), radius * angle.sin()), -1)
        weights[at + "filter.residues"] = torch.randn(16, 3, 1, 2)
    return weights


def striped_logits(weights: dict[str, Tensor], ids: list[int]) -> Tensor:
    """The model by its equations: filters as convolutions by FFT (2302.10866), attention with rotary positions."""
    length = len(ids)
    x = weights["embedding_layer.weight"][ids]

    def rms(x: Tensor, scale: Tensor) -> Tensor:
        return x / (x.pow(2).mean(-1, keepdim=True) + 1e-5).sqrt() * scale

    def turn(x: Tensor) -> Tensor:  # (T, 4)
        angles = torch.arange(length)[:, None] * 500000.0 ** -torch.tensor([0.0, 0.5])
        a, b = x[:, :2], x[:, 2:]
        return torch.cat((a * angles.cos() - b * angles.sin(), b * angles.cos() + a * angles.sin()), 1)

    def attention(x: Tensor, own: Callable[[str], Tensor]) -> Tensor:
        q, k, v = (x @ own("inner_mha_cls.Wqkv.weight").T).split([16, 8, 8], 1)
        heads = []
        for head in range(4):
            mine = slice(4 * (head // 2), 4 * (head // 2) + 4)
            scores = turn(q[:, 4 * head : 4 * head + 4]) @ turn(k[:, mine]).T / 2
            scores = scores.masked_fill(torch.ones(length, length).triu(1) > 0, -torch.inf)
            heads.append(scores.softmax(-1) @ v[:, mine])
        return torch.cat(heads, 1) @ own("inner_mha_cls.out_proj.weight").T

    def hyena(x: Tensor, own: Callable[[str], Tensor]) -> Tensor:
        z = x @ own("projections.weight").T + own("projections.bias")
        taps = own("filter.short_filter_weight")[:, 0]
        z = sum(F.pad(z, (0, 0, 2 - i, 0))[:length] * taps[:, i] for i in range(3)) + own(
            "filter.short_filter_bias"
        )
        x2, x1, v = (z.view(length, 4, 3, 4)[:, :, i].reshape(length, 16) for i in range(3))
        poles, residues = (
            torch.view_as_complex(own(f"filter.{name}"))[..., 0] for name in ("poles", "residues")
        )
        h = torch.stack([(residues * poles**t).real.sum(-1) for t in range(length)])
        u = x1 * v
        y = torch.fft.irfft(
            torch.fft.rfft(h, 2 * length, 0) * torch.fft.rfft(u, 2 * length, 0), 2 * length, 0
        )
        y = (y[:length] + u * own("filter.D")) * x2
        return y @ own("out_filter_dense.weight").T + own("out_filter_dense.bias")

    for layer in range(3):

        def own(name: str, layer: int = layer) -> Tensor:
            return weights[f"blocks.{layer}.{name}"]

        x = x + (attention if layer == 1 else hyena)(rms(x, own("pre_norm.scale")), own)
        y = rms(x, own("post_norm.scale"))
        gated = F.silu(y @ own("mlp.l1.weight").T) * (y @ own("mlp.l2.weight").T)
        x = x + gated @ own("mlp.l3.weight").T
    return rms(x, weights["norm.scale"]) @ weights["unembed.weight"].T


def test_striped_hyena_equals_its_equations(tmp_path: Path) -> None:
    weights = striped_weights()
    folder = tmp_path / "striped"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(STRIPED))
    save_file({f"backbone.{name}": values for name, values in weights.items()}, folder / "model.safetensors")
    pipeline = load(folder)
    ids = torch.randint(0, 40, (1, 13)).tolist()
    with torch.no_grad():
        got = pipeline.model(Batch(torch.tensor(ids))).heads["text"][0]
    want = striped_logits(weights, ids[0])
    assert (got - want).abs().max() < 1e-5 * want.std()
    pipeline.export(tmp_path / "out")
    from safetensors.torch import load_file

    written = load_file(tmp_path / "out" / "model.safetensors")
    assert {f"backbone.{name}" for name in weights if not name.endswith("inv_freq")} == set(written)
    assert all(
        torch.equal(values, weights[name.removeprefix("backbone.")]) for name, values in written.items()
    )
