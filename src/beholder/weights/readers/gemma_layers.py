"""Gemma 3n and Gemma 4 as text decoders, whose layers read inputs of their own and share keys and values. Defaults are those of
the official config classes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import fields as dataclass_fields
from typing import Any

from beholder.errors import BeholderError
from beholder.parts.blocks.mlp import FeedForward
from beholder.parts.blocks.norms import Norm
from beholder.parts.blocks.shared_keys import SharedKeysAttention
from beholder.parts.blocks.transformer import Arrangement, LayerKind
from beholder.parts.language.decoder import Decoder
from beholder.parts.language.embedding import TokenEmbedding
from beholder.parts.language.layer_inputs import LayerInputDecoder, LayerInputs, Streams
from beholder.weights.layouts import decoders as layouts
from beholder.weights.readers.decoders import (
    DecoderDefaults,
    attention_as,
    attention_of,
    decoder,
    layer_types,
    shortest,
    window_of,
)
from beholder.weights.readers.fields import Fields
from beholder.weights.readers.hierarchical import expect
from beholder.weights.readers.read import FULL, SLIDING, Read, Readers, activation_name, rotary

GEMMA_3N = DecoderDefaults(
    vocab_size=262400,
    dim=2048,
    hidden=16384,
    num_layers=35,
    num_heads=8,
    num_kv_heads=2,
    head_dim=256,
    context=32768,
    theta=1e6,
    tied=True,
    act_key="hidden_activation",
    act="gelu_pytorch_tanh",
)
GEMMA_4 = DecoderDefaults(
    vocab_size=262144,
    dim=2304,
    hidden=9216,
    num_layers=30,
    num_heads=8,
    num_kv_heads=4,
    head_dim=256,
    context=131072,
    theta=1e6,
    tied=True,
    act_key="hidden_activation",
    act="gelu_pytorch_tanh",
)
ROPE_4 = {
    SLIDING: {"rope_type": "default", "rope_theta": 1e4},
    FULL: {"rope_type": "proportional", "partial_rotary_factor": 0.25, "rope_theta": 1e6},
}


def _gemma3n(fields: Fields) -> Read[Decoder]:
    """Four streams, of which layers compute the first; a learned residual path; the first layers' MLPs are sparse."""
    count = fields.layers("num_hidden_layers", GEMMA_3N.num_layers)
    widths = _each(fields, "intermediate_size", fields.raw("intermediate_size") or GEMMA_3N.hidden, count)
    sparse = fields.raw("activation_sparsity_pattern")
    if sparse is None:
        sparse = [0.95] * 10 + [0.0] * (count - 10) if count > 10 else 0.0
    shares = _each(fields, "activation_sparsity_pattern", sparse, count)
    fields = Fields({**_plainly(fields), "intermediate_size": int(widths[0])}, fields.name)
    config = _form(fields, GEMMA_3N)
    full = _attention(fields, config)
    near = full.but(
        rotary=rotary(fields, config.context, theta=1e4, layers=SLIDING), window=window_of(fields, 512)
    )
    slides = layer_types(fields, count, lambda layer: (layer + 1) % 5 != 0)
    attentions = _shared(fields, [near if slide else full for slide in slides], default=15)
    mlp = config.mlp
    assert isinstance(mlp, FeedForward)
    mlps = [
        mlp.but(hidden=int(width), sparsity=float(share)) for width, share in zip(widths, shares, strict=True)
    ]
    given = {
        **_kinds(attentions, mlps),
        "arrangement": Arrangement("both", laurel=fields.count("laurel_rank", 64)),
        "inputs": _inputs(fields),
        "streams": Streams(
            count=fields.count("altup_num_inputs", 4),
            active=fields.get("altup_active_idx", 0),
            clip=fields.positive("altup_coef_clip", 120.0),
            scaled=fields.get("altup_correct_scale", True),
        ),
        "logit_softcap": fields.positive("final_logit_softcapping", 30.0),
    }
    fields.ignore("activation_sparsity_pattern")
    fields.finish()
    return Read(_decoder(config, given), layouts.GEMMA_3N)


def _gemma4(fields: Fields) -> Read[Decoder]:
    """Layers without a window have wider heads, whose values may be their keys."""
    expect(fields, "enable_moe_block", False, False)
    expect(fields, "use_bidirectional_attention", None, None)
    fields.ignore("moe_intermediate_size", "num_experts", "top_k_experts")
    if fields.raw("rope_parameters") is None:
        fields = Fields({**_plainly(fields), "rope_parameters": ROPE_4}, fields.name)
    config = _form(fields, GEMMA_4)
    usual = _attention(fields, config)
    slides = layer_types(fields, config.num_layers, lambda layer: (layer + 1) % 6 != 0)
    slides[-1] = False  # as officially, whatever is written
    turned = rotary(fields, config.context, theta=1e4, layers=SLIDING)
    near = usual.but(rotary=turned, window=window_of(fields, 512))
    wide = usual.but(keys_as_values=fields.get("attention_k_eq_v", False))
    wide = _wide(fields, wide, config.dim, [layer for layer, slide in enumerate(slides) if not slide])
    attentions = _shared(fields, [near if slide else wide for slide in slides], default=0)
    mlp = config.mlp
    assert isinstance(mlp, FeedForward)
    twice = fields.get("use_double_wide_mlp", False)
    mlps = [mlp.but(hidden=mlp.hidden * (2 if twice and each.borrows else 1)) for each in attentions]
    cap = fields.raw("final_logit_softcapping")
    given = {
        **_kinds(attentions, mlps),
        "arrangement": Arrangement("both"),
        "inputs": _inputs(fields) if fields.get("hidden_size_per_layer_input", 256) else None,
        "layer_scalar": True,
        "logit_softcap": None if cap is None else fields.positive("final_logit_softcapping"),
    }
    if given["inputs"] is None:
        fields.ignore("vocab_size_per_layer_input")
    fields.finish()
    return Read(_decoder(config, given), layouts.GEMMA_4)


