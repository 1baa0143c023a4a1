"""Publishers' names of the parts' parameters, as data."""

from __future__ import annotations

from beholder.weights.layout import Layout
from beholder.weights.ops import Reshape, RopePermute, Split, Tied

Rules = dict[str, str]


def _affine(pairs: Rules) -> Rules:
    """Rules for the weight and the bias of each named module."""
    return {f"{key}.{leaf}": f"{own}.{leaf}" for key, own in pairs.items() for leaf in ("weight", "bias")}


_TRANSFORMER_LAYERS = _affine(
    {
        "encoder.layers.{}.layer_norm1": "blocks.{}.norm1",
        "encoder.layers.{}.self_attn.q_proj": "blocks.{}.attn.q",
        "encoder.layers.{}.self_attn.k_proj": "blocks.{}.attn.k",
        "encoder.layers.{}.self_attn.v_proj": "blocks.{}.attn.v",
        "encoder.layers.{}.self_attn.out_proj": "blocks.{}.attn.out",
        "encoder.layers.{}.layer_norm2": "blocks.{}.norm2",
        "encoder.layers.{}.mlp.fc1": "blocks.{}.mlp.up",
        "encoder.layers.{}.mlp.fc2": "blocks.{}.mlp.down",
    }
)

# transformers: models/clip/modeling_clip.py, models/siglip/modeling_siglip.py, models/idefics3/modeling_idefics3.py
VIT = Layout(
    {
        "embeddings.class_embedding": "cls",
        "embeddings.position_embedding.weight": "positions",
        "embeddings.position_ids": None,
        "head.probe": Reshape("pool.probe", (1, 1, -1)),
        "head.attention.in_proj_weight": Split(
            ("pool.attn.q.weight", "pool.attn.k.weight", "pool.attn.v.weight")
        ),
        "head.attention.in_proj_bias": Split(("pool.attn.q.bias", "pool.attn.k.bias", "pool.attn.v.bias")),
        **_TRANSFORMER_LAYERS,
        **_affine(
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

TEXT_TOWER = Layout(
    {
        "embeddings.token_embedding.weight": "embedding.weight",
        "embeddings.position_embedding.weight": "positions",
        "embeddings.position_ids": None,
        **_TRANSFORMER_LAYERS,
        **_affine({"final_layer_norm": "norm", "head": "projection"}),
    },
    name="transformers text tower",
)

# transformers: models/llama/modeling_llama.py; Mistral and Qwen2 use the same names
DECODER = Layout(
    {
        "embed_tokens.weight": "embedding.weight",
        "norm.weight": "norm.weight",
        "layers.{}.self_attn.rotary_emb.inv_freq": None,
        **_affine(
            {
                "layers.{}.input_layernorm": "blocks.{}.norm1",
                "layers.{}.self_attn.q_proj": "blocks.{}.attn.q",
                "layers.{}.self_attn.k_proj": "blocks.{}.attn.k",
                "layers.{}.self_attn.v_proj": "blocks.{}.attn.v",
                "layers.{}.self_attn.o_proj": "blocks.{}.attn.out",
                "layers.{}.post_attention_layernorm": "blocks.{}.norm2",
                "layers.{}.mlp.gate_proj": "blocks.{}.mlp.gate",
                "layers.{}.mlp.up_proj": "blocks.{}.mlp.up",
                "layers.{}.mlp.down_proj": "blocks.{}.mlp.down",
            }
        ),
    },
    name="transformers decoder",
)

# llama.cpp: gguf-py/gguf/constants.py; numbers: num_heads, num_kv_heads
GGUF_DECODER = Layout(
    {
        "token_embd.weight": "embedding.weight",
        "output_norm.weight": "norm.weight",
        "output.weight": "head.weight",
        "rope_freqs.weight": None,
        "blk.{}.attn_norm.weight": "blocks.{}.norm1.weight",
        "blk.{}.attn_q.weight": RopePermute("blocks.{}.attn.q.weight", "num_heads"),
        "blk.{}.attn_k.weight": RopePermute("blocks.{}.attn.k.weight", "num_kv_heads"),
        "blk.{}.attn_v.weight": "blocks.{}.attn.v.weight",
        "blk.{}.attn_output.weight": "blocks.{}.attn.out.weight",
        "blk.{}.ffn_norm.weight": "blocks.{}.norm2.weight",
        "blk.{}.ffn_gate.weight": "blocks.{}.mlp.gate.weight",
        "blk.{}.ffn_up.weight": "blocks.{}.mlp.up.weight",
        "blk.{}.ffn_down.weight": "blocks.{}.mlp.down.weight",
    },
    name="GGUF decoder",
)

WEIGHT = Layout({"weight": "weight"}, name="one matrix")
AFFINE = Layout({"weight": "weight", "bias": "bias"}, name="one affine map")
TIED_HEAD = Layout({"weight": Tied("embedding.weight")}, name="tied output matrix")
LLAVA_PROJECTOR = Layout(
    _affine({"linear_1": "layers.0", "linear_2": "layers.1"}), name="transformers LLaVA projector"
)
IDEFICS3_CONNECTOR = Layout(
    {"modality_projection.proj.weight": "linear.weight"}, name="transformers Idefics3 connector"
)
CLIP_SCALE = Layout({"logit_scale": "scale"}, name="CLIP scale")
SIGLIP_SCALE = Layout(
    {"logit_scale": Reshape("scale", (1,)), "logit_bias": Reshape("bias", (1,))}, name="SigLIP scale and bias"
)
NEWLINE = Layout({"image_newline": "newline"}, name="LLaVA-NeXT row break")


def _conv_norms(pairs: dict[str, tuple[str, str]]) -> dict[str, str | None]:
    """Rules for convolutions with the batch norms behind them: own name -> (convolution, norm)."""
    rules: dict[str, str | None] = {}
    for own, (convolution, norm) in pairs.items():
        rules[f"{convolution}.weight"] = f"{own}.weight"
        for leaf, own_leaf in (
            ("weight", "scale"),
            ("bias", "bias"),
            ("running_mean", "mean"),
            ("running_var", "var"),
        ):
            rules[f"{norm}.{leaf}"] = f"{own}.{own_leaf}"
        rules[f"{norm}.num_batches_tracked"] = None
    return rules


# efficientnet_lite_pytorch: model.py
EFFICIENTNET_LITE = Layout(
    {
        **_conv_norms(
            {
                "stem": ("_conv_stem", "_bn0"),
                "blocks.{}.expand": ("_blocks.{}._expand_conv", "_blocks.{}._bn0"),
                "blocks.{}.depthwise": ("_blocks.{}._depthwise_conv", "_blocks.{}._bn1"),
                "blocks.{}.project": ("_blocks.{}._project_conv", "_blocks.{}._bn2"),
                "last": ("_conv_head", "_bn1"),
            }
        ),
        **_affine({"_fc": "classifier"}),
    },
    name="efficientnet_lite_pytorch",
)
