"""Single matrices, heads, connectors and fusions."""

from __future__ import annotations

from beholder.weights.layout import Layout
from beholder.weights.layouts.rules import affine
from beholder.weights.ops import Reshape, Tied

WEIGHT = Layout({"weight": "weight"}, name="one matrix")
AFFINE = Layout({"weight": "weight", "bias": "bias"}, name="one affine map")
HEAD_BIAS = Layout({"bias": "head_bias"}, name="bias of a tied output matrix")
TIED_HEAD = Layout({"weight": Tied("embedding.weight")}, name="tied output matrix")
LLAVA_PROJECTOR = Layout(
    affine({"linear_1": "layers.0", "linear_2": "layers.1"}), name="transformers LLaVA projector"
)
IDEFICS3_CONNECTOR = Layout(
    {"modality_projection.proj.weight": "linear.weight"}, name="transformers Idefics3 connector"
)
PIXEL_DECODER = Layout({"decoder.*": None}, name="MAE's decoder of pixels, which pretraining alone uses")
CLIP_SCALE = Layout({"logit_scale": "scale"}, name="CLIP scale")
SIGLIP_SCALE = Layout(
    {"logit_scale": Reshape("scale", (1,)), "logit_bias": Reshape("bias", (1,))}, name="SigLIP scale and bias"
)
TEMPERATURE = Layout({"temperature": "scale"}, name="ALIGN temperature")
NEWLINE = Layout({"image_newline": "newline"}, name="LLaVA-NeXT row break")
