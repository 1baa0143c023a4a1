"""Florence-2's connector."""

from __future__ import annotations

from beholder.weights.layout import Layout
from beholder.weights.layouts.rules import affine
from beholder.weights.ops import Transpose

# transformers: models/florence2/modeling_florence2.py `Florence2MultiModalProjector`
PROJECTOR = Layout(
    {
        "image_position_embed.row_embeddings.weight": "rows",
        "image_position_embed.column_embeddings.weight": "columns",
        "visual_temporal_embed.pos_idx_to_embed": "frames",
        "image_projection.weight": "linear.linear.weight",
        **affine({"image_proj_norm": "norm"}),
    },
    name="transformers Florence-2 projector",
)
# microsoft/Florence-2-base: modeling_florence2.py `Florence2ForConditionalGeneration`
OWN_PROJECTOR = Layout(
    {
        "image_pos_embed.row_embeddings.weight": "rows",
        "image_pos_embed.column_embeddings.weight": "columns",
        "visual_temporal_embed.pos_idx_to_embed": "frames",
        "image_projection": Transpose("linear.linear.weight"),
        **affine({"image_proj_norm": "norm"}),
    },
    name="microsoft Florence-2 projector",
)
