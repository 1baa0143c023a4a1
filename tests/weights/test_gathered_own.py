"""Releases of what was trained alone: Cobra and Video-ChatGPT with the encoders and language models that they took."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from beholder import load
from beholder.cards import card
from beholder.errors import UnknownName, WeightsError
from beholder.model import build
from beholder.weights.layout import to_own, to_published
from beholder.weights.load import state_shapes, state_tensors
from beholder.weights.open import folder_config
from beholder.weights.pickles import tensors_of_pickle
from beholder.weights.readers import cobra, llava_mole, video_chatgpt
from beholder.weights.readers.systems import read_system
from tests.weights.own_folders import both

# cobra/conf/models.py, `Cobra_3B`
COBRA: dict[str, Any] = {
    "model": {
        "model_id": "cobra+3b",
        "arch_specifier": "no-align+fused-gelu-mlp",
        "vision_backbone_id": "dinosiglip-vit-so-384px",
        "llm_backbone_id": "mamba-2.8b-zephyr",
        "image_resize_strategy": "resize-naive",
        "llm_max_length": 2048,
        "align_epochs": 1,
        "finetune_learning_rate": 2e-5,
        "enable_mixed_precision_training": True,
        "reduce_in_full_precision": False,
    },
    "seed": 7,
}
# config.json of mmaaz60/LLaVA-7B-Lightening-v1-1
LIGHTNING: dict[str, Any] = {
    "model_type": "llava",
    "hidden_size": 4096,
    "intermediate_size": 11008,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "rms_norm_eps": 1e-6,
    "max_position_embeddings": 2048,
    "vocab_size": 32003,
    "tie_word_embeddings": False,
    "mm_hidden_size": 1024,
    "mm_use_im_start_end": True,
    "mm_vision_select_layer": -2,
    "mm_vision_tower": "openai/clip-vit-large-patch14",
    "sep_image_conv_front": False,
    "tune_mm_mlp_adapter": False,
    "use_mm_proj": True,
}
VICUNA = {
    key: value for key, value in LIGHTNING.items() if not key.startswith(("mm_", "sep_", "tune_", "use_"))
}
VICUNA |= {"model_type": "llama", "rms_norm_eps": 1e-5, "max_position_embeddings": 4096, "vocab_size": 32000}
MOLE = {"model_type": "llava_mole"}
SMALL = LIGHTNING | {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "vocab_size": 90}
SMALL |= {"num_attention_heads": 2}
FAMILY = {"model_type": "VideoChatGPT"}


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """The code alone has the encoders' numbers."""
    monkeypatch.setattr(cobra, "CARD", card("cobra-3.5b").tiny())
    monkeypatch.setattr(video_chatgpt, "BRANCH", card("video-chatgpt-7b").tiny().branch())
    monkeypatch.setattr(llava_mole, "BRANCH", card("llava-mole-r16-7b").tiny().branch())


def settings(config: dict[str, Any], tmp_path: Path) -> dict[str, Any]:
    (tmp_path / "config.json").write_text(json.dumps(config))
    return folder_config(tmp_path)


@pytest.mark.filterwarnings("error::UserWarning")
def test_released_settings_are_the_cards(tmp_path: Path) -> None:
    read, want = read_system(settings(COBRA, tmp_path), name="cobra-3.5b").card, card("cobra-3.5b")
    assert read == want.but(stages=(), weights=())
    read = read_system(FAMILY | {"language_model": LIGHTNING}, name="x").card
    want = card("video-chatgpt-7b")
    main: Any = want.main
    assert (read.branches, read.fusion) == (want.branches, want.fusion)
    assert read.main == main.but(**{"attention.num_kv_heads": 32})
    read = read_system(MOLE | {"vicuna-7b-v1.5": VICUNA}, name="x").card
    want = card("llava-mole-r16-7b")
    main = want.main
    assert (read.branches, read.fusion) == (want.branches, want.fusion)
    assert read.main == main.but(**{"attention.num_kv_heads": 32})


def test_parts_that_were_not_released_are_refused(tmp_path: Path) -> None:
    for key in cobra.CHOICES:
        model = COBRA["model"] | {key: "another"}
        with pytest.raises(UnknownName, match=f"{key} 'another'"):
            read_system(settings({"model": model}, tmp_path), name="x")


