"""Convolutional encoders."""

from __future__ import annotations

from beholder.weights.layout import Layout
from beholder.weights.layouts.rules import affine, conv_norms

# efficientnet_lite_pytorch: model.py
EFFICIENTNET_LITE = Layout(
    {
        **conv_norms(
            {
                "stem": ("_conv_stem", "_bn0"),
                "blocks.{}.expand": ("_blocks.{}._expand_conv", "_blocks.{}._bn0"),
                "blocks.{}.depthwise": ("_blocks.{}._depthwise_conv", "_blocks.{}._bn1"),
                "blocks.{}.project": ("_blocks.{}._project_conv", "_blocks.{}._bn2"),
                "last": ("_conv_head", "_bn1"),
            }
        ),
        **affine({"_fc": "classifier"}),
    },
    name="efficientnet_lite_pytorch",
)
