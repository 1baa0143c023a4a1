"""Vision transformers."""

from __future__ import annotations

from beholder.weights.layout import Layout
from beholder.weights.layouts.rules import QKV, Rules, affine, joined
from beholder.weights.layouts.text import CLIP_LAYERS
from beholder.weights.ops import Leading, Reshape, RopePermute, Split, Transpose


def _layers(prefix: str, *pairs: dict[str, str]) -> Rules:
    """`affine` for modules of layer {}."""
    modules = {key: own for some in pairs for key, own in some.items()}
    return affine({f"{prefix}.{{}}.{key}": f"blocks.{{}}.{own}" for key, own in modules.items()})


def _at(module: str, pairs: dict[str, str]) -> dict[str, str]:
    """The same pairs inside a published module."""
    return {f"{module}.{key}": own for key, own in pairs.items()}


def _scales(prefix: str, first: str, second: str) -> Rules:
    """Layer scales."""
    return {f"{prefix}.{{}}.{first}": "blocks.{}.scale1", f"{prefix}.{{}}.{second}": "blocks.{}.scale2"}


PROJECTIONS = {f"{part}_proj": f"attn.{part}" for part in QKV}
FC = {"mlp.fc1": "mlp.up", "mlp.fc2": "mlp.down"}
GATED = {f"{part}_proj": f"mlp.{part}" for part in ("gate", "up", "down")}
NORMS = {"norm1": "norm1", "norm2": "norm2"}
QK_NORMS = {"q_norm": "attn.q_norm", "k_norm": "attn.k_norm"}
W123 = {"w1": "mlp.gate", "w2": "mlp.down", "w3": "mlp.up"}

# transformers: models/clip/modeling_clip.py, models/siglip/modeling_siglip.py, models/idefics3/modeling_idefics3.py
VIT = Layout(
    {
        "embeddings.class_embedding": "cls",
        "embeddings.position_embedding.weight": "positions",
        "embeddings.position_ids": None,
        "head.probe": Leading("pool.probe", 2),
        **joined("head.attention.in_proj_", "pool.attn"),
        **CLIP_LAYERS,
        **affine(
            {
                "embeddings.patch_embedding": "patch",
                "pre_layrnorm": "pre_norm",
                "post_layernorm": "post_norm",
                "head.attention.out_proj": "pool.attn.out",
                "head.layernorm": "pool.norm",
                "head.mlp.fc1": "pool.mlp.up",
                "head.mlp.fc2": "pool.mlp.down",
            }
        ),
    },
    name="transformers ViT",
)
# transformers: models/janus/modeling_janus.py
JANUS = Layout(
    {key.replace("self_attn.out_proj", "self_attn.projection_layer"): op for key, op in VIT.rules.items()},
    name="transformers Janus ViT",
)
MLCD = VIT.but({"class_pos_emb": Leading("cls_angles")}, name="transformers MLCD")
# transformers: models/siglip2/modeling_siglip2.py; a patch's values are its rows of pixels of 3 colours
SIGLIP2 = VIT.but(
    {
        "embeddings.patch_embedding.weight": Reshape(
            Transpose("patch.weight", (0, 3, 1, 2)), (-1, "patch_values")
        )
    },
    name="transformers SigLIP2",
)

_EMBEDDINGS: Rules = {
    "embeddings.cls_token": Leading("cls", 2),
    "embeddings.mask_token": Leading("mask", 2),
    "embeddings.distillation_token": Leading("registers"),
    "embeddings.position_embeddings": Leading("positions"),
    **affine({"embeddings.patch_embeddings.projection": "patch"}),
}
_ATTENTION = {
    "attention.attention.query": "attn.q",
    "attention.attention.key": "attn.k",
    "attention.attention.value": "attn.v",
    "attention.output.dense": "attn.out",
}
_BERT_MLP = {"intermediate.dense": "mlp.up", "output.dense": "mlp.down"}
_AROUND = {"layernorm_before": "norm1", "layernorm_after": "norm2"}

