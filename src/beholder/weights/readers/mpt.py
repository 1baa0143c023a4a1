"""Decoders of MosaicML: MPT (mosaicml/mpt-7b, and what llm-foundry lets one choose) and its first form, MosaicGPT."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from beholder.errors import BeholderError, UnknownName
from beholder.parts.blocks.attention import Attention
from beholder.parts.blocks.mlp import FeedForward
from beholder.parts.blocks.norms import Norm
from beholder.parts.blocks.positions import Alibi, Rotary
from beholder.parts.language.decoder import Decoder
from beholder.parts.language.embedding import TokenEmbedding
from beholder.weights.layouts import gpt as layouts
from beholder.weights.readers.fields import Fields
from beholder.weights.readers.gpt import POSITIONS, Sizes, gpt_sizes
from beholder.weights.readers.read import Read, Readers, activation_name

NORMS = {
    "low_precision_layernorm": "layer",
    "layernorm": "layer",
    "low_precision_rmsnorm": "rms",
    "rmsnorm": "rms",
    "triton_rmsnorm": "rms",
}
KEY_HEADS = ("multihead_attention", "multiquery_attention", "grouped_query_attention")


def _mpt(fields: Fields) -> Read[Decoder]:
    """Files of MosaicML's code are read with all that llm-foundry lets one choose (llmfoundry/models/mpt/modeling_mpt.py,
    layers/attention.py, utils/config_defaults.py). Transformers' own class, `MptForCausalLM`, has the form of MPT-7B
    whatever its config says of the MLP's width, biases, norms, positions and key heads.
    """
    native = "MptForCausalLM" in fields.get("architectures", [])
    sizes, ratio = gpt_sizes(fields, 2048, 24, 16, 2048), fields.count("expansion_ratio", 4)
    inner, mlp = fields.part("attn_config"), fields.part("ffn_config")
    chosen = fields.get("no_bias", True), fields.get("norm_type", "layernorm"), fields.raw("logit_scale")
    no_bias, norm_type, scale = (True, "layernorm", None) if native else chosen
    if not native:
        sizes = replace(sizes, hidden=mlp.count("ffn_hidden_size", ratio * sizes.dim))
    norm = _mpt_norm(fields, norm_type, bias=not no_bias)
    attention = _mpt_attention(inner, sizes, norm, bias=not no_bias, native=native)
    decoder = _mpt_decoder(fields, sizes, attention, norm, bias=not no_bias, logit_scale=scale)
    kind = mlp.get("ffn_type", "mptmlp")
    if kind not in ("mptmlp", "mptglu"):
        raise UnknownName(f"{mlp.name}: ffn_type", kind, ("mptmlp", "mptglu"))
    act = activation_name(mlp.part("ffn_act_fn"), "name", "gelu")
    mlp.finish()
    return Read(
        decoder.but(**{"mlp.gated": kind == "mptglu", "mlp.act": act}), layouts.MPT, body=("transformer.",)
    )


def _mpt_attention(inner: Fields, sizes: Sizes, norm: Norm, *, bias: bool, native: bool) -> Attention:
    """What `attn_config` describes."""
    inner.ignore("attn_pdrop", "attn_impl", "attn_uses_sequence_id", "rope_impl", "kv_dim")
    _refuse(inner, {"prefix_lm": False, "fused_qkv": True, "sliding_window_size": -1})
    dail, scaled = inner.part("rope_dail_config"), inner.part("rope_hf_config")
    turns = inner.get("rope", False) and not native
    if turns:
        _refuse(dail, {"type": "original"})
        _refuse(scaled, {"type": "no_scaling"})
    theta, alibi = float(inner.count("rope_theta", 10000)), inner.get("alibi", True) or native
    max_bias = float(inner.count("alibi_bias_max", 8))
    kind, key_heads = inner.get("attn_type", KEY_HEADS[0]), inner.count("kv_n_heads", None)
    if kind not in KEY_HEADS:
        raise UnknownName(f"{inner.name}: attn_type", kind, KEY_HEADS)
    if kind == "grouped_query_attention":
        inner.need("kv_n_heads")
    over_all = inner.get("qk_ln", False) and not native
    normed = (inner.get("qk_gn", False) and not native) or over_all
    attention = Attention(
        sizes.num_heads,
        num_kv_heads={KEY_HEADS[0]: None, KEY_HEADS[1]: 1}.get(kind, key_heads) if not native else None,
        qkv_bias=bias,
        out_bias=bias,
        rotary=Rotary(theta=theta) if turns else None,
        alibi=Alibi(8.0 if native else max_bias) if alibi else None,
        scale=_positive_or_none(inner, "softmax_scale"),
        softcap=_positive_or_none(inner, "attn_logit_softcapping"),
        clip=_positive_or_none(inner, "clip_qkv"),
        qk_norm=norm if normed else None,
        qk_norm_over="all" if over_all else "head",
    )
    inner.finish()
    return attention


def _mosaic_gpt(fields: Fields) -> Read[Decoder]:
    """MPT's form before it had that name (mosaicml/mpt-1b-redpajama-200b mosaic_gpt.py)."""
    sizes, ratio = gpt_sizes(fields, 2048, 24, 16, 2048), fields.count("mlp_ratio", 4)
    fields.ignore("attn_impl", "attn_uses_sequence_id")
    _refuse(fields, {"prefix_lm": False})
    bias = not fields.get("no_bias", False)
    norm = Norm("layer", 1e-5, bias=bias)
    max_bias, alibi = float(fields.count("alibi_bias_max", 8)), fields.get("alibi", False)
    attention = Attention(
        sizes.num_heads,
        qkv_bias=bias,
        out_bias=bias,
        alibi=Alibi(max_bias) if alibi else None,
        scale=_positive_or_none(fields, "softmax_scale"),
        clip=_positive_or_none(fields, "attn_clip_qkv"),
        qk_norm=norm if fields.get("attn_qk_ln", False) else None,
        qk_norm_over="all",
    )
    sizes, scale = replace(sizes, hidden=ratio * sizes.dim), fields.raw("logit_scale")
    decoder = _mpt_decoder(fields, sizes, attention, norm, bias=bias, logit_scale=scale)
    return Read(decoder, layouts.MOSAIC_GPT, body=("transformer.",))


