"""DeBERTa v2 and v3 (2006.03654, 2111.09543), the bare encoder. Defaults are those of the official config class."""

from __future__ import annotations

from beholder.errors import BeholderError
from beholder.parts.blocks.disentangled import DisentangledAttention
from beholder.parts.blocks.mlp import FeedForward
from beholder.parts.blocks.norms import Norm
from beholder.parts.blocks.transformer import Arrangement
from beholder.parts.language.embedding import TokenEmbedding
from beholder.parts.language.text_encoder import TextEncoder
from beholder.weights.layout import Binding
from beholder.weights.layouts.text import DEBERTA, DEBERTA_HEADS
from beholder.weights.readers.fields import Fields
from beholder.weights.readers.hierarchical import expect
from beholder.weights.readers.read import Read, Readers, activation_name

UNREAD = ("legacy", "pooler_dropout", "pooler_hidden_act", "pooler_hidden_size", "tie_word_embeddings")


def _deberta_v2(fields: Fields) -> Read[TextEncoder]:
    """Norms after the sums; files of pretraining hold heads besides, which are left out by name."""
    fields.ignore(*UNREAD)
    expect(fields, "relative_attention", False, True)
    expect(fields, "conv_kernel_size", 0, 0)
    dim, context = fields.count("hidden_size", 1536), fields.count("max_position_embeddings", 512)
    norm = Norm("layer", fields.positive("layer_norm_eps", 1e-7))
    embedded = fields.count("embedding_size", dim)
    if embedded != dim:
        raise BeholderError(
            f"{fields.name}: embedding_size {embedded} is not the width {dim}; not supported here"
        )
    placed = fields.get("position_biased_input", True)
    encoder = TextEncoder(
        vocab_size=fields.count("vocab_size", 128100),
        dim=dim,
        num_layers=fields.layers("num_hidden_layers", 24),
        attention=_attention(fields, context, norm),
        mlp=FeedForward(
            fields.count("intermediate_size", 6144), activation_name(fields, "hidden_act", "gelu")
        ),
        norm=norm,
        arrangement=Arrangement("post"),
        embedding=TokenEmbedding(
            positions="learned" if placed else None, segments=fields.get("type_vocab_size", 0), norm=norm
        ),
        final_norm=False,
        context=context,
        causal=False,
        pool=None,
        projection=0,
    )
    return Read(encoder, DEBERTA, body=("", "deberta."), rest=(Binding("", "heads.0.", DEBERTA_HEADS),))


def _attention(fields: Fields, context: int, norm: Norm) -> DisentangledAttention:
    kinds = fields.raw("pos_att_type") or []
    kinds = kinds.lower().split("|") if isinstance(kinds, str) else kinds
    if not set(kinds) <= {"c2p", "p2c"}:
        raise BeholderError(f"{fields.name}: pos_att_type is {kinds}; known: c2p, p2c")
    farthest, buckets = fields.get("max_relative_positions", -1), fields.get("position_buckets", -1)
    farthest = context if farthest < 1 else farthest
    normed = "layer_norm" in [kind.strip() for kind in fields.get("norm_rel_ebd", "none").lower().split("|")]
    return DisentangledAttention(
        fields.count("num_attention_heads", 24),
        qkv_bias=True,
        out_bias=True,
        span=buckets if buckets > 0 else farthest,
        farthest=farthest if buckets > 0 else 0,
        to_place="c2p" in kinds,
        from_place="p2c" in kinds,
        own_maps=not fields.get("share_att_key", False),
        norm=norm if normed else None,
    )


READERS: Readers = {"deberta-v2": _deberta_v2}
