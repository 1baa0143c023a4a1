"""Sa2VA's own files: the card that is written here, names of SAM 2's modules, and a folder that opens."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from beholder.cards import card
from beholder.errors import BeholderError
from beholder.model import build
from beholder.weights.layout import to_published
from beholder.weights.open import open_official
from beholder.weights.readers import sa2va
from beholder.weights.readers.systems import read_system

EYES = {"hidden_size": 1024, "image_size": 448, "intermediate_size": 4096, "num_attention_heads": 16}
EYES |= {
    "num_hidden_layers": 24,
    "patch_size": 14,
    "qk_normalization": False,
    "qkv_bias": True,
    "norm_type": "layer_norm",
}
CONFIG: dict[str, Any] = {
    "model_type": "sa2va_chat",
    "downsample_ratio": 0.5,
    "dynamic_image_size": True,
    "force_image_size": 448,
    "max_dynamic_patch": 12,
    "min_dynamic_patch": 1,
    "ps_version": "v2",
    "select_layer": -1,
    "template": "internlm2_chat",
    "use_thumbnail": True,
    "vision_config": {"model_type": "intern_vit_6b", **EYES},
    "llm_config": {
        "model_type": "internlm2",
        "architectures": ["InternLM2ForCausalLM"],
        "bias": False,
        "hidden_size": 4096,
        "intermediate_size": 14336,
        "num_attention_heads": 32,
        "num_hidden_layers": 32,
        "num_key_value_heads": 8,
        "max_position_embeddings": 32768,
        "rope_theta": 1000000,
        "rope_scaling": {"factor": 2.0, "type": "dynamic"},
        "rms_norm_eps": 1e-5,
        "vocab_size": 92558,
    },
}


def both(*names: str) -> set[str]:
    return {f"{name}.{leaf}" for name in names for leaf in ("weight", "bias")}


def test_a_file_is_the_card() -> None:
    got, want = read_system(CONFIG, name="sa2va").card, card("sa2va-8b")
    assert got.heads == want.heads and got.branch("sam") == want.branch("sam")
    assert got.fusion[0] == want.fusion[0] and got.fusion[1].but(at="<IMG_CONTEXT>") == want.fusion[1]
    mine, theirs = got.branch(), want.branch()
    assert mine.geometry == theirs.geometry and mine.connector == theirs.connector
    assert mine.encoders == theirs.encoders and got.main == want.main


def small(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.setattr(sa2va, "card", lambda name: card(name).tiny())
    monkeypatch.setattr(sa2va, "FIRST_IDS", {"internlm2": 80})
    eyes = EYES | {
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_attention_heads": 4,
        "num_hidden_layers": 2,
    }
    words = {"hidden_size": 64, "intermediate_size": 96, "num_attention_heads": 4, "num_key_value_heads": 2}
    words |= {"num_hidden_layers": 2, "vocab_size": 90}
    return {
        **CONFIG,
        "force_image_size": 56,
        "vision_config": CONFIG["vision_config"] | eyes | {"image_size": 56},
        "llm_config": CONFIG["llm_config"] | words,
    }


def test_a_folder_opens_with_the_names_of_sam_2(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = small(monkeypatch)
    reading = read_system(config, name="sa2va")
    model = build(reading.card, seed=4)
    head: Any = model.heads[1]
    head.prompts.cell_waves.data = head.prompts.waves.data.clone()  # one tensor in the file
    published = to_published(model.state_dict(), reading.namings[0])
    sam = {key.removeprefix(sa2va.SAM) for key in published if key.startswith(sa2va.SAM)}
    decoder = {key.removeprefix("sam_mask_decoder.") for key in sam if key.startswith("sam_mask_decoder.")}
    layer = [
        f"{kind}.{m}_proj"
        for kind in ("self_attn", "cross_attn_token_to_image")
        for m in ("q", "k", "v", "out")
    ]
    assert both(*(f"transformer.layers.1.{name}" for name in (*layer, "mlp.layers.1", "norm4"))) <= decoder
    ends = ("output_upscaling.0", "output_upscaling.1", "output_upscaling.3", "conv_s0", "conv_s1")
    assert both("transformer.norm_final_attn", "iou_prediction_head.layers.2", *ends) <= decoder
    assert {"iou_token.weight", "mask_tokens.weight", "obj_score_token.weight"} <= decoder
    assert {name for name in sam if name.startswith("sam_prompt_encoder.")} == {
        f"sam_prompt_encoder.{name}"
        for name in (
            "pe_layer.positional_encoding_gaussian_matrix",
            "no_mask_embed.weight",
            "not_a_point_embed.weight",
        )
    }
    memory = both(
        "memory_attention.norm", "memory_attention.layers.0.cross_attn_image.k_proj", "obj_ptr_proj.layers.2"
    )
    memory |= both(*(f"memory_encoder.mask_downsampler.encoder.{n}" for n in (0, 1, 3, 4, 6, 7, 9, 10, 12)))
    memory |= both(
        "memory_encoder.fuser.layers.0.dwconv", "memory_encoder.out_proj", "memory_encoder.pix_feat_proj"
    )
    assert memory | {"maskmem_tpos_enc", "no_obj_ptr", "no_mem_embed"} <= sam
    assert both("image_encoder.trunk.patch_embed.proj", "image_encoder.neck.convs.3.conv") <= sam
    assert both("mlp1.0", "mlp1.3", "text_hidden_fcs.0", "text_hidden_fcs.2") <= set(published)
    (tmp_path / "config.json").write_text(json.dumps(config))
    values = {key: value.load().contiguous() for key, value in published.items()}
    values[f"{sa2va.SAM}no_mem_pos_enc"] = torch.zeros(1, 1, 8)  # of releases, which nothing reads
    values[f"{sa2va.SAM}sam_prompt_encoder.point_embeddings.0.weight"] = torch.zeros(1, 8)
    save_file(values, tmp_path / "model.safetensors")
    ours = open_official(tmp_path, dtype=torch.float32).model.state_dict()
    assert all(torch.equal(value, ours[key]) for key, value in model.state_dict().items())


def test_a_vocabulary_without_the_added_words_is_refused() -> None:
    words = CONFIG["llm_config"] | {"vocab_size": 92553}
    with pytest.raises(BeholderError, match="vocab_size is 92553"):
        read_system({**CONFIG, "llm_config": words}, name="sa2va")
