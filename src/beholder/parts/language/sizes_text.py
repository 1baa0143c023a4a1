"""Published text encoders and encoder-decoders, as data."""

from __future__ import annotations

from typing import Any

from beholder.parts.blocks.attention import Attention
from beholder.parts.blocks.cross_attention import CrossAttention
from beholder.parts.blocks.mlp import FeedForward
from beholder.parts.blocks.norms import Norm
from beholder.parts.blocks.positions import Rotary
from beholder.parts.blocks.relative import RelativeBuckets
from beholder.parts.blocks.transformer import Arrangement, LayerKind
from beholder.parts.language.decoder import Decoder
from beholder.parts.language.embedding import TokenEmbedding
from beholder.parts.language.encoder_decoder import EncoderDecoder
from beholder.parts.language.text_encoder import TextEncoder

# google-bert/bert-base-uncased, -large-uncased, bert-base-cased and -multilingual-cased config.json
BERT_NORM = Norm("layer", 1e-12)
BERT_BASE = TextEncoder(
    vocab_size=30522,
    dim=768,
    num_layers=12,
    attention=Attention(num_heads=12, qkv_bias=True, out_bias=True),
    mlp=FeedForward(hidden=3072),
    norm=BERT_NORM,
    arrangement=Arrangement("post"),
    embedding=TokenEmbedding(positions="learned", segments=2, norm=BERT_NORM),
    final_norm=False,
    context=512,
    causal=False,
    pool="first",
    projection=768,
    projection_bias=True,
    projection_act="tanh",
)
BERT_LARGE = BERT_BASE.but(
    dim=1024, num_layers=24, projection=1024, **{"attention.num_heads": 16, "mlp.hidden": 4096}
)
BERT_BASE_CASED = BERT_BASE.but(vocab_size=28996)
BERT_BASE_MULTILINGUAL = BERT_BASE.but(vocab_size=119547)

# sentence-transformers/all-MiniLM-L6-v2 and -L12-v2 config.json and 1_Pooling/config.json; the pooler stays unused
MINILM_L6 = BERT_BASE.but(dim=384, num_layers=6, projection=384, **{"mlp.hidden": 1536})
MINILM_L12 = MINILM_L6.but(num_layers=12)

# FacebookAI/roberta-base, roberta-large, xlm-roberta-base and -large config.json
ROBERTA_EMBEDDING = TokenEmbedding(positions="learned", offset=2, segments=1, norm=Norm("layer", 1e-5))
ROBERTA_BASE = BERT_BASE.but(vocab_size=50265, norm=Norm("layer", 1e-5), embedding=ROBERTA_EMBEDDING)
ROBERTA_LARGE = BERT_LARGE.but(vocab_size=50265, norm=Norm("layer", 1e-5), embedding=ROBERTA_EMBEDDING)
XLM_R_BASE = ROBERTA_BASE.but(vocab_size=250002)
XLM_R_LARGE = ROBERTA_LARGE.but(vocab_size=250002)

# sentence-transformers/all-mpnet-base-v2 config.json
MPNET_BASE = BERT_BASE.but(
    vocab_size=30527,
    norm=Norm("layer", 1e-5),
    embedding=ROBERTA_EMBEDDING.but(segments=0),
    **{"attention.relative": RelativeBuckets()},
)

# distilbert/distilbert-base-uncased config.json
DISTILBERT_BASE = BERT_BASE.but(
    num_layers=6, pool=None, projection=0, projection_act=None, **{"embedding.segments": 0}
)

