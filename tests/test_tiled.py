"""Systems with tiles: prompts equal the official processors', from a picture's size to ids; names are the authors'."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from beholder.cards import card
from beholder.errors import BeholderError
from beholder.media.plan import Grid
from beholder.model import build
from beholder.parts.connectors.projections import Folded, fold, turned
from beholder.parts.contracts import Packed
from beholder.planning import prompt_plan
from beholder.prompts.chat import complete, render
from beholder.prompts.formats import PLAIN
from beholder.prompts.messages import Picture
from beholder.prompts.tokenizer import Tokenizer
from beholder.weights.files import open_weights
from beholder.weights.layout import Binding, to_published
from beholder.weights.load import load_state, state_tensors
from beholder.weights.open import read_folder_config, read_json
from beholder.weights.part import open_part
from beholder.weights.readers.fields import Fields
from beholder.weights.readers.parts import read_vit
from beholder.weights.readers.systems import read_system

# how official prompts write a picture, and the token that stands for its features
MARKS = {"internvl": ("<IMG_CONTEXT>", "<IMG_CONTEXT>"), "aya_vision": ("<image>", "<|IMG_PATCH|>")}


@pytest.mark.parity
@pytest.mark.parametrize("family", MARKS)
def test_ids_equal_the_official_processor(oracle: Callable[[str], Path], family: str) -> None:
    folder, (mark, token) = oracle(family), MARKS[family]
    tokenizer = Tokenizer.from_folder(folder)
    read = read_folder_config(folder, read_json(folder / "config.json")).card
    recorded = load_file(folder / "processor.safetensors")
    cases = json.loads((folder / "processor_cases.json").read_text())["cases"]
    assert len(cases) >= 2
    for number, case in enumerate(cases):
        (image,) = case["images"]
        plan = prompt_plan(read, recorded[f"image_{image}"].shape[:2])
        before, after = case["text"].split(mark)
        chat = PLAIN.but(image_token=token)
        prompt = render(complete(before, Picture(), after), chat, tokenizer, [plan])
        np.testing.assert_array_equal(prompt.ids, recorded[f"case_{number}/input_ids"][0])


@pytest.mark.parity
@torch.no_grad()
def test_phi_4s_encoder_equals_the_official_one(oracle: Callable[[str], Path]) -> None:
    """One part of a system's checkpoint: tokens behind the norm, and the head's vectors."""
    folder, prefix = oracle("phi4_multimodal"), "model.embed_tokens_extend.image_embed.img_processor."
    config = read_json(folder / "config.json")
    read = read_vit(Fields(config).part("vision_config", "phi4_multimodal_vision"))
    model = open_part(folder, read, prefix)
    pixels = open_weights(folder / "inputs.safetensors")["image_pixel_values"].load()
    reference = open_weights(folder / "reference.safetensors")
    packed = model(list(pixels.flatten(0, 1)))
    for name, ours in (("post_layernorm", packed.tokens_ND), ("head", packed.pooled_VD)):
        theirs = reference[f"hook/{prefix}{name}"].load()
        assert (ours - theirs.reshape(ours.shape)).abs().max() / theirs.std() < 1e-4
    exported = to_published(state_tensors(model), (Binding(prefix, "", read.layout, read.numbers),))
    part = {name: tensor for name, tensor in open_weights(folder).items() if name.startswith(prefix)}
    assert exported.keys() == part.keys()
    assert all(torch.equal(exported[name].load(), tensor.load()) for name, tensor in part.items())


INTERNVL_CHAT = {  # OpenGVLab/InternVL2_5-8B, at another size
    "model_type": "internvl_chat",
    "downsample_ratio": 0.5,
    "dynamic_image_size": True,
    "force_image_size": 56,
    "max_dynamic_patch": 12,
    "min_dynamic_patch": 1,
    "pad2square": False,
    "ps_version": "v2",
    "select_layer": -1,
    "template": "internvl2_5",
    "use_backbone_lora": 0,
    "use_llm_lora": 0,
    "use_thumbnail": True,
    "vision_config": {
        "model_type": "intern_vit_6b",
        "hidden_size": 32,
        "image_size": 56,
        "intermediate_size": 64,
        "norm_type": "layer_norm",
        "num_attention_heads": 4,
        "num_hidden_layers": 2,
        "patch_size": 14,
        "qk_normalization": False,
        "qkv_bias": True,
    },
    "llm_config": {
        "model_type": "internlm2",
        "architectures": ["InternLM2ForCausalLM"],
        "bias": False,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_attention_heads": 4,
        "num_hidden_layers": 2,
        "num_key_value_heads": 2,
        "vocab_size": 92553,
    },
}


def published(config: dict[str, Any]) -> set[str]:
    """The names that a model of this config is written out with; reading it again gives the same values."""
    reading = read_system(config, name="x")
    model = build(reading.card)
    written = to_published(state_tensors(model), reading.namings[0])
    again = build(reading.card, seed=1)
    load_state(again, written, reading.namings[0])
    state = again.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    return set(written)


def test_internvls_own_files() -> None:
    """Names of OpenGVLab's modeling_internvl_chat.py, modeling_intern_vit.py and modeling_internlm2.py."""
    reading = read_system(INTERNVL_CHAT, name="x")
    found, released = reading.card.branch(), card("internvl-2.5-8b").branch()
    assert found.geometry.at(448) == released.geometry and found.connector == released.connector
    assert reading.card.fusion[0].token_id == card("internvl-2.5-8b").fusion[0].token_id
    names = published(INTERNVL_CHAT)
    layer, tower = "language_model.model.layers.1.", "vision_model.encoder.layers.1."
    assert names >= {f"mlp1.{part}.{leaf}" for part in (0, 1, 3) for leaf in ("weight", "bias")}
    assert names >= {
        f"{layer}attention.wqkv.weight",
        f"{layer}feed_forward.w2.weight",
        f"{tower}attn.qkv.bias",
        f"{tower}ls1",
        "vision_model.embeddings.class_embedding",
        "language_model.model.tok_embeddings.weight",
        "language_model.output.weight",
    }
    assert len(names) == 6 + 2 * 7 + 3 + 4 + 2 * 14
    for changes, words in (
        ({"ps_version": "v3"}, "unknown config.json: ps_version 'v3'"),
        ({"use_thumbnail": False}, "use_thumbnail"),
        ({"force_image_size": 448}, "force_image_size is 448"),
        ({"llm_config": {"model_type": "gemma2"}}, "llm_config: model_type"),
    ):
        with pytest.raises(BeholderError, match=words):
            read_system(INTERNVL_CHAT | changes, name="x")


