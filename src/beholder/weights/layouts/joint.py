"""Encoders of words and features together."""

from __future__ import annotations

from beholder.weights.layout import Layout
from beholder.weights.layouts.rules import affine
from beholder.weights.ops import Leading

# transformers: models/visual_bert/modeling_visual_bert.py
VISUAL_MARKS = Layout(
    {
        "visual_token_type_embeddings.weight": "segments",
        "visual_position_embeddings.weight": "positions",
    },
    name="transformers VisualBERT places and kinds of regions",
)

# transformers: models/vilt/modeling_vilt.py
VILT_WORDS = Layout(
    {
        "word_embeddings.weight": "weight",
        "position_embeddings.weight": "positions",
        "token_type_embeddings.weight": "segments",
        "position_ids": None,
        **affine({"LayerNorm": "norm"}),
    },
    name="transformers ViLT words",
)
VILT_PATCHES = Layout(
    {
        "cls_token": Leading("cls", 2),
        "position_embeddings": Leading("positions"),
        **affine({"patch_embeddings.projection": "patch"}),
    },
    name="transformers ViLT patches",
)
VILT_LAYERS = Layout(
    affine(
        {
            **{
                f"encoder.layer.{{}}.{key}": f"blocks.{{}}.{own}"
                for key, own in {
                    "layernorm_before": "norm1",
                    "attention.attention.query": "attn.q",
                    "attention.attention.key": "attn.k",
                    "attention.attention.value": "attn.v",
                    "attention.output.dense": "attn.out",
                    "layernorm_after": "norm2",
                    "intermediate.dense": "mlp.up",
                    "output.dense": "mlp.down",
                }.items()
            },
            "layernorm": "norm",
            "pooler.dense": "projection",
        }
    ),
    name="transformers ViLT layers",
)
VILT_KINDS = Layout({"token_type_embeddings.weight": "segments"}, name="transformers ViLT kinds")
WIDE_ANSWERS = Layout(affine({"0": "up", "1": "norm", "3": "linear"}), name="transformers ViLT answers")

# transformers: models/flava/modeling_flava.py, whose towers have ViLT's names; of the mixed layers
FLAVA_MIXED = Layout(
    {
        "multimodal_model.cls_token": Leading("cls", 2),
        **{f"multimodal_model.{key}": own for key, own in VILT_LAYERS.rules.items() if "pooler" not in key},
        **affine(
            {
                "multimodal_model.pooler.dense": "pool",
                "image_to_mm_projection": "image_in",
                "text_to_mm_projection": "text_in",
                "image_projection": "image_out",
                "text_projection": "text_out",
            }
        ),
        "logit_scale": "scale",
    },
    name="transformers FLAVA mixed layers",
)
