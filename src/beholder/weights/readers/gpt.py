"""Decoders of GPT's form: LayerNorm, a plain MLP, and learned, ALiBi or partly rotary positions. Defaults are those of the
official config classes.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from beholder.errors import BeholderError
from beholder.parts.blocks.attention import Attention
from beholder.parts.blocks.mlp import FeedForward
from beholder.parts.blocks.norms import Norm
from beholder.parts.blocks.positions import Alibi, Rotary
from beholder.parts.blocks.transformer import Arrangement, LayerKind
from beholder.parts.language.decoder import Decoder
from beholder.parts.language.embedding import TokenEmbedding
from beholder.weights.layouts import gpt as layouts
from beholder.weights.readers.fields import Fields
from beholder.weights.readers.read import Read, Readers, activation_name, rotary

# How official code trains and which kernels it takes; what other fields say already.
UNUSED = (
    *("resid_pdrop", "embd_pdrop", "attn_pdrop", "emb_pdrop", "resid_dropout", "embed_dropout", "layerdrop"),
    *("activation_dropout", "classifier_dropout", "attention_probs_dropout_prob", "hidden_dropout_prob"),
    *("summary_type", "summary_use_proj", "summary_activation", "summary_proj_to_labels"),
    *("summary_first_dropout", "reorder_and_upcast_attn", "attention_softmax_in_fp32", "init_std", "n_ctx"),
    *("scale_attention_softmax_in_fp32", "masked_softmax_fusion", "bias_dropout_fusion", "slow_but_exact"),
    *("skip_bias_add", "skip_bias_add_qkv", "offset_alibi", "init_device", "init_config", "verbose"),
    *("embedding_fraction", "tokenizer_name", "fc_type", "param_init_fn", "attention_layers", "rotary"),
    *("emb_init_std", "emb_init_uniform_lim", "fan_mode", "init_gain", "init_nonlinearity"),
    *("init_div_is_residual", "low_precision_layernorm", "gradient_checkpointing"),
)
POSITIONS = TokenEmbedding(positions="learned")
ONE_NORM, TWO_NORMS = Arrangement(parallel="one norm"), Arrangement(parallel="two norms")


@dataclass(frozen=True)
class Sizes:
    """The numbers that each family calls otherwise."""

    dim: int
    num_layers: int
    num_heads: int
    context: int
    hidden: int


def _first(fields: Fields, keys: tuple[str, ...], default: int) -> int:
    """The count under the first of `keys` that the file has: official classes know some numbers by two names."""
    counts = [fields.count(key, None) for key in keys]
    return next((count for count in counts if count is not None), default)


def gpt_sizes(
    fields: Fields,
    dim: int,
    layers: int,
    heads: int,
    context: int,
    *,
    inner: tuple[str, ...] = ("n_inner",),
    hidden: int | None = None,
) -> Sizes:
    """Under all the names that these families have for them. The MLP is four times as wide as the model unless `inner` or
    the default `hidden` says otherwise.
    """
    fields.ignore(*UNUSED)
    dim = _first(fields, ("hidden_size", "n_embd", "n_embed", "d_model"), dim)
    for key in ("num_hidden_layers", "n_layer", "num_layers", "n_layers"):
        layers = fields.layers(key, layers)
    heads = _first(
        fields, ("num_attention_heads", "n_head", "num_heads", "n_heads", "attention_heads"), heads
    )
    if dim % heads:
        raise BeholderError(f"{fields.name}: width {dim} does not divide into {heads} heads")
    context = _first(fields, ("max_position_embeddings", "n_positions", "max_seq_len", "seq_length"), context)
    return Sizes(dim, layers, heads, context, _first(fields, inner, hidden or 4 * dim))


def _decoder(
    fields: Fields,
    sizes: Sizes,
    attention: Attention,
    vocab_size: int,
    *,
    act: str,
    act_key: str = "activation_function",
    bias: bool = True,
    eps_key: str = "layer_norm_epsilon",
    eps: float = 1e-5,
    tied: bool = True,
    **more: Any,
) -> Decoder:
    """A decoder of these sizes with LayerNorm and a plain MLP."""
    return Decoder(
        vocab_size=fields.count("vocab_size", vocab_size),
        dim=sizes.dim,
        num_layers=sizes.num_layers,
        attention=attention,
        mlp=FeedForward(sizes.hidden, activation_name(fields, act_key, act), bias=bias),
        norm=Norm("layer", fields.positive(eps_key, eps)),
        tied=fields.get("tie_word_embeddings", tied),
        context=sizes.context,
        **more,
    )


def _attention(sizes: Sizes, bias: bool = True, **more: Any) -> Attention:
    return Attention(num_heads=sizes.num_heads, qkv_bias=bias, out_bias=bias, **more)


def _gpt2(fields: Fields) -> Read[Decoder]:
    """With `scale_attn_by_inverse_layer_idx`, layer i divides its scores by i + 1 besides."""
    sizes = gpt_sizes(fields, 768, 12, 12, 1024)
    width = sizes.dim // sizes.num_heads
    plain = None if fields.get("scale_attn_weights", True) else 1.0
    decoder = _decoder(
        fields, sizes, _attention(sizes, scale=plain), 50257, act="gelu_new", embedding=POSITIONS
    )
    if fields.get("scale_attn_by_inverse_layer_idx", False):
        start = plain or width**-0.5
        others = tuple(
            LayerKind(_attention(sizes, scale=start / (layer + 1))) for layer in range(1, sizes.num_layers)
        )
        decoder = decoder.but(others=others, pattern=tuple(range(sizes.num_layers)))
    return Read(decoder, layouts.GPT2, body=("transformer.", ""))


def _gpt_bigcode(fields: Fields) -> Read[Decoder]:
    sizes = gpt_sizes(fields, 768, 12, 12, 1024)
    kv_heads = 1 if fields.get("multi_query", True) else sizes.num_heads
    fields.ignore("num_key_value_heads")
    plain = None if fields.get("scale_attn_weights", True) else 1.0
    attention = _attention(sizes, num_kv_heads=kv_heads, scale=plain)
    decoder = _decoder(fields, sizes, attention, 50257, act="gelu_pytorch_tanh", embedding=POSITIONS)
    return Read(decoder, layouts.GPT_BIGCODE, {"groups": kv_heads}, ("transformer.",))


def _gpt_neo(fields: Fields) -> Read[Decoder]:
    """Scores are not divided by anything; `attention_types` says how often global and local layers follow each other."""
    sizes = gpt_sizes(fields, 2048, 24, 16, 2048, inner=("intermediate_size",))
    kinds = _attention_types(fields)
    if len(kinds) != sizes.num_layers:
        raise BeholderError(
            f"{fields.name}: attention_types are of {len(kinds)} layers, num_layers is {sizes.num_layers}"
        )
    attention = Attention(sizes.num_heads, out_bias=True, scale=1.0)
    window = LayerKind(attention.but(window=fields.count("window_size", 256)))
    pattern = tuple(int(kind == "local") for kind in kinds)
    decoder = _decoder(fields, sizes, attention, 50257, act="gelu_new", embedding=POSITIONS)
    if any(pattern):
        decoder = decoder.but(others=(window,), pattern=pattern)
    return Read(decoder, layouts.GPT_NEO, body=("transformer.",))


def _attention_types(fields: Fields) -> list[str]:
    kinds: list[str] = []
    for entry in fields.get("attention_types", [[["global", "local"], 12]]):
        match entry:
            case [[*names], int(times)] if 0 < times <= 4096 and set(map(str, names)) <= {"global", "local"}:
                kinds += names * times
            case _:
                raise BeholderError(
                    f"{fields.name}: attention_types has {entry!r}; expected [['global', 'local'], times]"
                )
    return kinds


def _gptj(fields: Fields) -> Read[Decoder]:
    return Read(_with_rotary_dim(fields), layouts.GPTJ, body=("transformer.",))


def _codegen(fields: Fields) -> Read[Decoder]:
    return Read(_with_rotary_dim(fields), layouts.CODEGEN, body=("transformer.",))


def _with_rotary_dim(fields: Fields) -> Decoder:
    """The first `rotary_dim` channels of each head turn, in adjacent pairs."""
    sizes = gpt_sizes(fields, 4096, 28, 16, 2048)
    fields.ignore("scale_attn_weights")  # scores are divided whatever it says
    width, turned = sizes.dim // sizes.num_heads, fields.count("rotary_dim", 64)
    if turned > width:
        raise BeholderError(f"{fields.name}: rotary_dim is {turned}, a head has {width} channels")
    attention = Attention(sizes.num_heads, rotary=Rotary(pairs="adjacent", share=turned / width))
    return _decoder(
        fields,
        sizes,
        attention,
        50400,
        act="gelu_new",
        tied=False,
        arrangement=ONE_NORM,
        head_bias=True,
    )


def _gpt_neox(fields: Fields) -> Read[Decoder]:
    sizes = gpt_sizes(fields, 6144, 44, 64, 2048, inner=("intermediate_size",), hidden=24576)
    turning = rotary(
        fields,
        sizes.context,
        theta=fields.positive("rotary_emb_base", 10000.0),
        share=fields.positive("rotary_pct", 0.25),
    )
    attention = _attention(sizes, fields.get("attention_bias", True), rotary=turning)
    decoder = _decoder(
        fields,
        sizes,
        attention,
        50432,
        act="gelu",
        act_key="hidden_act",
        eps_key="layer_norm_eps",
        tied=False,
        arrangement=TWO_NORMS if fields.get("use_parallel_residual", True) else Arrangement(),
    )
    return Read(decoder, layouts.GPT_NEOX, {"groups": sizes.num_heads}, ("gpt_neox.",), "embed_out.")


def _persimmon(fields: Fields) -> Read[Decoder]:
    sizes = gpt_sizes(fields, 4096, 36, 64, 16384, inner=("intermediate_size",), hidden=16384)
    fields.ignore("num_key_value_heads")  # every head has keys of its own whatever it says
    norm = Norm("layer", fields.positive("layer_norm_eps", 1e-5))
    attention = _attention(
        sizes,
        rotary=rotary(fields, sizes.context, share=0.5),
        qk_norm=norm if fields.get("qk_layernorm", True) else None,
    )
    decoder = _decoder(
        fields,
        sizes,
        attention,
        262144,
        act="relu2",
        act_key="hidden_act",
        eps_key="layer_norm_eps",
        tied=False,
    )
    return Read(decoder, layouts.PERSIMMON, {"groups": sizes.num_heads})


def _falcon(fields: Fields) -> Read[Decoder]:
    """The forms of 40B (`new_decoder_architecture`), 7B (one key head, halves in parallel) and RW (ALiBi, in sequence)."""
    return _falcon_of(fields, new=fields.get("new_decoder_architecture", False))


def _falcon_of(fields: Fields, *, new: bool) -> Read[Decoder]:
    sizes = gpt_sizes(fields, 4544, 32, 71, 2048, inner=("ffn_hidden_size",))
    kv_heads = _first(fields, ("num_kv_heads", "n_head_kv"), sizes.num_heads)
    one_key = fields.get("multi_query", True) and not new
    kv_heads = 1 if one_key else kv_heads if new else sizes.num_heads
    parallel, bias = fields.get("parallel_attn", True), fields.get("bias", False)
    if fields.get("apply_residual_connection_post_layernorm", False):
        raise BeholderError(f"{fields.name}: residual paths from behind norms are not known of Falcon")
    if new and not parallel:
        raise BeholderError(
            f"{fields.name}: parallel_attn is false, but layers of the new architecture are parallel"
        )
    norms = fields.count("num_ln_in_parallel_attn", None) or (2 if new else 1)
    turning = rotary(fields, sizes.context)
    factor = (sizes.dim // sizes.num_heads) ** -0.5
    positions: dict[str, Any] = (
        {"alibi": Alibi(factor=factor, rounded=True)} if fields.get("alibi", False) else {"rotary": turning}
    )
    two = new and norms == 2
    decoder = _decoder(
        fields,
        sizes,
        _attention(sizes, bias, num_kv_heads=None if kv_heads == sizes.num_heads else kv_heads, **positions),
        65024,
        act="gelu",
        act_key="activation",
        bias=bias,
        arrangement=(TWO_NORMS if two else ONE_NORM) if parallel else Arrangement(),
    )
    layout = layouts.FALCON_TWO_NORMS if two else layouts.FALCON
    return Read(decoder, layout, {"groups": kv_heads}, ("transformer.",))


def _refined_web(new: bool) -> Callable[[Fields], Read[Decoder]]:
    """The types that the first releases of Falcon-40B (`new`), Falcon-7B and Falcon-RW had."""

    return lambda fields: _falcon_of(fields, new=new)


def _bloom(fields: Fields) -> Read[Decoder]:
    """No config says how long texts may be; all releases were trained on 2048 tokens (2211.05100, table 3)."""
    sizes = gpt_sizes(fields, 64, 2, 8, 2048)
    behind = fields.get("apply_residual_connection_post_layernorm", False)
    norm = Norm("layer", fields.positive("layer_norm_epsilon", 1e-5))
    decoder = _decoder(
        fields,
        sizes,
        _attention(sizes, alibi=Alibi()),
        250880,
        act="gelu_tanh",
        embedding=TokenEmbedding(norm=norm),
        arrangement=Arrangement("normed") if behind else Arrangement(),
    )
    return Read(decoder, layouts.BLOOM, {"groups": sizes.num_heads}, ("transformer.", ""))


def _opt(fields: Fields) -> Read[Decoder]:
    """OPT-350m alone has norms after the sums, and token vectors narrower than the model."""
    sizes = gpt_sizes(fields, 768, 12, 12, 2048, inner=("ffn_dim",), hidden=3072)
    width, before = fields.count("word_embed_proj_dim", sizes.dim), fields.get("do_layer_norm_before", True)
    bias = fields.get("enable_bias", True)
    decoder = _decoder(
        fields,
        sizes,
        _attention(sizes, bias),
        50272,
        act="relu",
        bias=bias,
        embedding=TokenEmbedding(positions="learned", offset=2, width=None if width == sizes.dim else width),
        arrangement=Arrangement("pre" if before else "post"),
        final_norm=not fields.get("_remove_final_layer_norm", False) and before,
    ).but(**{"norm.learned": fields.get("layer_norm_elementwise_affine", True)})
    return Read(decoder, layouts.OPT if before else layouts.OPT_POST, body=("model.decoder.", "decoder."))


def _xglm(fields: Fields) -> Read[Decoder]:
    sizes = gpt_sizes(fields, 1024, 24, 16, 2048, inner=("ffn_dim",), hidden=4096)
    embedding = TokenEmbedding(_embedding_scale(fields, sizes.dim), positions="sinusoidal", offset=2)
    decoder = _decoder(fields, sizes, _attention(sizes), 256008, act="gelu", embedding=embedding)
    return Read(decoder, layouts.XGLM)


def _biogpt(fields: Fields) -> Read[Decoder]:
    sizes = gpt_sizes(fields, 1024, 24, 16, 1024, inner=("intermediate_size",), hidden=4096)
    embedding = TokenEmbedding(_embedding_scale(fields, sizes.dim), positions="learned", offset=2)
    names: dict[str, Any] = {"act_key": "hidden_act", "eps_key": "layer_norm_eps", "eps": 1e-12}
    decoder = _decoder(fields, sizes, _attention(sizes), 42384, act="gelu", embedding=embedding, **names)
    return Read(decoder, layouts.BIOGPT, body=("biogpt.",), head="output_projection.")


def _embedding_scale(fields: Fields, dim: int) -> float:
    return math.sqrt(dim) if fields.get("scale_embedding", True) else 1.0


READERS: Readers = {
    "gpt2": _gpt2,
    "gpt_bigcode": _gpt_bigcode,
    "gpt_neo": _gpt_neo,
    "gptj": _gptj,
    "codegen": _codegen,
    "gpt_neox": _gpt_neox,
    "persimmon": _persimmon,
    "falcon": _falcon,
    "RefinedWeb": _refined_web(new=True),
    "RefinedWebModel": _refined_web(new=False),
    "bloom": _bloom,
    "opt": _opt,
    "xglm": _xglm,
    "biogpt": _biogpt,
}