def test_internvls_first_shuffle_leaves_columns_in_front() -> None:
    """`pixel_shuffle` of modeling_internvl_chat.py, which swaps height and width back from `ps_version` v2 on."""
    old = {key: value for key, value in INTERNVL_CHAT.items() if key != "ps_version"}  # the default is v1
    connector = read_system(old, name="x").card.branch().connector
    assert isinstance(connector, Folded) and connector.by_columns
    assert published(old) == published(INTERNVL_CHAT)
    for ps_version, by_columns in (("v1", True), ("v2", False)):
        x_nwhc = torch.arange(1 * 4 * 6 * 2).view(1, 4, 6, 2).float()  # width and height are called so there
        x = x_nwhc.view(1, 4, 3, 4).permute(0, 2, 1, 3).contiguous().view(1, 3, 2, 8)
        want = x if ps_version == "v1" else x.permute(0, 2, 1, 3)
        folded = fold(Packed(x_nwhc.flatten(0, 2), (Grid(1, 4, 6),)), 2)
        folded = turned(folded) if by_columns else folded
        assert torch.equal(folded.tokens_ND, want.reshape(6, 8))


def test_minimaxs_own_files() -> None:
    """Names of MiniMaxAI/MiniMax-VL-01's modeling_minimax_vl_01.py: LLaVA-NeXT's around those of MiniMax-Text-01."""
    text = {
        "model_type": "minimax_text_01",
        "attn_type_list": [0, 1],
        "head_dim": 8,
        "hidden_size": 32,
        "intermediate_size": 48,
        "layernorm_full_attention_alpha": 3.5,
        "layernorm_linear_attention_alpha": 3.5,
        "layernorm_mlp_alpha": 3.5,
        "num_attention_heads": 4,
        "num_hidden_layers": 2,
        "num_key_value_heads": 2,
        "num_local_experts": 4,
        "rotary_dim": 4,
        "vocab_size": 60,
    }
    vision = {
        "hidden_size": 32,
        "image_size": 28,
        "intermediate_size": 48,
        "num_attention_heads": 4,
        "num_hidden_layers": 2,
        "patch_size": 14,
    }
    config = {
        "model_type": "minimax_vl_01",
        "image_token_index": 200025,
        "text_config": text,
        "vision_config": vision,
    }
    reading, released = read_system(config, name="x"), card("minimax-vl-01")
    assert reading.card.fusion == released.fusion and reading.card.main.arrangement.skip == 3.5
    assert reading.card.main.arrangement.placement == released.main.arrangement.placement
    assert published(config) >= {
        "image_newline",
        "multi_modal_projector.linear_2.weight",
        "vision_tower.vision_model.embeddings.class_embedding",
        "language_model.model.layers.0.self_attn.qkv_proj.weight",
        "language_model.model.layers.1.block_sparse_moe.experts.3.w2.weight",
        "language_model.lm_head.weight",
    }
