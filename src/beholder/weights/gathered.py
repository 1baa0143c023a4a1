"""Releases that hold what was trained alone, and whose code fetches the rest: a folder with the authors' files as safetensors
(`beholder convert`), and in folders inside, named as their code names them, what they took, as its own authors released it.

    Cobra             config.json and checkpoints/latest-checkpoint.safetensors; dino_featurizer/, siglip_featurizer/
    LLaVA-MoLE        config.json: {"model_type": "llava_mole"}, where others than those of the released file also lora_rank,
                      lora_alpha and num_experts; llava_mole_r16_a32_e3.safetensors; vicuna-7b-v1.5/,
                      clip-vit-large-patch14-336/
    OMG-LLaVA         see `weights/omg_llava.py`
    Video-ChatGPT     config.json: {"model_type": "VideoChatGPT"}; video_chatgpt-7B.safetensors; language_model/, vision_tower/
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from beholder.errors import WeightsError
from beholder.weights import omg_llava
from beholder.weights.beside import COMPOSED, composed_weights, merged_adapters, seeing
from beholder.weights.files import open_weights
from beholder.weights.lazy import LazyTensor


class Gathered(NamedTuple):
    """A kind of release. parts: what goes before the names of weights in each folder inside. language: that of the language
    model, where its settings are there. trained: the file of what was trained; None: the only one. words: what the code adds
    behind the language model's vocabulary; tables are lengthened by zeros for those that were not trained. moved: names of the
    language model's weights that the code moves, and where to. alpha: of adapters, where settings do not say it.
    """

    parts: Mapping[str, str]
    language: str | None = None
    trained: str | None = None
    words: tuple[str, ...] = ()
    moved: tuple[str, str] | None = None
    alpha: float | None = None


# by `model_type`
GATHERED: Mapping[str, Gathered] = {
    # h-zhao1997/cobra: cobra/models/load.py, cobra/models/backbones/vision/dinosiglip_vit.py
    "cobra": Gathered(
        {f"{name}_featurizer": f"vision_backbone.{name}_featurizer." for name in ("dino", "siglip")},
        trained="checkpoints/latest-checkpoint.safetensors",
    ),
    # forwchen/LLaVA-MoLE: model.py, moe.py, llava_mole_infer.py
    "llava_mole": Gathered(
        {"vicuna-7b-v1.5": "llm_model.", "clip-vit-large-patch14-336": "vit.vision_tower."},
        language="vicuna-7b-v1.5",
        moved=(r"(.*\.mlp)\.(gate|up|down)_proj\.weight", r"\1.original_module.\2_proj.weight"),
        alpha=32.0,
    ),
    # mbzuai-oryx/Video-ChatGPT: video_chatgpt/eval/model_utils.py
    "VideoChatGPT": Gathered(
        {"language_model": "", "vision_tower": "vision_tower."},
        language="language_model",
        words=("<vid_patch>", "<vid_start>", "<vid_end>"),
    ),
}
OMG_LLAVA = "omg_llava"
# a section of `config.json`, what it holds, and the type that files lack
SECTIONS = (("model", "vision_backbone_id", "cobra"),)
TABLES = ("model.embed_tokens.weight", "lm_head.weight")


def kind_of(config: Mapping[str, Any]) -> dict[str, Any] | None:
    """Settings that the authors' code keeps in a section, with their type; None for all other files."""
    for section, key, kind in SECTIONS:
        inner = config.get(section)
        if "model_type" not in config and isinstance(inner, Mapping) and key in inner:
            return {**inner, "model_type": kind}
    return None


def language_folder(kind: str) -> str | None:
    """The folder inside that has the language model and its settings, of releases of that type that have one."""
    if kind == OMG_LLAVA:
        return omg_llava.LANGUAGE
    known = COMPOSED.get(kind) or GATHERED.get(kind)
    return known.language if known else None


def further_words(config: Mapping[str, Any]) -> tuple[str, ...]:
    """What is added behind the tokenizer's vocabulary."""
    kind = str(config.get("model_type"))
    known = GATHERED.get(kind)
    return omg_llava.WORDS if kind == OMG_LLAVA else known.words if known else ()


def gathered_weights(folder: Path, config: Mapping[str, Any]) -> dict[str, LazyTensor] | None:
    """All weights of a folder of several releases under the names of the authors' whole model, None for other folders. What
    was trained stands before what it was trained on. Raises `WeightsError` naming what is missing.
    """
    kind = str(config.get("model_type"))
    if kind in COMPOSED:
        return composed_weights(folder, config)
    if kind == OMG_LLAVA:
        return omg_llava.omg_llava_weights(folder, config)
    return _gathered(folder, config, kind) if kind in GATHERED else None


def _gathered(folder: Path, config: Mapping[str, Any], kind: str) -> dict[str, LazyTensor]:
    known = GATHERED[kind]
    own = folder / known.trained if known.trained else folder
    trained = open_weights(own if own.exists() else folder)
    found: dict[str, LazyTensor] = {}
    for name, prefix in known.parts.items():
        if (folder / name).is_dir():
            weights = open_weights(folder / name) if name == known.language else seeing(folder / name)
            old, new = known.moved or ("", "") if name == known.language else ("", "")
            found |= {
                prefix + (re.sub(old, new, key) if old else key): tensor for key, tensor in weights.items()
            }
        elif not any(key.startswith(prefix) for key in trained if key not in TABLES):
            raise WeightsError(
                f"{folder}: {kind} was released without {name}; put its folder at {folder / name}"
            )
    found |= trained
    if known.alpha is not None:
        found = merged_adapters(found, float(config.get("lora_alpha") or known.alpha))
    language: Any = config.get(known.language) if known.language else None
    if known.words and isinstance(language, Mapping):
        rows = int(language.get("vocab_size", 0)) + len(known.words)
        found |= {name: _lengthened(found[name], rows) for name in TABLES if name in found}
    return found


def _lengthened(table: LazyTensor, rows: int) -> LazyTensor:
    """With rows of zeros behind its own, up to `rows`."""
    missing = rows - table.shape[0]
    if missing <= 0:
        return table

    def read(dtype: torch.dtype | None) -> Tensor:
        own_ND = table.load(dtype)
        return torch.cat((own_ND, own_ND.new_zeros(missing, *table.shape[1:])))

    return replace(table, shape=(rows, *table.shape[1:]), read=read)
