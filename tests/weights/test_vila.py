"""VILA 1.5's own files: the card that is written here, and a folder whose parts lie in folders of their own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from beholder.cards import card
from beholder.errors import BeholderError, UnknownName, WeightsError
from beholder.model import build
from beholder.weights.layout import to_published
from beholder.weights.open import open_official
from beholder.weights.readers.systems import read_system

EYES = {"model_type": "siglip_vision_model", "hidden_size": 1152, "intermediate_size": 4304, "patch_size": 14}
EYES |= {
    "num_hidden_layers": 27,
    "num_attention_heads": 16,
    "image_size": 384,
    "hidden_act": "gelu_pytorch_tanh",
}
WORDS = {"model_type": "llama", "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32}
WORDS |= {
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "max_position_embeddings": 8192,
    "rope_theta": 500000.0,
}
WORDS |= {"rms_norm_eps": 1e-5, "vocab_size": 128256, "tie_word_embeddings": False}
VILA: dict[str, Any] = {  # as Efficient-Large-Model/Llama-3-VILA1.5-8B config.json has it
    "model_type": "llava_llama",
    "architectures": ["LlavaLlamaModel"],
    "image_aspect_ratio": "resize",
    "interpolate_mode": "linear",
    "mm_vision_select_feature": "cls_patch",
    "mm_vision_select_layer": -2,
    "llm_cfg": WORDS,
    "vision_tower_cfg": EYES,
    "mm_projector_cfg": {"model_type": "v2l_projector", "mm_projector_type": "mlp_downsample"},
}


@pytest.mark.filterwarnings("error::UserWarning")
def test_a_file_is_the_card() -> None:
    got: Any = read_system(VILA, name="vila").card
    want: Any = card("vila-1.5-8b")
    mine, theirs = got.branch(), want.branch()
    assert mine.encoders == theirs.encoders and mine.connector == theirs.connector
    assert mine.geometry == theirs.geometry and got.fusion == want.fusion and got.main == want.main


def small() -> dict[str, Any]:
    eyes = {
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "image_size": 42,
    }
    words = {
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "vocab_size": 90,
    }
    words |= {"num_key_value_heads": 2}
    return {**VILA, "vision_tower_cfg": EYES | eyes, "llm_cfg": WORDS | words}


@pytest.mark.parametrize("projector", ["mlp_downsample", "mlp2x_gelu", "linear"])
def test_a_folder_of_parts_opens(projector: str, tmp_path: Path) -> None:
    config = {**small(), "mm_projector_cfg": {"mm_projector_type": projector}}
    reading = read_system(config, name="vila")
    model = build(reading.card, seed=4)
    published = to_published(model.state_dict(), reading.namings[0])
    (tmp_path / "config.json").write_text(json.dumps(config))
    for part in ("llm", "vision_tower", "mm_projector"):
        values = {
            key.removeprefix(f"{part}."): value.load().contiguous()
            for key, value in published.items()
            if key.startswith(f"{part}.")
        }
        if part == "vision_tower":
            assert "vision_model.embeddings.patch_embedding.weight" in values
            values["vision_model.head.probe"] = torch.zeros(1, 1, 32)
        if part == "mm_projector" and projector == "mlp_downsample":
            assert set(values) == {f"layers.{n}.{leaf}" for n in (1, 2, 4) for leaf in ("weight", "bias")}
        with pytest.raises(WeightsError, match=f"no folder {part}"):
            open_official(tmp_path)
        (tmp_path / part).mkdir()
        save_file(values, tmp_path / part / "model.safetensors")
    ours = open_official(tmp_path, dtype=torch.float32).model.state_dict()
    assert all(torch.equal(value, ours[key]) for key, value in model.state_dict().items())


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"s2": True}, "s2 is on"),
        ({"image_aspect_ratio": "dynamic"}, "dynamic"),
        ({"mm_projector_cfg": {"mm_projector_type": "mlp_downsample_3x3_fix"}}, "mlp_downsample_3x3_fix"),
        ({"vision_tower_cfg": {"model_type": "radio"}}, "radio"),
    ],
)
def test_what_is_not_known_is_refused(change: dict[str, Any], says: str) -> None:
    with pytest.raises((BeholderError, UnknownName), match=says):
        read_system({**VILA, **change}, name="x")
