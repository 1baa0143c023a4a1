"""Folders of Alpha-VLLM/LLaMA2-Accessory (SPHINX): shards, each with a share of every large matrix of the language model and
with all of the encoders, once they are converted (`beholder convert FOLDER NEW --to safetensors`).

    meta.json            {"llama_type": "llama_ens5"}: the module that has the model's class
    config.json          what that class takes; the size of the vocabulary is the tokenizer's, and not in it
    consolidated.00-of-02.model.safetensors   and so on

Shares: accessory/util/tensor_parallel.py, and of experts model/LLM/mixtral_sparse.py.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from beholder.errors import WeightsError
from beholder.weights.files import open_weights
from beholder.weights.lazy import LazyTensor

SHARD = re.compile(r"consolidated\.(\d\d)-of-(\d\d)\.model\.safetensors")
KIND = "llama_type"
WORDS = "llma.tok_embeddings.weight"
# names of what is shared out -> along which axis
SHARES: tuple[tuple[re.Pattern[str], int], ...] = (
    (re.compile(r"llma\.(layers\.\d+\.(attention\.w[qkv]|feed_forward\.w[13])|output)\.weight"), 0),
    (re.compile(r"llma\.(layers\.\d+\.(attention\.wo|feed_forward\.w2)|tok_embeddings)\.weight"), 1),
)
OF_EXPERTS = re.compile(r"llma\.layers\.\d+\.feed_forward\.w[123]")  # (experts x share, width) in each shard


def accessory_config(folder: Path, config: Mapping[str, Any], meta: Mapping[str, Any]) -> dict[str, Any]:
    """Settings with the kind of the model, which `meta.json` has, as `model_type`, and with the size of its vocabulary, which
    only weights tell; as they are where it has none.
    """
    if KIND not in meta:
        return dict(config)
    shards = _shards(folder)
    if WORDS not in shards[0]:
        raise WeightsError(f"{folder}: no {WORDS} in the first shard; download it again")
    return {**config, "model_type": str(meta[KIND]), "vocab_size": shards[0][WORDS].shape[0]}


def has_shards(folder: Path) -> bool:
    """Whether a folder holds such shards; what was written back has one file."""
    return any(SHARD.fullmatch(path.name) for path in folder.iterdir())


def accessory_weights(folder: Path, config: Mapping[str, Any]) -> dict[str, LazyTensor]:
    """All weights, shares of matrices joined. Raises `WeightsError` for absent shards and for shares that do not fit."""
    shards = _shards(folder)
    moe: Any = config.get("moe")
    experts = moe.get("num_experts", 8) if isinstance(moe, Mapping) else 8
    found: dict[str, LazyTensor] = {}
    for name in shards[0]:
        absent = [number for number, shard in enumerate(shards) if name not in shard]
        if absent:
            raise WeightsError(f"{folder}: {name} is not in shard {absent[0]}; download that file again")
        found[name] = _joined([shard[name] for shard in shards], experts)
    return found


def _shards(folder: Path) -> list[dict[str, LazyTensor]]:
    names = {
        int(match[1]): path for path in folder.iterdir() if (match := SHARD.fullmatch(path.name)) is not None
    }
    counts = {int(SHARD.fullmatch(path.name)[2]) for path in names.values()}  # type: ignore[index]
    if len(counts) != 1 or set(names) != set(range(*counts)):
        have = ", ".join(sorted(path.name for path in names.values())) or "none"
        raise WeightsError(
            f"{folder}: of consolidated.NN-of-NN.model.safetensors there is {have}; put all shards there "
            "(.pth files: beholder convert FOLDER NEW --to safetensors)"
        )
    return [open_weights(names[number]) for number in sorted(names)]


def _joined(shares: Sequence[LazyTensor], experts: int) -> LazyTensor:
    first = shares[0]
    if any(share.shape != first.shape for share in shares):
        raise WeightsError(f"{first.name}: shards have shapes {', '.join(str(s.shape) for s in shares)}")
    axis = next((axis for pattern, axis in SHARES if pattern.fullmatch(first.name)), None)
    by_expert = OF_EXPERTS.fullmatch(first.name) is not None
    if len(shares) == 1 or (axis is None and not by_expert):
        return first
    if by_expert and first.shape[0] % experts:
        raise WeightsError(f"{first.name}: {first.shape[0]} rows are not those of {experts} experts")
    along = 0 if axis is None else axis
    shape = tuple(size * (len(shares) if at == along else 1) for at, size in enumerate(first.shape))

    def read(dtype: torch.dtype | None) -> Tensor:
        parts = [share.load(dtype) for share in shares]
        if by_expert:
            return torch.cat([part.unflatten(0, (experts, -1)) for part in parts], 1).flatten(0, 1)
        return torch.cat(parts, along)

    return LazyTensor(first.name, shape, first.dtype, read, first.origin)