# answerdotai/ModernBERT-base and -large config.json: every third layer sees the whole text, the first has no norm before it
MODERN_NORM = Norm("layer", 1e-5, bias=False)
MODERN_LOCAL = Attention(num_heads=12, rotary=Rotary(theta=10000.0), window=65)
MODERN_FIRST = Arrangement(bare_mixer=True)
MODERN_BERT_BASE = TextEncoder(
    vocab_size=50368,
    dim=768,
    num_layers=22,
    attention=MODERN_LOCAL.but(rotary=Rotary(theta=160000.0), window=None),
    mlp=FeedForward(hidden=1152, gated=True, bias=False),
    norm=MODERN_NORM,
    embedding=TokenEmbedding(norm=MODERN_NORM),
    context=8192,
    causal=False,
    pool=None,
    projection=0,
    others=(
        LayerKind(MODERN_LOCAL),
        LayerKind(arrangement=MODERN_FIRST),
        LayerKind(MODERN_LOCAL, arrangement=MODERN_FIRST),
    ),
    pattern=(2, 1, 1) + (0, 1, 1) * 6 + (0,),
)
MODERN_BERT_LARGE = MODERN_BERT_BASE.but(
    dim=1024,
    num_layers=28,
    **{"attention.num_heads": 16, "mlp.hidden": 2624},
    others=(
        LayerKind(MODERN_LOCAL.but(num_heads=16)),
        LayerKind(arrangement=MODERN_FIRST),
        LayerKind(MODERN_LOCAL.but(num_heads=16), arrangement=MODERN_FIRST),
    ),
    pattern=(2, 1, 1) + (0, 1, 1) * 8 + (0,),
)

# google-t5/t5-small, -base, -large, t5-3b and t5-11b config.json
T5_SMALL = EncoderDecoder(
    encoder=TextEncoder(
        vocab_size=32128,
        dim=512,
        num_layers=6,
        attention=Attention(num_heads=8, head_dim=64, scale=1.0, relative=RelativeBuckets()),
        mlp=FeedForward(hidden=2048, act="relu", bias=False),
        norm=Norm("rms", 1e-6),
        embedding=TokenEmbedding(),
        context=512,
        causal=False,
        pool=None,
        projection=0,
    ),
    decoder=Decoder(
        vocab_size=32128,
        dim=512,
        num_layers=6,
        attention=Attention(num_heads=8, head_dim=64, scale=1.0, relative=RelativeBuckets(both_ways=False)),
        mlp=FeedForward(hidden=2048, act="relu", bias=False),
        norm=Norm("rms", 1e-6),
        tied=True,
        context=512,
        logit_scale=512**-0.5,
        cross=CrossAttention(num_heads=8, head_dim=64, scale=1.0),
    ),
)


def t5_size(
    base: EncoderDecoder, dim: int, hidden: int, num_layers: int, num_heads: int, *, head_dim: int = 64
) -> EncoderDecoder:
    """`base` at another size, both sides alike; products with a tied table keep their scale 1 / sqrt(dim)."""
    both: dict[str, Any] = {
        "dim": dim,
        "num_layers": num_layers,
        "attention.num_heads": num_heads,
        "attention.head_dim": head_dim,
        "mlp.hidden": hidden,
    }
    cross = {"cross.num_heads": num_heads, "cross.head_dim": head_dim}
    scale = dim**-0.5 if base.decoder.logit_scale != 1.0 else 1.0
    return base.but(
        encoder=base.encoder.but(**both), decoder=base.decoder.but(**both, **cross, logit_scale=scale)
    )


T5_BASE = t5_size(T5_SMALL, 768, 3072, 12, 12)
T5_LARGE = t5_size(T5_SMALL, 1024, 4096, 24, 16)
T5_3B = t5_size(T5_SMALL, 1024, 16384, 24, 32, head_dim=128)
T5_11B = t5_size(T5_SMALL, 1024, 65536, 24, 128, head_dim=128)

# google/flan-t5-small, -base, -large, -xl and -xxl config.json; google/t5-v1_1-* are the same models before Flan (2210.11416)
GEGLU = FeedForward(hidden=1024, act="gelu_tanh", gated=True, bias=False)
FLAN_T5_SMALL = t5_size(
    T5_SMALL.but(
        **{"encoder.mlp": GEGLU, "decoder.mlp": GEGLU, "decoder.tied": False, "decoder.logit_scale": 1.0}
    ),
    *(512, 1024, 8, 6),
)
FLAN_T5_BASE = t5_size(FLAN_T5_SMALL, 768, 2048, 12, 12)
FLAN_T5_LARGE = t5_size(FLAN_T5_SMALL, 1024, 2816, 24, 16)
FLAN_T5_XL = t5_size(FLAN_T5_SMALL, 2048, 5120, 24, 32)
FLAN_T5_XXL = t5_size(FLAN_T5_SMALL, 4096, 10240, 24, 64)

# google/ul2 config.json
UL2 = t5_size(
    FLAN_T5_SMALL.but(**{"encoder.mlp.act": "silu", "decoder.mlp.act": "silu"}),
    4096,
    16384,
    32,
    16,
    head_dim=256,
)

