"""Vision transformers."""

from __future__ import annotations

from beholder.weights.layout import Layout
from beholder.weights.layouts.rules import affine
from beholder.weights.layouts.text import CLIP_LAYERS
from beholder.weights.ops import Reshape, Split

# transformers: models/clip/modeling_clip.py, models/siglip/modeling_siglip.py, models/idefics3/modeling_idefics3.py
VIT = Layout(
    {
        "embeddings.class_embedding": "cls",
        "embeddings.position_embedding.weight": "positions",
        "embeddings.position_ids": None,
        "head.probe": Reshape("pool.probe", (1, 1, -1)),
        "head.attention.in_proj_weight": Split(
            ("pool.attn.q.weight", "pool.attn.k.weight", "pool.attn.v.weight")
        ),
        "head.attention.in_proj_bias": Split(("pool.attn.q.bias", "pool.attn.k.bias", "pool.attn.v.bias")),
        **CLIP_LAYERS,
        **affine(
            {
                "embeddings.patch_embedding": "patch",
                "pre_layrnorm": "pre_norm",
                "post_layernorm": "post_norm",
                "head.attention.out_proj": "pool.attn.out",
                "head.layernorm": "pool.norm",
                "head.mlp.fc1": "pool.mlp.up",
                "head.mlp.fc2": "pool.mlp.down",
            }
        ),
    },
    name="transformers ViT",
)
