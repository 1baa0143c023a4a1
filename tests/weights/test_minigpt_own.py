"""MiniGPT-4's, MiniGPT-v2's and BLIVA's own files: what was trained, and what it was trained on in folders of its own."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from beholder import load
from beholder.cards import card
from beholder.errors import BeholderError, UnknownName, WeightsError
from beholder.model import build
from beholder.parts.blocks.attention import Attention
from beholder.parts.connectors.qformer import QueryStack
from beholder.weights.beside import COMPOSED
from beholder.weights.layout import to_published
from beholder.weights.load import state_tensors
from beholder.weights.readers import minigpt
from beholder.weights.readers.systems import read_system
from tests.weights.own_folders import both, published_names

LLAMA: dict[str, Any] = {
    "model_type": "llama",
    "hidden_size": 4096,
    "intermediate_size": 11008,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "rms_norm_eps": 1e-6,
    "max_position_embeddings": 2048,
    "vocab_size": 32001,
}
LLAMA_2 = LLAMA | {"rms_norm_eps": 1e-5, "max_position_embeddings": 4096, "vocab_size": 32000}
WORDS = LLAMA | {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "vocab_size": 90}
WORDS |= {"num_attention_heads": 2}
# The `model` sections of minigpt4/configs/models/*.yaml and bliva/configs/models/*.yaml
YAML = {"arch": "minigpt4", "drop_path_rate": 0, "use_grad_checkpoint": False, "vit_precision": "fp16"}
YAML |= {"freeze_vit": True, "prompt": ""}
MINIGPT_4 = YAML | {
    "model_type": "minigpt4",
    "image_size": 224,
    "freeze_qformer": True,
    "num_query_token": 32,
}
MINIGPT_4_LLAMA_2 = YAML | {"model_type": "minigpt4", "image_size": 224, "has_qformer": False}
MINIGPT_V2 = YAML | {"model_type": "minigpt_v2", "image_size": 448, "lora_r": 64, "lora_alpha": 16}
BLIVA = YAML | {"model_type": "bliva_vicuna", "arch": "vicuna7b", "image_size": 224, "num_query_token": 32}
BLIVA |= {"load_finetuned": True, "load_pretrained": False, "pretrained": "", "finetuned": ""}
T5 = {
    "model_type": "t5",
    "d_model": 32,
    "d_kv": 16,
    "d_ff": 48,
    "num_heads": 2,
    "num_layers": 1,
    "vocab_size": 90,
}
T5 |= {"num_decoder_layers": 1, "feed_forward_proj": "gated-gelu", "tie_word_embeddings": False}
COMPOSITIONS = {
    "minigpt-4": MINIGPT_4 | {"llama_model": WORDS},
    "minigpt-4-llama-2": MINIGPT_4_LLAMA_2 | {"llama_model": WORDS},
    "minigpt-v2": MINIGPT_V2 | {"llama_model": WORDS},
    "bliva": BLIVA | {"llm_model": WORDS},
    "bliva-t5": BLIVA | {"model_type": "bliva_flant5", "t5_model": T5},
}


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """The code alone has the encoder's and the Q-Former's numbers."""
    heads = {"attention.num_heads": 2, "mlp.hidden": 40}
    monkeypatch.setattr(minigpt, "EVA_G", minigpt.EVA_G.but(dim=24, num_layers=3, image_size=56, **heads))
    stack = QueryStack(dim=16, num_layers=2).but(attention=Attention(2, qkv_bias=True, out_bias=True))
    monkeypatch.setattr(minigpt, "STACK", stack.but(**{"mlp.hidden": 20}))
    monkeypatch.setattr(minigpt, "VOCABULARY", 70)


@pytest.mark.filterwarnings("error::UserWarning")
@pytest.mark.parametrize(
    ("name", "config"),
    [
        ("minigpt-4-vicuna-7b", MINIGPT_4 | {"llama_model": LLAMA}),
        ("minigpt-4-llama-2-7b", MINIGPT_4_LLAMA_2 | {"llama_model": LLAMA_2}),
        ("minigpt-v2-7b", MINIGPT_V2 | {"llama_model": LLAMA_2}),
        ("bliva-vicuna-7b", BLIVA | {"llm_model": LLAMA}),
    ],
)
def test_released_settings_are_the_cards(name: str, config: dict[str, Any]) -> None:
    """But for biases of keys, which are zeros in transformers' files of BLIP-2 and absent in LAVIS's."""
    read, written = read_system(config, name=name).card, card(name)
    mine, theirs = read.branch(), written.branch()
    assert mine.connector == theirs.connector and mine.geometry == theirs.geometry
    eyes = theirs.encoders[0]
    assert mine.encoders[0] == eyes.but(**{"attention.k_bias": False})
    assert read.fusion == written.fusion
    want: Any = written.main
    assert read.main == want.but(**{"attention.num_kv_heads": 32})


def test_bliva_for_flan_t5_has_the_exact_activation() -> None:
    """Whatever FLAN-T5's own file says."""
    large = T5 | {
        "d_model": 4096,
        "d_kv": 64,
        "d_ff": 10240,
        "num_heads": 64,
        "num_layers": 24,
        "vocab_size": 32128,
    }
    config = BLIVA | {"model_type": "bliva_flant5", "t5_model": large | {"num_decoder_layers": 24}}
    assert read_system(config, name="x").card.main == card("bliva-flan-t5-xxl").main


