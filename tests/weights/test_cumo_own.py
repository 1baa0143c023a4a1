"""CuMo's own files: names as its modules have them, values given back, and the cards that are written here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from beholder.cards import card
from beholder.errors import BeholderError
from beholder.parts.connectors.projections import Mlp
from beholder.weights.readers import cumo, llava_own
from beholder.weights.readers.systems import read_system
from tests.weights.own_folders import assert_comes_back, assert_is_card, both, published_names

# Mistral's settings, and what cumo/model/llava_arch.py and cumo/train/train.py of SHI-Labs/CuMo write beside them
MISTRAL: dict[str, Any] = {
    "architectures": ["LlavaMistralForCausalLM"],
    "model_type": "llava_mistral",
    "balance_loss_coef": 0.1,
    "clip_smoe": True,
    "dropout": False,
    "freeze_mm_mlp_adapter": False,
    "hidden_act": "silu",
    "hidden_size": 4096,
    "image_aspect_ratio": "pad",
    "intermediate_size": 14336,
    "local_rank": 0,
    "max_position_embeddings": 32768,
    "mlp_smoe": True,
    "mm_hidden_size": 1024,
    "mm_patch_merge_type": "flat",
    "mm_projector_lr": None,
    "mm_projector_type": "smoe_mlp",
    "mm_use_im_patch_token": False,
    "mm_use_im_start_end": False,
    "mm_vision_select_feature": "patch",
    "mm_vision_select_layer": -2,
    "mm_vision_tower": "openai/clip-vit-large-patch14-336",
    "num_attention_heads": 32,
    "num_experts": 4,
    "num_hidden_layers": 32,
    "num_key_value_heads": 8,
    "num_layers": 3,
    "num_selected": 2,
    "rms_norm_eps": 1e-05,
    "rope_theta": 1000000.0,
    "router_z_loss_coef": 0.01,
    "scales": [1, 3],
    "sliding_window": None,
    "tie_word_embeddings": False,
    "tokenizer_model_max_length": 4096,
    "tokenizer_padding_side": "right",
    "training": True,
    "tune_mm_mlp_adapter": False,
    "use_mm_proj": True,
    "vocab_size": 32000,
}
MIXTRAL = MISTRAL | {
    "model_type": "llava_mixtral",
    "architectures": ["LlavaMixtralForCausalLM"],
    "num_experts_per_tok": 2,
    "num_local_experts": 8,
    "output_router_logits": False,
    "router_aux_loss_coef": 0.02,
}
SIZES = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1, "num_attention_heads": 2}
SIZES |= {"num_key_value_heads": 1, "vocab_size": 90, "mm_hidden_size": 24, "mm_vision_tower": "small"}


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """An encoder called so."""
    tower = {**llava_own.CLIP_L, "hidden_size": 24, "intermediate_size": 40, "num_hidden_layers": 2}
    tower |= {"num_attention_heads": 2, "image_size": 28}
    monkeypatch.setattr(llava_own, "TOWERS", ((r"small$", tower),))


@pytest.mark.filterwarnings("error::UserWarning")
@pytest.mark.parametrize(("name", "config"), [("cumo-mistral-7b", MISTRAL), ("cumo-mixtral-8x7b", MIXTRAL)])
def test_released_files_are_the_cards(name: str, config: dict[str, Any]) -> None:
    assert_is_card(config, name)


@pytest.mark.usefixtures("small")
def test_names_are_those_of_the_published_modules() -> None:
    whole = published_names(MISTRAL | SIZES)
    eyes = {
        name.removeprefix("model.vision_tower.vision_model.") for name in whole if ".vision_model." in name
    }
    layer = ("layer_norm1", "layer_norm2", *(f"self_attn.{key}_proj" for key in ("q", "k", "v", "out")))
    layer += tuple(f"experts.{n}.fc{m}" for n in range(4) for m in (1, 2))
    assert eyes == {
        *(
            f"embeddings.{name}"
            for name in ("class_embedding", "patch_embedding.weight", "position_embedding.weight")
        ),
        *both("pre_layrnorm", *(f"encoder.layers.{n}.{part}" for n in range(2) for part in layer)),
        *(f"encoder.layers.{n}.gate.weight" for n in range(2)),
    }
    projector = published_names(MISTRAL | SIZES, "model.mm_projector.")
    assert projector == {"gate.weight"} | both(*(f"experts.{n}.{m}" for n in range(4) for m in (0, 2)))
    words = published_names(MIXTRAL | SIZES, "model.layers.0.block_sparse_moe.")
    assert {"gate.weight", "experts.7.w1.weight"} <= words


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("config", [MISTRAL, MIXTRAL])
def test_values_come_back_and_a_folder_opens(config: dict[str, Any], tmp_path: Path) -> None:
    assert_comes_back(config | SIZES, tmp_path)


@pytest.mark.filterwarnings("error::UserWarning")
def test_files_of_llava_for_mistral_are_read_as_before() -> None:
    """They have the same type, and no experts."""
    own = {key: value for key, value in MISTRAL.items() if key not in cumo.OWN}
    read = read_system(own | {"mm_projector_type": "mlp2x_gelu"}, name="llava").card
    assert read.branch().connector == Mlp() and read.main is not None
    assert read.main.num_layers == card("cumo-mistral-7b").main.num_layers  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"clip_smoe": False}, "clip_smoe False"),
        ({"mm_projector_type": "mlp2x_gelu"}, "mlp2x_gelu"),
        ({"scales": [1, 1.5]}, "1.5"),
        ({"scales": [3, 1]}, "rise from 1"),
    ],
)
def test_what_was_not_released_is_refused(change: dict[str, Any], says: str) -> None:
    with pytest.raises(BeholderError, match=says):
        read_system(MISTRAL | change, name="x")
