"""SPHINX's own files: shards whose matrices are shared out, names as the authors' modules have them, and the cards."""

from __future__ import annotations

import json
import re
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
from beholder.weights.pickles import convert_folder
from beholder.weights.readers import sphinx
from beholder.weights.readers.systems import read_system
from tests.weights.own_folders import both

# `ModelArgs` of accessory/model/LLM/llama_ens.py, and of mixtral_sparse_ens5.py with Mixtral's numbers
LLAMA: dict[str, Any] = {
    "dim": 5120,
    "multiple_of": 256,
    "n_heads": 40,
    "n_layers": 40,
    "norm_eps": 1e-5,
    "vocab_size": 32000,
}
TINY_LLAMA = LLAMA | {"dim": 2048, "n_heads": 32, "n_kv_heads": 4, "n_layers": 22}
MIXTRAL: dict[str, Any] = {
    "dim": 4096,
    "hidden_dim": 14336,
    "head_dim": 128,
    "n_heads": 32,
    "n_kv_heads": 8,
    "n_layers": 32,
    "norm_eps": 1e-5,
    "vocab_size": 32000,
    "rope_theta": 1e6,
    "moe": {"num_experts_per_tok": 2, "num_experts": 8},
}
SIZES = {"dim": 32, "n_heads": 4, "n_kv_heads": 2, "n_layers": 2, "multiple_of": 8, "vocab_size": 90}
SMALL = {kind: LLAMA | SIZES | {"model_type": kind} for kind in ("llama_ens", "llama_ens5_light")}
SMALL["mixtral_sparse_ens5"] = MIXTRAL | SIZES | {"model_type": "mixtral_sparse_ens5", "head_dim": 8}
SMALL["mixtral_sparse_ens5"] |= {"hidden_dim": 24, "moe": {"num_experts_per_tok": 2, "num_experts": 4}}
del SMALL["mixtral_sparse_ens5"]["multiple_of"]


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """The code alone has the encoders' numbers."""
    branches = {kind: card(name).tiny().branch() for kind, name in sphinx.CARDS.items()}
    monkeypatch.setattr(sphinx, "branch_of", branches.__getitem__)


@pytest.mark.filterwarnings("error::UserWarning")
@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        ("llama_ens", LLAMA),
        ("llama_ens5", LLAMA),
        ("llama_ens10", LLAMA),
        ("llama_ens5_light", TINY_LLAMA),
        ("mixtral_sparse_ens5", MIXTRAL),
    ],
)
def test_released_settings_are_the_cards(kind: str, settings: dict[str, Any]) -> None:
    read, want = read_system(settings | {"model_type": kind}, name="x").card, card(sphinx.CARDS[kind])
    assert read.branches == want.branches and read.fusion == want.fusion
    main: Any = want.main
    heads = settings.get("n_kv_heads", settings["n_heads"])
    assert read.main == main.but(context=sphinx.CONTEXT, **{"attention.num_kv_heads": heads})


def test_some_look_at_512_pixels_alone() -> None:
    for kind, like in (("llama_ens_light", TINY_LLAMA), ("mixtral_sparse_ens", MIXTRAL)):
        branch = read_system(like | {"model_type": kind}, name="x").card.branch()
        assert branch.geometry == sphinx.FRAME
        assert branch.encoders == card(sphinx.CARDS[kind]).branch().encoders


def published(kind: str) -> dict[str, Tensor]:
    reading = read_system(SMALL[kind], name="small")
    state = state_tensors(build(reading.card, seed=3))
    return {name: value.load() for name, value in to_published(state, reading.namings[0]).items()}


def under(names: set[str], prefix: str) -> set[str]:
    return {name.removeprefix(prefix) for name in names if name.startswith(prefix)}


@pytest.mark.usefixtures("small")
def test_names_are_those_of_the_published_modules() -> None:
    """accessory/model/LLM/llama_ens.py; open_clip's, timm's, DINOv2's and transformers' names inside."""
    names = set(published("llama_ens"))
    layer = {f"attention.w{part}.weight" for part in "qkvo"} | {"attention_norm.weight", "ffn_norm.weight"}
    layer |= {f"feed_forward.w{n}.weight" for n in (1, 2, 3)}
    assert {name for name in under(names, "llma.") if "." not in name or name.split(".")[0] in WORDS} == {
        *(f"layers.{n}.{name}" for n in range(2) for name in layer),
        *("tok_embeddings.weight", "norm.weight", "output.weight", "start_img", "end_img"),
    }
    assert under(names, "llma.qformer_proj.") == under(names, "llma.visual_proj.") == both("0", "1")
    assert {name.split(".")[1] for name in names} == {
        *("layers", "tok_embeddings", "norm", "output", "start_img", "end_img"),
        *("qformer", "clip", "openclip_convnext_xxl", "dinov2_vitg14", "qformer_proj", "visual_proj"),
    }
    clip = under(names, "llma.clip.visual.")
    assert {"class_embedding", "positional_embedding", "conv1.weight"} | both("ln_pre", "ln_post") <= clip
    assert "transformer.resblocks.0.attn.in_proj_weight" in clip
    dino = under(names, "llma.dinov2_vitg14.")
    assert {"cls_token", "pos_embed", "norm.weight", "blocks.1.ls1.gamma", "blocks.0.attn.qkv.weight"} <= dino
    assert both("blocks.0.mlp.w12", "blocks.0.mlp.w3", "patch_embed.proj") <= dino
    assert both("stem.0", "head.norm", "stages.1.downsample.1", "stages.0.blocks.0.mlp.fc1") <= under(
        names, "llma.openclip_convnext_xxl."
    )
    queries = under(names, "llma.qformer.")
    assert "query_tokens" in queries and both("qformer.layernorm", "vision_model.post_layernorm") <= queries