# transformers: models/{vit,deit,vit_mae,vit_msn,ijepa}/modeling_*.py
BERT_VIT = Layout(
    {
        **_EMBEDDINGS,
        **_layers("encoder.layer", _ATTENTION, _BERT_MLP, _AROUND),
        **affine({"layernorm": "post_norm", "pooler.dense": "pool.dense"}),
    },
    name="transformers ViT of BERT's names",
)
# transformers: models/dinov2/modeling_dinov2.py, models/dinov2_with_registers/modeling_dinov2_with_registers.py
_DINOV2: Rules = {
    **_EMBEDDINGS,
    "embeddings.mask_token": Leading("mask"),
    "embeddings.register_tokens": Leading("registers"),
    **_layers("encoder.layer", _ATTENTION, NORMS),
    **_scales("encoder.layer", "layer_scale1.lambda1", "layer_scale2.lambda1"),
    **affine({"layernorm": "post_norm"}),
}
_DINOV2.pop("embeddings.distillation_token")
DINOV2 = Layout({**_DINOV2, **_layers("encoder.layer", FC)}, name="transformers DINOv2")
DINOV2_GATED = Layout(
    {
        **_DINOV2,
        **joined("encoder.layer.{}.mlp.weights_in.", "blocks.{}.mlp", ("gate", "up")),
        **_layers("encoder.layer", {"mlp.weights_out": "mlp.down"}),
    },
    name="transformers DINOv2 with gates",
)


def beit(*, shared: bool, mean: bool) -> Layout:
    """transformers: models/beit/modeling_beit.py, models/data2vec/modeling_data2vec_vision.py. shared: one table of relative
    places; mean: the last norm is the pool's.
    """
    inner = "relative_position_bias.relative_position_bias_table"
    table = "encoder." if shared else "encoder.layer.{}.attention.attention."
    return Layout(
        {
            **_EMBEDDINGS,
            **_layers("encoder.layer", _ATTENTION, _BERT_MLP, _AROUND),
            **_scales("encoder.layer", "lambda_1", "lambda_2"),
            f"{table}{inner}": f"relative.{'0' if shared else '{}'}.weight",
            f"{table}relative_position_bias.relative_position_index": None,
            **affine({"pooler.layernorm" if mean else "layernorm": "post_norm"}),
        },
        name="transformers BEiT",
    )


