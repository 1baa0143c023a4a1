"""Weights that authors released without what they were trained on: a folder with these, and the other parts in folders of their
own inside it, named as the authors' code names them. `config.json` is the `model` section of their settings, with their class's
registered name for its `model_type`.

    config.json          {"model_type": "minigpt_v2", "image_size": 448, "lora_r": 64, "lora_alpha": 16}
    model.safetensors    what they trained (of a `.pth`: the tensors under `model`)
    llama_model/         the language model's folder as its own authors released it
    visual_encoder/      the encoder of pictures
    q_former_model/      BLIP-2's first stage, where its Q-Former was not trained again
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
from beholder.weights.files import open_weights
from beholder.weights.lazy import LazyTensor, LazyTensors, lazy


class Composition(NamedTuple):
    """language, projection: what the authors call their language model and the map before it. queried: there is a Q-Former,
    unless settings say otherwise. patches: those of the encoder are read too. side: pixels of a picture.
    """

    language: str
    projection: str
    queried: bool = True
    patches: bool = False
    side: int = 224


# by `model_type`
COMPOSED: Mapping[str, Composition] = {
    "minigpt4": Composition("llama_model", "llama_proj"),
    "minigpt_v2": Composition("llama_model", "llama_proj", queried=False, side=448),
    "bliva_vicuna": Composition("llm_model", "llm_proj", patches=True),
    "bliva_flant5": Composition("t5_model", "t5_proj", patches=True),
}
LANGUAGES = (
    *sorted({composition.language for composition in COMPOSED.values()}),
    "llm",
    "language_model",
    "internlm2-chat-7b",
)
ENCODER, QUERIES = "visual_encoder", "q_former_model"
OF_QUERIES = ("Qformer.", "query_tokens", "ln_vision.")  # what is taken of BLIP-2's first stage
ADAPTER = re.compile(r"(\w+\.)base_model\.model\.(.+)\.lora_([AB])(?:\.default)?\.weight")


# Parts that VILA's releases keep in folders of their own, by the section of `config.json` that speaks of each
APART: Mapping[str, str] = {
    "llm_cfg": "llm",
    "vision_tower_cfg": "vision_tower",
    "mm_projector_cfg": "mm_projector",
}


def weights_apart(folder: Path) -> dict[str, LazyTensor]:
    """The weights of all parts of a VILA folder, each under its folder's name. Raises `WeightsError` where a part is absent."""
    found: dict[str, LazyTensor] = {}
    for name in APART.values():
        if not (folder / name).is_dir():
            raise WeightsError(
                f"{folder}: no folder {name}; VILA keeps the weights of that part there, so copy it too"
            )
        found |= {f"{name}.{key}": tensor for key, tensor in open_weights(folder / name).items()}
    return found


# files that settings do not tell from others: their `model_type`, what goes before names of weights that only they have, ours
TOLD_BY_WEIGHTS = (("llava_llama", "model.spatial_embed.", "inf_llava"),)


def told_by_weights(folder: Path, config: dict[str, Any]) -> dict[str, Any]:
    """Settings with the type that the names of a folder's weights tell (INF-LLaVA); the same where there are no weights."""
    for kind, prefix, own in TOLD_BY_WEIGHTS:
        known = config.get("model_type") == kind and any(folder.glob("*.safetensors"))
        if known and any(key.startswith(prefix) for key in open_weights(folder)):
            return {**config, "model_type": own}
    return config


TRUNK = "visual.trunk."  # of open_clip's files, which hold a text tower besides
SEEN = (TRUNK, "vision_model.")


def with_encoders(folder: Path, config: Mapping[str, Any], weights: LazyTensors) -> LazyTensors:
    """The weights of a folder of LLaVA's kin, with those of encoders that its authors left where they had been published: each
    in a folder inside, `vision_tower`, or `vision_tower_aux_list.0` and so on where there are several (Cambrian-1), as its own
    authors released it.
    """
    several = config.get("mm_vision_tower_aux_list")
    count = len(several) if isinstance(several, list) else 0
    towers = [f"vision_tower_aux_list.{number}" for number in range(count)] or ["vision_tower"]
    found: dict[str, LazyTensor] = dict(weights)
    for name in towers if "mm_vision_tower" in config or count else ():
        prefix = f"model.{name}.vision_tower."
        if (folder / name).is_dir() and not any(key.startswith(prefix) for key in weights):
            found |= {prefix + key: tensor for key, tensor in seeing(folder / name).items()}
    return found


def seeing(folder: Path) -> dict[str, LazyTensor]:
    """What a folder's encoder of pictures has, without the text tower that it was trained with."""
    own = folder / "open_clip_model.safetensors"
    weights = open_weights(own if own.is_file() else folder)
    inside = next((prefix for prefix in SEEN if any(key.startswith(prefix) for key in weights)), "")
    return {key.removeprefix(TRUNK): weights[key] for key in weights if key.startswith(inside)}


