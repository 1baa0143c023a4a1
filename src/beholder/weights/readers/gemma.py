"""Gemma (2403.08295), Gemma 2 (2408.00118) and Gemma 3 (2503.19786). Defaults are those of the official config classes."""

from __future__ import annotations

import math
from dataclasses import replace

from beholder.errors import BeholderError
from beholder.parts.blocks.mlp import FeedForward
from beholder.parts.blocks.norms import Norm
from beholder.parts.blocks.positions import Rotary
from beholder.parts.blocks.transformer import Arrangement
from beholder.parts.language.decoder import Decoder
from beholder.parts.language.embedding import TokenEmbedding
from beholder.weights.layouts import decoders as layouts
from beholder.weights.readers.decoders import (
    DecoderDefaults,
    attention_of,
    biased,
    decoder,
    layer_types,
    varied,
    window_of,
    windowed,
)
from beholder.weights.readers.fields import Fields
from beholder.weights.readers.read import SLIDING, Read, Readers, rotary

GEMMA = DecoderDefaults(
    vocab_size=256000,
    dim=3072,
    hidden=24576,
    num_layers=28,
    num_heads=16,
    num_kv_heads=16,
    head_dim=256,
    context=8192,
    act="gelu_pytorch_tanh",
    tied=True,
)
GEMMA2 = replace(
    GEMMA,
    dim=2304,
    hidden=9216,
    num_layers=26,
    num_heads=8,
    num_kv_heads=4,
    act_key="hidden_activation",
)
GEMMA3 = replace(GEMMA2, vocab_size=262208, context=131072, theta=1e6)


def _form(fields: Fields, assumed: DecoderDefaults) -> Decoder:
    """Token vectors are scaled by sqrt(width); norms multiply by 1 + weight."""
    if fields.get("use_bidirectional_attention", False):
        raise BeholderError(
            f"{fields.name}: use_bidirectional_attention is true; only causal text is supported"
        )
    bias, config = fields.get("attention_bias", False), decoder(fields, assumed)
    return biased(config, qkv=bias, out=bias).but(
        norm=Norm("rms", config.norm.eps, offset=1.0), embedding=TokenEmbedding(scale=math.sqrt(config.dim))
    )


def _gemma(fields: Fields) -> Read[Decoder]:
    """Files that say `gelu` mean its tanh approximation, as the official class has it."""
    fields.ignore("hidden_activation")
    config = _form(fields, GEMMA)
    assert isinstance(config.mlp, FeedForward)
    return Read(
        config.but(**{"mlp.act": "gelu_tanh"}) if config.mlp.act == "gelu" else config, layouts.DECODER
    )


def _second_form(
    fields: Fields, assumed: DecoderDefaults, caps: tuple[float | None, float | None]
) -> Decoder:
    """Norms around each half, a scale of scores of its own, and caps of scores and logits."""
    config = _form(fields, assumed).but(arrangement=Arrangement("both"))
    attention = attention_of(config).but(
        scale=fields.positive("query_pre_attn_scalar", 256.0) ** -0.5,
        softcap=_cap(fields, "attn_logit_softcapping", caps[0]),
    )
    return config.but(attention=attention, logit_softcap=_cap(fields, "final_logit_softcapping", caps[1]))


def _cap(fields: Fields, key: str, default: float | None) -> float | None:
    """A null means none, an absent one the default."""
    if key not in fields:
        return default
    return None if fields.raw(key) is None else fields.positive(key)


def _gemma2(fields: Fields) -> Read[Decoder]:
    """Every other layer looks through a window, the first one too."""
    fields.ignore("hidden_act")
    config = _second_form(fields, GEMMA2, (50.0, 30.0))
    slides = layer_types(fields, config.num_layers, lambda layer: layer % 2 == 0)
    return Read(windowed(config, window_of(fields, 4096), slides), layouts.GEMMA2)


def _gemma3(fields: Fields) -> Read[Decoder]:
    """Five layers of six look through a window, with shorter wavelengths and no scaling of them."""
    config = _second_form(fields, GEMMA3, (None, None))
    every = fields.count("_sliding_window_pattern", fields.count("sliding_window_pattern", 6))
    slides = layer_types(fields, config.num_layers, lambda layer: (layer + 1) % every != 0)
    local = fields.positive("rope_local_base_freq", 10000.0)
    turned = Rotary(theta=local)
    if SLIDING in fields.part("rope_parameters"):
        turned = rotary(fields, config.context, theta=local, layers=SLIDING)
    full = attention_of(config).but(qk_norm=config.norm)
    near = full.but(rotary=turned, window=window_of(fields, 4096))
    return Read(varied(config, [near if slide else full for slide in slides]), layouts.GEMMA2)


READERS: Readers = {"gemma": _gemma, "gemma2": _gemma2, "gemma3_text": _gemma3}
