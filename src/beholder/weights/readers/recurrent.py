"""State-space, recurrent and linear-attention decoders, and the hybrids built of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch

from beholder.errors import BeholderError, UnknownName
from beholder.parts.blocks.attention import Attention
from beholder.parts.blocks.hyena import Hyena
from beholder.parts.blocks.mamba import Mamba
from beholder.parts.blocks.mamba2 import Mamba2
from beholder.parts.blocks.mlp import FeedForward
from beholder.parts.blocks.norms import Norm
from beholder.parts.blocks.positions import Rotary
from beholder.parts.blocks.rg_lru import RgLru
from beholder.parts.blocks.rotary_scaling import LinearScaling
from beholder.parts.blocks.short_conv import ShortConv
from beholder.parts.blocks.step import MixerConfig, MlpConfig
from beholder.parts.blocks.transformer import LayerKind
from beholder.parts.language.decoder import Decoder
from beholder.parts.language.embedding import TokenEmbedding
from beholder.weights.layouts import recurrent as layouts
from beholder.weights.readers.fields import LARGEST, Fields
from beholder.weights.readers.read import Read, Readers, activation_name, rotary

ENDLESS = 2**20  # tokens, for models whose memory does not grow with the text and that name no longest one

# How official code draws first weights and which kernels it takes; what the numbers above say already.
UNUSED = (
    *("time_step_min", "time_step_max", "time_step_floor", "time_step_scale", "time_step_init_scheme"),
    *(
        "rescale_prenorm_residual",
        "residual_in_fp32",
        "use_mambapy",
        "use_associative_scan",
        "use_mamba_kernels",
    ),
    *(
        "use_falcon_mambapy",
        "chunk_size",
        "mamba_chunk_size",
        "fused_add_norm",
        "rms_norm",
        "n_layer",
        "d_model",
    ),
    *("pad_vocab_size_multiple", "num_logits_to_keep", "z_loss_coefficient", "calc_logits_for_entire_prompt"),
    *("output_router_logits", "router_aux_loss_coef", "router_jitter_noise", "ssm_cfg"),
    *("w_init_variance_scale", "final_w_init_variance_scale", "embeddings_scale_by_sqrt_dim"),
)


def hybrid(kinds: Sequence[tuple[MixerConfig, MlpConfig]], **settings: Any) -> Decoder:
    """A decoder whose layers are `kinds`, in order."""
    distinct = list(dict.fromkeys(kinds))
    pattern = tuple(distinct.index(kind) for kind in kinds)
    (mixer, mlp), others = distinct[0], tuple(LayerKind(*kind) for kind in distinct[1:])
    return Decoder(
        attention=mixer,
        mlp=mlp,
        others=others,
        pattern=pattern if others else (),
        num_layers=len(kinds),
        **settings,
    )


def _skip(fields: Fields) -> None:
    for key in UNUSED:
        fields.raw(key)


def _names(fields: Fields, key: str, allowed: Sequence[str], count: int) -> list[str]:
    """A list of `count` of the `allowed` names; empty where the field is absent."""
    names = fields.get(key, [])
    if names and (len(names) != count or any(name not in allowed for name in names)):
        raise BeholderError(
            f"{fields.name}: {key} is {names!r}; expected one of {', '.join(allowed)} for each of {count}"
        )
    return names


def _places(fields: Fields, key: str) -> set[int]:
    """Layer numbers."""
    places = fields.get(key, [])
    if not all(type(place) is int and place >= 0 for place in places):
        raise BeholderError(f"{fields.name}: {key} is {places!r}; expected layer numbers")
    return set(places)


def _inner(fields: Fields, key: str, dim: int) -> int:
    """Channels inside a mixer: `expand` times the width."""
    inner = fields.positive(key, 2.0) * dim
    if not 1 <= inner <= LARGEST:
        raise BeholderError(
            f"{fields.name}: {key} makes {inner:.3g} channels of {dim}; expected 1 to {LARGEST:,}"
        )
    return int(inner)


def _rank(fields: Fields, key: str, dim: int) -> int:
    """`auto` is a sixteenth of the width."""
    return math.ceil(dim / 16) if fields.raw(key) in (None, "auto") else fields.count(key, 1)


def _mamba(fields: Fields) -> Read[Decoder]:
    """Mamba; Falcon Mamba norms step sizes, input and output maps besides, without weights."""
    _skip(fields)
    fields.raw("intermediate_size")  # officially replaced by expand * hidden_size
    dim = fields.count("hidden_size", 768)
    norm = None
    if fields.raw("model_type") == "falcon_mamba":
        norm = Norm("rms", fields.positive("mixer_rms_eps", 1e-6), learned=False)
    mixer = Mamba(
        inner=_inner(fields, "expand", dim),
        rank=_rank(fields, "time_step_rank", dim),
        state=fields.count("state_size", 16),
        conv=fields.count("conv_kernel", 4),
        act=activation_name(fields, "hidden_act", "silu"),
        bias=fields.get("use_bias", False),
        conv_bias=fields.get("use_conv_bias", True),
        inner_norm=norm,
    )
    config = Decoder(
        vocab_size=fields.count("vocab_size", 50280),
        dim=dim,
        num_layers=fields.layers("num_hidden_layers", 32),
        attention=mixer,
        mlp=None,
        norm=Norm("rms", fields.positive("layer_norm_epsilon", 1e-5)),
        tied=fields.get("tie_word_embeddings", True),
        context=ENDLESS,
    )
    return Read(config, layouts.MAMBA, body=("backbone.",))


def _mamba2(fields: Fields) -> Read[Decoder]:
    _skip(fields)
    for key in ("time_step_rank", "intermediate_size"):  # officially unread
        fields.raw(key)
    eps = fields.positive("layer_norm_epsilon", 1e-5)
    smallest, largest = _limits(fields)
    config = Decoder(
        vocab_size=fields.count("vocab_size", 32768),
        dim=fields.count("hidden_size", 4096),
        num_layers=fields.layers("num_hidden_layers", 64),
        attention=Mamba2(
            num_heads=fields.count("num_heads", 128),
            head_dim=fields.count("head_dim", 64),
            state=fields.count("state_size", 128),
            num_groups=fields.count("n_groups", 8),
            conv=fields.count("conv_kernel", 4),
            act=activation_name(fields, "hidden_act", "silu"),
            bias=fields.get("use_bias", False),
            conv_bias=fields.get("use_conv_bias", True),
            smallest=smallest,
            largest=largest,
            norm=Norm("rms", eps),
        ),
        mlp=None,
        norm=Norm("rms", eps),
        tied=fields.get("tie_word_embeddings", False),
        context=ENDLESS,
    )
    _check_heads(fields, config, "expand")
    return Read(config, layouts.MAMBA2, body=("backbone.",))


def _limits(fields: Fields) -> tuple[float, float | None]:
    """`time_step_limit`, where infinity is a word of its own: the smallest and largest step sizes."""
    limits = fields.get("time_step_limit", [0.0, math.inf])
    numbers: list[float] = []
    for value in limits:
        word = value.get("__float__") if isinstance(value, dict) else value
        number = math.inf if word == "Infinity" else word
        if isinstance(number, (int, float)) and number >= 0:
            numbers.append(float(number))
    if len(numbers) != 2 or len(limits) != 2:
        raise BeholderError(
            f"{fields.name}: time_step_limit is {limits!r}; expected two numbers of at least 0"
        )
    return numbers[0], None if numbers[1] == math.inf else numbers[1]


def _check_heads(fields: Fields, config: Decoder, expand: str) -> None:
    for mixer in (config.attention, *(kind.mixer for kind in config.others)):
        if isinstance(mixer, Mamba2) and mixer.inner != _inner(fields, expand, config.dim):
            raise BeholderError(
                f"{fields.name}: {mixer.num_heads} heads of {mixer.head_dim} channels are not {expand} times {config.dim}"
            )


def _dense(fields: Fields, default: int, bias: bool = False) -> FeedForward:
    """A gated MLP under Llama's field names."""
    hidden = fields.count("intermediate_size", default)
    return FeedForward(hidden, activation_name(fields, "hidden_act", "silu"), gated=True, bias=bias)


