"""BLIP's picture encoder and its text transformer."""

from __future__ import annotations

from beholder.weights.layout import Layout
from beholder.weights.layouts.rules import affine
from beholder.weights.layouts.text import BERT
from beholder.weights.ops import Leading, Split, Tied

# transformers: models/blip/modeling_blip.py, models/blip_2/modeling_blip_2.py
VIT = Layout(
    {
        "embeddings.class_embedding": Leading("cls", 2),
        "embeddings.position_embedding": Leading("positions"),
        **affine({"embeddings.patch_embedding": "patch", "post_layernorm": "post_norm"}),
        **{
            f"encoder.layers.{{}}.self_attn.qkv.{leaf}": Split(
                tuple(f"blocks.{{}}.attn.{part}.{leaf}" for part in ("q", "k", "v"))
            )
            for leaf in ("weight", "bias")
        },
        **affine(
            {
                f"encoder.layers.{{}}.{key}": f"blocks.{{}}.{own}"
                for key, own in {
                    "self_attn.projection": "attn.out",
                    "layer_norm1": "norm1",
                    "layer_norm2": "norm2",
                    "mlp.fc1": "mlp.up",
                    "mlp.fc2": "mlp.down",
                }.items()
            }
        ),
    },
    name="transformers BLIP ViT",
)
CROSS = affine(
    {
        f"encoder.layer.{{}}.crossattention.{key}": f"blocks.{{}}.{own}"
        for key, own in {
            "self.query": "cross.q",
            "self.key": "cross.k",
            "self.value": "cross.v",
            "output.dense": "cross.out",
            "output.LayerNorm": "cross_after",
        }.items()
    }
)
# transformers: models/blip/modeling_blip_text.py
TEXT = BERT.but({**CROSS, "embeddings.position_ids": None}, name="transformers BLIP text")
# `BlipTextOnlyMLMHead`, relative to the decoder
WORDS = Layout(
    {
        **affine({"transform.dense": "transform.dense", "transform.LayerNorm": "transform.norm"}),
        "bias": "head_bias",
        "decoder.bias": Tied("head_bias"),
        "decoder.weight": Tied("embedding.weight"),
    },
    name="transformers BLIP words",
)