def with_settings(
    folder: Path, config: dict[str, Any], key: str, language: Mapping[str, Any] | None
) -> dict[str, Any]:
    """A folder's settings with those of its language model under `key`, where they are not in them already. language: what the
    `config.json` in its folder `key` holds, None where there is none. Raises `WeightsError` where neither has them.
    """
    if isinstance(config.get(key), Mapping):
        return config
    if language is None:
        raise WeightsError(
            f"{folder}: {config['model_type']} was released without its language model; put that model's folder at "
            f"{folder / key}"
        )
    return {**config, key: dict(language)}


def composed_weights(folder: Path, config: Mapping[str, Any]) -> dict[str, LazyTensor]:
    """All weights of a composed folder under the names of the authors' whole model, adapters multiplied into what they change.
    What was trained stands before what it was trained on.
    """
    found: dict[str, LazyTensor] = {}
    inside = (COMPOSED[str(config["model_type"])].language, ENCODER, QUERIES)
    for name in (name for name in inside if (folder / name).is_dir()):
        weights = open_weights(folder / name)
        if name == QUERIES:
            found |= {key: tensor for key, tensor in weights.items() if key.startswith(OF_QUERIES)}
        else:
            found |= {f"{name}.{key}": tensor for key, tensor in weights.items()}
    trained = open_weights(folder)
    adapters = {key: tensor for key, tensor in trained.items() if ADAPTER.fullmatch(key)}
    found |= _first_norm(config, found) | {
        key: tensor for key, tensor in trained.items() if key not in adapters
    }
    return found | _adapted(found, adapters, float(config.get("lora_alpha") or 16))


def has_queries(config: Mapping[str, Any]) -> bool:
    """Whether a Q-Former reads the encoder."""
    return COMPOSED[str(config["model_type"])].queried and config.get("has_qformer") is not False


# peft's names of what it wraps: what it changes, and what else there is
WRAPPED = re.compile(r"(\w+\.)base_model\.model\.(.+)")
PLLAVA_ALPHA = 4.0  # magic-research/PLLaVA: scripts/demo.sh and eval.sh


def with_adapters_in(config: Mapping[str, Any], weights: LazyTensors) -> LazyTensors:
    """Weights of a file that holds adapters beside what they change (PLLaVA), under the names of the model without them, the
    changes multiplied in. Others are as they are.
    """
    if "pooling_method" not in config or not any(WRAPPED.fullmatch(key) for key in weights):
        return weights
    return merged_adapters(weights, float(config.get("lora_alpha") or PLLAVA_ALPHA))


def merged_adapters(weights: LazyTensors, alpha: float) -> dict[str, LazyTensor]:
    """Weights under the names of the model without peft's adapters, whose changes, `alpha` over their rank, are added to what
    they change. Raises `WeightsError` for an adapter without its matrix.
    """
    adapters = {key: tensor for key, tensor in weights.items() if ADAPTER.fullmatch(key)}
    found: dict[str, LazyTensor] = {}
    for key, tensor in weights.items():
        wrapped = WRAPPED.fullmatch(key)
        if key not in adapters:
            found[f"{wrapped[1]}{wrapped[2]}".replace(".base_layer.", ".") if wrapped else key] = tensor
    return found | _adapted(found, adapters, alpha)


def _first_norm(config: Mapping[str, Any], found: Mapping[str, LazyTensor]) -> dict[str, LazyTensor]:
    """The norm behind the encoder where there is no Q-Former with which it was trained: as it is made, and in no file."""
    first = found.get(f"{ENCODER}.cls_token")
    if first is None or has_queries(config):
        return {}
    width = first.shape[-1]
    return {
        f"ln_vision.{leaf}": lazy(f"ln_vision.{leaf}", values)
        for leaf, values in (("weight", torch.ones(width)), ("bias", torch.zeros(width)))
    }


def _adapted(
    base: Mapping[str, LazyTensor], adapters: Mapping[str, LazyTensor], alpha: float
) -> dict[str, LazyTensor]:
    """The matrices that `adapters` change, with the changes in them (LoRA, 2106.09685, as peft names it)."""
    pairs: dict[str, dict[str, LazyTensor]] = {}
    for key, tensor in adapters.items():
        match = ADAPTER.fullmatch(key)
        assert match is not None
        pairs.setdefault(f"{match[1]}{match[2]}.weight", {})[match[3]] = tensor
    for name, pair in pairs.items():
        if name not in base or set(pair) != {"A", "B"}:
            what = "its matrix" if name not in base else "its other half"
            raise WeightsError(f"an adapter of {name} without {what}; copy the files again")
    return {name: _changed(base[name], pair["A"], pair["B"], alpha) for name, pair in pairs.items()}


def _changed(base: LazyTensor, a_RI: LazyTensor, b_OR: LazyTensor, alpha: float) -> LazyTensor:
    rank = a_RI.shape[0]
    if base.shape != (b_OR.shape[0], a_RI.shape[1]) or b_OR.shape[1] != rank:
        raise WeightsError(f"{base.name}: {base.shape} is no product of {b_OR.shape} and {a_RI.shape}")

    def read(dtype: torch.dtype | None) -> Tensor:
        change_OI = b_OR.load(torch.float32) @ a_RI.load(torch.float32) * (alpha / rank)
        return (base.load(torch.float32) + change_OI).to(dtype or base.dtype)

    return replace(base, read=read)