def _bamba(fields: Fields) -> Read[Decoder]:
    """Mamba-2 layers, with attention where `attn_layer_indices` says."""
    _skip(fields)
    dim, num_heads = fields.count("hidden_size", 4096), fields.count("num_attention_heads", 32)
    context = fields.count("max_position_embeddings", 262144)
    norm = Norm("rms", fields.positive("rms_norm_eps", 1e-5))
    heads, inner = fields.count("mamba_n_heads", 128), _inner(fields, "mamba_expand", dim)
    width = fields.raw("mamba_d_head")
    smallest, largest = _limits(fields)
    mixer = Mamba2(
        num_heads=heads,
        head_dim=max(1, inner // heads) if width in (None, "auto") else fields.count("mamba_d_head", 1),
        state=fields.count("mamba_d_state", 256),
        num_groups=fields.count("mamba_n_groups", 1),
        conv=fields.count("mamba_d_conv", 4),
        act=activation_name(fields, "hidden_act", "silu"),
        bias=fields.get("mamba_proj_bias", False),
        conv_bias=fields.get("mamba_conv_bias", True),
        smallest=smallest,
        largest=largest,
        norm=norm,
    )
    bias = fields.get("attention_bias", False)
    attention = Attention(
        num_heads=num_heads,
        num_kv_heads=fields.count("num_key_value_heads", 8),
        qkv_bias=bias,
        out_bias=bias,
        rotary=rotary(fields, context, share=0.5),
    )
    mlp = _dense(fields, 14336, bias=fields.get("mlp_bias", False))
    places = _places(fields, "attn_layer_indices")
    layers = range(fields.layers("num_hidden_layers", 32))
    config = hybrid(
        [(attention if layer in places else mixer, mlp) for layer in layers],
        vocab_size=fields.count("vocab_size", 128000),
        dim=dim,
        norm=norm,
        tied=fields.get("tie_word_embeddings", False),
        context=context,
    )
    _check_heads(fields, config, "mamba_expand")
    return Read(config, layouts.BAMBA)


def _recurrent_gemma(fields: Fields) -> Read[Decoder]:
    """Blocks of `block_types`, over and over. The scale of token vectors is rounded as officially, to bfloat16."""
    _skip(fields)
    fields.raw("head_dim")  # officially replaced by hidden_size / num_attention_heads
    dim, num_heads = fields.count("hidden_size", 2560), fields.count("num_attention_heads", 10)
    context = fields.count("max_position_embeddings", ENDLESS)
    attention = Attention(
        num_heads=num_heads,
        num_kv_heads=fields.count("num_key_value_heads", num_heads),
        qkv_bias=fields.get("attention_bias", False),
        out_bias=True,
        rotary=rotary(fields, context, share=0.5),
        window=fields.count("attention_window_size", 2048),
    )
    act = activation_name(fields, "hidden_activation", "gelu_pytorch_tanh")
    lru = RgLru(fields.count("lru_width", dim), num_heads, conv=fields.count("conv1d_width", 4), act=act)
    mlp = FeedForward(max(1, fields.count("intermediate_size", 7680) // 2), act, gated=True)
    blocks = fields.get("block_types", ["recurrent", "recurrent", "attention"])
    kinds: dict[Any, MixerConfig] = {"recurrent": lru, "attention": attention}
    if not blocks or not all(isinstance(block, str) and block in kinds for block in blocks):
        raise BeholderError(
            f"{fields.name}: block_types is {blocks!r}; expected recurrent or attention for each"
        )
    layers = range(fields.layers("num_hidden_layers", 26))
    config = hybrid(
        [(kinds[blocks[layer % len(blocks)]], mlp) for layer in layers],
        vocab_size=fields.count("vocab_size", 256000),
        dim=dim,
        norm=Norm("rms", fields.positive("rms_norm_eps", 1e-6), offset=1.0),
        tied=fields.get("tie_word_embeddings", True),
        context=context,
        embedding=TokenEmbedding(scale=float(torch.tensor(dim**0.5, dtype=torch.bfloat16))),
        logit_softcap=fields.positive("logits_soft_cap", 30.0),
    )
    return Read(config, layouts.RECURRENT_GEMMA)


def _lfm2(fields: Fields) -> Read[Decoder]:
    """Short convolutions and attention. The MLP's width is rounded unless told otherwise (Llama's first release)."""
    (
        fields.raw("conv_dim"),
        fields.raw("conv_dim_out"),
        fields.raw("conv_use_xavier_init"),
    )  # officially unread
    num_heads, layers = fields.count("num_attention_heads", 32), fields.layers("num_hidden_layers", 32)
    context = fields.count("max_position_embeddings", 128000)
    norm = Norm("rms", fields.positive("norm_eps", 1e-5))
    attention = Attention(
        num_heads=num_heads,
        num_kv_heads=fields.count("num_key_value_heads", 8),
        rotary=rotary(fields, context, theta=1000000.0),
        qk_norm=norm,
    )
    mixer = ShortConv(conv=fields.count("conv_L_cache", 3), bias=fields.get("conv_bias", False))
    mlp = FeedForward(_lfm2_hidden(fields), "silu", gated=True, bias=False)
    names = _names(fields, "layer_types", ("conv", "full_attention"), layers)
    places = (
        _places(fields, "full_attn_idxs") if fields.raw("full_attn_idxs") is not None else set(range(layers))
    )
    kinds = names or ["full_attention" if layer in places else "conv" for layer in range(layers)]
    tied = fields.get("tie_word_embeddings", True)
    config = hybrid(
        [(mixer if kind == "conv" else attention, mlp) for kind in kinds],
        vocab_size=fields.count("vocab_size", 65536),
        dim=fields.count("hidden_size", 2560),
        norm=norm,
        tied=fields.get("tie_embedding", tied),
        context=context,
    )
    return Read(config, layouts.LFM2)


def _lfm2_hidden(fields: Fields) -> int:
    hidden = fields.count("block_ff_dim", fields.count("intermediate_size", 12288))
    factor = fields.positive("block_ffn_dim_multiplier", 1.0)
    unit = fields.count("block_multiple_of", 256)
    if not fields.get("block_auto_adjust_ff_dim", True):
        return hidden
    return math.ceil(int(factor * int(2 * hidden / 3)) / unit) * unit or unit


# togethercomputer/stripedhyena: how its code computes, and what other settings say already.
STRIPED_UNUSED = (
    *(
        "num_filters",
        "split_k0",
        "column_split",
        "model_parallel_size",
        "pipe_parallel_size",
        "hyena_layer_idxs",
    ),
    *("use_flash_attention_2", "use_flash_attn", "use_flash_rmsnorm", "use_flash_depthwise", "use_flashfft"),
    *("use_laughing_hyena", "inference_mode", "prefill_style", "max_batch_size", "log_intermediate_values"),
    *(
        "make_vocab_size_divisible_by",
        "mlp_init_method",
        "mlp_output_init_method",
        "tokenizer_type",
        "vocab_file",
    ),
    *("model_name", "_commit_hash"),
)


def _striped_hyena(fields: Fields) -> Read[Decoder]:
    """Hyena and, where `attn_layer_idxs` says, attention. Defaults are those of the released `configuration_hyena.py`."""
    for key in STRIPED_UNUSED:
        fields.raw(key)
    for key, only in (("hyena_filter_groups", 1), ("smeared_gqa", False)):
        if fields.get(key, only) != only:
            raise UnknownName(f"{fields.name}: {key}", str(fields.raw(key)), [str(only)])
    num_heads, context = fields.count("num_attention_heads", 32), fields.count("max_seqlen", 32768)
    factor = fields.positive("rotary_emb_scaling_factor", 1.0)
    scaled = fields.get("use_interpolated_rotary_pos_emb", False)
    attention = Attention(
        num_heads=num_heads,
        num_kv_heads=max(1, num_heads // fields.count("proj_groups", 4)),
        qkv_bias=fields.get("qkv_proj_bias", False),
        out_bias=fields.get("mha_out_proj_bias", False),
        rotary=Rotary(
            fields.positive("rotary_emb_base", 500000.0), scaling=LinearScaling(factor) if scaled else None
        ),
    )
    mixer = Hyena(
        num_blocks=num_heads if fields.get("column_split_hyena", True) else 1,
        poles=fields.count("state_size", 2),
        conv=fields.count("short_filter_length", 3),
        conv_bias=fields.get("short_filter_bias", True),
    )
    mlp = FeedForward(
        fields.count("inner_mlp_size", 14336),
        activation_name(fields, "mlp_activation", "silu"),
        gated=True,
        bias=False,
    )
    places = _places(fields, "attn_layer_idxs")
    config = hybrid(
        [(attention if layer in places else mixer, mlp) for layer in range(fields.layers("num_layers", 32))],
        vocab_size=fields.count("vocab_size", 32000),
        dim=fields.count("hidden_size", 4096),
        norm=Norm("rms", fields.positive("eps", 1e-5)),
        tied=fields.get("tie_embeddings", False),
        context=context,
        final_norm=fields.get("final_norm", True),
    )
    numbers = {"poles": mixer.poles}
    return Read(config, layouts.STRIPED_HYENA, numbers, body=("backbone.",), head="backbone.unembed.")


READERS: Readers = {
    "mamba": _mamba,
    "falcon_mamba": _mamba,
    "mamba2": _mamba2,
    "bamba": _bamba,
    "recurrent_gemma": _recurrent_gemma,
    "lfm2": _lfm2,
    "stripedhyena": _striped_hyena,
}