WORDS = ("layers", "tok_embeddings", "norm", "output")


@pytest.mark.usefixtures("small")
def test_experts_stand_below_each_other() -> None:
    values = published("mixtral_sparse_ens5")
    assert values["llma.layers.0.feed_forward.w2"].shape == (4 * 24, 32)
    state = build(read_system(SMALL["mixtral_sparse_ens5"], name="x").card, seed=3).state_dict()
    down = state["languages.main.blocks.0.mlp.down"]
    assert torch.equal(values["llma.layers.0.feed_forward.w2"][24:48], down[1].T)


def shared(values: dict[str, Tensor], count: int, experts: int) -> list[dict[str, Tensor]]:
    """As fairscale's layers are saved: `ColumnParallelLinear` by rows, `RowParallelLinear` and embeddings by columns, and
    the share of every expert in each shard.
    """

    def share(name: str, value: Tensor, number: int) -> Tensor:
        leaf = name.removeprefix("llma.")
        if re.fullmatch(r"layers\.\d+\.feed_forward\.w\d", leaf):
            return value.unflatten(0, (experts, -1)).chunk(count, 1)[number].flatten(0, 1)
        if re.fullmatch(r"layers\.\d+\.(attention\.w[qkv]|feed_forward\.w[13])\.weight|output\.weight", leaf):
            return value.chunk(count, 0)[number]
        if re.fullmatch(
            r"layers\.\d+\.(attention\.wo|feed_forward\.w2)\.weight|tok_embeddings\.weight", leaf
        ):
            return value.chunk(count, 1)[number]
        return value

    return [
        {name: share(name, value, number).contiguous() for name, value in values.items()}
        for number in range(count)
    ]


def folder_of(kind: str, where: Path, count: int = 2) -> dict[str, Tensor]:
    """A folder as it is released, its pickles included."""
    values = published(kind)
    if "llma.clip.visual.conv1.weight" in values:  # what open_clip's model has besides
        values |= {f"llma.clip.{name}": torch.ones(1) for name in ("logit_scale", "ln_final.weight")}
        values |= {"llma.clip.visual.proj": torch.ones(2, 2)}
    where.mkdir(parents=True, exist_ok=True)
    settings = {key: value for key, value in SMALL[kind].items() if key not in ("model_type", "vocab_size")}
    (where / "config.json").write_text(json.dumps(settings))
    (where / "meta.json").write_text(json.dumps({"llama_type": kind}))
    for number, shard in enumerate(shared(values, count, 4)):
        torch.save({"model": shard}, where / f"consolidated.{number:02}-of-{count:02}.model.pth")
    return values


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("kind", list(SMALL))
def test_a_released_folder_opens_with_all_weights(kind: str, tmp_path: Path) -> None:
    folder_of(kind, tmp_path / "pickles")
    with pytest.raises(WeightsError, match="beholder convert FOLDER NEW --to safetensors"):
        load(tmp_path / "pickles")
    convert_folder(tmp_path / "pickles", tmp_path / "new")
    model = load(tmp_path / "new", dtype=torch.float32)
    reading = read_system(SMALL[kind], name="small")
    want = state_tensors(build(reading.card, seed=3))
    opened = state_tensors(model.model)
    assert set(opened) == set(want) and all(torch.equal(opened[name], want[name]) for name in want)
    model.export(tmp_path / "back")
    again = state_tensors(load(tmp_path / "back", dtype=torch.float32).model)
    assert all(torch.equal(again[name], want[name]) for name in want)


@pytest.mark.usefixtures("small")
def test_values_come_back() -> None:
    for kind in SMALL:
        reading = read_system(SMALL[kind], name="small")
        model = build(reading.card, seed=3)
        state = state_tensors(model)
        back = to_own(to_published(state, reading.namings[0]), reading.namings[0], state_shapes(model))
        assert all(torch.equal(back[name].load(), value) for name, value in state.items())


@pytest.mark.usefixtures("small")
def test_shards_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    folder_of("llama_ens5_light", tmp_path / "pickles", count=2)
    convert_folder(tmp_path / "pickles", tmp_path / "new")
    first, second = (tmp_path / "new" / f"consolidated.0{n}-of-02.model.safetensors" for n in (0, 1))
    whole = first.read_bytes()
    save_file({"llma.tok_embeddings.weight": torch.ones(90, 16), "llma.norm.weight": torch.ones(3)}, first)
    with pytest.raises(WeightsError, match=r"norm\.weight: shards have shapes \(3,\), \(32,\)"):
        load(tmp_path / "new")
    save_file({"llma.tok_embeddings.weight": torch.ones(90, 16), "llma.more": torch.ones(3)}, first)
    with pytest.raises(WeightsError, match="llma.more is not in shard 1"):
        load(tmp_path / "new")
    first.write_bytes(whole)
    second.unlink()
    with pytest.raises(WeightsError, match="put all shards there"):
        load(tmp_path / "new")
