"""Text towers and encoders. Defaults are those of the official config classes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from beholder.errors import BeholderError
from beholder.parts.blocks.attention import Attention
from beholder.parts.blocks.mlp import FeedForward
from beholder.parts.blocks.norms import Norm
from beholder.parts.blocks.relative import RelativeBuckets
from beholder.parts.blocks.transformer import Arrangement, LayerKind
from beholder.parts.heads.masked_token import MaskedToken
from beholder.parts.language.embedding import TokenEmbedding
from beholder.parts.language.text_encoder import TextEncoder
from beholder.weights.layout import Binding, Layout
from beholder.weights.layouts.common import TIED_HEAD
from beholder.weights.layouts.text import (
    ALBERT,
    BERT,
    DISTILBERT,
    IDLE_HEADS,
    MODERN_BERT,
    MPNET,
    NOMIC_BERT,
    TEXT_TOWER,
    masked_token,
)
from beholder.weights.readers.fields import Fields
from beholder.weights.readers.read import (
    FULL,
    SLIDING,
    Read,
    Readers,
    Recorded,
    activation_name,
    head_dim,
    rotary,
)


def _text_tower(
    fields: Fields, *, vocab: int, dim: int, hidden: int, heads: int, context: int, act: str, eps: float
) -> TextEncoder:
    width = fields.count("hidden_size", dim)
    return TextEncoder(
        vocab_size=fields.count("vocab_size", vocab),
        dim=width,
        num_layers=fields.layers("num_hidden_layers", 12),
        attention=Attention(fields.count("num_attention_heads", heads), qkv_bias=True, out_bias=True),
        mlp=FeedForward(
            fields.count("intermediate_size", hidden), activation_name(fields, "hidden_act", act)
        ),
        norm=Norm("layer", fields.positive("layer_norm_eps", eps)),
        context=fields.count("max_position_embeddings", context),
        projection=width,
    )


def _clip_text(fields: Fields) -> Read[TextEncoder]:
    """Files with the end id 2 date from before it was corrected; their texts end at the largest id."""
    end_id = fields.get("eos_token_id", 49407)
    fields.ignore("tie_word_embeddings")  # a tower has no output matrix to tie
    projection = fields.count("projection_dim", 512)
    sizes = {"vocab": 49408, "dim": 512, "hidden": 2048, "heads": 8, "context": 77}
    tower = _text_tower(fields, **sizes, act="quick_gelu", eps=1e-5)
    tower = replace(tower, pool="highest" if end_id == 2 else "end", end_id=end_id, projection=projection)
    return Read(tower, TEXT_TOWER, body=("text_model.",))


def _owl_text(fields: Fields) -> Read[TextEncoder]:
    """CLIP's tower for phrases of few words."""
    read = _clip_text(fields)
    context = fields.count("max_position_embeddings", 16)
    return replace(read, config=read.config.but(context=context, pool="highest"))


def _siglip_text(fields: Fields) -> Read[TextEncoder]:
    sizes = {"vocab": 32000, "dim": 768, "hidden": 3072, "heads": 12, "context": 64}
    tower = _text_tower(fields, **sizes, act="gelu_tanh", eps=1e-6)
    width = fields.count("projection_size", tower.dim)
    tower = replace(tower, causal=False, pool="last", projection=width, projection_bias=True)
    return Read(tower, TEXT_TOWER, body=("text_model.",))


@dataclass(frozen=True)
class BertKind:
    """How an encoder of BERT's form is named and where it differs. body: the prefix of the bare model beside a head.
    head, dense, norm, decoder: where a head over masks stands, and its parts. padded: positions count from behind the
    padding id (fairseq). pooler: whether the bare model has a tanh layer on its first token.
    """

    body: str
    layout: Layout = BERT
    head: str = "lm_head."
    dense: str = "dense"
    norm: str = "layer_norm"
    decoder: str = "decoder"
    bias: str = "bias"
    padded: bool = False
    pooler: bool = True