def _mpt_norm(fields: Fields, kind: str, *, bias: bool) -> Norm:
    if kind not in NORMS:
        raise UnknownName(f"{fields.name}: norm_type", kind, NORMS)
    ours = NORMS[kind]
    return Norm(ours, fields.positive("layer_norm_epsilon", 1e-5), bias=bias or ours == "rms")


def _mpt_decoder(
    fields: Fields, sizes: Sizes, attention: Attention, norm: Norm, *, bias: bool, logit_scale: Any
) -> Decoder:
    """Learned positions where there are no others. logit_scale: a number, `inv_sqrt_d_model` or None."""
    wanted = fields.get("learned_pos_emb", True)
    placed = wanted and attention.alibi is None and attention.rotary is None
    scale = sizes.dim**-0.5 if logit_scale == "inv_sqrt_d_model" else 1.0
    if logit_scale is not None and logit_scale != "inv_sqrt_d_model":
        scale = fields.positive("logit_scale")
    return Decoder(
        vocab_size=fields.count("vocab_size", 50368),
        dim=sizes.dim,
        num_layers=sizes.num_layers,
        attention=attention,
        mlp=FeedForward(sizes.hidden, bias=bias),
        norm=norm,
        tied=fields.get("tie_word_embeddings", True),
        context=sizes.context,
        embedding=POSITIONS if placed else TokenEmbedding(),
        logit_scale=scale,
    )


def _refuse(fields: Fields, only: Mapping[str, Any]) -> None:
    """Raise `BeholderError` for a field of another value than the one that can be read here."""
    for key, value in only.items():
        found = fields.raw(key)
        if found is not None and found != value:
            raise BeholderError(f"{fields.name}: {key} is {found!r}; only {value!r} is supported")


def _positive_or_none(fields: Fields, key: str) -> float | None:
    """A number above 0; None where the field is absent."""
    return None if fields.raw(key) is None else fields.positive(key)


READERS: Readers = {"mpt": _mpt, "mosaic_gpt": _mosaic_gpt}
