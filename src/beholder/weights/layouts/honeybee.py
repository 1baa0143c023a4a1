"""Honeybee's abstractors, as khanrc/honeybee honeybee/projectors has them; their blocks are timm's and transformers' own."""

from __future__ import annotations

from beholder.weights.layout import Layout
from beholder.weights.layouts.detectors import deformable
from beholder.weights.layouts.rules import Rules, affine, inside, pointwise
from beholder.weights.ops import Behind, Leading

# timm: models/regnet.py `Bottleneck`, the first of a stage with another number of channels
_BLOCK: Rules = {
    **{
        f"{key}.conv.weight": f"{own}.conv.weight"
        for key, own in (*((f"conv{n}", f"conv{n}") for n in (1, 2, 3)), ("downsample", "shortcut"))
    },
    **affine({**{f"conv{n}.bn": f"conv{n}.norm" for n in (1, 2, 3)}, "downsample.bn": "shortcut.norm"}),
    **pointwise({"se.fc1": "gate.down", "se.fc2": "gate.up"}),
}


def c_abstractor(depth: int, readout: int, *, with_cls: bool = False) -> Layout:
    """`depth` blocks on each side and so many matrices behind. with_cls: the table has a place for the class token too."""
    rules: Rules = {"pos_emb": Leading(Behind("positions")) if with_cls else Leading("positions")}
    for side, own in (("net.0", "before"), ("net.2", "behind")):
        for block in range(depth):
            rules |= inside(_BLOCK, f"{side}.b{block + 1}.", f"{own}.{block}.")
    rules |= affine({f"readout.{2 * n}": f"readout.layers.{n}" for n in range(readout)})
    return Layout(rules, name="Honeybee C-Abstractor")


# transformers: models/deformable_detr/modeling_deformable_detr.py `DeformableDetrDecoderLayer`
D_ABSTRACTOR = Layout(
    {
        "v_pos_emb": Leading("positions"),
        "query_position_embeddings.weight": "queries",
        "reference_points": Leading("places"),
        **affine({"output_proj": "project"}),
        **inside(
            affine(
                {
                    **{f"self_attn.{key}_proj": f"attn.{key}" for key in ("q", "k", "v", "out")},
                    "self_attn_layer_norm": "after1",
                    **deformable("encoder_attn", "cross"),
                    "encoder_attn_layer_norm": "cross_after",
                    "fc1": "mlp.up",
                    "fc2": "mlp.down",
                    "final_layer_norm": "after2",
                }
            ),
            "layers.{}.",
            "blocks.{}.",
        ),
    },
    name="Honeybee D-Abstractor",
)