ROBERTA = BertKind("roberta.", padded=True)
BERT_KIND = BertKind("bert.", head="cls.predictions.", dense="transform.dense", norm="transform.LayerNorm")
ELECTRA = BertKind(
    "electra.",
    head="",
    dense="generator_predictions.dense",
    norm="generator_predictions.LayerNorm",
    decoder="generator_lm_head",
    bias="generator_lm_head.bias",
    pooler=False,
)
ALBERT_KIND = BertKind("albert.", ALBERT, head="predictions.", norm="LayerNorm")
MPNET_KIND = BertKind("mpnet.", MPNET)
DISTILBERT_KIND = BertKind(
    "distilbert.",
    DISTILBERT,
    head="",
    dense="vocab_transform",
    norm="vocab_layer_norm",
    decoder="vocab_projector",
    bias="vocab_projector.bias",
    pooler=False,
)


def _bert(fields: Fields, kind: BertKind = BERT_KIND, *, vocab: int = 30522) -> Read[TextEncoder]:
    """Norms after the sums, a norm behind the embeddings, a tanh pooler on the first token."""
    dim = fields.count("hidden_size", 768)
    norm = Norm("layer", fields.positive("layer_norm_eps", 1e-12))
    if fields.get("position_embedding_type", "absolute") != "absolute":
        raise BeholderError(f"{fields.name}: position_embedding_type must be absolute here")
    offset = fields.get("pad_token_id", 1) + 1 if kind.padded else 0
    encoder = TextEncoder(
        vocab_size=fields.count("vocab_size", vocab),
        dim=dim,
        num_layers=fields.layers("num_hidden_layers", 12),
        attention=Attention(fields.count("num_attention_heads", 12), qkv_bias=True, out_bias=True),
        mlp=FeedForward(
            fields.count("intermediate_size", 3072), activation_name(fields, "hidden_act", "gelu")
        ),
        norm=norm,
        arrangement=Arrangement("post"),
        embedding=TokenEmbedding(
            positions="learned", offset=offset, segments=fields.count("type_vocab_size", 2), norm=norm
        ),
        final_norm=False,
        context=fields.count("max_position_embeddings", 512) - offset,
        causal=False,
        pool="first" if kind.pooler else None,
        projection=dim if kind.pooler else 0,
        projection_bias=True,
        projection_act="tanh" if kind.pooler else None,
    )
    return _with_head(fields, encoder, kind)


def _with_head(
    fields: Fields, encoder: TextEncoder, kind: BertKind, head: MaskedToken | None = None
) -> Read[TextEncoder]:
    """The bare model, or with scores of words behind masks, and then without its pooler."""
    body, classes = ("", kind.body), " ".join(fields.raw("architectures") or ())
    tied = fields.get("tie_word_embeddings", True)
    pooling = fields.raw("sentence_pooling")
    if pooling is not None:  # of a sentence-transformers folder, which has no use for the pooler
        encoder = encoder.but(pool=pooling, projection=0, projection_act=None)
        return Read(encoder, kind.layout.but(NO_POOLER), body=body)
    if "ForMaskedLM" not in classes and ("ForPreTraining" not in classes or kind is ELECTRA):
        return Read(encoder, kind.layout, body=body, rest=(IDLE,))
    if not tied:
        raise BeholderError(f"{fields.name}: tie_word_embeddings must be true for a head over masks")
    encoder = encoder.but(pool=None, projection=0, projection_act=None)
    assert isinstance(encoder.mlp, FeedForward)
    words = masked_token(kind.dense, kind.norm, kind.decoder, kind.bias)
    rest = (
        Binding(kind.head, "heads.0.", words),
        Binding(f"{kind.head}{kind.decoder}.", "languages.main.", TIED_HEAD),
        IDLE,
    )
    stages = {
        "hidden states": Recorded(f"hook/{kind.body}encoder/last_hidden_state"),
        "logits": Recorded("logits"),
    }
    heads = (head or MaskedToken(encoder.mlp.act, encoder.norm),)
    layout = kind.layout.but(NO_POOLER)
    return Read(encoder, layout, body=(kind.body,), stages=stages, heads=heads, rest=rest)


NO_POOLER = {f"pooler.{name}": None for name in ("dense.weight", "dense.bias", "weight", "bias")}
IDLE = Binding("", "heads.0.", IDLE_HEADS)


