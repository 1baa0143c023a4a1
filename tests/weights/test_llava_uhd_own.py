"""LLaVA-UHD's and INF-LLaVA's own files: LLaVA's layout, with modules of their code's."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from beholder import load
from beholder.cards import card
from beholder.media.geometry import Fixed
from beholder.model import build
from beholder.parts.connectors.perspectives import DualPerspective
from beholder.weights.layout import to_own, to_published
from beholder.weights.load import state_shapes, state_tensors
from beholder.weights.readers import llava_own
from beholder.weights.readers.systems import read_system
from tests.weights.own_folders import assert_comes_back, both, published_names

# What llava/train/train.py of both repositories writes into `config.json` of its language model
VICUNA: dict[str, Any] = {
    "model_type": "llava_llama",
    "architectures": ["LlavaLlamaForCausalLM"],
    "hidden_size": 5120,
    "intermediate_size": 13824,
    "num_hidden_layers": 40,
    "num_attention_heads": 40,
    "max_position_embeddings": 4096,
    "rms_norm_eps": 1e-5,
    "vocab_size": 32000,
    "tie_word_embeddings": False,
    "mm_hidden_size": 1024,
    "mm_projector_type": "adapt_spatial_resampler",
    "mm_vision_select_feature": "patch",
    "mm_vision_select_layer": -2,
    "mm_vision_tower": "./pretrained_models/clip-vit-large-patch14-336",
    "mm_patch_merge_type": "flat",
    "image_aspect_ratio": "pad",
    "use_mm_proj": True,
}
LLAMA_3 = VICUNA | {"hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32}
LLAMA_3 |= {"num_attention_heads": 32, "num_key_value_heads": 8, "vocab_size": 128256, "rope_theta": 5e5}
LLAMA_3 |= {"max_position_embeddings": 8192, "mm_projector_type": "mlp2x_gelu"}
LLAMA_3 |= {"mm_vision_tower": "openai/clip-vit-large-patch14-336"}
SIZES = {"hidden_size": 256, "intermediate_size": 40, "num_hidden_layers": 2, "vocab_size": 90}
SIZES |= {"num_attention_heads": 2, "num_key_value_heads": 2}
SMALL, SMALL_INF = VICUNA | SIZES, LLAMA_3 | SIZES | {"model_type": "inf_llava"}


@pytest.fixture
def small_tower(monkeypatch: pytest.MonkeyPatch) -> None:
    """The code alone has the encoder's numbers."""
    little = {"hidden_size": 32, "intermediate_size": 40, "num_hidden_layers": 3, "num_attention_heads": 2}
    towers = tuple((ends, settings | little | {"image_size": 28}) for ends, settings in llava_own.TOWERS)
    monkeypatch.setattr(llava_own, "TOWERS", towers)


@pytest.mark.filterwarnings("error::UserWarning")
@pytest.mark.parametrize(
    ("name", "config"),
    [("llava-uhd-144-13b", VICUNA), ("inf-llava-8b", LLAMA_3 | {"model_type": "inf_llava"})],
)
def test_released_settings_are_the_cards(name: str, config: dict[str, Any]) -> None:
    """Also where CLIP's processor lies in the folder."""
    for processor in (None, Fixed(size=(336, 336), fit="crop")):
        read, written = read_system(config, name=name, geometry=processor).card, card(name)
        assert read.branches == written.branches
        main: Any = written.main
        heads = config.get("num_key_value_heads", config["num_attention_heads"])
        assert read.main == main.but(**{"attention.num_kv_heads": heads})


@pytest.mark.usefixtures("small_tower")
def test_names_are_those_of_the_published_modules() -> None:
    resampler = {"pos_embed", "query", "kv_proj.weight", "proj", "attn.in_proj_weight", "attn.in_proj_bias"}
    resampler |= both("attn.out_proj", "ln_q", "ln_kv", "ln_post")
    assert published_names(SMALL, "model.mm_projector.") == resampler
    spatial = both(*(f"attention.linears.{n}" for n in range(4)), "attention.ln", "ln_fuse")
    spatial |= both(*(f"ffn_{kind}.{n}" for kind in ("crop", "stride") for n in (0, 2)))
    assert published_names(SMALL_INF, "model.spatial_embed.") == spatial
    assert published_names(SMALL_INF, "model.mm_projector.") == both("0", "2")
    assert "embeddings.class_embedding" in published_names(
        SMALL_INF, "model.vision_tower.vision_tower.vision_model."
    )


@pytest.mark.usefixtures("small_tower")
def test_uhds_values_come_back_and_a_folder_opens(tmp_path: Path) -> None:
    assert_comes_back(SMALL, tmp_path)


@pytest.mark.usefixtures("small_tower")
def test_infs_weights_tell_what_it_is(tmp_path: Path) -> None:
    reading = read_system(SMALL_INF, name="small")
    model = build(reading.card, seed=3)
    state = state_tensors(model)
    published = to_published(state, reading.namings[0])
    back = to_own(published, reading.namings[0], state_shapes(model))
    assert all(torch.equal(back[name].load(), value) for name, value in state.items())
    values = {name: value.load().contiguous() for name, value in published.items()}
    released = SMALL_INF | {"model_type": "llava_llama"}
    for folder, keep in (("inf", ""), ("llava", "spatial_embed")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "config.json").write_text(json.dumps(released))
        kept = {name: value for name, value in values.items() if not keep or keep not in name}
        save_file(kept, tmp_path / folder / "model.safetensors")
    pipeline = load(tmp_path / "inf", dtype=torch.float32)
    assert isinstance(pipeline.card.branch().connector, DualPerspective)
    opened = state_tensors(pipeline.model)
    assert set(opened) == set(state) and all(torch.equal(opened[name], state[name]) for name in state)
    again = load(pipeline.export(tmp_path / "back"), dtype=torch.float32)
    assert all(torch.equal(value, state[name]) for name, value in state_tensors(again.model).items())
    assert not isinstance(load(tmp_path / "llava").card.branch().connector, DualPerspective)


def test_a_picture_counts_as_1024_pixels_long() -> None:
    """resize_image_keep_ratio, then slice_image_minicpm(max_slice_nums=7, scale_resolution=336) of the release."""
    geometry: Any = card("llava-uhd-144-13b").branch().geometry
    assert geometry.grid((300, 400)) == geometry.grid((768, 1024)) == (2, 3)
    (*slices, whole) = geometry.views((300, 400))
    assert len(slices) == 6 and whole.role == "thumbnail"
    sizes = {(view.crop.bottom - view.crop.top, view.crop.right - view.crop.left) for view in slices}
    assert sizes == {view_size(768, 1024, 2, 3)}


def view_size(height: int, width: int, rows: int, columns: int) -> tuple[int, int]:
    """get_refine_size there."""
    tall, wide = height // rows * rows / rows, width // columns * columns / columns
    ratio = wide / tall
    new = int(336 / ratio**0.5)
    return new // 14 * 14, int(new * ratio) // 14 * 14
