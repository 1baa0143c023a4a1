"""OLMo (2402.00838), OLMo 2 (2501.00656), OLMo 3 and EXAONE 4. Defaults are those of the official config classes."""

from __future__ import annotations

from dataclasses import replace

from beholder.parts.blocks.norms import Norm
from beholder.parts.blocks.transformer import Arrangement
from beholder.parts.language.decoder import Decoder
from beholder.weights.layouts import decoders as layouts
from beholder.weights.readers.decoders import (
    DecoderDefaults,
    attention_of,
    biased,
    decoder,
    layer_types,
    varied,
    window_of,
)
from beholder.weights.readers.fields import Fields
from beholder.weights.readers.read import FULL, SLIDING, Read, Readers, rotary

OLMO = DecoderDefaults(vocab_size=50304)
OLMO2 = DecoderDefaults(vocab_size=50304, eps=1e-5)


def _olmo(fields: Fields) -> Read[Decoder]:
    """LayerNorms without weights; projected queries, keys and values may be clipped."""
    bias = fields.get("attention_bias", False)
    clip = None if fields.raw("clip_qkv") is None else fields.positive("clip_qkv")
    config = biased(decoder(fields, OLMO), qkv=bias, out=bias)
    return Read(
        config.but(norm=Norm("layer", 1e-5, learned=False), **{"attention.clip": clip}), layouts.DECODER
    )


def _norms_after(fields: Fields, assumed: DecoderDefaults, over: str) -> Decoder:
    """Norms act on what halves give, and on queries and keys."""
    config = decoder(fields, assumed).but(arrangement=Arrangement("after"))
    return config.but(**{"attention.qk_norm": config.norm, "attention.qk_norm_over": over})


def _olmo2(fields: Fields) -> Read[Decoder]:
    bias = fields.get("attention_bias", False)
    config = biased(_norms_after(fields, OLMO2, "all"), qkv=bias, out=bias)
    return Read(config, layouts.NORMS_AFTER)


def _olmo3(fields: Fields) -> Read[Decoder]:
    """OLMo 2 with a window in three of four layers, whose rotary positions are never scaled."""
    bias = fields.get("attention_bias", False)
    assumed = replace(OLMO2, theta=500000.0)
    config = biased(_norms_after(fields, assumed, "all"), qkv=bias, out=bias)
    slides = layer_types(fields, config.num_layers, lambda layer: (layer + 1) % 4 != 0)
    full = attention_of(config).but(rotary=rotary(fields, config.context, theta=assumed.theta, layers=FULL))
    turned = rotary(fields, config.context, theta=assumed.theta, layers=SLIDING)
    near = full.but(window=window_of(fields, 4096), rotary=turned)
    return Read(varied(config, [near if slide else full for slide in slides]), layouts.NORMS_AFTER)


EXAONE4 = DecoderDefaults(vocab_size=102400, hidden=16384, num_kv_heads=32, eps=1e-5)


def _exaone4(fields: Fields) -> Read[Decoder]:
    """Layers without a window have no rotary positions where others have one."""
    config = _norms_after(fields, EXAONE4, "head")
    window, every = window_of(fields, 4096), fields.raw("sliding_window_pattern")
    every = len(every) if isinstance(every, str) else every or 4  # "LLLG"
    slides = layer_types(fields, config.num_layers, lambda layer: bool(window) and (layer + 1) % every != 0)
    if window is None:
        return Read(config, layouts.NORMS_AFTER)
    full = attention_of(config).but(rotary=None)
    near = attention_of(config).but(window=window)
    return Read(varied(config, [near if slide else full for slide in slides]), layouts.NORMS_AFTER)


READERS: Readers = {"olmo": _olmo, "olmo2": _olmo2, "olmo3": _olmo3, "exaone4": _exaone4}
