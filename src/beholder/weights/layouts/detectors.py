"""Detectors."""

from __future__ import annotations

from beholder.weights.layout import Binding, Layout
from beholder.weights.layouts.hierarchical import SWIN
from beholder.weights.layouts.rules import Rules, affine, inside
from beholder.weights.layouts.text import BERT
from beholder.weights.layouts.vision import VIT
from beholder.weights.ops import Pointwise, Reshape, Split, Stack, Tied

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


def _attend(key: str, own: str) -> dict[str, str]:
    names = {"query": "q", "key": "k", "value": "v", "out_proj": "out"}
    return {f"{key}.{theirs}": f"{own}.{ours}" for theirs, ours in names.items()}


def deformable(key: str, own: str) -> dict[str, str]:
    """Names of a deformable attention, as `affine` takes them."""
    names = {
        "sampling_offsets": "offsets",
        "attention_weights": "weights",
        "value_proj": "values",
        "output_proj": "out",
    }
    return {f"{key}.{theirs}": f"{own}.{ours}" for theirs, ours in names.items()}


def grounding_dino_levels(stages: int, levels: int) -> Layout:
    """transformers: models/grounding_dino/modeling_grounding_dino.py, of the backbone and of what makes its last `stages` into
    so many levels.
    """
    body = "backbone.conv_encoder.model."
    swin = {f"swin.{key}" if key.startswith("layernorm.") else key: op for key, op in SWIN.rules.items()}
    pairs: dict[str, str] = {}
    for level in range(levels):
        own = f"lateral.{level}" if level < stages else f"coarser.{level - stages}"
        pairs |= {f"input_proj_vision.{level}.0": own, f"input_proj_vision.{level}.1": f"level_norms.{level}"}
    pairs |= {f"{body}hidden_states_norms.stage{5 - stages + n}": f"norms.{n}" for n in range(stages)}
    return Layout(
        {**inside(swin, body, "backbone."), **affine(pairs)}, name="transformers Grounding DINO levels"
    )


GROUNDING_DINO = Layout(
    {
        "level_embed": "level",
        "query_position_embeddings.weight": "queries",
        **affine(
            {
                "text_projection": "project",
                "enc_output": "propose",
                "enc_output_norm": "propose_norm",
                "encoder_output_bbox_embed.layers.{}": "first_box.layers.{}",
                "decoder.reference_points_head.layers.{}": "place.layers.{}",
                "decoder.layer_norm": "norm",
            }
        ),
        **inside(
            {
                "fusion_layer.vision_param": "fuse.image_scale",
                "fusion_layer.text_param": "fuse.text_scale",
                **affine(
                    {
                        "fusion_layer.layer_norm_vision": "fuse.image_norm",
                        "fusion_layer.layer_norm_text": "fuse.text_norm",
                        "fusion_layer.attn.vision_proj": "fuse.image_key",
                        "fusion_layer.attn.text_proj": "fuse.text_key",
                        "fusion_layer.attn.values_vision_proj": "fuse.image_value",
                        "fusion_layer.attn.values_text_proj": "fuse.text_value",
                        "fusion_layer.attn.out_vision_proj": "fuse.image_out",
                        "fusion_layer.attn.out_text_proj": "fuse.text_out",
                        **_attend("text_enhancer_layer.self_attn", "attn"),
                        "text_enhancer_layer.layer_norm_before": "norm1",
                        "text_enhancer_layer.layer_norm_after": "norm2",
                        "text_enhancer_layer.fc1": "mlp.layers.0",
                        "text_enhancer_layer.fc2": "mlp.layers.1",
                        **deformable("deformable_layer.self_attn", "cells.attn"),
                        "deformable_layer.self_attn_layer_norm": "cells.norm1",
                        "deformable_layer.final_layer_norm": "cells.norm2",
                        "deformable_layer.fc1": "cells.mlp.layers.0",
                        "deformable_layer.fc2": "cells.mlp.layers.1",
                    }
                ),
            },
            "encoder.layers.{}.",
            "layers.{}.",
        ),
        **inside(
            affine(
                {
                    **_attend("self_attn", "attn"),
                    "self_attn_layer_norm": "norm1",
                    **_attend("encoder_attn_text", "look"),
                    "encoder_attn_text_layer_norm": "norm2",
                    **deformable("encoder_attn", "near"),
                    "encoder_attn_layer_norm": "norm3",
                    "fc1": "mlp.layers.0",
                    "fc2": "mlp.layers.1",
                    "final_layer_norm": "norm4",
                }
            ),
            "decoder.layers.{}.",
            "decoders.{}.",
        ),
    },
    name="transformers Grounding DINO",
)


def grounding_dino_heads(decoders: int, *, scaled: bool) -> Layout:
    """The one map to boxes, which files may hold for each of so many decoder layers and twice, and the biases of scores."""
    rules: Rules = {}
    for outer in ("", "model.decoder."):
        for number in range(decoders):
            for leaf in ("weight", "bias"):
                own = f"box.layers.{{}}.{leaf}"
                first = not outer and number == 0
                rules[f"{outer}bbox_embed.{number}.layers.{{}}.{leaf}"] = own if first else Tied(own)
    if scaled:
        rules["model.encoder_output_class_embed.bias"] = "first_bias"
        rules |= {f"class_embed.{n}.bias": Tied("bias") if n else "bias" for n in range(decoders)}
    return Layout(rules, name="transformers Grounding DINO heads")


def clipseg(*, refined: bool) -> Layout:
    """transformers: models/clipseg/modeling_clipseg.py `CLIPSegDecoder`."""
    ends = {"0": "smooth", "2": "enlarge.0", "4": "enlarge.1"}
    pairs = {f"transposed_convolution.{key}": own for key, own in ends.items()}
    return Layout(
        affine(
            {
                "film_mul": "gain",
                "film_add": "shift",
                "reduces.{}": "reduce.{}",
                **(pairs if refined else {"transposed_convolution": "enlarge.0"}),
                **{
                    f"layers.{{}}.{key}": f"blocks.{{}}.{own}"
                    for key, own in {
                        **{f"self_attn.{part}_proj": f"attn.{part}" for part in ("q", "k", "v")},
                        "self_attn.out_proj": "attn.out",
                        "layer_norm1": "after1",
                        "mlp.fc1": "mlp.up",
                        "mlp.fc2": "mlp.down",
                        "layer_norm2": "after2",
                    }.items()
                },
            }
        ),
        name="transformers CLIPSeg decoder",
    )
