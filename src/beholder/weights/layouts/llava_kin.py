"""What systems grown from LLaVA's code have of their own, under their authors' names."""

from __future__ import annotations

from beholder.weights.layout import Layout
from beholder.weights.layouts.hierarchical import TIMM_CONVNEXT
from beholder.weights.layouts.rules import Rules, affine, inside, joined
from beholder.weights.layouts.vision import EVA02_CLIP, TIMM_VIT, VIT
from beholder.weights.ops import Behind, Exchange, Leading, Pointwise

# torch's `Sequential` of two matrices
PERCEPTRON = Layout(affine({"0": "layers.0", "2": "layers.1"}), name="MLP of two matrices")
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

# dvlab-research/MGM: mgm/model/mgm_arch.py, multimodal_encoder/openclip_encoder.py
MGM_DETAILS = Layout(
    {f"vision_{key}": op for key, op in TIMM_CONVNEXT.rules.items() if key.startswith(("stem.", "stages."))},
    name="Mini-Gemini ConvNeXt",
)
MGM_MINING = Layout(
    affine(
        {
            f"vlm_uni_{theirs}_projector.{{}}": f"{ours}.{{}}"
            for theirs, ours in (("query", "query"), ("aux", "key"), ("val", "value"))
        }
    ),
    name="Mini-Gemini patch mining",
)

MOST = 8  # encoders of one system
# cambrian-mllm/cambrian: cambrian/model/{cambrian_arch,vision_sampler}.py
CAMBRIAN_LAYER: Rules = {
    **{
        f"{theirs}.weight": f"{ours}.weight"
        for theirs, ours in {
            "proj_context": "mean",
            "proj_in": "enter",
            "proj_out.linear_1": "up",
            "proj_out.linear_2": "down",
            "cross_attn.q_proj.1": "q.1",
            "cross_attn.o_proj": "out",
            **{f"cross_attn.{part}_proj_{n}.1": f"{part}.{n}.1" for part in "kv" for n in range(MOST)},
        }.items()
    },
    **affine(
        {
            "norm": "norm",
            "cross_attn.q_proj.0": "q.0",
            **{f"cross_attn.{part}_proj_{n}.0": f"{part}.{n}.0" for part in "kv" for n in range(MOST)},
        }
    ),
    **{f"pos_embed_{n}": f"positions.{n}" for n in range(MOST)},
}
CAMBRIAN_SAMPLER = Layout(
    {
        "vision_query": Leading("query"),
        **affine({f"mm_projector_aux_{n}.{{}}": f"inputs.{n}.{{}}" for n in range(MOST)}),
        **affine({"mm_projector.0": "then.layers.0", "mm_projector.2": "then.layers.1"}),
        **inside(CAMBRIAN_LAYER, "vision_sampler_0.layers.{}.", "layers.{}."),
    },
    name="Cambrian spatial vision aggregator",
)
CAMBRIAN_LAYERS = Layout(
    inside(CAMBRIAN_LAYER, "vision_sampler_layers.{}.layers.0.", "layers.{}.aggregate."),
    name="Cambrian aggregators between layers",
)
SIGLIP_TRUNK = TIMM_VIT.but({"attn_pool.*": None}, name="timm SigLIP without its pool")

# NVlabs/EAGLE: eagle/model/multimodal_encoder/{hr_clip,convnext}_encoder.py and vision_models/eva_vit.py
EAGLE_CLIP = Layout(
    {
        **{key: op for key, op in VIT.rules.items() if not key.startswith("post_layernorm")},
        "embeddings.class_embedding": None,
        "embeddings.position_embedding.weight": Behind("positions"),
        "post_layernorm.*": None,
    },
    name="EAGLE CLIP without a class token",
)
EAGLE_CONVNEXT = TIMM_CONVNEXT.but({"head.fc.weight": None, "head.fc.bias": None}, name="EAGLE ConvNeXt")
EAGLE_DETECTION = Layout(
    {
        **{key: op for key, op in EVA02_CLIP.rules.items() if not key.startswith(("cls_token", "norm."))},
        "pos_embed": Leading(Behind("positions")),
        **{f"rope_{kind}.*": None for kind in ("win", "glb")},
    },
    name="EAGLE EVA-02 of detection",
)
EAGLE_PROJECTOR = Layout(
    {
        **PERCEPTRON.rules,
        "0.weight": Exchange("layers.0.weight", "squares_at", "squares_dim", "squares_size"),
    },
    name="EAGLE projector, channels of SAM's squares by channel, then place",
)

# AIDC-AI/Parrot: parrot/model/moe_model/moe.py
PARROT_EXPERTS = Layout(
    {
        "gate.weight": "router.weight",
        **{
            f"experts.{{}}.{part}_proj.weight": f"experts.{{}}.{part}.weight"
            for part in ("gate", "up", "down")
        },
    },
    name="Parrot experts",
)
# OpenGVLab/VideoChat-Flash: multimodal_projector/tome16_mlp_hd64.py
TOKEN_MERGING = Layout(
    affine({"mlp.0": "then.layers.0", "mlp.2": "then.layers.1"}), name="VideoChat-Flash projector"
)

# NVlabs/VILA: llava/model/multimodal_projector/base_projector.py
VILA_DOWNSAMPLE = Layout(
    affine({"layers.1": "then.norm", "layers.2": "then.layers.0", "layers.4": "then.layers.1"}),
    name="VILA projector of squares",
)
VILA_MLP = Layout(affine({"layers.0": "layers.0", "layers.2": "layers.1"}), name="VILA projector")
VILA_LINEAR = Layout(affine({"layers": "linear"}), name="VILA matrix")
# RupertLuo/Valley: valley/model/valley_model.py; the layer is kept twice
_TORCH_LAYER = {
    "self_attn.out_proj": "attn.out",
    "linear1": "mlp.up",
    "linear2": "mlp.down",
    "norm1": "after1",
    "norm2": "after2",
}
VALLEY = Layout(
    {
        **affine({"mm_projector": "then.linear", "pooling_layer": "weights"}),
        **joined("transformer_delta_encoder.layers.0.self_attn.in_proj_", "layer.attn"),
        **affine(
            {f"transformer_delta_encoder.layers.0.{key}": f"layer.{own}" for key, own in _TORCH_LAYER.items()}
        ),
        "position_matrix": "frames",
        "transforemr_adding_layer.*": None,
    },
    name="Valley projector",
)
# mbzuai-oryx/groundingLMM: model/layers.py; mmcv's `ConvModule` calls its norm `gn`
GLAMM_REGIONS = Layout(
    {
        "mlvl_fuse.fuse_convs.{}.conv.weight": "mixes.{}.conv.weight",
        **affine(
            {
                "mlvl_fuse.input_conv.{}": "inputs.{}",
                "mlvl_fuse.fuse_convs.{}.gn": "mixes.{}.norm",
                "roi_align.pconvs.{}": "convs.{}",
                "roi_align.pos_embedd.{}": "place.{}",
                "roi_align.flatten_linear": "flatten",
                "roi_align.updims": "linear",
            }
        ),
    },
    name="GLaMM region encoder",
)
