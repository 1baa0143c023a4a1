"""Eagle 2's own files: the cards that are written here, names as its modules have them, and folders that open."""

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
from beholder.weights.readers import eagle_2
from beholder.weights.readers.systems import read_system

SIGLIP = {
    "model_type": "siglip_vision_model",
    "hidden_size": 1152,
    "intermediate_size": 4304,
    "patch_size": 14,
}
SIGLIP |= {"num_hidden_layers": 27, "num_attention_heads": 16, "image_size": 448, "layer_norm_eps": 1e-6}
SIGLIP |= {"hidden_act": "gelu_pytorch_tanh"}
MIXED = {
    "model_type": "MOB",
    "vision_tower": "convnext-1024;palisiglip",
    "siglip_vision_config": SIGLIP,
    "convnext_img_size": 512,
    "moe_version_type": "convnext_512_siglip_448",
    "normalize_type": "siglip",
    "grid_size": 32,
}
QWEN = {"model_type": "qwen2", "max_position_embeddings": 32768, "rope_theta": 1e6, "rms_norm_eps": 1e-6}
WORDS = {
    "eagle2-9b": {
        "hidden_size": 3584,
        "intermediate_size": 18944,
        "num_hidden_layers": 28,
        "num_attention_heads": 28,
    }
    | {"num_key_value_heads": 4, "vocab_size": 152064, "tie_word_embeddings": False},
    "eagle2-1b": {
        "hidden_size": 896,
        "intermediate_size": 4864,
        "num_hidden_layers": 24,
        "num_attention_heads": 14,
    }
    | {"num_key_value_heads": 2, "vocab_size": 151936, "tie_word_embeddings": True},
}
CONFIGS: dict[str, dict[str, Any]] = {
    name: {
        "model_type": "eagle_chat",
        "downsample_ratio": 0.5,
        "dynamic_image_size": True,
        "force_image_size": 448,
        "keep_aspect_ratio": False,
        "max_dynamic_patch": 12,
        "min_dynamic_patch": 1,
        "select_layer": -1,
        "use_thumbnail": True,
        "llm_config": QWEN | words,
        "vision_config": MIXED if name == "eagle2-9b" else SIGLIP,
    }
    for name, words in WORDS.items()
}


@pytest.mark.filterwarnings("error::UserWarning")
@pytest.mark.parametrize("name", CONFIGS)
def test_a_file_is_the_card(name: str) -> None:
    got, want = read_system(CONFIGS[name], name=name).card, card(name)
    mine, theirs = got.branch(), want.branch()
    assert mine.encoders == theirs.encoders and mine.connector == theirs.connector
    assert mine.geometry == theirs.geometry and got.fusion == want.fusion and got.main == want.main


def both(*names: str) -> set[str]:
    return {f"{name}.{leaf}" for name in names for leaf in ("weight", "bias")}


@pytest.mark.parametrize("name", CONFIGS)
def test_a_folder_opens(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(eagle_2, "DETAILS", eagle_2.DETAILS.tiny())
    eyes = SIGLIP | {
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
    }
    eyes |= {"image_size": 56}
    words = {
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "vocab_size": 90,
    }
    seen = MIXED | {"siglip_vision_config": eyes} if name == "eagle2-9b" else eyes
    llm = CONFIGS[name]["llm_config"] | words | {"num_key_value_heads": 2}
    config = {**CONFIGS[name], "force_image_size": 56, "vision_config": seen, "llm_config": llm}
    reading = read_system(config, name=name)
    model = build(reading.card, seed=4)
    published = to_published(model.state_dict(), reading.namings[0])
    tower = "vision_model.vision_model."
    if name == "eagle2-9b":
        assert both(f"{tower}vision_towers.0.vision_tower.stages.3.downsample.1") <= set(published)
        tower += "vision_towers.1.vision_tower.vision_model."
    want = both("mlp1.0", "mlp1.1", "mlp1.3", f"{tower}embeddings.patch_embedding", f"{tower}post_layernorm")
    assert want | {"language_model.model.norm.weight"} <= set(published)
    (tmp_path / "config.json").write_text(json.dumps(config))
    values = {key: value.load().contiguous() for key, value in published.items()}
    values[f"{tower}head.probe"] = torch.zeros(1, 1, 32)  # SigLIP's pool, which nothing reads
    save_file(values, tmp_path / "model.safetensors")
    ours = open_official(tmp_path, dtype=torch.float32).model.state_dict()
    assert all(torch.equal(value, ours[key]) for key, value in model.state_dict().items())


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"select_layer": -2}, "select_layer -2"),
        ({"use_thumbnail": False}, "use_thumbnail"),
        ({"vision_config": MIXED | {"vision_tower": "clip-448"}}, "clip-448"),
        ({"vision_config": MIXED | {"moe_version_type": "all_tiling"}}, "all_tiling"),
    ],
)
def test_what_is_not_known_is_refused(change: dict[str, Any], says: str) -> None:
    with pytest.raises((BeholderError, UnknownName), match=says):
        read_system({**CONFIGS["eagle2-9b"], **change}, name="x")
