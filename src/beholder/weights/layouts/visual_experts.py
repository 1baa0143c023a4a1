"""Decoders with weights of their own for pictures."""

from __future__ import annotations

from beholder.weights.layout import Layout
from beholder.weights.layouts.rules import Rules, affine
from beholder.weights.ops import Leading, Split

QKV = ("q", "k", "v")
MLP = ("gate", "up", "down")


def _linear(pairs: dict[str, str]) -> Rules:
    """Rules for the weights of maps without biases."""
    return {f"{key}.weight": f"{own}.weight" for key, own in pairs.items()}


def _split(key: str, own: str, leaves: tuple[str, ...] = ("weight",)) -> Rules:
    """Rules for queries, keys and values published as one map."""
    return {f"{key}.{leaf}": Split(tuple(f"{own}.{part}.{leaf}" for part in QKV)) for leaf in leaves}


# THUDM/cogvlm-chat-hf: modeling_cogvlm.py
COGVLM_WORDS = Layout(
    {
        "layers.{}.self_attn.rotary_emb.inv_freq": None,
        **_split("layers.{}.self_attn.language_expert_query_key_value", "blocks.{}.attn"),
        **_linear(
            {
                "embed_tokens": "embedding",
                "norm": "norm",
                "layers.{}.input_layernorm": "blocks.{}.norm1",
                "layers.{}.post_attention_layernorm": "blocks.{}.norm2",
                "layers.{}.self_attn.language_expert_dense": "blocks.{}.attn.out",
                **{f"layers.{{}}.mlp.language_mlp.{part}_proj": f"blocks.{{}}.mlp.{part}" for part in MLP},
            }
        ),
    },
    name="CogVLM decoder",
)
COGVLM_EXPERTS = Layout(
    {
        **_split("{}.self_attn.vision_expert_query_key_value", "{}.qkv.own"),
        **_linear(
            {
                "{}.self_attn.vision_expert_dense": "{}.out.own",
                **{f"{{}}.mlp.vision_mlp.{part}_proj": f"{{}}.mlp.own.{part}" for part in MLP},
            }
        ),
    },
    name="CogVLM visual expert",
)
# THUDM/cogvlm-chat-hf and cogvlm2-llama3-chat-19B: visual.py
COGVLM_VISION = Layout(
    {
        "patch_embedding.cls_embedding": Leading("cls"),
        "patch_embedding.position_embedding.weight": "positions",
        **_split("transformer.layers.{}.attention.query_key_value", "blocks.{}.attn", ("weight", "bias")),
        **affine(
            {
                "patch_embedding.proj": "patch",
                "transformer.layers.{}.attention.dense": "blocks.{}.attn.out",
                "transformer.layers.{}.input_layernorm": "blocks.{}.after1",
                "transformer.layers.{}.post_attention_layernorm": "blocks.{}.after2",
                "transformer.layers.{}.mlp.fc1": "blocks.{}.mlp.up",
                "transformer.layers.{}.mlp.fc2": "blocks.{}.mlp.down",
            }
        ),
    },
    name="CogVLM vision",
)
COGVLM_GLU = Layout(
    {
        "boi": Leading("begin", 2),
        "eoi": Leading("end", 2),
        "pos_embed": "positions",
        **affine({"conv": "conv", "linear_proj.norm1": "norm"}),
        **_linear(
            {
                "linear_proj.linear_proj": "linear",
                "linear_proj.gate_proj": "mlp.gate",
                "linear_proj.dense_h_to_4h": "mlp.up",
                "linear_proj.dense_4h_to_h": "mlp.down",
            }
        ),
    },
    name="CogVLM connector",
)
