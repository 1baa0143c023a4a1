"""Honeybee's own files, of both states of its code: names, values given back, and the cards that are written here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from beholder.errors import BeholderError, UnknownName
from beholder.model import build
from beholder.weights.layout import to_published
from beholder.weights.readers.systems import read_system
from tests.weights.own_folders import assert_comes_back, assert_is_card, both, published_names

EYES: dict[str, Any] = {
    "model_type": "",
    "encoder_type": "openai.clip",
    "pretrained_vision_name_or_path": "openai/clip-vit-large-patch14",
    "hidden_act": "quick_gelu",
    "projection_dim": 768,
}
CLIP_L = EYES | {
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "image_size": 224,
    "patch_size": 14,
}
LLAMA = {
    "model_type": "llama",
    "hidden_size": 4096,
    "intermediate_size": 11008,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 32,
    "max_position_embeddings": 4096,
    "rms_norm_eps": 1e-05,
    "vocab_size": 32000,
}
# configs/model_config/c-abs.yaml and d-abs.yaml, the latter over the defaults of transformers' `DeformableDetrConfig`
C_ABS = {
    "projector_type": "c-abs",
    "depth": 3,
    "mlp_depth": 2,
    "hidden_size": 1024,
    "num_eos_tokens": 0,
    "pos_emb": True,
    "feature_layer_index": -1,
    "prenorm": False,
    "encoder_hidden_size": 1024,
}
D_ABS = {
    "projector_type": "d-abs",
    "d_model": 1024,
    "decoder_layers": 6,
    "decoder_attention_heads": 8,
    "decoder_ffn_dim": 1024,
    "decoder_n_points": 4,
    "activation_function": "relu",
    "num_eos_tokens": 0,
    "num_feature_levels": 1,
    "feature_layer_index": -1,
    "pos_emb": True,
    "pooled_v_target": "query",
    "encoder_hidden_size": 1024,
    "two_stage": False,
}


def newer(
    projector: dict[str, Any], eyes: dict[str, Any], words: dict[str, Any], queries: int
) -> dict[str, Any]:
    return {
        "architectures": ["HoneybeeForConditionalGeneration"],
        "model_type": "",
        "vision_config": eyes,
        "projector_config": projector | {"num_query_tokens": queries, "num_queries": queries},
        "lm_config": {"pretrained_lm_name_or_path": "lmsys/vicuna-7b-v1.5"},
        "text_config": words,
    }


def older(
    projector: dict[str, Any], eyes: dict[str, Any], words: dict[str, Any], queries: int
) -> dict[str, Any]:
    """As the first state of the code, with which the released checkpoints were written, has it."""
    new = newer(projector, eyes, words, queries)
    moved = {"visual_projector_config": projector | {"num_queries": queries, "except_cls": True}}
    rest = {key: value for key, value in new.items() if key != "projector_config"}
    return rest | moved | {"model_type": "mllm", "num_query_tokens": queries, "tie_word_embeddings": False}


STATES = pytest.mark.parametrize("state", [newer, older])
SMALL_EYES = EYES | {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": 28,
    "patch_size": 7,
}
SMALL_WORDS = LLAMA | {
    "hidden_size": 48,
    "intermediate_size": 64,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "vocab_size": 90,
}
SMALL_C = C_ABS | {"depth": 2, "hidden_size": 24, "encoder_hidden_size": 32}
SMALL_D = D_ABS | {
    "d_model": 32,
    "encoder_hidden_size": 32,
    "decoder_layers": 2,
    "decoder_attention_heads": 2,
}


@STATES
@pytest.mark.filterwarnings("error::UserWarning")
@pytest.mark.parametrize(
    ("name", "projector", "side", "queries"),
    [
        ("honeybee-c-7b-m144", C_ABS, 224, 144),
        ("honeybee-c-7b-m256", C_ABS, 336, 256),
        ("honeybee-d-7b-m144", D_ABS, 224, 144),
    ],
)
def test_a_released_file_is_the_card(
    state: Any, name: str, projector: dict[str, Any], side: int, queries: int
) -> None:
    assert_is_card(state(projector, CLIP_L | {"image_size": side}, LLAMA, queries), name)


@STATES
def test_names_of_the_c_abstractor(state: Any) -> None:
    config = state(SMALL_C, SMALL_EYES, SMALL_WORDS, 4)
    stages = {
        f"net.{stage}.b{block}.{part}"
        for stage in (0, 2)
        for block in (1, 2)
        for part in (
            *(f"conv{n}.conv.weight" for n in (1, 2, 3)),
            *both("conv1.bn", "conv2.bn", "conv3.bn", "se.fc1", "se.fc2"),
        )
    }
    wider = {f"net.0.b1.downsample.{part}" for part in ("conv.weight", "bn.weight", "bn.bias")}
    assert (
        published_names(config, "abstractor.")
        == {"pos_emb"} | both("readout.0", "readout.2") | stages | wider
    )
    whole = published_names(config)
    assert {
        "vision_model.vision_model.pre_layrnorm.weight",
        "language_model.model.embed_tokens.weight",
        "language_model.lm_head.weight",
    } <= whole


def test_names_of_the_d_abstractor() -> None:
    layer = (
        *(f"self_attn.{key}_proj" for key in ("q", "k", "v", "out")),
        *(
            f"encoder_attn.{key}"
            for key in ("sampling_offsets", "attention_weights", "value_proj", "output_proj")
        ),
        *("self_attn_layer_norm", "encoder_attn_layer_norm", "final_layer_norm", "fc1", "fc2"),
    )
    names = published_names(newer(SMALL_D, SMALL_EYES, SMALL_WORDS, 4), "abstractor.")
    assert names == {"v_pos_emb", "query_position_embeddings.weight", "reference_points"} | both(
        "output_proj", *(f"layers.{n}.{part}" for n in (0, 1) for part in layer)
    )


def test_a_table_of_places_with_the_class_token() -> None:
    """The first state of the code adds it before the class token goes; 3x3 convolutions are depthwise in both."""
    for state, rows in ((newer, 16), (older, 17)):
        reading = read_system(state(SMALL_C, SMALL_EYES, SMALL_WORDS, 4), name="small")
        published = to_published(build(reading.card, device="meta").state_dict(), reading.namings[0])
        assert published["abstractor.pos_emb"].shape == (1, rows, 32)
        assert published["abstractor.net.0.b1.conv2.conv.weight"].shape == (24, 1, 3, 3)


@STATES
@pytest.mark.parametrize("projector", [SMALL_C, SMALL_D])
def test_values_come_back_and_a_folder_opens(state: Any, projector: dict[str, Any], tmp_path: Path) -> None:
    assert_comes_back(state(projector, SMALL_EYES, SMALL_WORDS, 4), tmp_path)


@pytest.mark.parametrize(
    ("projector", "eyes", "says"),
    [
        ({"projector_type": "resampler"}, {}, "resampler"),
        ({"num_eos_tokens": 1}, {}, "num_eos_tokens is 1"),
        ({"prenorm": True}, {}, "prenorm is True"),
        (SMALL_D | {"pooled_v_target": "none"}, {}, "pooled_v_target 'none'"),
        ({}, {"encoder_type": "eva"}, "eva"),
    ],
)
def test_what_was_not_released_is_refused(projector: dict[str, Any], eyes: dict[str, Any], says: str) -> None:
    with pytest.raises((BeholderError, UnknownName), match=says):
        read_system(newer(SMALL_C | projector, SMALL_EYES | eyes, SMALL_WORDS, 4), name="small")
    with pytest.raises(BeholderError, match="num_query_tokens is 5"):
        read_system(newer(SMALL_C, SMALL_EYES, SMALL_WORDS, 5), name="small")