def _plainly(fields: Fields) -> dict[str, Any]:
    return {key: fields.raw(key) for key in fields}


def _form(fields: Fields, assumed: DecoderDefaults) -> Decoder:
    """Token vectors are scaled by sqrt(width)."""
    expect(fields, "attention_bias", False, False)
    config = decoder(fields, assumed)
    return config.but(
        norm=Norm("rms", config.norm.eps), embedding=TokenEmbedding(scale=math.sqrt(config.dim))
    )


def _attention(fields: Fields, config: Decoder) -> SharedKeysAttention:
    """Queries, keys and values are normed by head, and scores as they are."""
    turned = rotary(fields, config.context, theta=1e6, layers=FULL)
    usual = attention_of(config).but(rotary=turned, scale=1.0, qk_norm=config.norm)
    attention = attention_as(SharedKeysAttention, usual, v_norm=config.norm.but(learned=False))
    assert isinstance(attention, SharedKeysAttention)
    return attention


def _wide(fields: Fields, usual: SharedKeysAttention, dim: int, layers: Sequence[int]) -> SharedKeysAttention:
    """The heads of `layers`, for which `per_layer_config` says where they differ; older files say it of all of them."""
    own = None
    if fields.raw("per_layer_config") is not None:
        told = fields.part("per_layer_config")
        # official files write "05" where there are more than ten layers
        own = Fields({key.lstrip("0") or "0": told.raw(key) for key in told}, told.name)
    heads, width = fields.count("num_global_key_value_heads", None), fields.count("global_head_dim", None)
    if own is None:
        shared = heads if usual.keys_as_values and heads else usual.kv_heads
        return usual.but(head_dim=width or 512, num_kv_heads=shared)
    settings = {str(layer): own.part(str(layer)) for layer in layers}
    found = {
        (part.count("head_dim", usual.head_dim), part.count("num_key_value_heads", usual.num_kv_heads))
        for part in settings.values()
    }
    for part in settings.values():
        part.finish()
    own.finish()
    if len(found) != 1:
        raise BeholderError(
            f"{own.name}: layers without a window differ in their heads: {sorted(found, key=str)}"
        )
    ((width, heads),) = found
    return usual.but(head_dim=None if width and width * usual.num_heads == dim else width, num_kv_heads=heads)


def _shared(
    fields: Fields, attentions: Sequence[SharedKeysAttention], *, default: int
) -> list[SharedKeysAttention]:
    """The last `num_kv_shared_layers` read the keys of the last layer before them of their own kind."""
    shared = fields.get("num_kv_shared_layers", default)
    first = len(attentions) - shared
    if not 0 <= first <= len(attentions):
        raise BeholderError(f"{fields.name}: num_kv_shared_layers is {shared} of {len(attentions)} layers")
    names = ["full" if attention.window is None else "near" for attention in attentions]
    if set(names[first:]) - set(names[:first]):
        raise BeholderError(
            f"{fields.name}: the {shared} layers that share keys have none of their kind before them"
        )
    lenders = {first - 1 - names[:first][::-1].index(name) for name in set(names[first:])}
    return [
        attention.but(borrows=name, keys_as_values=False)
        if layer >= first
        else attention.but(lends=name if layer in lenders else None)
        for layer, (attention, name) in enumerate(zip(attentions, names, strict=True))
    ]


def _each(fields: Fields, key: str, value: Any, count: int) -> list[float]:
    """A number for each layer, of one or of a list."""
    values = list(value) if isinstance(value, list) else [value] * count
    if len(values) != count or not all(type(each) in (int, float) and each >= 0 for each in values):
        raise BeholderError(f"{fields.name}: {key} is {value}; expected a number for each of {count} layers")
    return values


def _inputs(fields: Fields) -> LayerInputs:
    return LayerInputs(
        width=fields.count("hidden_size_per_layer_input", 256),
        words=fields.count("vocab_size_per_layer_input", 262144),
        act=activation_name(fields, "hidden_activation", "gelu_pytorch_tanh"),
    )


def _kinds(attentions: Sequence[SharedKeysAttention], mlps: Sequence[FeedForward]) -> dict[str, Any]:
    """The fields of a stack whose layers have these halves."""
    layers = list(zip(attentions, mlps, strict=True))
    kinds = list(dict.fromkeys(layers))
    return {
        "attention": kinds[0][0],
        "mlp": kinds[0][1],
        "others": tuple(LayerKind(attention, mlp) for attention, mlp in kinds[1:]),
        "pattern": shortest([kinds.index(layer) for layer in layers]) if len(kinds) > 1 else (),
    }


def _decoder(config: Decoder, given: dict[str, Any]) -> LayerInputDecoder:
    """`config` with inputs of layers, and what else is `given`."""
    usual = {field.name: getattr(config, field.name) for field in dataclass_fields(config)}
    return LayerInputDecoder(**{**usual, **given})


READERS: Readers = {"gemma3n_text": _gemma3n, "gemma4_text": _gemma4}