# transformers: models/dinov3_vit/modeling_dinov3_vit.py
DINOV3 = Layout(
    {
        "embeddings.cls_token": Leading("cls", 2),
        "embeddings.mask_token": Leading("mask", 2),
        "embeddings.register_tokens": Leading("registers"),
        **affine({"embeddings.patch_embeddings": "patch", "norm": "post_norm"}),
        **_layers("layer", _at("attention", PROJECTIONS | {"o_proj": "attn.out"}), _at("mlp", GATED), NORMS),
        **_scales("layer", "layer_scale1.lambda1", "layer_scale2.lambda1"),
    },
    name="transformers DINOv3",
)
# transformers: models/aimv2/modeling_aimv2.py
AIMV2 = Layout(
    {
        "embeddings.position_embedding.weight": "positions",
        "head.cls_token": Leading("pool.query", 2),
        **affine(
            {
                "embeddings.patch_embed": "patch",
                "embeddings.rms_norm": "patch_norm",
                "rms_norm": "post_norm",
                "head.k_proj": "pool.k",
                "head.v_proj": "pool.v",
                "head.output_proj": "pool.out",
            }
        ),
        **_layers(
            "encoder.layers",
            _at("attention", PROJECTIONS | {"out_proj": "attn.out"}),
            _at("ffn", GATED),
            {"rms_norm1": "norm1", "rms_norm2": "norm2"},
        ),
    },
    name="transformers AIMv2",
)
# apple/ml-aim: aim-v2/python/aim/v2/torch
AIMV2_ORIGINAL = Layout(
    {
        "preprocessor.pos_embed": Leading("positions"),
        **affine(
            {
                "preprocessor.patchifier.proj": "patch",
                "preprocessor.patchifier.norm": "patch_norm",
                "trunk.post_trunk_norm": "post_norm",
            }
        ),
        **joined("trunk.blocks.{}.attn.qkv.", "blocks.{}.attn"),
        **_layers(
            "trunk.blocks",
            {"attn.proj": "attn.out", "norm_1": "norm1", "norm_2": "norm2"},
            _at("mlp", {"fc1": "mlp.gate", "fc2": "mlp.down", "fc3": "mlp.up"}),
        ),
    },
    name="AIMv2",
)
_PIXTRAL_NORMS = {"attention_norm": "norm1", "ffn_norm": "norm2"}
# transformers: models/pixtral/modeling_pixtral.py
PIXTRAL = Layout(
    {
        **affine({"patch_conv": "patch", "ln_pre": "pre_norm"}),
        **_layers(
            "transformer.layers",
            _at("attention", PROJECTIONS | {"o_proj": "attn.out"}),
            _at("feed_forward", GATED),
            _PIXTRAL_NORMS,
        ),
    },
    name="transformers Pixtral ViT",
)
# mistralai/mistral-inference: src/mistral_inference/vision_encoder.py; channels that turn together are neighbours there
PIXTRAL_ORIGINAL = Layout(
    {
        **affine({"patch_conv": "patch", "ln_pre": "pre_norm"}),
        **{
            f"transformer.layers.{{}}.attention.w{part}.weight": RopePermute(
                f"blocks.{{}}.attn.{part}.weight", "num_heads"
            )
            for part in "qk"
        },
        **_layers(
            "transformer.layers",
            {"attention.wv": "attn.v", "attention.wo": "attn.out"},
            _at("feed_forward", W123),
            _PIXTRAL_NORMS,
        ),
    },
    name="Pixtral ViT",
)
# transformers: models/internvl/modeling_internvl.py
INTERNVL = Layout(
    {
        **_EMBEDDINGS,
        **_layers(
            "encoder.layer",
            _at("attention", PROJECTIONS | {"projection_layer": "attn.out"} | QK_NORMS),
            FC,
            _AROUND,
        ),
        **_scales("encoder.layer", "lambda_1", "lambda_2"),
        **affine({"layernorm": "post_norm"}),
    },
    name="transformers InternViT",
)
# OpenGVLab/InternVL: internvl_chat/internvl/model/internvl_chat/modeling_intern_vit.py
INTERN_VIT = Layout(
    {
        "embeddings.class_embedding": Leading("cls", 2),
        "embeddings.position_embedding": Leading("positions"),
        **affine({"embeddings.patch_embedding": "patch"}),
        **joined("encoder.layers.{}.attn.qkv.", "blocks.{}.attn"),
        **_layers("encoder.layers", _at("attn", {"proj": "attn.out"} | QK_NORMS), FC, NORMS),
        **_scales("encoder.layers", "ls1", "ls2"),
    },
    name="OpenGVLab InternViT",
)

# transformers: models/{qwen2_vl,qwen2_5_vl,glm4v}/modeling_*.py; what merges patches behind is the connector's
_QWEN: Rules = {
    **affine(
        {"patch_embed.proj": "patch", "post_conv_layernorm": "patch_norm", "post_layernorm": "post_norm"}
    ),
    **joined("blocks.{}.attn.qkv.", "blocks.{}.attn"),
    **_layers("blocks", {"attn.proj": "attn.out"}, NORMS),
}
QWEN2_VL = Layout({**_QWEN, **_layers("blocks", FC)}, name="transformers Qwen2-VL ViT")
_QWEN3_FC = {"mlp.linear_fc1": "mlp.up", "mlp.linear_fc2": "mlp.down"}
QWEN3_VL = Layout(
    {**_QWEN, **_layers("blocks", _QWEN3_FC), "pos_embed.weight": "positions"},
    name="transformers Qwen3-VL ViT",
)
QWEN2_5_VL = Layout(
    {
        **_QWEN,
        **_layers("blocks", _at("mlp", GATED)),
        "embeddings.position_embedding.weight": "positions",
    },
    name="transformers Qwen2.5-VL ViT",
)
# transformers: models/qwen2_5_omni/modeling_qwen2_5_omni.py
QWEN2_5_OMNI = Layout(
    {
        **{key: op for key, op in QWEN2_5_VL.rules.items() if ".attn.qkv." not in key},
        **_layers("blocks", {f"attn.{part}": f"attn.{part}" for part in QKV}),
    },
    name="transformers Qwen2.5-Omni ViT",
)

