"""Command R, Aya and Command R7B of Cohere. Defaults are those of the official config classes."""

from __future__ import annotations

from dataclasses import replace

from beholder.parts.blocks.norms import Norm
from beholder.parts.blocks.transformer import Arrangement
from beholder.parts.language.decoder import Decoder
from beholder.weights.layouts.decoders import DECODER
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
from beholder.weights.readers.read import Read, Readers

COHERE = DecoderDefaults(
    vocab_size=256000,
    dim=8192,
    hidden=22528,
    num_layers=40,
    num_heads=64,
    context=8192,
    eps=1e-5,
    eps_key="layer_norm_eps",
    theta=500000.0,
    pairs="adjacent",
    tied=True,
)


COHERE_UNUSED = (  # what the official class ignores: other fields say it, or all of these models have it
    "layer_switch",
    "model_max_length",
    "order_of_interleaved_layers",
    "position_embedding_type",
    "rotary_pct",
    "use_embedding_sharing",
    "use_gated_activation",
    "use_parallel_block",
    "use_parallel_embedding",
)


def _cohere_form(fields: Fields, assumed: DecoderDefaults) -> Decoder:
    """Both halves read one LayerNorm without a bias; logits are scaled."""
    fields.ignore(*COHERE_UNUSED)
    bias, config = fields.get("attention_bias", False), decoder(fields, assumed)
    return biased(config, qkv=bias, out=bias).but(
        norm=Norm("layer", config.norm.eps, bias=False),
        arrangement=Arrangement(parallel="one norm"),
        logit_scale=fields.positive("logit_scale", 0.0625),
    )


def _cohere(fields: Fields) -> Read[Decoder]:
    config = _cohere_form(fields, COHERE)
    if fields.get("use_qk_norm", False):
        config = config.but(**{"attention.qk_norm": config.norm, "attention.qk_norm_over": "heads"})
    return Read(config, DECODER)


def _cohere2(fields: Fields) -> Read[Decoder]:
    """Every fourth layer sees all, without positions."""
    config = _cohere_form(fields, replace(COHERE, theta=10000.0))
    every = fields.count("sliding_window_pattern", fields.count("_sliding_window_pattern", 4))
    slides = layer_types(fields, config.num_layers, lambda layer: (layer + 1) % every != 0)
    full = attention_of(config).but(rotary=None)
    near = attention_of(config).but(window=window_of(fields, 4096))
    return Read(varied(config, [near if slide else full for slide in slides]), DECODER)


READERS: Readers = {"cohere": _cohere, "cohere2": _cohere2}