@pytest.mark.usefixtures("small")
def test_names_are_those_of_the_published_modules() -> None:
    layer = ("attn.q_bias", "attn.v_bias", "attn.qkv.weight")
    layer += tuple(both("norm1", "norm2", "attn.proj", "mlp.fc1", "mlp.fc2"))
    eyes = {"cls_token", "pos_embed"} | both("patch_embed.proj")
    eyes |= {f"blocks.{n}.{name}" for n in range(3) for name in layer}
    assert published_names(COMPOSITIONS["minigpt-4"], "visual_encoder.") == eyes
    reads = (*(f"attention.self.{key}" for key in ("query", "key", "value")), "attention.output.dense")
    reads += (
        "attention.output.LayerNorm",
        "intermediate_query.dense",
        "output_query.dense",
        "output_query.LayerNorm",
    )
    cross = tuple(name.replace("attention.", "crossattention.", 1) for name in reads[:5])
    layers = both(*(f"encoder.layer.{n}.{name}" for n in range(2) for name in reads))
    layers |= both(*(f"encoder.layer.0.{name}" for name in cross), "embeddings.LayerNorm")
    assert published_names(COMPOSITIONS["minigpt-4"], "Qformer.bert.") == layers
    words = ("intermediate.dense", "output.dense", "output.LayerNorm")
    layers |= both(*(f"encoder.layer.{n}.{name}" for n in range(2) for name in words))
    layers |= {f"embeddings.{name}_embeddings.weight" for name in ("word", "position")}
    assert published_names(COMPOSITIONS["bliva"], "Qformer.bert.") == layers
    bliva = published_names(COMPOSITIONS["bliva"])
    assert both("llm_proj", "vision_project", "ln_vision") | {"query_tokens"} <= bliva
    assert {"llm_model.model.embed_tokens.weight", "llm_model.lm_head.weight"} <= bliva
    assert both("llama_proj") <= published_names(COMPOSITIONS["minigpt-v2"])
    assert not published_names(COMPOSITIONS["minigpt-4-llama-2"], "Qformer.")
    assert {"t5_proj.bias", "t5_model.shared.weight"} <= published_names(COMPOSITIONS["bliva-t5"])


