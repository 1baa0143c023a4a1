"""Files of systems grown from LLaVA's code, in their authors' layouts: names as their modules have them, values given back,
and the cards that are written here.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from beholder.cards import card
from beholder.cards.schema import Card
from beholder.errors import BeholderError, UnknownName
from beholder.media.plan import Grid
from beholder.model import build
from beholder.parts.connectors.experts import LanguageExperts
from beholder.parts.connectors.several import Squares
from beholder.parts.contracts import Packed
from beholder.parts.fusion.aggregators import Aggregators
from beholder.parts.fusion.splice import Splice
from beholder.parts.language.sizes_llama import QWEN2_7B
from beholder.parts.vision.sizes_clips import UMT_L_16_448
from beholder.parts.vision.vit import Take, ViT
from beholder.weights.layout import to_own, to_published
from beholder.weights.load import state_shapes
from beholder.weights.open import open_official
from beholder.weights.ops import Exchange
from beholder.weights.readers import glamm, llava_clips, llava_own, llava_regions, llava_several
from beholder.weights.readers.reading import Reading
from beholder.weights.readers.systems import read_system

# config.json of lmsys/vicuna-7b-v1.5 with what the authors' training scripts add
VICUNA: dict[str, Any] = {
    "hidden_size": 4096,
    "intermediate_size": 11008,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 32,
    "max_position_embeddings": 4096,
    "rms_norm_eps": 1e-5,
    "vocab_size": 32000,
    "tie_word_embeddings": False,
}
LLAVA: dict[str, Any] = {
    "mm_projector_type": "mlp2x_gelu",
    "mm_vision_select_feature": "patch",
    "mm_vision_select_layer": -2,
    "mm_vision_tower": "openai/clip-vit-large-patch14-336",
    "mm_hidden_size": 1024,
    "image_aspect_ratio": "pad",
    "use_mm_proj": True,
}
JAMBA: dict[str, Any] = {  # FreedomIntelligence/LongLLaVA llava/model/language_model/Jamba/config.json
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "mamba_dt_rank": 256,
    "mamba_inner_layernorms": True,
    "rms_norm_eps": 1e-6,
    "vocab_size": 65536,
}
LLAMA_3: dict[str, Any] = {
    **VICUNA,
    "intermediate_size": 14336,
    "num_key_value_heads": 8,
    "max_position_embeddings": 8192,
    "rope_theta": 500000.0,
    "vocab_size": 128256,
}
SVA: dict[str, Any] = {  # nyu-visionx/cambrian-8b config.json
    "connector_depth": 3,
    "connector_only": False,
    "image_token_len": 576,
    "image_position": 91,
    "mm_projector_type": "sva",
    "mm_vision_tower_aux_list": list(llava_several.CAMBRIAN_TOWERS),
    "mm_vision_tower_aux_token_len_list": [576, 576, 576, 9216],
    "num_of_vision_sampler_layers": 10,
    "num_query_group": 1,
    "query_num_list": [576],
    "start_of_vision_sampler_layers": 0,
    "stride_of_vision_sampler_layers": 3,
    "vision_hidden_size": 1024,
}
MGM = {
    "mm_vision_tower": "model_zoo/OpenAI/clip-vit-large-patch14-336",
    "mm_vision_tower_aux": "model_zoo/OpenAI/openclip-convnext-large-d-320-laion2B-s29B-b131K-ft-soup",
    "mm_hidden_size_aux": 2880,
    "optimize_vision_tower": False,
    "optimize_vision_tower_aux": False,
}
QWEN2: dict[str, Any] = {  # Qwen/Qwen2-7B-Instruct config.json
    "hidden_size": 3584,
    "intermediate_size": 18944,
    "num_hidden_layers": 28,
    "num_attention_heads": 28,
    "num_key_value_heads": 4,
    "max_position_embeddings": 32768,
    "rope_theta": 1e6,
    "rms_norm_eps": 1e-6,
    "vocab_size": 152064,
    "tie_word_embeddings": False,
}
QWEN = {  # Qwen/Qwen1.5-7B-Chat config.json
    **QWEN2,
    "hidden_size": 4096,
    "intermediate_size": 11008,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 32,
    "vocab_size": 151936,
}
CLIPS: dict[str, Any] = {
    "mm_vision_tower": "umt-hd-large",
    "mm_projector_type": "tome16_mlp_hd64",
    "mm_local_num_frames": 4,
    "mm_newline_position": "nothing",
    "mm_llm_compress": False,
    "mm_patch_merge_type": "spatial_nopad",
    "image_aspect_ratio": "anyres_nopad",
    "frame_aspect_ratio": "square",
    "llm_compress_layer_list": [8, 16, 24],
    "llm_image_token_ratio_list": [1.0, 0.5, 0.25, 0.125],
}
NEXT: dict[str, Any] = {  # lmms-lab/llava-onevision-qwen2-7b-ov config.json
    "architectures": ["LlavaQwenForCausalLM"],
    "mm_vision_tower": "google/siglip-so400m-patch14-384",
    "mm_hidden_size": 1152,
    "mm_patch_merge_type": "spatial_unpad",
    "mm_spatial_pool_mode": "bilinear",
    "image_aspect_ratio": "anyres_max_9",
    "image_grid_pinpoints": [[384 * row, 384 * column] for row in range(1, 7) for column in range(1, 7)],
    "use_pos_skipping": False,
    "pos_skipping_range": 4096,
}
PARROT = {
    "mm_vision_select_feature": "cls_patch",
    "num_experts": 6,
    "moe_hidden_size": 4096,
    "moe_intermediate_size": 4096,
    "moe_weight": 0.1,
    "moe_top_k": 6,
    "use_moe": True,
    "use_moe_residual": True,
}
FERRET = {"region_geo_sampler": True, "sampler_pooler_mode": "max", "im_region_fea_token": 32000}
GLAMM = {  # MBZUAI/GLaMM-GCG config.json
    "bbox_token_idx": 32002,
    "image_aspect": "square",
    "image_aspect_ratio": "square",
    "mm_use_im_start_end": True,
    "num_level_reg_features": 4,
    "num_reg_features": 4,
    "out_dim": 256,
    "select_feature_type": "patch",
    "train_mask_decoder": True,
    "vocab_size": 32007,
    "with_region": True,
}
SMALL: dict[str, Any] = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "vocab_size": 90,
}
CASES: dict[str, dict[str, Any]] = {
    "convllava-7b-768": {
        **VICUNA,
        **LLAVA,
        "model_type": "llava",
        "mm_vision_tower": "ConvLLaVA/ConvLLaVA-ConvNeXt-768",
        "mm_vision_select_layer": -1,
        "mm_hidden_size": 3072,
    },
    "cambrian-8b": {**LLAMA_3, **LLAVA, **SVA, "model_type": "llava_llama"},
    "eagle-x5-7b": {**VICUNA, **LLAVA, "model_type": "eagle_llama", "mm_hidden_size": 7680}
    | {"mm_vision_tower": "clip-448;convnext-1024;sam-1024;det-1024;pix2struct-1024"},
    "eagle-x4-7b": {**VICUNA, **LLAVA, "model_type": "eagle_llama", "mm_hidden_size": 6656}
    | {"mm_vision_tower": "clip-448;convnext-1024;det-1024;pix2struct-1024"},
    "mini-gemini-7b": {**VICUNA, **LLAVA, **MGM, "model_type": "mgm", "image_size_aux": 768},
    "mini-gemini-7b-hd": {**VICUNA, **LLAVA, **MGM, "model_type": "mgm", "image_size_aux": 1536}
    | {"image_grid": 2, "image_global": True},
    "videochat-flash-7b-448": {**QWEN2, **LLAVA, **CLIPS, "model_type": "videochat_flash_qwen"},
    "llava-onevision-7b": {**QWEN2, **LLAVA, **NEXT, "model_type": "llava_qwen"},
    "valley2-7b": {**VICUNA, **LLAVA, "model_type": "valley", "architectures": ["ValleyLlamaForCausalLM"]}
    | {"mm_vision_tower": "openai/clip-vit-large-patch14", "sep_image_conv_front": False, "vocab_size": 32008}
    | {"max_position_embeddings": 2048},
    "parrot-7b": {**QWEN, **LLAVA, **PARROT, "model_type": "parrot_qwen2"},
    "longllava-53b": {**JAMBA, **LLAVA, "model_type": "llava_jamba", "resamplePooling": "2d"},
    "osprey-7b": {**VICUNA, **LLAVA, "model_type": "osprey", "mm_vision_tower": "./convnext.bin"},
    "glamm-7b": {**VICUNA, **LLAVA, **GLAMM, "model_type": "llava"},
    "ferret-7b": {**VICUNA, **LLAVA, **FERRET, "model_type": "ferret", "vocab_size": 32001}
    | {"max_position_embeddings": 2048, "rms_norm_eps": 1e-6},
}


def both(*names: str) -> set[str]:
    return {f"{name}.{leaf}" for name in names for leaf in ("weight", "bias")}


def read(name: str, change: dict[str, Any] | None = None) -> Reading:
    return read_system({**CASES[name], **(change or {})}, name=name)


def alike(part: Any) -> Any:
    """A part without what files say and cards leave open: how tables of positions are resized, heads that are all there
    are, a last layer that is not read, norms of what nobody reads, and the order of resolutions.
    """
    if isinstance(part, ViT) and part.take == Take((-2,), norm=False):
        part = part.but(num_layers=part.num_layers - 1, take=Take(norm=False))
    changes: dict[str, Any] = {}
    for field, value in (("positions", None), ("last_eps", 1e-6), ("num_kv_heads", None)):
        if hasattr(part, field):
            changes[field] = value
    if hasattr(part, "pinpoints"):
        changes["pinpoints"] = tuple(sorted(part.pinpoints))
    return part.but(**changes)


PLACED = (Splice, Aggregators, LanguageExperts)


def placed(system: Card) -> list[Any]:
    """The fusions, whichever id outside of the vocabulary stands for a picture in prompts."""
    return [each.but(token_id=-200) if isinstance(each, PLACED) else each for each in system.fusion]


@pytest.mark.filterwarnings("error::UserWarning")
@pytest.mark.parametrize("name", CASES)
def test_settings_give_the_card(name: str) -> None:
    got: Any = read(name).card
    want: Any = card(name)
    for mine, theirs in zip(got.branches, want.branches, strict=True):
        assert [alike(part) for part in mine.encoders] == [alike(part) for part in theirs.encoders]
        connectors = [
            each.but(token_id=-200) if isinstance(each, PLACED) else each
            for each in (mine.connector, theirs.connector)
        ]
        assert connectors[0] == connectors[1] and alike(mine.geometry) == alike(theirs.geometry)
    assert placed(got) == placed(want) and got.heads == want.heads
    heads = [each.main.attention for each in (got, want)]
    if hasattr(heads[0], "num_kv_heads"):
        assert heads[0].num_kv_heads in (heads[1].num_kv_heads, heads[0].num_heads)
        got = got.but(**{"language.attention": heads[1]})
    assert got.main.layers == want.main.layers
    assert got.main.but(others=(), pattern=()) == want.main.but(others=(), pattern=())


def small(name: str, monkeypatch: pytest.MonkeyPatch) -> Reading:
    """The same system with small parts, whose sizes the code has and not the file."""
    clip = {**llava_own.CLIP_L, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3}
    clip |= {"num_attention_heads": 4, "image_size": 28}
    staged = {
        **llava_own.FIVE_STAGES,
        "hidden_sizes": [8, 12, 16, 20, 24],
        "depths": [1] * 5,
        "image_size": 64,
    }
    siglip = llava_own.SO400M | {
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 3,
        "image_size": 28,
    }
    siglip["num_attention_heads"] = 4
    monkeypatch.setattr(llava_own, "TOWERS", (("ConvNeXt", staged), ("siglip", siglip), ("clip", clip)))
    eyes = llava_regions.OSPREY_EYES.but(image_size=64, dims=(192, 384, 768, 1536), depths=(1, 1, 1, 1))
    monkeypatch.setattr(llava_regions, "OSPREY_EYES", eyes)
    monkeypatch.setattr(
        llava_several, "card", lambda kin: card(kin).but(branches=(card(kin).branch().tiny(),))
    )
    clips = UMT_L_16_448.but(
        image_size=32, dim=32, num_layers=3, **{"attention.num_heads": 4, "mlp.hidden": 48}
    )
    monkeypatch.setattr(llava_clips, "TOWERS", {"umt-hd-large": clips})
    monkeypatch.setattr(glamm, "card", lambda kin: card(kin).tiny())
    return read(name, small_settings(name))


def small_settings(name: str) -> dict[str, Any]:
    """What a file of small parts says otherwise."""
    changes: dict[str, Any] = dict(SMALL)
    if name.startswith("longllava"):
        changes |= {"mamba_dt_rank": 4, "num_experts": 2}
    elif name.startswith("cambrian"):
        changes |= {"image_token_len": 4, "mm_vision_tower_aux_token_len_list": [4, 4, 4, 16]}
        changes |= {"vision_hidden_size": 32, "connector_depth": 2, "num_of_vision_sampler_layers": 1}
    elif name.startswith("glamm"):
        changes["bbox_token_idx"] = 80
    elif name.startswith("llava-onevision"):
        changes["image_grid_pinpoints"] = [[28, 28], [28, 56]]
    elif name.startswith("parrot"):
        changes |= {"moe_hidden_size": 64, "moe_intermediate_size": 24, "num_experts": 2}
    elif name.startswith("mini-gemini"):
        changes["image_size_aux"] = card(name).branch().tiny().encoders[1].image_size
    return changes


SVA_PARTS = ("q_proj", *(f"{part}_proj_{n}" for part in "kv" for n in range(4)))
NAMES: dict[str, tuple[str, set[str]]] = {
    "convllava-7b-768": (
        "model.vision_tower.vision_tower.",
        both("embeddings.patch_embeddings", "embeddings.layernorm", "layernorm")
        | {
            name
            for stage in range(5)
            for name in both(
                *(f"encoder.stages.{stage}.downsampling_layer.{n}" for n in range(2) if stage),
                *(
                    f"encoder.stages.{stage}.layers.0.{part}"
                    for part in ("dwconv", "layernorm", "pwconv1", "pwconv2")
                ),
            )
            | {f"encoder.stages.{stage}.layers.0.layer_scale_parameter"}
        },
    ),
    "longllava-53b": ("model.mm_projector.", both("0", "2")),
    "cambrian-8b": (
        "model.vision_sampler_layers.0.layers.0.",
        {"pos_embed_3"}
        | both("norm", *(f"cross_attn.{part}.0" for part in SVA_PARTS))
        | {f"{part}.weight" for part in ("proj_context", "proj_in", "proj_out.linear_1", "proj_out.linear_2")}
        | {f"cross_attn.{part}.weight" for part in ("o_proj", *(f"{part}.1" for part in SVA_PARTS))},
    ),
    "eagle-x5-7b": (
        "model.vision_tower.vision_towers.3.vision_tower.",
        {"pos_embed"}
        | both("patch_embed.proj")
        | {
            f"blocks.{n}.{name}"
            for n in range(2)
            for name in both(
                "attn.proj", "norm1", "norm2", *(f"mlp.{part}" for part in ("w1", "w2", "w3", "ffn_ln"))
            )
            | {"attn.q_bias", "attn.v_bias"}
            | {f"attn.{part}_proj.weight" for part in "qkv"}
        },
    ),
    "glamm-7b": (
        "model.region_encoder.",
        both(*(f"mlvl_fuse.input_conv.{n}" for n in range(4)), *(f"roi_align.pconvs.{n}" for n in range(4)))
        | {f"mlvl_fuse.fuse_convs.{n}.conv.weight" for n in range(2)}
        | both(*(f"mlvl_fuse.fuse_convs.{n}.gn" for n in range(2)))
        | both(
            *(f"roi_align.pos_embedd.{n}" for n in (0, 2, 3, 5)),
            "roi_align.flatten_linear",
            "roi_align.updims",
        ),
    ),
    "llava-onevision-7b": ("model.mm_projector.", both("0", "2")),
    "valley2-7b": ("model.mm_projector.", {"weight", "bias"}),
    "parrot-7b": (
        "model.moe_model.",
        {"gate.weight"}
        | {f"experts.{n}.{part}_proj.weight" for n in range(2) for part in ("gate", "up", "down")},
    ),
    "videochat-flash-7b-448": (
        "model.vision_tower.vision_tower.encoder.",
        both("patch_embed.proj", "vision_layernorm")
        | {
            f"blocks.{n}.{name}"
            for n in range(2)  # the last of three is not read
            for name in both("attn.proj", "mlp.fc1", "mlp.fc2", "norm1", "norm2")
            | {"attn.qkv.weight", "attn.q_bias", "attn.v_bias"}
        },
    ),
    "mini-gemini-7b": (
        "model.vision_tower_aux.",
        both("vision_stem.0", "vision_stem.1")
        | {
            name
            for stage in range(4)
            for name in both(
                *(f"vision_stages.{stage}.downsample.{n}" for n in range(2) if stage),
                *(
                    f"vision_stages.{stage}.blocks.0.{part}"
                    for part in ("conv_dw", "norm", "mlp.fc1", "mlp.fc2")
                ),
            )
            | {f"vision_stages.{stage}.blocks.0.gamma"}
        },
    ),
    "osprey-7b": (
        "mask_extractor.",
        both("feat_linear", *(f"res{n}" for n in range(2, 6)))
        | both(*(f"mask_linear.layers.{n}" for n in range(3))),
    ),
    "ferret-7b": (
        "model.region_geo_sampler.",
        both("flatten_projector", "dim_projector")
        | both(*(f"{part}.{n}" for n in range(2) for part in ("diff_projector_list",)))
        | both(*(f"agg_projector_list.{n}.{part}" for n in range(2) for part in ("net.0", "norm"))),
    ),
}


@pytest.mark.parametrize("name", NAMES)
def test_names_are_those_of_the_published_modules(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    reading = small(name, monkeypatch)
    published = to_published(build(reading.card, device="meta").state_dict(), reading.namings[0])
    prefix, want = NAMES[name]
    assert {key.removeprefix(prefix) for key in published if key.startswith(prefix)} == want
    assert {"model.embed_tokens.weight", "lm_head.weight"} <= set(published)


@pytest.mark.parametrize("name", CASES)
def test_a_folder_opens(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reading = small(name, monkeypatch)
    model = build(reading.card, seed=4)
    published = to_published(model.state_dict(), reading.namings[0])
    (tmp_path / "config.json").write_text(json.dumps({**CASES[name], **small_settings(name)}))
    save_file(
        {key: value.load().contiguous() for key, value in published.items()}, tmp_path / "model.safetensors"
    )
    opened = open_official(tmp_path, dtype=torch.float32)
    ours = opened.model.state_dict()
    assert all(torch.equal(value, ours[key]) for key, value in model.state_dict().items())


@pytest.mark.parametrize(
    ("name", "change", "says"),
    [
        ("ferret-7b", {"sampler_pooler_mode": "mean"}, "sampler_pooler_mode 'mean'"),
        ("convllava-7b-768", {"mm_vision_select_layer": -2}, "mm_vision_select_layer is -2"),
        ("longllava-53b", {"resamplePooling": "1d"}, "resamplePooling '1d'"),
    ],
)
def test_what_is_not_known_is_refused(name: str, change: dict[str, Any], says: str) -> None:
    with pytest.raises((BeholderError, UnknownName), match=says):
        read(name, change)


def test_squares_of_tokens_are_read_as_the_released_projector_reads_them() -> None:
    """EAGLE joins SAM's tokens by torch's `pixel_unshuffle`."""
    torch.manual_seed(0)
    map_CHW, weight = torch.randn(3, 4, 4), torch.randn(5, 2 + 12 + 1)
    theirs = torch.nn.functional.pixel_unshuffle(map_CHW[None], 2)[0].flatten(1).T
    ours = Squares().build(3, 12)(Packed(map_CHW.flatten(1).T, (Grid(1, 4, 4),))).tokens_ND
    own = Exchange("w", 2, 3, 4).load(weight, (5, 15), {})
    assert torch.allclose(ours @ own[:, 2:-1].T, theirs @ weight[:, 2:-1].T, atol=1e-5)


@pytest.mark.parametrize("kind", ["llava", "qwen2"])
def test_files_of_llava_next_have_other_types_too(kind: str) -> None:
    files = {**CASES["llava-onevision-7b"], "model_type": kind}
    assert read_system(files, name="x").card == read_system(CASES["llava-onevision-7b"], name="x").card
    words = read_system({**QWEN2, "model_type": "qwen2"}, name="words").card
    assert words.branches == () and words.main == QWEN2_7B


@pytest.mark.parametrize("way", ["use_patch_importance_pooling", "use_delta_transformer"])
def test_what_valley_does_over_time_is_found(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    small("valley2-7b", monkeypatch)
    reading = read("valley2-7b", {**small_settings("valley2-7b"), way: True})
    model = build(reading.card, seed=3)
    published = to_published(model.state_dict(), reading.namings[0])
    layer = "model.transformer_delta_encoder.layers.0."
    names = both(
        *(f"{layer}{part}" for part in ("linear1", "linear2", "norm1", "norm2", "self_attn.out_proj"))
    )
    names |= {f"{layer}self_attn.in_proj_weight", f"{layer}self_attn.in_proj_bias", "model.position_matrix"}
    assert (both("model.pooling_layer") if way == "use_patch_importance_pooling" else names) <= set(published)
    again = to_own(published, reading.namings[0], state_shapes(model))
    assert all(torch.equal(again[key].load(), value) for key, value in model.state_dict().items())


@pytest.mark.parametrize("name", ["cambrian-8b", "glamm-7b"])
def test_encoders_may_lie_beside(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each in a folder inside, as its own authors released it, with their text towers."""
    reading = small(name, monkeypatch)
    model = build(reading.card, seed=4)
    published = to_published(model.state_dict(), reading.namings[0])
    values = {key: value.load().contiguous() for key, value in published.items()}
    (tmp_path / "config.json").write_text(json.dumps({**CASES[name], **small_settings(name)}))
    towers = [f"vision_tower_aux_list.{n}" for n in range(4)] if name == "cambrian-8b" else ["vision_tower"]
    for tower in towers:
        prefix, trunk = f"model.{tower}.vision_tower.", "visual.trunk." if tower[-1] in "03" else ""
        eyes = {
            trunk + key.removeprefix(prefix): values.pop(key)
            for key in list(values)
            if key.startswith(prefix)
        }
        assert eyes
        if tower[-1] != "2":  # DINOv2 has no text tower
            eyes |= {
                "text.transformer.x": torch.zeros(1),
                "text_model.x": torch.zeros(1),
                "logit_scale": torch.zeros(1),
            }
        (tmp_path / tower).mkdir()
        save_file(eyes, tmp_path / tower / ("open_clip_model.safetensors" if trunk else "model.safetensors"))
    save_file(values, tmp_path / "model.safetensors")
    ours = open_official(tmp_path, dtype=torch.float32).model.state_dict()
    assert all(torch.equal(value, ours[key]) for key, value in model.state_dict().items())
