"""Sizes of SimVLM (2108.10904): both sides as wide and as deep as ViT-B, -L and -H, in layers with norms before the halves.

Published are the widths. Depth of each side, vocabulary and learned positions are assumptions; the paper's relative attention
among patches is left out, as its form is not published.
"""

from __future__ import annotations

from typing import Any

from beholder.parts.blocks.attention import Attention
from beholder.parts.blocks.cross_attention import CrossAttention
from beholder.parts.blocks.mlp import FeedForward
from beholder.parts.blocks.norms import Norm
from beholder.parts.language.decoder import Decoder
from beholder.parts.language.embedding import TokenEmbedding
from beholder.parts.language.encoder_decoder import EncoderDecoder
from beholder.parts.language.text_encoder import TextEncoder


def _size(dim: int, num_layers: int, num_heads: int) -> EncoderDecoder:
    both: dict[str, Any] = {
        "vocab_size": 32128,
        "dim": dim,
        "num_layers": num_layers,
        "attention": Attention(num_heads, qkv_bias=True, out_bias=True),
        "mlp": FeedForward(4 * dim),
        "norm": Norm("layer", 1e-6),
        "embedding": TokenEmbedding(positions="learned"),
        "context": 512,
    }
    return EncoderDecoder(
        TextEncoder(**both, causal=False, pool=None, projection=0),
        Decoder(**both, tied=True, cross=CrossAttention(num_heads, qkv_bias=True, out_bias=True)),
    )


BASE, LARGE, HUGE = _size(768, 12, 12), _size(1024, 24, 16), _size(1280, 32, 16)
