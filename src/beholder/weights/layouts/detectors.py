"""Detectors."""

from __future__ import annotations

from beholder.weights.layout import Layout
from beholder.weights.layouts.rules import affine
from beholder.weights.layouts.vision import VIT

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
