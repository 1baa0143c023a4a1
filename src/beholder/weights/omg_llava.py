"""OMG-LLaVA (lxtGH/OMG-Seg omg_llava): a folder with its authors' files as safetensors (`beholder convert`), named as they name
them, and the language model's folder.

    config.json                                              {"model_type": "omg_llava"}
    omg_llava_7b_finetune_8gpus.safetensors                  what they trained: adapters, words, projectors
    omg_seg_convl.safetensors                                OMG-Seg, whose pixels and objects are seen
    convnext_large_d_320_CocoPanopticOVDataset.safetensors   vectors of its classes
    internlm2-chat-7b/                                       the language model
    backbone/                                                open_clip's convnext_large_d_320, where OMG-Seg's file lacks it

The decoder of OMG-Seg also reads regions, and answers where it was not trained anew for them; here these are three.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from beholder.errors import WeightsError
from beholder.weights.beside import merged_adapters, seeing
from beholder.weights.files import INDEX, SINGLE, open_weights
from beholder.weights.lazy import LazyTensor, LazyTensors
from beholder.weights.pickles import TENSOR

LANGUAGE = "internlm2-chat-7b"
WORDS = ("[SEG]", "<p>", "</p>", "<region>")  # `_add_special_tokens`
TRAINED = re.compile(r"(omg_llava_.*|finetuned_.*)\.safetensors")
SEG, CLASSES = "omg_seg_convl.safetensors", "convnext_large_d_320_CocoPanopticOVDataset.safetensors"
EYES, HEAD, REGIONS, ANSWERS = "visual_encoder.", "visual_encoder.panoptic_head.", "region.", "answer."
ALPHA = 256.0  # `lora_alpha` of configs/finetune
# what the two further decoders have of OMG-Seg's
SHARED = ("transformer_decoder.", "mask_embed.", "level_embed.")
OF_MASKS = ("mask_embed.", "transformer_decoder.post_norm.")  # regions tell where to look
IN_PROJ = re.compile(r"(.*\.self_attn\.attn\.)in_proj_(weight|bias)")


def omg_llava_weights(folder: Path, config: Mapping[str, Any]) -> dict[str, LazyTensor]:
    """All weights under the authors' names, with those of the further decoders. Raises `WeightsError` for a missing file."""
    own = sorted(path for path in folder.glob("*.safetensors") if TRAINED.fullmatch(path.name))
    if not own and any((folder / name).is_file() for name in (SINGLE, INDEX)):
        return open_weights(folder)  # written back
    if len(own) != 1:
        names = ", ".join(path.name for path in own) or "none"
        raise WeightsError(
            f"{folder}: {names} of omg_llava_... and finetuned_...safetensors; put one of the authors' files there"
        )
    for name in (SEG, CLASSES, LANGUAGE):
        if not (folder / name).exists():
            raise WeightsError(f"{folder}: no {name}; OMG-LLaVA was released beside it, so put it there")
    trained = dict(open_weights(own[0]))
    language = {f"llm.{key}": tensor for key, tensor in open_weights(folder / LANGUAGE).items()}
    alpha = float(config.get("lora_alpha") or ALPHA)
    seen = {EYES + key: tensor for key, tensor in open_weights(folder / SEG).items()}
    found = merged_adapters({**language, **trained}, alpha)
    found = {**_backbone(folder, seen), **seen, **found}
    found[HEAD + "cls_embed"] = _classes(open_weights(folder / CLASSES)[TENSOR])
    return found | dict(_further(found))


def _backbone(folder: Path, seen: LazyTensors) -> dict[str, LazyTensor]:
    """open_clip's ConvNeXt under OMG-Seg's names, where its file does not hold it."""
    if any(key.startswith(f"{EYES}backbone.stem.") for key in seen):
        return {}
    if not (folder / "backbone").is_dir():
        raise WeightsError(
            f"{folder}: {SEG} holds no backbone; put open_clip's convnext_large_d_320 at backbone"
        )
    weights = seeing(folder / "backbone")
    names = {f"stages.{number}.": f"layer{number + 1}." for number in range(4)} | {"head.": "head.0."}
    found: dict[str, LazyTensor] = {}
    for key, tensor in weights.items():
        part = next((part for part in names if key.startswith(part)), "")
        found[f"{EYES}backbone.{names.get(part, '')}{key.removeprefix(part)}"] = tensor
    return found


def _classes(vectors_KPW: LazyTensor) -> LazyTensor:
    """With a last class that is none, of zeros."""
    count, *rest = vectors_KPW.shape

    def read(dtype: torch.dtype | None) -> Tensor:
        own = vectors_KPW.load(dtype)
        return torch.cat((own, own.new_zeros(1, *rest)))

    return replace(vectors_KPW, shape=(count + 1, *rest), read=read)


def _further(found: LazyTensors) -> Iterator[tuple[str, LazyTensor]]:
    """What regions and answers are read with. A decoder whose queries are alone needs their values alone."""
    tuned = any(key.startswith(f"{HEAD}transformer_decoder_llm.") for key in found)
    for key, tensor in found.items():
        inner = key.removeprefix(HEAD)
        if key.startswith(HEAD) and inner.startswith(SHARED):
            if not inner.startswith(OF_MASKS):
                yield from _alone(REGIONS + inner, tensor)
            if not tuned or inner.startswith("level_embed."):
                yield from _alone(ANSWERS + inner, tensor)
        elif tuned and key.startswith((f"{HEAD}transformer_decoder_llm.", f"{HEAD}mask_embed_llm.")):
            yield from _alone(ANSWERS + inner.replace("_llm.", ".", 1), tensor)
        elif key.startswith(("projector.model.query_proj.", "projector.model.model.")):
            yield REGIONS + key, tensor
        elif inner == "pb_embedding.weight":
            yield f"{REGIONS}pb_embedding", _rows(tensor, 0, 1)
        elif inner == "mask_tokens.weight":
            yield f"{REGIONS}mask_tokens", tensor


def _alone(key: str, tensor: LazyTensor) -> Iterator[tuple[str, LazyTensor]]:
    joined = IN_PROJ.fullmatch(key)
    if joined is None:
        yield key, tensor
    else:
        rows = tensor.shape[0] // 3
        yield f"{joined[1]}v_proj.{joined[2]}", _rows(tensor, 2 * rows, rows)


def _rows(tensor: LazyTensor, first: int, count: int) -> LazyTensor:
    return replace(
        tensor,
        shape=(count, *tensor.shape[1:]),
        read=lambda dtype: tensor.load(dtype)[first : first + count],
    )
