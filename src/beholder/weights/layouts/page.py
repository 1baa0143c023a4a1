"""Readers of pages with words: transformers' models/layoutlmv3/modeling_layoutlmv3.py."""

from __future__ import annotations

from beholder.weights.layout import Layout
from beholder.weights.layouts.rules import affine
from beholder.weights.layouts.text import BERT
from beholder.weights.ops import Transpose

LAYOUTLMV3 = Layout(
    {
        **{key: op for key, op in BERT.rules.items() if "pooler" not in key},
        **affine({"LayerNorm": "joint_norm"}),
        "embeddings.x_position_embeddings.weight": "across",
        "embeddings.y_position_embeddings.weight": "down",
        "embeddings.h_position_embeddings.weight": "heights",
        "embeddings.w_position_embeddings.weight": "widths",
        "encoder.rel_pos_bias.weight": Transpose("numbers.weight"),
        "encoder.rel_pos_x_bias.weight": Transpose("left.weight"),
        "encoder.rel_pos_y_bias.weight": Transpose("lower.weight"),
        "visual_bbox": None,
    },
    name="transformers LayoutLMv3 words",
)
