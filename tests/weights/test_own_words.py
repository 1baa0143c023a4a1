"""Own files of Ovis 1 and xGen-MM: names as their modules have them, values given back, and the cards that are written here."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from beholder.cards import card
from beholder.errors import BeholderError, UnknownName
from beholder.model import build
from beholder.weights.layout import to_published
from beholder.weights.open import open_official
from beholder.weights.readers import xgen_mm
from beholder.weights.readers.reading import Reading
from beholder.weights.readers.systems import read_system

LLAMA_3: dict[str, Any] = {
    "model_type": "llama",
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "max_position_embeddings": 8192,
    "rms_norm_eps": 1e-5,
    "rope_theta": 500000.0,
    "vocab_size": 128256,
    "tie_word_embeddings": False,
}
CLIP = {"model_type": "clip_vision_model", "hidden_size": 1024, "intermediate_size": 4096, "patch_size": 14}
CLIP |= {"num_hidden_layers": 24, "num_attention_heads": 16, "image_size": 336, "projection_dim": 768}
OVIS = {  # AIDC-AI/Ovis-Clip-Llama3-8B config.json, values of scripts/v1
    "model_type": "ovis",
    "conversation_formatter_class": "Llama3ConversationFormatter",
    "hidden_size": 4096,
    "multimodal_max_length": 2048,
    "llm_config": LLAMA_3,
    "visual_tokenizer_config": {
        "model_type": "clip_visual_tokenizer",
        "backbone_config": CLIP,
        "backbone_kwargs": {},
        "vocab_size": 131072,
        "use_indicators": True,
        "drop_cls_token": True,
        "tokenize_function": "softmax",
        "tau": 1.0,
        "hidden_stride": 1,
    },
}
XGEN = {
    "model_type": "xgenmm",
    "text_config": {
        "model_type": "phi3",
        "initial_tokenizer_len": 32012,
        "sliding_window": 2047,
        "pad_token_id": 32000,
    },
    "vision_encoder_config": {
        "model_type": "xgenmm_vision_encoder",
        "image_aspect_ratio": "anyres",
        "anyres_patch_sampling": True,
    },
    "vision_tokenizer_config": {"model_type": "xgenmm_vision_tokenizer", "image_aspect_ratio": "anyres"},
}
FILES: dict[str, dict[str, Any]] = {"ovis-clip-llama3-8b": OVIS, "xgen-mm-4b": XGEN}
SMALL = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 2}
SMALL |= {"num_key_value_heads": 2, "vocab_size": 90}
EYES = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "image_size": 28,
}


@pytest.mark.filterwarnings("error::UserWarning")
@pytest.mark.parametrize("name", FILES)
def test_a_file_is_the_card(name: str) -> None:
    got: Any = read_system(FILES[name], name=name).card
    want: Any = card(name)
    (mine,), (theirs,) = got.branches, want.branches
    assert mine.encoders[0].but(positions=None) == theirs.encoders[0].but(positions=None)
    assert mine.connector == theirs.connector and got.fusion == want.fusion
    heads = got.main.attention.num_kv_heads, want.main.attention.num_kv_heads
    assert heads[0] == heads[1] or heads == (32, None)
    assert got.main.but(**{"attention.num_kv_heads": heads[1]}) == want.main
    pinpoints = [set(getattr(each.geometry, "pinpoints", ())) for each in (mine, theirs)]
    same = mine.geometry.but(pinpoints=theirs.geometry.pinpoints) if pinpoints[0] else mine.geometry
    assert pinpoints[0] == pinpoints[1] and same == theirs.geometry


def small(name: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The settings of a small system."""
    if name.startswith("ovis"):
        seen = {**OVIS["visual_tokenizer_config"], "backbone_config": CLIP | EYES, "vocab_size": 24}
        return {**OVIS, "llm_config": LLAMA_3 | SMALL, "visual_tokenizer_config": seen}
    called = "google/siglip-so400m-patch14-384"
    monkeypatch.setattr(
        xgen_mm, "ENCODERS", {called: xgen_mm.ENCODERS[called] | EYES | {"image_size": 32, "patch_size": 16}}
    )
    monkeypatch.setattr(xgen_mm, "ATTENTION", xgen_mm.ATTENTION.but(num_heads=2, head_dim=8))
    tokens = XGEN["vision_tokenizer_config"] | {"num_vis_tokens": 3}
    return {**XGEN, "text_config": XGEN["text_config"] | SMALL, "vision_tokenizer_config": tokens}


