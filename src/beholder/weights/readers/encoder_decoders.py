"""Encoder-decoders, and the decoder of Kosmos-2, which has BART's names. Defaults are those of the official config classes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from beholder.errors import BeholderError
from beholder.parts.blocks.attention import Attention
from beholder.parts.blocks.cross_attention import CrossAttention
from beholder.parts.blocks.mlp import FeedForward
from beholder.parts.blocks.moe import Experts, Routing
from beholder.parts.blocks.norms import Norm
from beholder.parts.blocks.relative import RelativeBuckets
from beholder.parts.blocks.transformer import Arrangement, LayerKind
from beholder.parts.language.decoder import Decoder
from beholder.parts.language.embedding import TokenEmbedding
from beholder.parts.language.encoder_decoder import EncoderDecoder
from beholder.parts.language.text_encoder import TextEncoder
from beholder.weights.layouts.encoder_decoders import MAGNETO, bart, switch, t5, t5_encoder
from beholder.weights.readers.fields import Fields
from beholder.weights.readers.read import ACTIVATION_NAMES, Read, Readers, Recorded, activation_name

STAGES = {
    "memory": Recorded("encoder_last_hidden_state"),
    "logits": Recorded("logits"),
    "greedy logits": Recorded("gen/gen_logits"),
    "greedy": Recorded("gen/new_ids"),
}
T5_CONTEXT = 512  # tokens of a text in training (1910.10683, section 3.1.2); relative positions know no limit


@dataclass(frozen=True)
class T5Defaults:
    """What an official config class assumes, and how its model differs. scaled: products with a tied table are divided by
    sqrt(width). own_bias: every layer has a table of distances.
    """

    vocab_size: int = 250112
    hidden: int = 1024
    num_layers: int = 8
    num_heads: int = 6
    proj: str = "gated-gelu"
    scaled: bool = True
    own_bias: bool = False


T5 = T5Defaults(vocab_size=32128, hidden=2048, num_layers=6, num_heads=8, proj="relu")
MT5 = T5Defaults(scaled=False)
UMT5 = T5Defaults(own_bias=True)


def _t5_mlp(fields: Fields, assumed: T5Defaults) -> FeedForward:
    """`gated-gelu` means the tanh form, `gelu` by itself the exact one, unless a newer file names another (BLIP-2's do)."""
    proj = fields.get("feed_forward_proj", assumed.proj)
    fields.ignore("is_gated_act", "scalable_attention")
    gate, _, act = proj.rpartition("-")
    if gate not in ("", "gated"):
        raise BeholderError(f"{fields.name}: feed_forward_proj is {proj!r}; expected ACT or gated-ACT")
    name = "gelu_tanh" if proj == "gated-gelu" else ACTIVATION_NAMES.get(act, act)
    name = activation_name(fields, "dense_act_fn", name)
    return FeedForward(fields.count("d_ff", assumed.hidden), name, gated=bool(gate), bias=False)


def _t5_sides(fields: Fields, assumed: T5Defaults) -> tuple[TextEncoder, Decoder]:
    dim = fields.count("d_model", 512)
    buckets = RelativeBuckets(
        fields.count("relative_attention_num_buckets", 32),
        fields.count("relative_attention_max_distance", 128),
        shared=not assumed.own_bias,
    )
    heads = fields.count("num_heads", assumed.num_heads)
    attention = Attention(heads, head_dim=fields.count("d_kv", 64), scale=1.0, relative=buckets)
    layers = fields.layers("num_layers", assumed.num_layers)
    norm = Norm("rms", fields.positive("layer_norm_epsilon", 1e-6))
    encoder = TextEncoder(
        vocab_size=fields.count("vocab_size", assumed.vocab_size),
        dim=dim,
        num_layers=layers,
        attention=attention,
        mlp=_t5_mlp(fields, assumed),
        norm=norm,
        embedding=TokenEmbedding(),
        context=fields.count("n_positions", T5_CONTEXT),
        causal=False,
        pool=None,
        projection=0,
    )
    # Files with `false` hold an output matrix of their own. Newer code reads them so too, but writes `true` for all.
    tied = fields.get("tie_word_embeddings", True)
    scaled = tied and fields.get("scale_decoder_outputs", assumed.scaled)
    decoder = Decoder(
        vocab_size=encoder.vocab_size,
        dim=dim,
        num_layers=fields.layers("num_decoder_layers", layers),
        attention=attention.but(relative=buckets.but(both_ways=False)),
        mlp=encoder.mlp,
        norm=norm,
        tied=tied,
        context=encoder.context,
        logit_scale=dim**-0.5 if scaled else 1.0,
        cross=CrossAttention(heads, head_dim=attention.head_dim, scale=1.0),
    )
    return encoder, decoder


def _t5(fields: Fields, assumed: T5Defaults = T5) -> Read[Any]:
    """Both sides, or the encoder alone where a file says that it is a `T5EncoderModel`."""
    encoder, decoder = _t5_sides(fields, assumed)
    start = fields.get("decoder_start_token_id", 0)
    assert isinstance(encoder.mlp, FeedForward)
    if any(name.endswith("EncoderModel") for name in fields.raw("architectures") or ()):
        return Read(encoder, t5_encoder(encoder.mlp.gated, assumed.own_bias), body=("",))
    layout = t5(encoder.mlp.gated, assumed.own_bias)
    return Read(EncoderDecoder(encoder, decoder, start), layout, body=("",), stages=STAGES)


SWITCH = {"d_model": 768, "d_ff": 2048, "num_layers": 12, "num_decoder_layers": 12, "num_heads": 12}
SWITCH_UNREAD = (
    "router_dtype router_jitter_noise router_z_loss_coef router_aux_loss_coef router_ignore_padding_tokens"
)
SWITCH_DERIVED = (
    "add_router_probs feed_forward_proj is_gated_act encoder_sparse_step decoder_sparse_step router_type"
)


def _switch(fields: Fields) -> Read[EncoderDecoder]:
    """Switch Transformers (2101.03961): T5 whose MLPs are experts in some layers, one of them for each token."""
    read = tuple(fields)
    fields.ignore(*read)
    own = fields.assuming(**SWITCH)
    own.ignore(*SWITCH_UNREAD.split(), *SWITCH_DERIVED.split())
    encoder, decoder = _t5_sides(own, T5)
    act = activation_name(own, "dense_act_fn", "relu")
    dense = FeedForward(own.count("d_ff", 2048), act, bias=False)
    experts = Experts(
        own.count("num_experts", 8),
        dense.hidden,
        Routing(active=1, most=own.count("expert_capacity", 64)),
        act=act,
        gated=False,
        router_bias=own.get("router_bias", False),
    )
    changes: list[dict[str, Any]] = []
    for side, layers in (("encoder", encoder.num_layers), ("decoder", decoder.num_layers)):
        count = own.get(f"num_sparse_{side}_layers", 3)
        step = layers // count if 0 < count <= layers else layers
        sparse = tuple(int(layer % step == 1 or step == 1) for layer in range(layers))
        changes.append({"mlp": dense, "others": (LayerKind(mlp=experts),), "pattern": sparse})
    encoder, decoder = encoder.but(**changes[0]), decoder.but(**changes[1])
    config = EncoderDecoder(encoder, decoder, own.get("decoder_start_token_id", 0))
    own.finish()
    return Read(config, switch(), {"num_experts": experts.num_experts}, body=("",), stages=STAGES)


@dataclass(frozen=True)
class BartDefaults:
    """What an official config class assumes, and how its model differs from BART: norms before the halves, one after the
    last layer, none behind the embeddings, other positions.
    """

    vocab_size: int = 50265
    dim: int = 1024
    hidden: int = 4096
    layers: tuple[int, int] = (12, 12)
    heads: int = 16
    context: int = 1024
    act: str = "gelu"
    start_id: int = 2
    scale: bool = False
    pre: bool = True
    final_norm: bool = True
    embedding: TokenEmbedding = TokenEmbedding(positions="learned")
    head_bias: bool = True


BART = BartDefaults(
    pre=False, final_norm=False, embedding=TokenEmbedding(positions="learned", offset=2, norm=Norm())
)
MBART = BartDefaults(embedding=BART.embedding)
PEGASUS = BartDefaults(start_id=0)  # whose files hold the table of sinusoids
MARIAN = BartDefaults(
    vocab_size=58101,
    start_id=58100,
    pre=False,
    final_norm=False,
    embedding=TokenEmbedding(positions="sinusoidal 2017"),
)
M2M_100 = BartDefaults(
    vocab_size=128112,
    act="relu",
    scale=True,
    head_bias=False,
    embedding=TokenEmbedding(positions="sinusoidal"),
)
BLENDERBOT = BartDefaults(
    vocab_size=8008, dim=2560, hidden=10240, layers=(2, 24), heads=32, context=128, start_id=1
)


BARE = ("BartModel", "MBartModel", "PegasusModel", "MarianModel", "M2M100Model", "BlenderbotModel")


def _bart(fields: Fields, assumed: BartDefaults = BART) -> Read[EncoderDecoder]:
    """One width; layers, heads and inner widths of each side by itself. Files of the bare model have no bias of logits."""
    bare = any(name in BARE for name in fields.raw("architectures") or ())
    dim = fields.count("d_model", assumed.dim)
    fields.ignore("num_hidden_layers", "normalize_before", "add_final_layer_norm", "add_bias_logits")
    if not fields.get("share_encoder_decoder_embeddings", True):
        raise BeholderError(f"{fields.name}: share_encoder_decoder_embeddings false is not supported")
    embedding = assumed.embedding.but(
        scale=math.sqrt(dim) if fields.get("scale_embedding", assumed.scale) else 1.0,
        offset=fields.get("pad_token_id", 1) + 1 if assumed is M2M_100 else assumed.embedding.offset,
    )
    sizes: dict[str, Any] = {
        "vocab_size": fields.count("vocab_size", assumed.vocab_size),
        "dim": dim,
        "norm": Norm(),
        "arrangement": Arrangement("pre" if assumed.pre else "post"),
        "embedding": embedding,
        "context": fields.count("max_position_embeddings", assumed.context),
        "final_norm": assumed.final_norm,
    }
    fields.count("decoder_vocab_size", sizes["vocab_size"])
    act = activation_name(fields, "activation_function", assumed.act)
    halves, depths, heads = {}, {}, {}
    for side, layers in zip(("encoder", "decoder"), assumed.layers, strict=True):
        heads[side] = fields.count(f"{side}_attention_heads", assumed.heads)
        depths[side] = fields.layers(f"{side}_layers", layers)
        halves[side] = FeedForward(fields.count(f"{side}_ffn_dim", assumed.hidden), act)
    encoder = TextEncoder(
        num_layers=depths["encoder"],
        attention=Attention(heads["encoder"], qkv_bias=True, out_bias=True),
        mlp=halves["encoder"],
        causal=False,
        pool=None,
        projection=0,
        **sizes,
    )
    decoder = Decoder(
        num_layers=depths["decoder"],
        attention=Attention(heads["decoder"], qkv_bias=True, out_bias=True),
        mlp=halves["decoder"],
        tied=fields.get("tie_word_embeddings", True),
        head_bias=assumed.head_bias and not bare,
        cross=CrossAttention(heads["decoder"], qkv_bias=True, out_bias=True),
        **sizes,
    )
    start = fields.get("decoder_start_token_id", assumed.start_id)
    layout = bart(assumed.pre, waves=embedding.positions != "learned")
    body = ("",) if bare else ("model.",)
    return Read(EncoderDecoder(encoder, decoder, start), layout, body=body, stages=STAGES)


def _kosmos_2_text(fields: Fields) -> Read[Decoder]:
    """MAGNETO's decoder (2210.06423): norms before each half and inside it, sinusoids counted from behind the padding id."""
    dim = fields.count("embed_dim", 2048)
    norm = Norm("layer", fields.positive("layer_norm_eps", 1e-5))
    fields.ignore("layerdrop")
    attention = Attention(fields.count("attention_heads", 32), qkv_bias=True, out_bias=True, inner_norm=norm)
    act = activation_name(fields, "activation_function", "gelu")
    config = Decoder(
        vocab_size=fields.count("vocab_size", 65037),
        dim=dim,
        num_layers=fields.layers("layers", 24),
        attention=attention,
        mlp=FeedForward(fields.count("ffn_dim", 8192), act, inner_norm=norm),
        norm=norm,
        tied=fields.get("tie_word_embeddings", True),
        context=fields.count("max_position_embeddings", 2048),
        embedding=TokenEmbedding(
            scale=math.sqrt(dim) if fields.get("scale_embedding", True) else 1.0,
            positions="sinusoidal",
            offset=fields.get("pad_token_id", 1) + 1,
        ),
    )
    return Read(config, MAGNETO)


READERS: Readers = {
    "t5": _t5,
    "mt5": lambda fields: _t5(fields, MT5),
    "umt5": lambda fields: _t5(fields, UMT5),
    "switch_transformers": _switch,
    "bart": _bart,
    "mbart": lambda fields: _bart(fields, MBART),
    "pegasus": lambda fields: _bart(fields, PEGASUS),
    "marian": lambda fields: _bart(fields, MARIAN),
    "m2m_100": lambda fields: _bart(fields, M2M_100),
    "blenderbot": lambda fields: _bart(fields, BLENDERBOT),
    "kosmos_2_text_model": _kosmos_2_text,
}
