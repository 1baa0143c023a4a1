"""Text towers and encoders."""

from __future__ import annotations

from beholder.weights.layout import Layout
from beholder.weights.layouts.rules import affine

CLIP_LAYERS = affine(
    {
        "encoder.layers.{}.layer_norm1": "blocks.{}.norm1",
        "encoder.layers.{}.self_attn.q_proj": "blocks.{}.attn.q",
        "encoder.layers.{}.self_attn.k_proj": "blocks.{}.attn.k",
        "encoder.layers.{}.self_attn.v_proj": "blocks.{}.attn.v",
        "encoder.layers.{}.self_attn.out_proj": "blocks.{}.attn.out",
        "encoder.layers.{}.layer_norm2": "blocks.{}.norm2",
        "encoder.layers.{}.mlp.fc1": "blocks.{}.mlp.up",
        "encoder.layers.{}.mlp.fc2": "blocks.{}.mlp.down",
    }
)

TEXT_TOWER = Layout(
    {
        "embeddings.token_embedding.weight": "embedding.weight",
        "embeddings.position_embedding.weight": "embedding.positions",
        "embeddings.position_ids": None,
        **CLIP_LAYERS,
        **affine({"final_layer_norm": "norm", "head": "projection"}),
    },
    name="transformers text tower",
)
