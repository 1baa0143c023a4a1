"""Systems with several encoders in one branch."""

from __future__ import annotations

from beholder.weights.layout import Layout
from beholder.weights.layouts.rules import affine

ALIGNER = Layout(
    affine({"linear1": "layers.0", "linear2": "layers.1"}), name="transformers DeepSeek-VL aligner"
)
# Ways 0 and 1 read details and the whole
HYBRID_ALIGNER = Layout(
    affine(
        {
            "aligner.high_res_vision_proj": "ways.0.linear.linear",
            "aligner.vision_proj": "ways.1.linear",
            "aligner.proj": "then.layers.0",
        }
    ),
    name="transformers DeepSeek-VL hybrid aligner",
)
HYBRID_DETAILS = Layout(
    {
        "high_res_vision_alpha": "share",
        **{f"high_res_vision_neck.conv{n + 1}.weight": f"neck.convs.{n}.weight" for n in range(2)},
        **affine({f"high_res_vision_neck.layer_norm{n + 1}": f"neck.norms.{n}" for n in range(2)}),
        **{f"high_res_vision_proj.conv{n + 1}.weight": f"convs.{n}.weight" for n in range(2)},
    },
    name="transformers DeepSeek-VL hybrid details",
)
# deepseek-ai/DeepSeek-VL: deepseek_vl/models/sam.py, projector.py, and clip_encoder.py, whose norms are never called
DEEPSEEK_DETAILS = Layout(
    {
        "hd_alpha_downsamples": "share",
        **{f"downsamples.{n}.weight": f"convs.{n}.weight" for n in range(2)},
        **{f"neck_hd.{2 * n}.weight": f"neck.convs.{n}.weight" for n in range(2)},
        **affine({f"neck_hd.{2 * n + 1}": f"neck.norms.{n}" for n in range(2)}),
    },
    name="DeepSeek-VL details",
)
DEEPSEEK_HYBRID_ALIGNER = Layout(
    affine(
        {
            "high_up_proj": "ways.0.linear.linear",
            "low_up_proj": "ways.1.linear",
            "layers.1": "then.layers.0",
        }
    ),
    name="DeepSeek-VL hybrid aligner",
)
DEEPSEEK_UNREAD = Layout(
    {"high_layer_norm.*": None, "low_layer_norm.*": None}, name="DeepSeek-VL unread norms"
)


def deepseek_aligner(depth: int) -> Layout:
    """So many matrices, numbered with the activations between them."""
    return Layout(
        affine({f"layers.{2 * n}": f"layers.{n}" for n in range(depth)}), name="DeepSeek-VL aligner"
    )


# Ucas-HaoranWei/Vary: vary/model/vary_qwen_vary.py and vision_encoder/sam.py. Ways 0 and 1 read the whole and details
VARY_PROJECTORS = Layout(
    affine({"mm_projector": "ways.0.linear", "mm_projector_vary": "ways.1.linear.linear"}),
    name="Vary projectors",
)
VARY_DETAILS = Layout(
    {f"net_{n + 2}.weight": f"convs.{n}.weight" for n in range(2)}, name="Vary convolutions"
)
