"""State-space, recurrent and linear-attention decoders, and the hybrids built of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from beholder.errors import BeholderError
from beholder.parts.blocks.attention import Attention
from beholder.parts.blocks.mamba import Mamba
from beholder.parts.blocks.mamba2 import Mamba2
from beholder.parts.blocks.mlp import FeedForward
from beholder.parts.blocks.moe import Experts, Routing
from beholder.parts.blocks.norms import Norm
from beholder.parts.blocks.recurrence import ENDLESS
from beholder.parts.blocks.rwkv import ChannelMix, TimeMix
from beholder.parts.blocks.step import MixerConfig, MlpConfig
from beholder.parts.blocks.transformer import LayerKind
from beholder.parts.language.decoder import Decoder
from beholder.parts.language.embedding import TokenEmbedding
from beholder.weights.layouts import recurrent as layouts
from beholder.weights.readers.fields import LARGEST, Fields
from beholder.weights.readers.read import Read, Readers, Recorded, activation_name, rotary

# How official code draws first weights and which kernels it takes; what the numbers above say already.
UNUSED = """
    time_step_min time_step_max time_step_floor time_step_scale time_step_init_scheme
    rescale_prenorm_residual residual_in_fp32 use_mambapy use_associative_scan use_mamba_kernels
    use_falcon_mambapy chunk_size mamba_chunk_size fused_add_norm rms_norm n_layer d_model
    pad_vocab_size_multiple num_logits_to_keep z_loss_coefficient calc_logits_for_entire_prompt
    output_router_logits router_aux_loss_coef router_jitter_noise ssm_cfg w_init_variance_scale
    final_w_init_variance_scale embeddings_scale_by_sqrt_dim norm_before_gate mamba_inner_layernorms attn_rotary_emb n_ctx
"""


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


def layer_names(fields: Fields, key: str, allowed: Sequence[str], count: int) -> list[str]:
    """A list of `count` of the `allowed` names; empty where the field is absent."""
    names = fields.get(key, [])
    if names and (len(names) != count or any(name not in allowed for name in names)):
        raise BeholderError(
            f"{fields.name}: {key} is {names!r}; expected one of {', '.join(allowed)} for each of {count}"
        )
    return names


def layer_places(fields: Fields, key: str) -> set[int]:
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
    fields.ignore(*UNUSED.split())
    fields.ignore("intermediate_size")  # officially replaced by expand * hidden_size
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
    fields.ignore(*UNUSED.split())
    fields.ignore("time_step_rank", "intermediate_size")  # officially unread
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
    fields.ignore(*UNUSED.split())
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
    places = layer_places(fields, "attn_layer_indices")
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


def _jamba(fields: Fields) -> Read[Decoder]:
    """Mamba with normed step sizes, attention without positions in every n-th layer, experts in every m-th."""
    fields.ignore(*UNUSED.split())
    fields.ignore("sliding_window")  # of an earlier form, officially unread
    dim, num_heads = fields.count("hidden_size", 4096), fields.count("num_attention_heads", 32)
    norm = Norm("rms", fields.positive("rms_norm_eps", 1e-6))
    mixer = Mamba(
        inner=_inner(fields, "mamba_expand", dim),
        rank=_rank(fields, "mamba_dt_rank", dim),
        state=fields.count("mamba_d_state", 16),
        conv=fields.count("mamba_d_conv", 4),
        act=activation_name(fields, "hidden_act", "silu"),
        bias=fields.get("mamba_proj_bias", False),
        conv_bias=fields.get("mamba_conv_bias", True),
        inner_norm=norm,
    )
    attention = Attention(num_heads, num_kv_heads=fields.count("num_key_value_heads", 8))
    dense, count = _dense(fields, 14336), fields.count("num_experts", 16)
    routing = Routing(active=min(count, fields.count("num_experts_per_tok", 2)))
    mlp = Experts(count, dense.hidden, routing, act=dense.act) if count > 1 else dense
    layers = range(fields.layers("num_hidden_layers", 32))
    attends, routes = _every(fields, "attn_layer", 8, 4), _every(fields, "expert_layer", 2, 1)
    config = hybrid(
        [(attention if attends(layer) else mixer, mlp if routes(layer) else dense) for layer in layers],
        vocab_size=fields.count("vocab_size", 65536),
        dim=dim,
        norm=norm,
        tied=fields.get("tie_word_embeddings", False),
        context=fields.count("max_position_embeddings", 262144),
    )
    return Read(config, layouts.JAMBA, {"num_experts": count})


def _every(fields: Fields, name: str, period: int, offset: int) -> Callable[[int], bool]:
    """Whether a layer is one of those that `..._period` and `..._offset` name."""
    period, first = fields.count(f"{name}_period", period), fields.get(f"{name}_offset", offset)
    if not 0 <= first < period:
        raise BeholderError(
            f"{fields.name}: {name}_offset is {first}; expected 0 to {period - 1}, below {name}_period"
        )
    return lambda layer: layer % period == first


def _rwkv(fields: Fields) -> Read[Decoder]:
    """Each official layer is two of ours. That hidden states are halved every few layers of a forward is against overflow of
    half precision alone: norms undo it.
    """
    fields.ignore("rescale_every", *UNUSED.split())
    dim, count = fields.count("hidden_size", 4096), fields.layers("num_hidden_layers", 32)
    norm = Norm("layer", fields.positive("layer_norm_epsilon", 1e-5))
    if norm.eps != 1e-5:
        raise BeholderError(
            f"{fields.name}: layer_norm_epsilon is {norm.eps}; the last norm has 1e-05 whatever is written"
        )
    config = Decoder(
        vocab_size=fields.count("vocab_size", 50277),
        dim=dim,
        num_layers=2 * count,
        attention=TimeMix(fields.count("attention_hidden_size", dim)),
        mlp=None,
        norm=norm,
        others=(LayerKind(ChannelMix(fields.count("intermediate_size", 4 * dim))),),
        pattern=(0, 1),
        embedding=TokenEmbedding(norm=norm),
        tied=fields.get("tie_word_embeddings", False),
        context=ENDLESS,
    )
    fields.ignore("context_length", "max_position_embeddings")
    # what is written officially to several rows at once mixes them: the token before lacks an axis there
    stages = {"logits": Recorded("logits", whole=True)}
    return Read(config, layouts.rwkv(count), body=("rwkv.",), head="head.", stages=stages)


READERS: Readers = {
    "rwkv": _rwkv,
    "mamba": _mamba,
    "falcon_mamba": _mamba,
    "mamba2": _mamba2,
    "bamba": _bamba,
    "jamba": _jamba,
}
