"""OMG-LLaVA's own files: adapters and projectors, OMG-Seg, its classes' vectors and the language model, each in its file."""

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
from beholder.errors import WeightsError
from beholder.model import build
from beholder.weights.layout import to_own, to_published
from beholder.weights.load import state_shapes, state_tensors
from beholder.weights.omg_llava import ANSWERS, CLASSES, EYES, HEAD, LANGUAGE, REGIONS, SEG
from beholder.weights.pickles import convert_folder
from beholder.weights.readers import omg_llava
from beholder.weights.readers.systems import read_system
from tests.weights.own_folders import both

# config.json of internlm/internlm2-chat-7b
INTERNLM2: dict[str, Any] = {
    "model_type": "internlm2",
    "bias": False,
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "max_position_embeddings": 32768,
    "num_attention_heads": 32,
    "num_hidden_layers": 32,
    "num_key_value_heads": 8,
    "rms_norm_eps": 1e-5,
    "rope_theta": 1000000,
    "tie_word_embeddings": False,
    "vocab_size": 92544,
}
SMALL = INTERNLM2 | {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "vocab_size": 90}
SMALL |= {"num_attention_heads": 4, "num_key_value_heads": 2}
OWN = {"model_type": "omg_llava"}
CONFIG = OWN | {LANGUAGE: SMALL}


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """The code alone has the encoder's numbers. Regions are widened as objects are."""
    small = card("omg-llava-7b").tiny()
    regions, *others = small.fusion
    wide = 4 * small.branch().encoders[0].out_dim
    monkeypatch.setattr(
        omg_llava, "CARD", small.but(fusion=(regions.but(**{"encoder.width": wide}), *others))
    )


@pytest.mark.filterwarnings("error::UserWarning")
def test_released_settings_are_the_card() -> None:
    read, want = read_system(OWN | {LANGUAGE: INTERNLM2}, name="x").card, card("omg-llava-7b")
    assert (read.branches, read.fusion, read.heads) == (want.branches, want.fusion, want.heads)
    main: Any = want.main
    got: Any = read.main
    assert got.but(context=main.context) == main


def published() -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Values under the authors' names, and ours."""
    reading = read_system(CONFIG, name="small")
    model = build(reading.card, seed=3)
    state = {name: value.clone() for name, value in state_tensors(model).items()}
    state["branches.image.vision.classes"][-1] = 0  # none
    found = to_published(state, reading.namings[0])
    back = to_own(found, reading.namings[0], state_shapes(model))
    assert all(torch.equal(back[name].load(), value) for name, value in state.items())
    return {name: value.load().contiguous() for name, value in found.items()}, state


def under(values: dict[str, Tensor], *prefixes: str) -> dict[str, Tensor]:
    return {name: value for name, value in values.items() if name.startswith(prefixes)}


@pytest.mark.usefixtures("small")
def test_names_are_those_of_the_published_modules() -> None:
    """mmdet's `Mask2FormerTransformerDecoder` and `MSDeformAttnPixelDecoder`, open_clip's trunk in parts, the projectors."""
    values, _ = published()
    head = {name.removeprefix(HEAD) for name in values if name.startswith(HEAD)}
    layer = both("cross_attn.attn.out_proj", "self_attn.attn.out_proj", "ffn.layers.0.0", "ffn.layers.1")
    layer |= both("norms.0", "norms.1", "norms.2")
    layer |= {f"{kind}_attn.attn.in_proj_{leaf}" for kind in ("cross", "self") for leaf in ("weight", "bias")}
    wanted = {f"transformer_decoder.layers.{n}.{name}" for n in range(3) for name in layer}
    wanted |= both("transformer_decoder.post_norm", *(f"mask_embed.{n}" for n in (0, 2, 4)))
    wanted |= both("mask_pooling_proj.0", "mask_pooling_proj.1", *(f"cls_proj.{n}" for n in (0, 2, 4)))
    wanted |= both("pos_linear") | {
        "level_embed.weight",
        "query_embed.weight",
        "query_feat.weight",
        "cls_embed",
    }
    assert {name for name in head if not name.startswith("pixel_decoder.")} == wanted
    pixels = {name.removeprefix("pixel_decoder.") for name in head if name.startswith("pixel_decoder.")}
    inner = ("self_attn.sampling_offsets", "self_attn.attention_weights", "self_attn.value_proj")
    inner += ("self_attn.output_proj", "ffn.layers.0.0", "ffn.layers.1", "norms.0", "norms.1")
    wanted = both(*(f"encoder.layers.0.{name}" for name in inner), "mask_feature")
    wanted |= both(*(f"input_convs.{n}.{name}" for n in range(3) for name in ("conv", "gn")))
    wanted |= both("lateral_convs.0.gn", "output_convs.0.gn") | {"level_encoding.weight"}
    wanted |= {"lateral_convs.0.conv.weight", "output_convs.0.conv.weight"}
    assert pixels == wanted
    backbone = {name.removeprefix(f"{EYES}backbone.") for name in under(values, f"{EYES}backbone.")}
    assert both("stem.0", "stem.1", "layer2.downsample.0", "layer4.blocks.0.mlp.fc1") <= backbone
    assert {name for name in backbone if name.startswith("head.")} == both("head.0.norm")
    assert {name.split(".")[0] for name in backbone} == {"stem", "head", *(f"layer{n}" for n in range(1, 5))}
    projector = both("query_proj", "model.0", "model.2", "model_feat.0", "model_feat.2")
    assert {name.removeprefix("projector.model.") for name in under(values, "projector.")} == {
        *projector,
        "seperate_embed.weight",
    }
    assert set(under(values, "projector_text2vision.")) == {
        f"projector_text2vision.model.{name}" for name in both("0", "2")
    }


