"""Text towers and encoders. Defaults are those of the official config classes."""

from __future__ import annotations

from dataclasses import replace

from beholder.parts.blocks.attention import Attention
from beholder.parts.blocks.mlp import FeedForward
from beholder.parts.blocks.norms import Norm
from beholder.parts.language.text_encoder import TextEncoder
from beholder.weights.layouts.text import TEXT_TOWER
from beholder.weights.readers.fields import Fields
from beholder.weights.readers.read import Read, Readers, activation_name


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
    fields.raw("tie_word_embeddings")  # a tower has no output matrix to tie
    projection = fields.count("projection_dim", 512)
    sizes = {"vocab": 49408, "dim": 512, "hidden": 2048, "heads": 8, "context": 77}
    tower = _text_tower(fields, **sizes, act="quick_gelu", eps=1e-5)
    tower = replace(tower, pool="highest" if end_id == 2 else "end", end_id=end_id, projection=projection)
    return Read(tower, TEXT_TOWER, body=("text_model.",))


def _siglip_text(fields: Fields) -> Read[TextEncoder]:
    sizes = {"vocab": 32000, "dim": 768, "hidden": 3072, "heads": 12, "context": 64}
    tower = _text_tower(fields, **sizes, act="gelu_tanh", eps=1e-6)
    width = fields.count("projection_size", tower.dim)
    tower = replace(tower, causal=False, pool="last", projection=width, projection_bias=True)
    return Read(tower, TEXT_TOWER, body=("text_model.",))


READERS: Readers = {"clip_text_model": _clip_text, "siglip_text_model": _siglip_text}