# UL2 of 3B as in PaLI-3 (2310.09199); its proportions are not published and taken to be those of T5's XL
UL2_XL = t5_size(UL2, 2048, 5120, 24, 32)

# google/mt5-small to -xxl config.json
MT5_SMALL = FLAN_T5_SMALL.but(**{"encoder.vocab_size": 250112, "decoder.vocab_size": 250112})
MT5_BASE = t5_size(MT5_SMALL, 768, 2048, 12, 12)
MT5_LARGE = t5_size(MT5_SMALL, 1024, 2816, 24, 16)
MT5_XL = t5_size(MT5_SMALL, 2048, 5120, 24, 32)
MT5_XXL = t5_size(MT5_SMALL, 4096, 10240, 24, 64)

# google/umt5-small, -base, -xl and -xxl config.json
UMT5_SMALL = FLAN_T5_SMALL.but(
    **{
        "encoder.vocab_size": 256384,
        "decoder.vocab_size": 256384,
        "encoder.attention.relative": RelativeBuckets(shared=False),
        "decoder.attention.relative": RelativeBuckets(shared=False, both_ways=False),
    }
)
UMT5_BASE = t5_size(UMT5_SMALL, 768, 2048, 12, 12)
UMT5_XL = t5_size(UMT5_SMALL, 2048, 5120, 24, 32)
UMT5_XXL = t5_size(UMT5_SMALL, 4096, 10240, 24, 64)

# facebook/bart-large and -base config.json; the bias of the logits is a buffer there
BART_EMBEDDING = TokenEmbedding(positions="learned", offset=2, norm=Norm())
BART_LARGE = EncoderDecoder(
    encoder=TextEncoder(
        vocab_size=50265,
        dim=1024,
        num_layers=12,
        attention=Attention(num_heads=16, qkv_bias=True, out_bias=True),
        mlp=FeedForward(hidden=4096),
        arrangement=Arrangement("post"),
        embedding=BART_EMBEDDING,
        final_norm=False,
        context=1024,
        causal=False,
        pool=None,
        projection=0,
    ),
    decoder=Decoder(
        vocab_size=50265,
        dim=1024,
        num_layers=12,
        attention=Attention(num_heads=16, qkv_bias=True, out_bias=True),
        mlp=FeedForward(hidden=4096),
        norm=Norm(),
        tied=True,
        context=1024,
        arrangement=Arrangement("post"),
        embedding=BART_EMBEDDING,
        final_norm=False,
        head_bias=True,
        cross=CrossAttention(num_heads=16, qkv_bias=True, out_bias=True),
    ),
    start_id=2,
)
BART_BASE = BART_LARGE.but(
    encoder=BART_LARGE.encoder.but(dim=768, num_layers=6, **{"attention.num_heads": 12, "mlp.hidden": 3072}),
    decoder=BART_LARGE.decoder.but(
        dim=768, num_layers=6, **{"attention.num_heads": 12, "mlp.hidden": 3072, "cross.num_heads": 12}
    ),
)

# facebook/mbart-large-cc25 and mbart-large-50 config.json
MBART_LARGE = BART_LARGE.but(
    encoder=BART_LARGE.encoder.but(
        vocab_size=250027, final_norm=True, **{"arrangement.placement": "pre", "embedding.scale": 32.0}
    ),
    decoder=BART_LARGE.decoder.but(
        vocab_size=250027, final_norm=True, **{"arrangement.placement": "pre", "embedding.scale": 32.0}
    ),
)
MBART_LARGE_50 = MBART_LARGE.but(**{"encoder.vocab_size": 250054, "decoder.vocab_size": 250054})

# microsoft/kosmos-2-patch14-224 config.json: text_config
MAGNETO_1_3B = Decoder(
    vocab_size=65037,
    dim=2048,
    num_layers=24,
    attention=Attention(num_heads=32, qkv_bias=True, out_bias=True, inner_norm=Norm()),
    mlp=FeedForward(hidden=8192, inner_norm=Norm()),
    norm=Norm(),
    tied=True,
    context=2048,
    embedding=TokenEmbedding(scale=2048**0.5, positions="sinusoidal", offset=2),
)