def published(config: dict[str, Any]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Values under the authors' names, and ours."""
    reading = read_system(config, name="small")
    model = build(reading.card, seed=3)
    state = state_tensors(model)
    found = to_published(state, reading.namings[0])
    back = to_own(found, reading.namings[0], state_shapes(model))
    assert all(torch.equal(back[name].load(), value) for name, value in state.items())
    return {name: value.load().contiguous() for name, value in found.items()}, state


def under(names: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in names.items() if name.startswith(prefix)}


@pytest.mark.usefixtures("small")
def test_cobras_names_are_those_of_its_modules(tmp_path: Path) -> None:
    values, _ = published(settings(COBRA, tmp_path))
    assert set(under(values, "projector.")) == both("projector.0", "projector.2", "projector.4")
    mixer = {f"{name}.weight" for name in ("in_proj", "conv1d", "x_proj", "dt_proj", "out_proj")}
    mixer |= {"conv1d.bias", "dt_proj.bias", "A_log", "D"}
    layers = {
        f"layers.{n}.{name}" for n in range(2) for name in ("norm.weight", *(f"mixer.{m}" for m in mixer))
    }
    found = set(under(values, "llm_backbone.llm.backbone."))
    assert found == {"embedding.weight", "norm_f.weight", *layers}
    vit = both("patch_embed.proj", "norm", *(f"blocks.{n}.norm1" for n in range(2)))
    dino = under(values, "vision_backbone.dino_featurizer.")
    assert vit | {"cls_token", "reg_token", "pos_embed", "blocks.0.ls1.gamma"} <= set(dino)
    places = dino["pos_embed"].shape[1]
    assert places == round(places**0.5) ** 2  # of patches alone
    siglip = set(under(values, "vision_backbone.siglip_featurizer."))
    assert vit | {"pos_embed"} <= siglip and "cls_token" not in siglip


def cobra_folder(folder: Path) -> dict[str, Tensor]:
    """As it is released, beside timm's files."""
    values, state = published(settings(COBRA, folder))
    llm = under(values, "llm_backbone.")
    llm |= {"llm.lm_head.weight": llm["llm.backbone.embedding.weight"]}
    (folder / "checkpoints").mkdir()
    source = folder / "checkpoints" / "latest-checkpoint.pt"
    torch.save({"model": {"projector": under(values, "projector."), "llm_backbone": llm}}, source)
    tensors_of_pickle(source, source.with_suffix(".safetensors"))
    for name in ("dino_featurizer", "siglip_featurizer"):
        (folder / name).mkdir()
        tower = under(values, f"vision_backbone.{name}.")
        if name.startswith("siglip"):  # an open_clip file
            tower = {f"visual.trunk.{key}": value for key, value in tower.items()}
            tower |= {"visual.trunk.attn_pool.latent": torch.ones(1), "text.logit_bias": torch.ones(1)}
        save_file(tower, folder / name / "model.safetensors")
    return state


def assert_opens(folder: Path, state: dict[str, Tensor], tmp_path: Path) -> None:
    pipeline = load(folder, dtype=torch.float32)
    opened = state_tensors(pipeline.model)
    assert set(opened) == set(state) and all(torch.equal(opened[name], state[name]) for name in state)
    again = state_tensors(load(pipeline.export(tmp_path / "back"), dtype=torch.float32).model)
    assert all(torch.equal(again[name], state[name]) for name in state)


@pytest.mark.usefixtures("small")
def test_cobras_folder_opens_with_all_weights(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    assert_opens(tmp_path / "in", cobra_folder(tmp_path / "in"), tmp_path)
    (tmp_path / "in" / "dino_featurizer").rename(tmp_path / "away")
    with pytest.raises(WeightsError, match="cobra was released without dino_featurizer; put its folder at"):
        load(tmp_path / "in")


def video_folder(folder: Path, *, words: bool) -> dict[str, Tensor]:
    """words: the file has the table of words besides."""
    values, state = published(FAMILY | {"language_model": SMALL})
    for name in ("language_model", "vision_tower"):
        (folder / name).mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(FAMILY))
    (folder / "language_model" / "config.json").write_text(json.dumps(SMALL))
    trained = under(values, "model.mm_projector.")
    trained = {f"model.mm_projector.{key}": value for key, value in trained.items()}
    table = {"model.embed_tokens.weight": values["model.embed_tokens.weight"]}
    save_file(trained | (table if words else {}), folder / "video_chatgpt-7B.safetensors")
    save_file(under(values, "vision_tower."), folder / "vision_tower" / "model.safetensors")
    base = {
        name: value[:90].contiguous()
        if len(value) == 93
        else torch.zeros_like(value)
        if name in trained
        else value
        for name, value in values.items()
        if not name.startswith("vision_tower.")
    }
    save_file(base, folder / "language_model" / "model.safetensors")
    tables = ["languages.main.head.weight", *([] if words else ["languages.main.embedding.weight"])]
    return state | {name: torch.cat((state[name][:90], torch.zeros(3, 32))) for name in tables}


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("words", [True, False])
def test_video_chatgpts_folder_opens_with_all_weights(words: bool, tmp_path: Path) -> None:
    """Rows of the output matrix for words that the code adds were never trained."""
    assert_opens(tmp_path / "in", video_folder(tmp_path / "in", words=words), tmp_path)
    (tmp_path / "in" / "vision_tower").rename(tmp_path / "away")
    with pytest.raises(WeightsError, match="VideoChatGPT was released without vision_tower"):
        load(tmp_path / "in")
    (tmp_path / "in" / "language_model").rename(tmp_path / "gone")
    with pytest.raises(WeightsError, match="without its language model"):
        load(tmp_path / "in")


@pytest.mark.usefixtures("small")
def test_words_stand_behind_the_vocabulary(tmp_path: Path) -> None:
    from beholder.weights.open import open_named

    video_folder(tmp_path, words=True)
    vocabulary = {f"w{n}": n for n in range(90)}
    data = {"version": "1.0", "model": {"type": "WordLevel", "vocab": vocabulary, "unk_token": "w0"}}
    data |= {"pre_tokenizer": {"type": "Whitespace"}, "added_tokens": []}
    (tmp_path / "language_model" / "tokenizer.json").write_text(json.dumps(data))
    _, words = open_named(tmp_path)
    assert words is not None
    assert [words.token_id(f"<vid_{name}>") for name in ("patch", "start", "end")] == [90, 91, 92]


def mole_folder(folder: Path) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """As model.py saves it, whole: low-rank experts in MLPs, peft's adapters in attention. Our state, and the adapters."""
    small = VICUNA | {key: SMALL[key] for key in ("hidden_size", "intermediate_size", "num_hidden_layers")}
    small |= {"num_attention_heads": 2, "vocab_size": 90}
    values, state = published(MOLE | {"vicuna-7b-v1.5": small, "lora_rank": 4})
    for name in ("vicuna-7b-v1.5", "clip-vit-large-patch14-336"):
        (folder / name).mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(MOLE | {"lora_rank": 4}))
    (folder / "vicuna-7b-v1.5" / "config.json").write_text(json.dumps(small))
    experts = ("moe_", "router")
    words = under(values, "llm_model.")
    base = {
        name.replace("original_module.", ""): value
        for name, value in words.items()
        if not any(e in name for e in experts)
    }
    save_file(base, folder / "vicuna-7b-v1.5" / "model.safetensors")
    save_file(under(values, "vit.vision_tower."), folder / "clip-vit-large-patch14-336" / "model.safetensors")
    trained = {f"in_adaptor.{name}": value for name, value in under(values, "in_adaptor.").items()}
    trained |= {"in_adaptor.text_embed.weight": words["model.embed_tokens.weight"]}
    inside = "llm_model.base_model.model."
    trained |= {
        inside + name: value for name, value in words.items() if any(each in name for each in experts)
    }
    torch.manual_seed(1)
    layer = f"{inside}model.layers.1.self_attn.o_proj.lora_"
    adapters = {
        f"{layer}A.default.weight": torch.randn(4, 32),
        f"{layer}B.default.weight": torch.randn(32, 4),
    }
    torch.save({"state_dict": trained | adapters}, folder / "llava_mole_r16_a32_e3.pt")
    tensors_of_pickle(folder / "llava_mole_r16_a32_e3.pt", folder / "llava_mole_r16_a32_e3.safetensors")
    out = "languages.main.blocks.1.attn.out.weight"
    change = adapters[f"{layer}B.default.weight"] @ adapters[f"{layer}A.default.weight"] * (32 / 4)
    return state | {out: state[out] + change}, values


@pytest.mark.usefixtures("small")
def test_llava_moles_folder_opens_with_all_weights(tmp_path: Path) -> None:
    state, values = mole_folder(tmp_path / "in")
    assert_opens(tmp_path / "in", state, tmp_path)
    layer = under(values, "llm_model.model.layers.1.mlp.")
    assert set(layer) == {
        *both("router"),
        *(f"original_module.{side}_proj.weight" for side in ("gate", "up", "down")),
        *(
            f"moe_{side}.{n}.lora_{leaf}"
            for side in ("gate", "up", "down")
            for n in range(3)
            for leaf in "AB"
        ),
    }
    adaptor = set(under(values, "in_adaptor."))
    assert adaptor == {"visual_start_token", "visual_end_token", *both("projector.0", "projector.2")}
    low = state["languages.main.blocks.0.mlp.low.down.b"]
    assert torch.equal(values["llm_model.model.layers.0.mlp.moe_down.1.lora_B"], low[:, 4:8])
