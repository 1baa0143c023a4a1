"""Encoders of words and features together."""

from __future__ import annotations

from beholder.weights.layout import Layout

# transformers: models/visual_bert/modeling_visual_bert.py
VISUAL_MARKS = Layout(
    {
        "visual_token_type_embeddings.weight": "segments",
        "visual_position_embeddings.weight": "positions",
    },
    name="transformers VisualBERT places and kinds of regions",
)
