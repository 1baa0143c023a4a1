"""Detectors."""

from __future__ import annotations

from beholder.weights.layout import Binding, Layout
from beholder.weights.layouts.rules import affine
from beholder.weights.layouts.text import BERT
from beholder.weights.layouts.vision import VIT
from beholder.weights.ops import Pointwise, Reshape, Split, Stack

# transformers: models/owlvit/modeling_owlvit.py, models/owlv2/modeling_owlv2.py
OWL_VIT = Layout(
    {key.replace("pre_layrnorm", "pre_layernorm"): own for key, own in VIT.rules.items()},
    name="transformers OWL-ViT",
)
OWL_HEADS = Layout(
    affine(
        {
            "class_head.dense0": "project",
            "class_head.logit_shift": "shift",
            "class_head.logit_scale": "gain",
            **{f"box_head.dense{number}": f"box.layers.{number}" for number in range(3)},
            **{f"objectness_head.dense{number}": f"objectness.layers.{number}" for number in range(3)},
        }
    ),
    name="transformers OWL-ViT heads",
)


def glip(num_layers: int) -> tuple[Binding, ...]:
    """microsoft/GLIP: maskrcnn_benchmark/modeling, with a tower of so many layers. Its head of fixed classes, which grounding
    leaves unused, and what can be computed are dropped.
    """
    heads = "heads.0."
    return (
        Binding("backbone.body.", "branches.image.vision.", GLIP_SWIN),
        Binding("backbone.fpn.", "branches.image.vision.", GLIP_PYRAMID),
        Binding("language_backbone.body.model.", "languages.main.", BERT),
        *(
            Binding(f"rpn.head.dyhead_tower.{3 * layer + part}.", f"{heads}tower.{layer}.{own}.", layout)
            for layer in range(num_layers)
            for part, (own, layout) in enumerate(GLIP_TOWER)
        ),
        Binding("rpn.", heads, GLIP_HEAD),
    )


_BLOCK, _OWN_BLOCK = "layers.{}.blocks.{}", "backbone.stages.{}.blocks.{}"
GLIP_SWIN = Layout(
    {
        **affine(
            {
                "patch_embed.proj": "backbone.stem.conv",
                "patch_embed.norm": "backbone.stem.norm",
                f"{_BLOCK}.norm1": f"{_OWN_BLOCK}.norm1",
                f"{_BLOCK}.attn.proj": f"{_OWN_BLOCK}.mixer.heads.out",
                f"{_BLOCK}.norm2": f"{_OWN_BLOCK}.norm2",
                f"{_BLOCK}.mlp.fc1": f"{_OWN_BLOCK}.mlp.up",
                f"{_BLOCK}.mlp.fc2": f"{_OWN_BLOCK}.mlp.down",
                **{f"norm{stage + 1}": f"norms.{stage}" for stage in range(3)},
                **{
                    f"layers.{stage}.downsample.norm": f"backbone.stages.{stage + 1}.down.norm"
                    for stage in range(3)
                },
            }
        ),
        **{
            f"{_BLOCK}.attn.qkv.{leaf}": Split(
                tuple(f"{_OWN_BLOCK}.mixer.heads.{part}.{leaf}" for part in ("q", "k", "v"))
            )
            for leaf in ("weight", "bias")
        },
        f"{_BLOCK}.attn.relative_position_bias_table": f"{_OWN_BLOCK}.mixer.bias.table",
        f"{_BLOCK}.attn.relative_position_index": None,
        **{
            f"layers.{stage}.downsample.reduction.weight": f"backbone.stages.{stage + 1}.down.linear.weight"
            for stage in range(3)
        },
        "norm0.weight": None,
        "norm0.bias": None,
    },
    name="GLIP Swin",
)
GLIP_PYRAMID = Layout(
    affine(
        {
            **{f"fpn_inner{number + 2}": f"lateral.{number}" for number in range(3)},
            **{f"fpn_layer{number + 2}": f"smooth.{number}" for number in range(3)},
            "top_blocks.p6": "coarser.0",
            "top_blocks.p7": "coarser.1",
        }
    ),
    name="GLIP feature pyramid",
)
_FUSE = Layout(
    {
        **affine(
            {
                "b_attn.layer_norm_v": "image_norm",
                "b_attn.layer_norm_l": "text_norm",
                "b_attn.attn.v_proj": "image_key",
                "b_attn.attn.l_proj": "text_key",
                "b_attn.attn.values_v_proj": "image_value",
                "b_attn.attn.values_l_proj": "text_value",
                "b_attn.attn.out_v_proj": "image_out",
                "b_attn.attn.out_l_proj": "text_out",
            }
        ),
        "b_attn.gamma_v": "image_scale",
        "b_attn.gamma_l": "text_scale",
    },
    name="GLIP fusion",
)
_TEXT = Layout(
    affine(
        {
            **{f"attention.self.{name}": f"attn.{name[0]}" for name in ("query", "key", "value")},
            "attention.output.dense": "attn.out",
            "attention.output.LayerNorm": "after1",
            "intermediate.dense": "mlp.up",
            "output.dense": "mlp.down",
            "output.LayerNorm": "after2",
        }
    ),
    name="GLIP text layer",
)
_LEVELS = Layout(
    affine(
        {
            **{
                f"DyConv.{number}.{part}": f"{own}.{name}"
                for number, own in enumerate(("above", "same", "below"))
                for part, name in (("conv", "conv"), ("bn", "norm"))
            },
            "offset": "offset",
            "AttnConv.1": "weight",
            "relu.fc.0": "relu.up",
            "relu.fc.2": "relu.down",
        }
    ),
    name="GLIP dynamic head",
)
GLIP_TOWER = (("fuse", _FUSE), ("text", _TEXT), ("levels", _LEVELS))
GLIP_HEAD = Layout(
    {
        **{
            f"head.{key}.weight": Pointwise(f"{own}.weight")
            for key, own in (("bbox_pred", "box"), ("centerness", "centred"))
        },
        "head.bbox_pred.bias": "box.bias",
        "head.centerness.bias": "centred.bias",
        **affine({"head.dot_product_projection_text": "project"}),
        "head.scales.{}.scale": Stack("scales", 5),
        "head.log_scale": Reshape("log_scale", (1,)),
        "head.bias_lang": "word_bias",
        "head.bias0": Reshape("bias", (1,)),
        "head.cls_logits.*": None,
        "anchor_generator.*": None,
    },
    name="GLIP head",
)