def written(
    folder: Path, config: Mapping[str, Any], seed: int = 3
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """A composed folder, with what the authors' files hold besides: what the model has, and what was trained."""
    reading = read_system(config, name="small")
    state = state_tensors(build(reading.card, seed=seed))
    published = {
        key: value.load().contiguous() for key, value in to_published(state, reading.namings[0]).items()
    }
    place = COMPOSED[config["model_type"]].language
    parts: dict[str, dict[str, Tensor]] = {place: {}, "visual_encoder": {}, "q_former_model": {}, "": {}}
    for key, value in published.items():
        name = next((part for part in (place, "visual_encoder") if key.startswith(f"{part}.")), "")
        if not name and "bliva" not in config["model_type"] and not key.startswith("llama_proj"):
            name = "q_former_model"
        parts[name][key.removeprefix(f"{name}.")] = value
    width = published["ln_vision.weight"].shape[0]
    parts["visual_encoder"] |= {"blocks.3.norm1.weight": torch.zeros(width), "norm.bias": torch.zeros(width)}
    if "query_tokens" in parts["q_former_model"]:
        first = {
            "t5_proj.weight": 2,
            "Qformer.cls.predictions.bias": 2,
            "Qformer.bert.embeddings.position_ids": 9,
        }
        parts["q_former_model"] |= {key: torch.zeros(size) for key, size in first.items()}
    else:
        parts["q_former_model"] = {}  # the norm behind the encoder is as it was made
    for name, values in parts.items():
        if values:
            (folder / name).mkdir(exist_ok=True)
            save_file(values, folder / name / "model.safetensors")
    (folder / place / "config.json").write_text(json.dumps(config[place]))
    own = {key: value for key, value in config.items() if key != place}
    (folder / "config.json").write_text(json.dumps(own))
    return state, parts[""]


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("name", COMPOSITIONS)
def test_a_composed_folder_opens(name: str, tmp_path: Path) -> None:
    state, _ = written(tmp_path, COMPOSITIONS[name])
    opened = state_tensors(load(tmp_path, dtype=torch.float32).model)
    assert set(opened) == set(state) and all(torch.equal(opened[key], state[key]) for key in state)


@pytest.mark.usefixtures("small")
def test_it_is_written_whole_and_opens_again(tmp_path: Path) -> None:
    """As a beholder folder, and as one file under the authors' names with the language model's settings in `config.json`."""
    (tmp_path / "parts").mkdir()
    state, _ = written(tmp_path / "parts", COMPOSITIONS["minigpt-v2"])
    first = load(tmp_path / "parts", dtype=torch.float32)
    for folder in (first.save(tmp_path / "ours"), first.export(tmp_path / "theirs")):
        again = state_tensors(load(folder, dtype=torch.float32).model)
        assert all(torch.equal(again[key], state[key]) for key in state)
        first = load(folder, dtype=torch.float32)


@pytest.mark.usefixtures("small")
def test_adapters_are_multiplied_in(tmp_path: Path) -> None:
    """As peft 0.2 and later ones name them; alpha over rank is 16 / 4."""
    config = COMPOSITIONS["minigpt-v2"]
    state, trained = written(tmp_path, config)
    a_RI, b_OR = torch.randn(4, 32), torch.randn(32, 4)
    layer = "llama_model.base_model.model.model.layers.1.self_attn"
    trained |= {f"{layer}.q_proj.lora_A.weight": a_RI, f"{layer}.q_proj.lora_B.weight": b_OR}
    trained |= {
        f"{layer}.v_proj.lora_{half}.default.weight": x.clone() for half, x in (("A", a_RI), ("B", b_OR))
    }
    save_file(trained, tmp_path / "model.safetensors")
    opened = state_tensors(load(tmp_path, dtype=torch.float32).model)
    for part in "qv":
        key = f"languages.main.blocks.1.attn.{part}.weight"
        torch.testing.assert_close(opened[key], state[key] + 4 * b_OR @ a_RI)
    key = "languages.main.blocks.0.attn.q.weight"
    assert torch.equal(opened[key], state[key])
    save_file(trained | {f"{layer}.k_proj.lora_A.weight": a_RI.clone()}, tmp_path / "model.safetensors")
    with pytest.raises(WeightsError, match=r"k_proj\.weight without its other half"):
        load(tmp_path)
    save_file(
        trained | {f"{layer}.v_proj.lora_A.default.weight": a_RI[:, :5].contiguous()},
        tmp_path / "model.safetensors",
    )
    with pytest.raises(WeightsError, match="no product"):
        load(tmp_path)


@pytest.mark.usefixtures("small")
def test_what_is_missing_is_named(tmp_path: Path) -> None:
    written(tmp_path, COMPOSITIONS["minigpt-4"])
    (tmp_path / "visual_encoder" / "model.safetensors").rename(tmp_path / "elsewhere")
    (tmp_path / "visual_encoder").rmdir()
    with pytest.raises(WeightsError, match=r"visual_encoder\.cls_token"):
        load(tmp_path)
    (tmp_path / "llama_model" / "config.json").unlink()
    with pytest.raises(WeightsError, match="put that model's folder at .*llama_model"):
        load(tmp_path)


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize(
    ("config", "change", "says"),
    [
        ("minigpt-4", {"vit_model": "clip_L"}, "clip_L"),
        ("bliva", {"qformer_text_input": False}, "qformer_text_input is false"),
    ],
)
def test_what_was_not_released_is_refused(config: str, change: dict[str, Any], says: str) -> None:
    with pytest.raises((BeholderError, UnknownName), match=says):
        read_system(COMPOSITIONS[config] | change, name="small")
