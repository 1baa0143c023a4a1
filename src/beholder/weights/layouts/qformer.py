"""Q-Formers."""

from __future__ import annotations

from beholder.weights.layout import Layout
from beholder.weights.layouts.rules import affine

_LAYER = {
    **{f"attention.attention.{key}": f"attn.{key[0]}" for key in ("query", "key", "value")},
    "attention.output.dense": "attn.out",
    "attention.output.LayerNorm": "after1",
    **{f"crossattention.attention.{key}": f"cross.{key[0]}" for key in ("query", "key", "value")},
    "crossattention.output.dense": "cross.out",
    "crossattention.output.LayerNorm": "cross_after",
    "intermediate_query.dense": "mlp.up",
    "output_query.dense": "mlp.down",
    "output_query.LayerNorm": "after2",
    "intermediate.dense": "words_mlp.up",
    "output.dense": "words_mlp.down",
    "output.LayerNorm": "words_after2",
}
# transformers: models/blip_2/modeling_blip_2.py `Blip2QFormerModel`
QFORMER = Layout(
    affine(
        {
            "layernorm": "norm",
            **{f"encoder.layer.{{}}.{key}": f"blocks.{{}}.{own}" for key, own in _LAYER.items()},
        }
    ),
    name="transformers Q-Former",
)
