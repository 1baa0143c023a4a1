"""Connectors that resample pictures."""

from __future__ import annotations

from beholder.weights.layout import Layout
from beholder.weights.layouts.rules import Rules, affine, inside, joined, pointwise
from beholder.weights.layouts.vision import VIT
from beholder.weights.layouts.visual_experts import OWL_ABSTRACTOR
from beholder.weights.ops import Fuse, Grouped, Leading, Split, Transpose


def _linear(pairs: dict[str, str]) -> Rules:
    """Rules for the weights of maps without biases."""
    return {f"{key}.weight": f"{own}.weight" for key, own in pairs.items()}


# transformers: models/idefics2/modeling_idefics2.py
IDEFICS2_CONNECTOR = Layout(
    {
        "modality_projection.gate_proj.weight": Fuse("before.layers.0.weight", 1, (1, 1)),
        "modality_projection.up_proj.weight": Fuse("before.layers.0.weight", 0, (1, 1)),
        "perceiver_resampler.latents": "latents",
        **_linear(
            {
                "modality_projection.down_proj": "before.layers.1",
                "perceiver_resampler.norm": "norm",
                **{
                    f"perceiver_resampler.layers.{{}}.{key}": f"blocks.{{}}.{own}"
                    for key, own in {
                        "input_latents_norm": "norm1",
                        "input_context_norm": "norm_features",
                        "post_attention_layernorm": "norm2",
                        "self_attn.q_proj": "attn.q",
                        "self_attn.k_proj": "attn.k",
                        "self_attn.v_proj": "attn.v",
                        "self_attn.o_proj": "attn.out",
                        "mlp.gate_proj": "mlp.gate",
                        "mlp.up_proj": "mlp.up",
                        "mlp.down_proj": "mlp.down",
                    }.items()
                },
            }
        ),
    },
    name="transformers Idefics2 connector",
)

# openbmb/MiniCPM-V-*: resampler.py; the table of places is kept in 2.0 alone
MINICPM_RESAMPLER = Layout(
    {
        "pos_embed": "places",
        "query": "queries",
        "kv_proj.weight": "widen.weight",
        "proj": Transpose("project.weight"),
        **joined("attn.in_proj_", "attn"),
        **affine(
            {
                "attn.out_proj": "attn.out",
                "ln_q": "norm_queries",
                "ln_kv": "norm_features",
                "ln_post": "norm",
            }
        ),
    },
    name="MiniCPM-V resampler",
)
_BEHIND = ("ln_post.weight", "ln_post.bias", "proj")
# Qwen/Qwen-VL: visual.py
QWEN_VL_RESAMPLER = Layout(
    {key if key in _BEHIND else f"attn_pool.{key}": op for key, op in MINICPM_RESAMPLER.rules.items()},
    name="Qwen-VL resampler",
)


def tile_changes(tiles: int) -> Layout:
    """Monkey's changes of layers for each tile, as Yuliang-Liu/Monkey monkey_model/visual.py has them: rows of q, k and v
    alternate head by head. numbers: num_heads
    """
    rules: Rules = {}
    for tile in range(tiles):
        for key, own in (("attn.in_proj", "qkv"), ("attn.out_proj", "out"), ("mlp", "mlp")):
            theirs, ours = f"transformer.resblocks.{{}}.{key}_lora.{tile}.lora_", f"{tile}.{{}}.{own}."
            last = f"{ours}b.weight"
            rules[f"{theirs}a.weight"] = f"{ours}a.weight"
            rules[f"{theirs}b.weight"] = (
                Grouped(last, ("num_heads",) * 3, "num_heads") if own == "qkv" else last
            )
            rules[f"{theirs}scale"] = f"{ours}scale"
    return Layout(rules, name="Monkey's changes for tiles")


# Yuliang-Liu/Monkey: monkey_model/text_monkey/window.py and resampler.py
TILE_WINDOWS = Layout(
    inside(
        {
            "position_embedding": Leading("places"),
            "shift_attn.attn.relative_position_bias_table": "bias.table",
            "shift_attn.mlp.scale": "scale",
            **_linear(
                {
                    "shift_attn.downsample": "narrow",
                    "shift_attn.mlp.fc1": "up",
                    "shift_attn.mlp.fc2": "down",
                }
            ),
            **affine(
                {
                    "shift_attn.norm1": "norm1",
                    "shift_attn.norm2": "norm2",
                    "shift_attn.attn.proj": "heads.out",
                }
            ),
            **joined("shift_attn.attn.qkv.", "heads"),
        },
        "transformer.window_attention.{}.",
        "windows.{}.",
    ),
    name="TextMonkey's windows",
)
KEPT_TOKENS = Layout(
    {
        "downsample.weight": "narrow.weight",
        "layers.0.0.to_kv.weight": Split(("attn.k.weight", "attn.v.weight")),
        "layers.0.1.scale": "scale",
        **_linear(
            {
                "layers.0.0.to_q": "attn.q",
                "layers.0.0.to_out": "attn.out",
                "layers.0.1.fc1": "up",
                "layers.0.1.fc2": "down",
            }
        ),
        **affine(
            {
                "layers.0.0.norm_media": "norm_features",
                "layers.0.0.norm_latents": "norm_queries",
                "layers.0.1.norm": "norm",
            }
        ),
    },
    name="TextMonkey's token resampler",
)
# X-PLUG/mPLUG-Owl: modeling_mplug_owl.py
OWL1_ABSTRACTOR = Layout(
    {
        key: op
        for key, op in OWL_ABSTRACTOR.rules.items()
        if not key.endswith("_pos_embed") and key != "query_embeds"
    },
    name="mPLUG-Owl's first abstractor",
)
OWL1_QUERIES = Layout({"query_tokens": Leading("queries")}, name="mPLUG-Owl's first queries")
# Meituan-AutoML/MobileVLM: vision_projector.py; blocks are torchvision's `InvertedResidual`
_BLOCK: Rules = {
    "0.0.weight": "depthwise.conv.weight",
    "2.0.weight": "project.conv.weight",
    **affine({"0.1": "depthwise.norm", "2.1": "project.norm"}),
    **pointwise({"1.fc1": "gate.down", "1.fc2": "gate.up"}),
}
LDP = Layout(
    {
        **affine({"model.mlp.1": "mlp.layers.0", "model.mlp.3": "mlp.layers.1"}),
        **inside(_BLOCK, "model.mb_block.1.block.", "blocks.0."),
        **inside(_BLOCK, "model.mb_block.2.block.", "blocks.1."),
    },
    name="MobileVLM projector",
)
LDP2 = Layout(
    affine({"mlp.mlp.0": "mlp.layers.0", "mlp.mlp.2": "mlp.layers.1", "peg.peg.0": "places"}),
    name="MobileVLM V2 projector",
)
# transformers: models/minicpmv4_6/modeling_minicpmv4_6.py
MINICPM46_VISION = VIT.but(
    affine(
        {
            **{f"vit_merger.self_attn.{key}_proj": f"merger.attn.{key}" for key in ("q", "k", "v", "out")},
            "vit_merger.layer_norm1": "merger.norm1",
            "vit_merger.pre_norm": "merger.norm2",
            "vit_merger.linear_1": "merger.up",
            "vit_merger.linear_2": "merger.down",
        }
    ),
    name="transformers MiniCPM-V 4.6 encoder",
)
MINICPM46_MERGER = Layout(
    affine(
        {"mlp.0.pre_norm": "then.norm", "mlp.0.linear_1": "then.layers.0", "mlp.0.linear_2": "then.layers.1"}
    ),
    name="transformers MiniCPM-V 4.6 merger",
)
