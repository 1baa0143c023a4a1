"""Moondream 2, as vikhyat/moondream moondream/torch builds it; its weights.py has the names of older code (`OLDER_...`)."""

from __future__ import annotations

from beholder.weights.layout import Layout
from beholder.weights.layouts.rules import affine, joined
from beholder.weights.layouts.vision import TIMM_VIT
from beholder.weights.ops import Leading, Reshape, Transpose

_PATCH = Reshape("patch.weight", (-1, "patch_values"))  # numbers: patch_values
VISION = Layout(
    {
        "patch_emb.weight": _PATCH,
        "patch_emb.bias": "patch.bias",
        "pos_emb": Leading("positions"),
        **joined("blocks.{}.attn.qkv.", "blocks.{}.attn"),
        **affine(
            {
                "blocks.{}.ln1": "blocks.{}.norm1",
                "blocks.{}.ln2": "blocks.{}.norm2",
                "blocks.{}.attn.proj": "blocks.{}.attn.out",
                "blocks.{}.mlp.fc1": "blocks.{}.mlp.up",
                "blocks.{}.mlp.fc2": "blocks.{}.mlp.down",
                "post_ln": "post_norm",
            }
        ),
    },
    name="Moondream ViT",
)
OLDER_VISION = Layout(
    {
        **{key: op for key, op in TIMM_VIT.rules.items() if not key.startswith("patch_embed.")},
        "patch_embed.linear.weight": _PATCH,
        "patch_embed.linear.bias": "patch.bias",
    },
    name="older Moondream ViT",
)
PROJECTION = Layout(affine({"fc1": "layers.0", "fc2": "layers.1"}), name="Moondream projection")
TEXT = Layout(
    {
        "wte": "embedding.weight",
        **{f"blocks.{{}}.kv_cache.{key}_cache": None for key in "kv"},
        **joined("blocks.{}.attn.qkv.", "blocks.{}.attn"),
        **affine(
            {
                "blocks.{}.ln": "blocks.{}.norm1",
                "blocks.{}.attn.proj": "blocks.{}.attn.out",
                "blocks.{}.mlp.fc1": "blocks.{}.mlp.up",
                "blocks.{}.mlp.fc2": "blocks.{}.mlp.down",
                "post_ln": "norm",
                "lm_head": "head",
            }
        ),
    },
    name="Moondream text",
)
REGION = Layout(
    {
        "coord_features": "coordinate_waves",
        "size_features": "size_waves",
        **affine(
            {
                "coord_encoder": "coordinate_in",
                "coord_decoder.fc1": "coordinate.up",
                "coord_decoder.fc2": "coordinate.down",
                "size_encoder": "size_in",
                "size_decoder.fc1": "size.up",
                "size_decoder.fc2": "size.down",
            }
        ),
    },
    name="Moondream region",
)
OLDER_REGION = Layout(
    {
        "coordinate_features.weight": Transpose("coordinate_waves"),
        "size_features.weight": Transpose("size_waves"),
        **{
            key.replace("coord_", "coordinate_"): op
            for key, op in REGION.rules.items()
            if "features" not in key
        },
    },
    name="older Moondream region",
)
