"""Folders in the layout of mlfoundations/open_clip."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from beholder.cards import card
from beholder.errors import BeholderError
from beholder.media.geometry import CLIP_MEAN, Fixed
from beholder.model import Model, build
from beholder.parts.vision.resnet import ResNet
from beholder.parts.vision.vit import ViT
from beholder.pipeline import load
from beholder.weights.layout import to_published
from beholder.weights.layouts.dual import openai_names
from beholder.weights.load import state_tensors
from beholder.weights.readers.systems import read_system

TEXT = {"context_length": 16, "vocab_size": 512, "width": 32, "heads": 4, "layers": 2}
TOWERS: dict[str, Any] = {
    "net": {"image_size": 64, "layers": [1, 2, 1, 1], "width": 8, "head_width": 32, "patch_size": None},
    "vit": {"image_size": 28, "layers": 2, "width": 32, "head_width": 8, "patch_size": 14},
}
SEEN = {"size": [64, 64], "mean": list(CLIP_MEAN), "std": [0.2, 0.3, 0.4], "interpolation": "bicubic"}


def settings(tower: str, **more: Any) -> dict[str, Any]:
    model = {"embed_dim": 24, "quick_gelu": True, "vision_cfg": TOWERS[tower], "text_cfg": TEXT, **more}
    return {"model_cfg": model, "preprocess_cfg": {**SEEN, "resize_mode": "shortest"}}


def written(folder: Path, tower: str) -> Model:
    """A folder as released, with a model of another library beside it."""
    folder.mkdir()
    (folder / "open_clip_config.json").write_text(json.dumps(settings(tower)))
    (folder / "config.json").write_text('{"architecture": "resnet50_clip"}')
    model = build(read_system({"model_type": "open_clip", **settings(tower)}, name="x").card, seed=3)
    published = to_published(state_tensors(model), openai_names(model.card))
    tensors = {name: tensor.load().contiguous() for name, tensor in published.items()}
    save_file(tensors, folder / "open_clip_model.safetensors")
    save_file({"conv1.weight": torch.zeros(2)}, folder / "model.safetensors")
    return model


@pytest.mark.parametrize("tower", TOWERS)
@pytest.mark.filterwarnings("error::UserWarning")
def test_folders_open_and_are_written_again(tower: str, tmp_path: Path) -> None:
    model = written(tmp_path / "released", tower)
    pipeline = load(tmp_path / "released")
    state = pipeline.model.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert pipeline.card.branch().geometry == Fixed(
        size=(TOWERS[tower]["image_size"],) * 2, fit="crop", mean=CLIP_MEAN, std=(0.2, 0.3, 0.4)
    )
    pixels = np.random.default_rng(0).integers(0, 256, (70, 90, 3), np.uint8)
    vectors = pipeline.embed(images=[pixels]).images
    pipeline.save(tmp_path / "ours")
    assert np.allclose(load(tmp_path / "ours").embed(images=[pixels]).images, vectors, atol=1e-6)
    pipeline.export(tmp_path / "theirs")
    official, again = (
        load_file(file)
        for file in (tmp_path / "released/open_clip_model.safetensors", tmp_path / "theirs/model.safetensors")
    )
    assert official.keys() == again.keys()
    assert all(torch.equal(official[name], again[name]) for name in official)


FULL_TEXT = {"context_length": 77, "vocab_size": 49408, "layers": 12}
RELEASED: dict[
    str, tuple[Any, ...]
] = {  # embed_dim, vision_cfg, width and heads of texts: open_clip model_configs
    "clip-rn50": (1024, {"image_size": 224, "layers": [3, 4, 6, 3], "width": 64}, 512, 8),
    "clip-rn101": (512, {"image_size": 224, "layers": [3, 4, 23, 3], "width": 64}, 512, 8),
    "clip-rn50x4": (640, {"image_size": 288, "layers": [4, 6, 10, 6], "width": 80}, 640, 10),
    "clip-rn50x16": (768, {"image_size": 384, "layers": [6, 8, 18, 8], "width": 96}, 768, 12),
    "clip-rn50x64": (1024, {"image_size": 448, "layers": [3, 15, 36, 10], "width": 128}, 1024, 16),
    "clip-b-16": (512, {"image_size": 224, "layers": 12, "width": 768, "patch_size": 16}, 512, 8),
    "clip-l-14": (768, {"image_size": 224, "layers": 24, "width": 1024, "patch_size": 14}, 768, 12),
}


@pytest.mark.parametrize("name", RELEASED)
def test_released_settings_give_the_cards(name: str) -> None:
    width, vision, dim, heads = RELEASED[name]
    model = {"embed_dim": width, "quick_gelu": True, "vision_cfg": vision}
    model["text_cfg"] = {**FULL_TEXT, "width": dim, "heads": heads}
    seen = {"mean": list(CLIP_MEAN), "std": list(card(name).branch().geometry.std)}
    config = {"model_type": "open_clip", "model_cfg": model, "preprocess_cfg": seen}
    read = read_system(config, name=name).card
    assert read.branches == card(name).branches and read.languages == card(name).languages


def test_what_is_left_out_and_what_is_not_clip() -> None:
    bare = read_system({"model_type": "open_clip", "model_cfg": {"embed_dim": 512}}, name="x").card
    encoder = bare.branch().encoders[0]
    assert isinstance(encoder, ViT) and (encoder.patch, encoder.mlp.act, bare.main.mlp.act) == (
        16,
        "gelu",
        "gelu",
    )
    read = read_system({"model_type": "open_clip", **settings("net")}, name="x").card
    assert isinstance(read.branch().encoders[0], ResNet)
    for change, said in (
        ({"vision_cfg": {"timm_model_name": "convnext_base"}}, "timm_model_name is 'convnext_base'"),
        ({"text_cfg": {"hf_model_name": "roberta-base"}}, "hf_model_name is 'roberta-base'"),
        ({"vision_cfg": {"layers": [3, 4]}}, "four whole numbers"),
        ({"embed_dim": None}, "embed_dim is missing"),
    ):
        with pytest.raises(BeholderError, match=said):
            read_system({"model_type": "open_clip", **settings("vit", **change)}, name="x")
    with pytest.raises(BeholderError, match="resize_mode is 'longest'"):
        config = settings("vit") | {"preprocess_cfg": {"resize_mode": "longest"}}
        read_system({"model_type": "open_clip", **config}, name="x")