def both(*names: str) -> set[str]:
    return {f"{name}.{leaf}" for name in names for leaf in ("weight", "bias")}


NAMES = {
    "ovis-clip-llama3-8b": {
        "vte.weight",
        "visual_tokenizer.head.0.weight",
        "llm.model.norm.weight",
        "llm.lm_head.weight",
    }
    | both("visual_tokenizer.head.1", "visual_tokenizer.backbone.vision_model.pre_layrnorm"),
    "xgen-mm-4b": {
        "vlm.vision_tokenizer.latents",
        "vlm.lang_model.model.embed_tokens.weight",
        "vlm.lang_model.lm_head.weight",
    }
    | both(
        "vlm.vision_encoder.post_layernorm", "vlm.vision_tokenizer.norm", "vlm.vision_tokenizer.projection"
    )
    | {f"vlm.vision_tokenizer.layers.5.0.{part}.weight" for part in ("to_q", "to_kv", "to_out")}
    | both(*(f"vlm.vision_tokenizer.layers.5.{part}" for part in ("0.norm_media", "0.norm_latents", "1.0")))
    | {f"vlm.vision_tokenizer.layers.5.1.{number}.weight" for number in (1, 3)},
}
EXTRA = {  # what releases have besides, which nothing reads
    "ovis-clip-llama3-8b": {},
    "xgen-mm-4b": {
        "vlm.vision_encoder.head.probe": (1, 1, 32),
        "vlm.vision_encoder.head.mlp.fc1.weight": (48, 32),
        "vlm.lang_model.model.embed_tokens.additional_embedding.weight": (3, 64),
        "vlm.lang_model.lm_head.additional_fc.weight": (3, 64),
    },
}


@pytest.mark.parametrize("name", FILES)
def test_a_folder_opens(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = small(name, monkeypatch)
    reading: Reading = read_system(config, name=name)
    model = build(reading.card, seed=4)
    published = to_published(model.state_dict(), reading.namings[0])
    assert NAMES[name] <= set(published)
    (tmp_path / "config.json").write_text(json.dumps(config))
    values = {key: value.load().contiguous() for key, value in published.items()}
    values |= {key: torch.zeros(shape) for key, shape in EXTRA[name].items()}
    save_file(values, tmp_path / "model.safetensors")
    ours = open_official(tmp_path, dtype=torch.float32).model.state_dict()
    assert all(torch.equal(value, ours[key]) for key, value in model.state_dict().items())


@pytest.mark.parametrize(
    ("name", "part", "key", "value"),
    [
        ("ovis-clip-llama3-8b", "visual_tokenizer_config", "model_type", "siglip_visual_tokenizer"),
        ("ovis-clip-llama3-8b", "visual_tokenizer_config", "tokenize_function", "st_argmax"),
        ("xgen-mm-4b", "vision_encoder_config", "model_name", "other"),
        ("xgen-mm-4b", "vision_encoder_config", "image_aspect_ratio", "pad"),
        ("xgen-mm-4b", "vision_tokenizer_config", "lang_embedding_dim", 77),
    ],
)
def test_what_is_not_known_is_refused(name: str, part: str, key: str, value: Any) -> None:
    config = {**FILES[name], part: {**FILES[name][part], key: value}}
    with pytest.raises((BeholderError, UnknownName), match=str(value)):
        read_system(config, name=name)
