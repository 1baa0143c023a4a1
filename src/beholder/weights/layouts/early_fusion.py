"""Patches that language models read without an encoder."""

from __future__ import annotations

from beholder.weights.layout import Layout
from beholder.weights.layouts.rules import Rules, affine
from beholder.weights.ops import Split

# transformers: models/fuyu/modeling_fuyu.py
FUYU_PATCHES = Layout(affine({"vision_embed_tokens": "linear"}), name="transformers Fuyu patches")


def _eve_attention(key: str, own: str) -> Rules:
    return {
        f"{key}.q.1.weight": f"{own}.attn.q.weight",
        f"{key}.kv.1.weight": Split((f"{own}.attn.k.weight", f"{own}.attn.v.weight")),
        **affine(
            {
                f"{key}.q.0": f"{own}.norm1",
                f"{key}.kv.0": f"{own}.norm_features",
                f"{key}.proj": f"{own}.attn.out",
            }
        ),
    }


_ENDS: Rules = {"class_embedding": "cls", "split_embedding": "newline"}
# baaivision/EVE: EVEv1/eve/model/multimodal_encoder/vision_tokenizer.py
EVE_PATCHES = Layout(
    {
        **_ENDS,
        "patch_embedding.weight": "patch.weight",
        **_eve_attention("local_attention", "near"),
        **_eve_attention("global_attention", "far"),
    },
    name="EVE patch embedding",
)
EVE_PROJECTOR = Layout(affine({"0": "layers.0", "2": "layers.1"}), name="EVE projector")
# ... EVEv2/eve/model/multimodal_encoder/vision_tokenizer.py
EVE2_PATCHES = Layout(
    {**_ENDS, **affine({"patch_embedding.0": "patch", "patch_embedding.2": "join"})},
    name="EVEv2 patch embedding",
)
# ... EVEv2/eve/model/language_model/qwen2/modeling_qwen2.py
EVE2_EXPERTS = Layout(
    affine(
        {
            "{}.moe_input_layernorm": "{}.norm1.own",
            "{}.moe_post_attention_layernorm": "{}.norm2.own",
            **{f"{{}}.self_attn.moe_{part}_proj": f"{{}}.qkv.own.{part}" for part in "qkv"},
            "{}.self_attn.moe_o_proj": "{}.out.own",
            **{f"{{}}.moe_mlp.{part}_proj": f"{{}}.mlp.own.{part}" for part in ("gate", "up", "down")},
        }
    ),
    name="EVEv2 pictures' weights",
)