# moonshotai/Kimi-K2.5: modeling_kimi_k25.py; pairs that turn together are neighbours there. numbers: num_heads, side
MOON_VIT = Layout(
    {
        "patch_embed.pos_emb.weight": Reshape("positions", ("side", "side", -1)),
        **affine({"patch_embed.proj": "patch", "encoder.final_layernorm": "post_norm"}),
        **_layers(
            "encoder.blocks",
            {
                "mlp.fc0": "mlp.up",
                "mlp.fc1": "mlp.down",
                "wo": "attn.out",
                "norm0": "norm1",
                "norm1": "norm2",
            },
        ),
        **{
            f"encoder.blocks.{{}}.wqkv.{leaf}": Split(
                (
                    *(RopePermute(f"blocks.{{}}.attn.{part}.{leaf}", "num_heads") for part in "qk"),
                    f"blocks.{{}}.attn.v.{leaf}",
                )
            )
            for leaf in ("weight", "bias")
        },
    },
    name="MoonViT",
)
# transformers: models/llama4/modeling_llama4.py, as Meta released it; numbers: patch_values
LLAMA_4 = Layout(
    {
        "class_embedding": "cls",
        "positional_embedding_vlm": "positions",
        "patch_embedding.linear.weight": Reshape("patch.weight", (-1, "patch_values")),
        **affine({"layernorm_pre": "pre_norm", "layernorm_post": "post_norm"}),
        **_layers(
            "model.layers",
            _at("self_attn", PROJECTIONS | {"o_proj": "attn.out"}),
            FC,
            {"input_layernorm": "norm1", "post_attention_layernorm": "norm2"},
        ),
    },
    name="transformers Llama 4 ViT",
)
# tencent/HunyuanOCR: modeling_hunyuan_vl.py
HUNYUAN_VL = Layout(
    {
        "embeddings.position_embedding.weight": "positions",
        **affine({"embeddings.patch_embedding": "patch"}),
        **_layers(
            "layers",
            _at("self_attn", PROJECTIONS | {"o_proj": "attn.out"}),
            {"mlp.dense_h_to_4h": "mlp.up", "mlp.dense_4h_to_h": "mlp.down"},
            {"input_layernorm": "norm1", "post_attention_layernorm": "norm2"},
        ),
    },
    name="HunYuan-VL ViT",
)
# transformers: models/ernie4_5_vl_moe/; numbers: patch_values
ERNIE_VL = Layout(
    {
        "patch_embed.proj.weight": Reshape("patch.weight", (-1, "patch_values")),
        **affine({"ln": "post_norm"}),
        **{key: op for key, op in QWEN2_VL.rules.items() if key.startswith("blocks")},
    },
    name="transformers ERNIE 4.5-VL ViT",
)
# as transformers writes it
MOON_VIT_WRITTEN = Layout(
    {key.replace("patch_embed.proj", "encoder.patch_embed.proj"): op for key, op in MOON_VIT.rules.items()},
    name="transformers MoonViT",
)

# huggingface/pytorch-image-models: timm/models/vision_transformer.py; also the names of facebookresearch/mae, dino and dinov2
_TIMM: Rules = {
    "cls_token": Leading("cls", 2),
    "pos_embed": Leading("positions"),
    **affine({"patch_embed.proj": "patch", "norm_pre": "pre_norm", "norm": "post_norm"}),
    **joined("blocks.{}.attn.qkv.", "blocks.{}.attn"),
    **_layers("blocks", {"attn.proj": "attn.out"}, NORMS),
    **_scales("blocks", "ls1.gamma", "ls2.gamma"),
}
TIMM_VIT = Layout({**_TIMM, "reg_token": Leading("registers"), **_layers("blocks", FC)}, name="timm ViT")
_DINOV2_ORIGINAL = {**_TIMM, "register_tokens": Leading("registers"), "mask_token": Leading("mask")}
DINOV2_ORIGINAL = Layout({**_DINOV2_ORIGINAL, **_layers("blocks", FC)}, name="DINOv2")
DINOV2_ORIGINAL_GATED = Layout(
    {
        **_DINOV2_ORIGINAL,
        **joined("blocks.{}.mlp.w12.", "blocks.{}.mlp", ("gate", "up")),
        **_layers("blocks", {"mlp.w3": "mlp.down"}),
    },
    name="DINOv2 with gates",
)


