"""What systems grown from LLaVA's code have of their own, under their authors' names."""

from __future__ import annotations

from beholder.weights.layout import Layout
from beholder.weights.layouts.hierarchical import TIMM_CONVNEXT
from beholder.weights.layouts.rules import affine, inside
from beholder.weights.ops import Pointwise

# CircleRadon/Osprey: osprey/model/multimodal_encoder/clip.py (open_clip's `TimmModel`), osprey/model/layer.py
OSPREY_EYES = Layout({**inside(TIMM_CONVNEXT.rules, "trunk.", ""), "head.*": None}, name="Osprey ConvNeXt")
OSPREY_REGIONS = Layout(
    affine(
        {
            **{f"res{number + 2}": f"levels.{number}" for number in range(4)},
            "feat_linear": "linear",
            "mask_linear.layers.{}": "place.layers.{}",
        }
    ),
    name="Osprey mask extractor",
)
# apple/ml-ferret: ferret/model/ferret_arch.py, `GeoRegionSampler`
FERRET_REGIONS = Layout(
    {
        "agg_projector_list.{}.net.0.weight": Pointwise("blocks.{}.join.weight", axes=1),
        "agg_projector_list.{}.net.0.bias": "blocks.{}.join.bias",
        **affine(
            {
                "diff_projector_list.{}": "blocks.{}.difference",
                "agg_projector_list.{}.norm": "blocks.{}.norm",
                "flatten_projector": "flatten",
                "dim_projector": "linear",
            }
        ),
    },
    name="Ferret region sampler",
)
