"""Phi-4-multimodal."""

from __future__ import annotations

from beholder.weights.layout import Layout
from beholder.weights.layouts.rules import QKV, affine, joined
from beholder.weights.ops import Leading

# transformers: models/phi4_multimodal/modeling_phi4_multimodal.py
PICTURES = Layout(
    {
        "global_img_feature_extensor": Leading("then.separator", 2),
        "sub_img_feature_extensor": Leading("then.row_break", 3),
        **affine({"img_projection_up": "then.then.layers.0", "img_projection_down": "then.then.layers.1"}),
    },
    name="transformers Phi-4-multimodal projector of pictures",
)
SOUNDS = Layout(
    affine(
        {
            f"{way}_proj_for_{kind}": f"{own}.layers.{number}"
            for kind, own in (("speech", "alone"), ("vision_speech", "beside"))
            for number, way in enumerate(("up", "down"))
        }
    ),
    name="transformers Phi-4-multimodal projector of sounds",
)
_LAYER = "encoders.{}."
ENCODER = Layout(
    {
        "encoder_embedding.global_mean": "stem.mean",
        "encoder_embedding.global_invstd": "stem.inverse_std",
        "relative_attention_bias_layer.bias_values.weight": "bias.weight",
        **affine({"embed.conv.0": "stem.first", "embed.out": "stem.join"}),
        **affine(
            {
                f"embed.conv.{3 * step + place}": f"stem.{kind}.{step}"
                for step in range(4)
                for place, kind in ((2, "depthwise"), (3, "pointwise"))
            }
        ),
        f"{_LAYER}conv.glu.b1": Leading("blocks.{}.conv.up_bias"),
        f"{_LAYER}conv.glu.b2": Leading("blocks.{}.conv.gate_bias"),
        **affine(
            {
                f"{_LAYER}{key}": f"blocks.{{}}.{own}"
                for key, own in {
                    "feed_forward_in.layer_norm": "norm1",
                    "feed_forward_in.down_proj": "mlp1.down",
                    "layer_norm_att": "norm2",
                    **{f"self_attn.{part}_proj": f"attn.{part}" for part in QKV},
                    "self_attn.o_proj": "attn.out",
                    "conv.layer_norm": "conv.norm",
                    "conv.glu.ext_pw_conv_1d": "conv.up",
                    "conv.dw_sep_conv_1d.dw_conv": "conv.depthwise",
                    "conv.dw_sep_conv_1d.pw_conv": "conv.pointwise",
                    "conv.ext_pw_conv_1d": "conv.down",
                    "feed_forward_out.layer_norm": "norm3",
                    "feed_forward_out.down_proj": "mlp2.down",
                    "layer_norm": "after",
                }.items()
            }
        ),
        **joined(f"{_LAYER}feed_forward_in.gate_up_proj.", "blocks.{}.mlp1", ("up", "gate")),
        **joined(f"{_LAYER}feed_forward_out.gate_up_proj.", "blocks.{}.mlp2", ("up", "gate")),
    },
    name="transformers Phi-4-multimodal encoder of sounds",
)