def released(folder: Path, *, tuned: bool = False) -> dict[str, Tensor]:
    """Pickles as they are released; gives our state. tuned: the decoder of answers was trained."""
    values, state = published()
    folder.mkdir()
    (folder / LANGUAGE).mkdir()
    (folder / "config.json").write_text(json.dumps(OWN))
    (folder / LANGUAGE / "config.json").write_text(json.dumps(SMALL))
    language = {name.removeprefix("llm."): value for name, value in under(values, "llm.").items()}
    words = {name: value for name, value in language.items() if len(value) == 94}
    save_file(
        {name: value[:90].contiguous() for name, value in language.items()},
        folder / LANGUAGE / "model.safetensors",
    )
    trained = under(values, "projector.", "projector_text2vision.")
    trained |= {f"llm.base_model.model.{name}": value for name, value in words.items()}
    name = "llm.base_model.model.model.layers.1.attention.wqkv.lora_"
    torch.manual_seed(1)
    a, b = torch.randn(4, 32), torch.randn(64, 4)
    trained |= {f"{name}A.default.weight": a, f"{name}B.default.weight": b}
    if tuned:
        for own, value in under(values, HEAD).items():
            for part in ("transformer_decoder.", "mask_embed."):
                if own.startswith(HEAD + part):
                    trained[own.replace(part, part.replace(".", "_llm."))] = value + 1
    torch.save(trained, folder / "omg_llava_7b_finetune_8gpus.pth")
    seen = {own.removeprefix(EYES): value for own, value in under(values, EYES).items()}
    vectors = seen.pop("panoptic_head.cls_embed")[:-1]
    table = {"weight": state["fusion.0.encoder.kind"].expand(2, -1).clone()}
    seen |= {"panoptic_head.pb_embedding.weight": table["weight"]}
    seen |= {"panoptic_head.mask_tokens.weight": state["fusion.0.encoder.token"][None]}
    seen |= {"panoptic_head.iou_embed.0.bias": torch.ones(2)}
    torch.save({"meta": {}, "state_dict": seen}, folder / SEG.replace("safetensors", "pth"))
    torch.save(vectors, folder / CLASSES.replace("safetensors", "pth"))
    changed = state["languages.main.blocks.1.attn.q.weight"].shape[0]
    assert changed == 32
    return state


def assert_shared(state: dict[str, Tensor], own: str, *, plus: float = 0.0) -> None:
    """The decoder at `own` has OMG-Seg's values."""
    seg = "branches.image.vision.decoder."
    names = [name.removeprefix(own) for name in state if name.startswith(own)]
    assert names
    for name in names:
        more = 0.0 if name == "level" else plus
        assert torch.equal(state[own + name], state[seg + name] + more), name


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("tuned", [False, True])
def test_a_released_folder_opens_with_all_weights(tuned: bool, tmp_path: Path) -> None:
    want = released(tmp_path / "pickles", tuned=tuned)
    convert_folder(tmp_path / "pickles", tmp_path / "new")
    pipeline = load(tmp_path / "new", dtype=torch.float32)
    state = state_tensors(pipeline.model)
    shared = (
        "fusion.0.encoder.decoder.",
        "fusion.0.encoder.widen.",
        "fusion.0.encoder.project.",
        "heads.1.decoder.",
    )
    changed = {f"languages.main.blocks.1.attn.{part}.weight" for part in "qkv"}
    assert set(state) == set(want)
    for name, value in want.items():
        if not name.startswith(shared) and name not in changed:
            assert torch.equal(state[name], value), name
    assert_shared(state, "fusion.0.encoder.decoder.")
    assert_shared(state, "heads.1.decoder.", plus=float(tuned))
    assert all(not torch.equal(state[name], want[name]) for name in changed)
    for own, theirs in (("widen", "widen"), ("project.layers.1", "objects.layers.1")):
        region = state[f"fusion.0.encoder.{own}.weight"]
        assert torch.equal(region, state[f"branches.image.connector.{theirs}.weight"])
    again = state_tensors(load(pipeline.export(tmp_path / "back"), dtype=torch.float32).model)
    assert all(torch.equal(again[name], value) for name, value in state.items())


@pytest.mark.usefixtures("small")
def test_what_is_missing_is_named(tmp_path: Path) -> None:
    released(tmp_path / "pickles")
    convert_folder(tmp_path / "pickles", tmp_path / "new")
    (tmp_path / "new" / SEG).rename(tmp_path / "away")
    with pytest.raises(WeightsError, match=r"no omg_seg_convl\.safetensors"):
        load(tmp_path / "new")
    (tmp_path / "new" / "omg_llava_7b_finetune_8gpus.safetensors").unlink()
    with pytest.raises(WeightsError, match="put one of the authors' files there"):
        load(tmp_path / "new")
    assert REGIONS and ANSWERS
