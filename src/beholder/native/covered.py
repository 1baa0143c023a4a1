"""Which models the compiled decode step can compute; what it cannot is named by its field."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import MISSING, fields

import torch
from torch import nn

from beholder.config import Config
from beholder.model import Model
from beholder.native.rows import ACTIVATIONS
from beholder.parts.blocks.attention import Attention
from beholder.parts.blocks.mlp import FeedForward
from beholder.parts.blocks.norms import Norm, RmsNorm
from beholder.parts.blocks.positions import Rotary
from beholder.parts.blocks.transformer import LayerKind
from beholder.parts.fusion.grid_positions import GridPositions
from beholder.parts.fusion.splice import Splice
from beholder.parts.language.decoder import Decoder, DecoderModel

WIDEST_HEAD = 512
NORMS = ("norm", "norm1", "norm2", "q_norm", "k_norm")
FUSIONS = (Splice, GridPositions)  # that do nothing to an answer's own tokens
DECODER = (
    "vocab_size",
    "dim",
    "num_layers",
    "attention",
    "mlp",
    "norm",
    "tied",
    "context",
    "others",
    "pattern",
)
ATTENTION = (
    "num_heads",
    "num_kv_heads",
    "head_dim",
    "qkv_bias",
    "k_bias",
    "out_bias",
    "rotary",
    "scale",
    "qk_norm",
)


def missing(model: Model) -> str | None:
    """What the kernels lack for the model, None where they lack nothing."""
    config = model.card.main
    if type(config) is not Decoder:
        return f"language is {type(config).__name__}, which is no plain Decoder"
    for fusion in model.card.fusion:
        if type(fusion) not in FUSIONS:
            return f"fusion is {type(fusion).__name__}"
    if model.layer_parts:
        return "a fusion puts modules into layers"
    more = ("arrangement", "embedding", "head_bias", "logit_scale")
    return (
        _changed("language", config, (*DECODER, *more))
        or _changed("language.embedding", config.embedding, ("scale", "extra"))
        or _rms("language.norm", config.norm)
        or _layers(config)
        or _modules(model)
    )


def _layers(config: Decoder) -> str | None:
    kinds = list(dict.fromkeys(config.layers))
    for kind in kinds:
        found = _layer(kind)
        if found is not None:
            return found
    first = kinds[0]
    for kind in kinds[1:]:
        found = _unlike(first, kind, config.dim)
        if found is not None:
            return f"layers differ in {found}"
    return None


def _layer(kind: LayerKind) -> str | None:
    attention, mlp = kind.mixer, kind.mlp
    if type(attention) is not Attention:
        return f"language.attention is {type(attention).__name__}"
    if type(mlp) is not FeedForward:
        return f"language.mlp is {type(mlp).__name__}"
    assert kind.arrangement is not None
    found = (
        _changed("language.arrangement", kind.arrangement, ())
        or _changed("language.attention", attention, ATTENTION)
        or _changed("language.mlp", mlp, ("hidden", "act", "gated", "bias"))
    )
    if found is not None:
        return found
    if attention.rotary is not None and type(attention.rotary) is not Rotary:
        return f"language.attention.rotary is {type(attention.rotary).__name__}"
    if attention.qk_norm is not None and (found := _rms("language.attention.qk_norm", attention.qk_norm)):
        return found
    if not mlp.gated:
        return "language.mlp.gated=False"
    return None if mlp.act in ACTIVATIONS else f"language.mlp.act={mlp.act!r}"


def _unlike(one: LayerKind, other: LayerKind, dim: int) -> str | None:
    """The field in which two layers differ that the kernels take to be the same in all; they may turn differently."""
    assert isinstance(one.mixer, Attention) and isinstance(other.mixer, Attention)
    assert isinstance(one.mlp, FeedForward) and isinstance(other.mlp, FeedForward)
    pairs = {
        "attention.num_heads": (one.mixer.num_heads, other.mixer.num_heads),
        "attention.num_kv_heads": (one.mixer.kv_heads, other.mixer.kv_heads),
        "attention.head_dim": (one.mixer.width(dim), other.mixer.width(dim)),
        "attention.scale": (one.mixer.scale, other.mixer.scale),
        "attention.qk_norm": (one.mixer.qk_norm, other.mixer.qk_norm),
        "mlp.hidden": (one.mlp.hidden, other.mlp.hidden),
        "mlp.act": (one.mlp.act, other.mlp.act),
    }
    return next((name for name, (a, b) in pairs.items() if a != b), None)


def _rms(where: str, norm: Norm) -> str | None:
    return None if norm.kind == "rms" else f"{where}.kind={norm.kind!r}"


def _changed(where: str, config: Config, known: Collection[str]) -> str | None:
    """The first field beyond the known ones that is not as it usually is."""
    for each in fields(config):
        usual = each.default if each.default is not MISSING else None
        if each.name not in known and getattr(config, each.name) != usual:
            return f"{where}.{each.name}={getattr(config, each.name)!r}"
    return None


def _modules(model: Model) -> str | None:
    """Matrices are plain ones, in memory of the CPU; adapters and packed weights are not."""
    language = model.language
    assert isinstance(language, DecoderModel)
    if model.device.type != "cpu":
        return f"the model is on {model.device.type}"
    if language.embedding.weight.dtype not in (torch.float32, torch.bfloat16):
        return f"weights are {language.embedding.weight.dtype}"
    block = language.blocks[0]
    width = block.attn.head_dim  # type: ignore[union-attr]
    if isinstance(width, int) and width > WIDEST_HEAD:
        return f"language.attention.head_dim={width} (up to {WIDEST_HEAD})"
    for number, each in enumerate(language.blocks):
        for half, names in (("attn", ("q", "k", "v", "out")), ("mlp", ("gate", "up", "down"))):
            for name in names:
                module = getattr(getattr(each, half), name)
                if type(module) is not nn.Linear:
                    return f"blocks.{number}.{half}.{name} is {type(module).__name__}"
    for name, module in language.named_modules():
        if name.rpartition(".")[2] in NORMS and type(module) is not RmsNorm:
            return f"{name} is {type(module).__name__}"
    if language.head is not None and type(language.head) is not nn.Linear:
        return f"head is {type(language.head).__name__}"
    return None