def _mpnet(fields: Fields) -> Read[TextEncoder]:
    """No kinds of tokens; one table of distances beside the learned positions, which count from 2."""
    buckets = RelativeBuckets(fields.count("relative_attention_num_buckets", 32))
    read = _bert(fields, MPNET_KIND, vocab=30527)
    config = read.config.but(
        **{"embedding.segments": 0, "embedding.offset": 2, "attention.relative": buckets},
        context=read.config.context - 2,
    )
    return replace(read, config=config)


def _distilbert(fields: Fields) -> Read[TextEncoder]:
    """BERT under other names, without kinds of tokens and pooler."""
    names = {
        "n_layers": "num_hidden_layers",
        "n_heads": "num_attention_heads",
        "dim": "hidden_size",
        "hidden_dim": "intermediate_size",
        "activation": "hidden_act",
    }
    kept = {
        "vocab_size",
        "max_position_embeddings",
        "tie_word_embeddings",
        "sentence_pooling",
        "architectures",
    }
    renamed = {own: fields.raw(key) for key, own in names.items()} | {key: fields.raw(key) for key in kept}
    renamed["num_hidden_layers"] = fields.layers("n_layers", 6)
    for key in ("qa_dropout", "seq_classif_dropout", "tie_weights_", "sinusoidal_pos_embds"):
        fields.raw(key)  # positions are a table in the file, sinusoidal or not
    read = _bert(Fields(renamed, fields.name), DISTILBERT_KIND)
    return replace(read, config=read.config.but(**{"embedding.segments": 0}))


def _electra(fields: Fields) -> Read[TextEncoder]:
    """A narrower token table, and no pooler."""
    fields.ignore("summary_type", "summary_use_proj", "summary_activation", "summary_last_dropout")
    narrow = fields.count("embedding_size", 128)
    sizes = {"hidden_size": 256, "num_attention_heads": 4, "intermediate_size": 1024}
    read = _bert(_assuming(fields, sizes), ELECTRA)
    config = read.config
    if narrow != config.dim:
        config = config.but(**{"embedding.width": narrow, "embedding.late": True})
    return replace(read, config=config)


def _albert(fields: Fields) -> Read[TextEncoder]:
    """A narrower token table, and one layer for all."""
    if fields.count("num_hidden_groups", 1) != 1 or fields.count("inner_group_num", 1) != 1:
        raise BeholderError(f"{fields.name}: num_hidden_groups and inner_group_num must be 1 here")
    fields.ignore("classifier_dropout_prob", "down_scale_factor", "gap_size", "net_structure_type")
    narrow = fields.count("embedding_size", 128)
    sizes = {"vocab_size": 30000, "hidden_size": 4096, "num_attention_heads": 64, "intermediate_size": 16384}
    read = _bert(_assuming(fields, {**sizes, "hidden_act": "gelu_new"}), ALBERT_KIND)
    config = read.config.but(one_layer=True, **{"embedding.width": narrow, "embedding.late": True})
    return replace(read, config=config)


def _nomic_bert(fields: Fields) -> Read[TextEncoder]:
    """Rotary positions, gated MLP, no biases but those of norms, no pooler."""
    read = _bert(
        _assuming(fields, {"hidden_act": "silu", "max_position_embeddings": 2048}), NOMIC, vocab=30528
    )
    config = read.config
    turned = config.attention.but(
        qkv_bias=False,
        out_bias=False,
        head_dim=head_dim(fields, config.dim, config.attention.num_heads),
        rotary=rotary(fields, config.context, theta=1000.0),
    )
    mlp = config.mlp.but(gated=True, bias=False)
    config = config.but(attention=turned, mlp=mlp, **{"embedding.positions": None})
    return replace(read, config=config)


NOMIC = BertKind("nomic_bert.", NOMIC_BERT, pooler=False)


