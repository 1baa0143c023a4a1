"""Moondream's own files, of its three ways to name weights: names, values given back, and the cards that are written here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from beholder.cards import card
from beholder.errors import BeholderError
from beholder.model import build
from beholder.weights.layout import to_own, to_published
from beholder.weights.load import state_shapes
from beholder.weights.open import choose_naming
from beholder.weights.readers.systems import read_system
from tests.weights.own_folders import assert_comes_back, assert_is_card, both, published_names

# moondream/torch/hf_moondream.py writes no settings of parts
RELEASED: dict[str, Any] = {"architectures": ["HfMoondream"], "model_type": "moondream1", "config": {}}
# moondream/config/config_md05.json
HALF_B = {
    "text": {
        "dim": 1024,
        "ff_dim": 4096,
        "n_layers": 24,
        "vocab_size": 51200,
        "max_context": 2048,
        "n_heads": 16,
    }
    | {"prefix_attn": 730},
    "vision": {
        "enc_dim": 720,
        "enc_patch_size": 14,
        "enc_n_layers": 27,
        "enc_ff_dim": 2690,
        "enc_n_heads": 10,
    }
    | {"proj_out_dim": 1024, "crop_size": 378, "in_channels": 3, "max_crops": 12, "overlap_margin": 4}
    | {"proj_inner_dim": 8192},
    "region": {"dim": 1024, "coord_feat_dim": 256, "coord_out_dim": 1024, "size_feat_dim": 512}
    | {"size_out_dim": 2048, "inner_dim": 8192},
    "tokenizer": {"bos_id": 50256, "eos_id": 50256},
}
PARTS: dict[str, dict[str, Any]] = {
    "text": {"dim": 32, "ff_dim": 48, "n_layers": 2, "vocab_size": 90, "n_heads": 2},
    "vision": {"enc_dim": 24, "enc_n_layers": 2, "enc_ff_dim": 40, "enc_n_heads": 2, "proj_out_dim": 32}
    | {"crop_size": 42, "overlap_margin": 1, "proj_inner_dim": 20},
    "region": {"dim": 32, "coord_feat_dim": 8, "coord_out_dim": 16, "size_feat_dim": 12, "size_out_dim": 32}
    | {"inner_dim": 28},
}
SMALL = RELEASED | {"config": PARTS}


@pytest.mark.filterwarnings("error::UserWarning")
@pytest.mark.parametrize(("name", "settings"), [("moondream2", {}), ("moondream-0.5b", HALF_B)])
def test_released_files_are_the_cards(name: str, settings: dict[str, Any]) -> None:
    config = RELEASED | {"config": settings}
    assert_is_card(config, name)
    assert read_system(config, name=name).card.heads == card(name).heads


def test_names_are_those_of_the_published_modules() -> None:
    layer = ("ln1", "ln2", "attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2")
    assert published_names(SMALL, "model.vision.") == {"pos_emb"} | both(
        *("patch_emb", "post_ln", "proj_mlp.fc1", "proj_mlp.fc2"),
        *(f"blocks.{n}.{part}" for n in range(2) for part in layer),
    )
    layer = ("ln", "attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2")
    assert published_names(SMALL, "model.text.") == {"wte"} | both(
        "post_ln", "lm_head", *(f"blocks.{n}.{part}" for n in range(2) for part in layer)
    )
    decoders = (f"{kind}_decoder.{part}" for kind in ("coord", "size") for part in ("fc1", "fc2"))
    assert published_names(SMALL, "model.region.") == {"coord_features", "size_features"} | both(
        "coord_encoder", "size_encoder", *decoders
    )


def test_values_come_back_and_a_folder_opens(tmp_path: Path) -> None:
    assert_comes_back(SMALL, tmp_path)


def test_the_other_names_are_told_apart() -> None:
    """The model without its frame, and the names of the code before, as weights.py has them."""
    reading = read_system(SMALL, name="small")
    model = build(reading.card, seed=3)
    state = model.state_dict()
    for number, naming in enumerate(reading.namings):
        published = to_published(state, naming)
        assert choose_naming(reading, published, state_shapes(model)) == number
        again = to_own(published, naming, state_shapes(model))
        assert all(torch.equal(again[name].load(), value) for name, value in state.items())
    assert {
        "vision_encoder.encoder.model.visual.patch_embed.linear.weight",
        "vision_encoder.encoder.model.visual.blocks.1.attn.qkv.bias",
        "vision_encoder.projection.mlp.fc2.weight",
        "text_model.transformer.embd.wte.weight",
        "text_model.transformer.h.1.mixer.Wqkv.weight",
        "text_model.lm_head.ln.bias",
        "text_model.lm_head.linear.weight",
        "region_model.coordinate_encoder.weight",
        "region_model.size_decoder.fc2.bias",
    } <= set(published)
    assert published["region_model.size_features.weight"].shape == (6, 2)


def test_whether_a_picture_and_its_crops_are_seen() -> None:
    """Settings of a small file reach the geometry and the connector."""
    branch = read_system(SMALL, name="small").card.branch()
    assert branch.geometry is not None and branch.connector is not None
    assert (branch.geometry.margin, branch.connector.margin) == (1, 1)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"text_config": {}}, "a Moondream of 2024"),
        ({"config": PARTS | {"text": PARTS["text"] | {"group_size": 128}}}, "group_size is 128"),
        ({"config": PARTS | {"region": {"dim": 48}}}, "dim is 48, the text's dim 32"),
    ],
)
def test_what_is_not_read(change: dict[str, Any], says: str) -> None:
    with pytest.raises(BeholderError, match=says):
        read_system(SMALL | change, name="small")