def _eva(*names: dict[str, str]) -> Rules:
    """What all EVA models have; names: of their layers' other modules."""
    return {
        "cls_token": Leading("cls", 2),
        "pos_embed": Leading("positions"),
        **affine({"patch_embed.proj": "patch", "norm": "post_norm"}),
        "blocks.{}.attn.q_bias": "blocks.{}.attn.q.bias",
        "blocks.{}.attn.v_bias": "blocks.{}.attn.v.bias",
        **{f"rope.{table}": None for table in ("freqs_cos", "freqs_sin")},
        **{f"blocks.{{}}.attn.rope.{table}": None for table in ("freqs_cos", "freqs_sin")},
        **_layers("blocks", {"attn.proj": "attn.out"}, *names),
    }


_EVA_QKV = {"blocks.{}.attn.qkv.weight": Split(tuple(f"blocks.{{}}.attn.{part}.weight" for part in QKV))}
_EVA_PARTS = {
    f"blocks.{{}}.attn.{key}.weight": f"blocks.{{}}.{own}.weight" for key, own in PROJECTIONS.items()
}
# baaivision/EVA: EVA-CLIP/rei/eva_clip/eva_vit_model.py. EVA-01 (g), EVA-02 (B, L), and E, which norms what halves give
EVA_CLIP = Layout({**_eva(FC, NORMS), **_EVA_QKV}, name="EVA-CLIP")
EVA02_CLIP = Layout(
    {
        **_eva(
            _at("mlp", {"w1": "mlp.gate", "w2": "mlp.up", "ffn_ln": "mlp.inner_norm", "w3": "mlp.down"}),
            {"attn.inner_attn_ln": "attn.inner_norm"},
            NORMS,
        ),
        **_EVA_PARTS,
    },
    name="EVA-02-CLIP",
)
EVA02_CLIP_E = Layout({**_eva(FC, {"norm1": "after1", "norm2": "after2"}), **_EVA_QKV}, name="EVA-02-CLIP E")
# huggingface/pytorch-image-models: timm/models/eva.py
EVA02_TIMM = Layout(
    {
        **{key: op for key, op in _eva().items() if not key.endswith("_bias")},
        **_layers(
            "blocks",
            _at("attn", PROJECTIONS | {"norm": "attn.inner_norm"}),
            _at("mlp", {"fc1_g": "mlp.gate", "fc1_x": "mlp.up", "norm": "mlp.inner_norm", "fc2": "mlp.down"}),
            NORMS,
        ),
    },
    name="timm EVA-02",
)

# mlfoundations/open_clip: src/open_clip/transformer.py, and openai/CLIP; `proj` is the connector's
_RESBLOCKS: Rules = {
    "class_embedding": "cls",
    "positional_embedding": "positions",
    "conv1.weight": "patch.weight",
    **affine({"ln_pre": "pre_norm", "ln_post": "post_norm"}),
    **_layers(
        "transformer.resblocks",
        {"ln_1": "norm1", "ln_2": "norm2", "attn.out_proj": "attn.out"},
        {"mlp.c_fc": "mlp.up", "mlp.c_proj": "mlp.down"},
    ),
}
OPEN_CLIP = Layout(
    {
        **_RESBLOCKS,
        **joined("transformer.resblocks.{}.attn.in_proj_", "blocks.{}.attn"),
        **_scales("transformer.resblocks", "ls_1.gamma", "ls_2.gamma"),
    },
    name="OpenCLIP ViT",
)
OPEN_CLIP_PROJECTION = Layout({"proj": Transpose("linear.weight")}, name="OpenCLIP projection")
# Qwen/Qwen-VL: visual.py; queries, keys and values of each head together; `attn_pool`, `ln_post` and `proj` are the connector's
QWEN_VL = Layout(
    {
        **{key: op for key, op in _RESBLOCKS.items() if not key.startswith("ln_post")},
        **affine({"transformer.resblocks.{}.attn.out_proj": "blocks.{}.attn.out"}),
        **joined("transformer.resblocks.{}.attn.in_proj.", "blocks.{}.attn", groups="num_heads"),
    },
    name="Qwen-VL ViT",
)
# transformers: models/layoutlmv3/modeling_layoutlmv3.py
LAYOUTLMV3_PATCHES = Layout(
    {
        "cls_token": Leading("cls", 2),
        "pos_embed": Leading("positions"),
        **affine({"patch_embed.proj": "patch", "norm": "post_norm"}),
    },
    name="transformers LayoutLMv3 patches",
)