def _modern_bert(fields: Fields) -> Read[TextEncoder]:
    """Norms before the halves but for the first mixer's, rotary positions, windows of `local_attention` tokens to both sides
    in most layers (2412.13663).
    """
    dim, layers = fields.count("hidden_size", 768), fields.layers("num_hidden_layers", 22)
    context = fields.count("max_position_embeddings", 8192)
    norm = Norm("layer", fields.positive("norm_eps", 1e-5), bias=fields.get("norm_bias", False))
    every, bias = fields.count("global_attn_every_n_layers", 3), fields.get("attention_bias", False)
    kinds = fields.get("layer_types", []) or [SLIDING if layer % every else FULL for layer in range(layers)]
    if len(kinds) != layers or not set(kinds) <= {FULL, SLIDING}:
        raise BeholderError(
            f"{fields.name}: layer_types {kinds} for {layers} layers; expected {FULL} or {SLIDING} for each"
        )
    turns = {
        kind: rotary(fields, context, theta=fields.positive(key, theta), layers=kind)
        for kind, key, theta in (
            (FULL, "global_rope_theta", 160000.0),
            (SLIDING, "local_rope_theta", 10000.0),
        )
    }
    attention = Attention(
        fields.count("num_attention_heads", 12), qkv_bias=bias, out_bias=bias, rotary=turns[FULL]
    )
    window = fields.count("local_attention", 128) // 2 + 1
    bare = LayerKind(arrangement=Arrangement(bare_mixer=True))
    near = LayerKind(attention.but(rotary=turns[SLIDING], window=window))
    act = activation_name(fields, "hidden_activation", "gelu")
    encoder = TextEncoder(
        vocab_size=fields.count("vocab_size", 50368),
        dim=dim,
        num_layers=layers,
        attention=attention,
        mlp=FeedForward(
            fields.count("intermediate_size", 1152), act, gated=True, bias=fields.get("mlp_bias", False)
        ),
        norm=norm,
        embedding=TokenEmbedding(norm=norm),
        context=context,
        causal=False,
        pool=None,
        projection=0,
        others=(near, bare, replace(near, arrangement=bare.arrangement)),
        pattern=tuple(int(kind == SLIDING) + 2 * (layer == 0) for layer, kind in enumerate(kinds)),
    )
    fields.ignore(*MODERN_UNREAD)
    head = MaskedToken(
        activation_name(fields, "classifier_activation", "gelu"), norm, fields.get("classifier_bias", False)
    )
    return _with_head(fields, encoder, MODERN, head)


MODERN_UNREAD = (
    "classifier_pooling",
    "cls_token_id",
    "decoder_bias",
    "deterministic_flash_attn",
    "initializer_cutoff_factor",
    "layer_norm_eps",
    "mlp_dropout",
    "position_embedding_type",
    "reference_compile",
    "repad_logits_with_grad",
    "sparse_pred_ignore_index",
    "sparse_prediction",
)
MODERN = BertKind("model.", MODERN_BERT, head="", dense="head.dense", norm="head.norm", bias="decoder.bias")


def read_bert(fields: Fields) -> Read[TextEncoder]:
    """The bare encoder, with its pooler, of a system whose file has BERT's fields among its own."""
    bare = {key: value for key in BERT_FIELDS if (value := fields.raw(key)) is not None}
    bare.pop("architectures", None)
    return _bert(Fields(bare, fields.name))


def _assuming(fields: Fields, defaults: Mapping[str, Any]) -> Fields:
    """`fields` with other defaults; what is read of them counts as read."""
    keys = (*BERT_FIELDS, *defaults)
    given = {key: value for key in keys if (value := fields.raw(key)) is not None}
    return Fields({**defaults, **given}, fields.name)


BERT_FIELDS = (
    "vocab_size",
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "intermediate_size",
    "hidden_act",
    "layer_norm_eps",
    "position_embedding_type",
    "max_position_embeddings",
    "type_vocab_size",
    "pad_token_id",
    "tie_word_embeddings",
    "sentence_pooling",
    "architectures",
)


READERS: Readers = {
    "clip_text_model": _clip_text,
    "owlvit_text_model": _owl_text,
    "owlv2_text_model": _owl_text,
    "siglip_text_model": _siglip_text,
    "siglip2_text_model": _siglip_text,
    "bert": _bert,
    "roberta": lambda fields: _bert(fields, ROBERTA, vocab=50265),
    "xlm-roberta": lambda fields: _bert(fields, ROBERTA),
    "mpnet": _mpnet,
    "distilbert": _distilbert,
    "electra": _electra,
    "albert": _albert,
    "nomic_bert": _nomic_bert,
    "modernbert": _modern_bert,
}
