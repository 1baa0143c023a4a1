"""OMG-LLaVA under its authors' names (lxtGH/OMG-Seg omg_llava/omg_llava/model: omg_seg/mask2former_vid_semanticsam.py,
convnext_clip/openclip_backbone.py, modules/projector/modeling_projector.py; mmdet's and mmcv's modules inside). `weights/
omg_llava.py` says what stands under `region.` and `answer.`.
"""

from __future__ import annotations

from typing import Any

from beholder.weights.layout import Layout
from beholder.weights.layouts.hierarchical import TIMM_CONVNEXT
from beholder.weights.layouts.rules import Rules, affine, joined
from beholder.weights.ops import Leading

STAGES = 4


def _stage(key: str, op: Any, number: int) -> tuple[str, Any]:
    """A rule of one stage, of a rule of all."""
    own = op if isinstance(op, str) else op.target
    own = own.replace("stages.{}", f"stages.{number}", 1)
    key = key.replace("stages.{}", f"layer{number + 1}", 1)
    return key, own if isinstance(op, str) else type(op)(own)


BACKBONE = Layout(
    {
        **{key: op for key, op in TIMM_CONVNEXT.rules.items() if key.startswith("stem.")},
        **dict(
            _stage(key, op, number)
            for number in range(STAGES)
            for key, op in TIMM_CONVNEXT.rules.items()
            if key.startswith("stages.{}")
        ),
        **affine({"head.0.norm": "norm"}),
        "head.1.*": None,
    },
    name="OMG-Seg ConvNeXt",
)
PIXELS = Layout(
    {
        **affine(
            {
                "input_convs.{}.conv": "inputs.{}",
                "input_convs.{}.gn": "norms.{}",
                "lateral_convs.0.gn": "lateral_norm",
                "output_convs.0.gn": "smooth_norm",
                "mask_feature": "fine",
                **{
                    f"encoder.layers.{{}}.{key}": f"blocks.{{}}.{own}"
                    for key, own in {
                        "self_attn.sampling_offsets": "attn.offsets",
                        "self_attn.attention_weights": "attn.weights",
                        "self_attn.value_proj": "attn.values",
                        "self_attn.output_proj": "attn.out",
                        "ffn.layers.0.0": "mlp.layers.0",
                        "ffn.layers.1": "mlp.layers.1",
                        "norms.0": "norm1",
                        "norms.1": "norm2",
                    }.items()
                },
            }
        ),
        "lateral_convs.0.conv.weight": "lateral.weight",
        "output_convs.0.conv.weight": "smooth.weight",
        "level_encoding.weight": "level",
    },
    name="OMG-Seg pixel decoder",
)
_LAYER = {
    "cross_attn.attn.out_proj": "look.out",
    "self_attn.attn.out_proj": "attn.out",
    "ffn.layers.0.0": "mlp.layers.0",
    "ffn.layers.1": "mlp.layers.1",
    **{f"norms.{number}": f"norm{number + 1}" for number in range(3)},
}
_DECODER: Rules = {
    **affine(
        {
            **{f"transformer_decoder.layers.{{}}.{key}": f"layers.{{}}.{own}" for key, own in _LAYER.items()},
            "transformer_decoder.post_norm": "norm",
            **{f"mask_embed.{2 * number}": f"mask.layers.{number}" for number in range(3)},
        }
    ),
    **joined("transformer_decoder.layers.{}.cross_attn.attn.in_proj_", "layers.{}.look"),
    "level_embed.weight": "level",
}
DECODER = Layout(
    {**_DECODER, **joined("transformer_decoder.layers.{}.self_attn.attn.in_proj_", "layers.{}.attn")},
    name="OMG-Seg decoder",
)
ALONE = Layout(
    {**_DECODER, **affine({"transformer_decoder.layers.{}.self_attn.attn.v_proj": "layers.{}.attn.v"})},
    name="OMG-LLaVA decoder of single queries",
)
OBJECTS = Layout(
    {
        "query_embed.weight": "places",
        "query_feat.weight": "queries",
        "cls_embed": "classes",
        **affine(
            {
                "mask_pooling_proj.0": "pool_norm",
                "mask_pooling_proj.1": "pool",
                **{f"cls_proj.{2 * number}": f"project.layers.{number}" for number in range(3)},
            }
        ),
        # others are read under `region.` and `answer.`
        **{f"{name}.*": None for name in ("iou_embed", "pb_embedding", "mask_tokens")},
        **{f"{name}_llm.*": None for name in ("transformer_decoder", "mask_embed")},
        "logit_scale": None,
    },
    name="OMG-Seg queries and classes",
)
PROJECTOR = Layout(
    {
        **affine(
            {
                "query_proj": "widen",
                "model.0": "objects.layers.0",
                "model.2": "objects.layers.1",
                "model_feat.0": "pixels.layers.0",
                "model_feat.2": "pixels.layers.1",
            }
        ),
        "seperate_embed.weight": "separator",
    },
    name="OMG-LLaVA projector",
)
REGION = Layout(
    {
        **affine(
            {
                "projector.model.query_proj": "widen",
                "projector.model.model.0": "project.layers.0",
                "projector.model.model.2": "project.layers.1",
            }
        ),
        "pb_embedding": Leading("kind"),
        "mask_tokens": Leading("token"),
    },
    name="OMG-LLaVA regions",
)
REGION_PLACE = Layout(affine({"pos_linear": "place"}), name="OMG-LLaVA places of regions")
TO_QUERIES = Layout(affine({"0": "project.layers.0", "2": "project.layers.1"}), name="OMG-LLaVA [SEG] states")
