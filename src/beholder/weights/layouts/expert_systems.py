"""Connectors of systems whose language models have experts, and experts as DeepSpeed names them."""

from __future__ import annotations

from beholder.weights.layout import Layout
from beholder.weights.layouts.rules import Rules, affine, joined
from beholder.weights.layouts.vision import VIT
from beholder.weights.ops import Stack

# transformers: models/aria/modeling_aria.py
ARIA_PROJECTOR = Layout(
    {
        "query": "query",
        **affine(
            {
                "cross_attn.layer_norm": "norm_queries",
                "cross_attn.layer_norm_kv": "norm_features",
                "cross_attn.multihead_attn.out_proj": "attn.out",
                "cross_attn.linear": "linear",
                "layer_norm": "norm",
            }
        ),
        **{f"cross_attn.{name}_proj.weight": f"{name}.weight" for name in "qkv"},
        **joined("cross_attn.multihead_attn.in_proj_", "attn"),
        "feed_forward.linear_in.weight": "up.weight",
        "feed_forward.linear_out.weight": "down.weight",
    },
    name="transformers ARIA projector",
)


def deepspeed_experts(up: str, down: str, gate: str) -> Rules:
    """Rules for MLPs of a decoder that DeepSpeed made experts of, by their matrices' names. numbers: num_experts"""
    place, own = "layers.{}.mlp.deepspeed_moe.", "blocks.{}.mlp."
    named = {"up": up, "down": down, "gate": gate}
    rules: Rules = {f"{place}gate.wg.weight": f"{own}router.weight"}
    for leaf, name in named.items():
        where = f"{place}experts.deepspeed_experts.{{}}.{name}."
        rules[f"{where}weight"] = Stack(f"{own}{leaf}", "num_experts")
        rules[f"{where}bias"] = Stack(f"{own}biases.{leaf}", "num_experts")
    return rules


def _experts(place: str, own: str, up: str, down: str) -> Rules:
    """CuMo's experts under `place`, with the gate beside them. numbers: num_experts"""
    rules: Rules = {f"{place}gate.weight": f"{own}router.weight"}
    for name, leaf in ((up, "up"), (down, "down")):
        rules[f"{place}experts.{{}}.{name}.weight"] = Stack(f"{own}{leaf}", "num_experts")
        rules[f"{place}experts.{{}}.{name}.bias"] = Stack(f"{own}biases.{leaf}", "num_experts")
    return rules


CUMO_VISION = Layout(
    {
        **{key: op for key, op in VIT.rules.items() if ".mlp." not in key and "post_layernorm" not in key},
        **_experts("encoder.layers.{}.", "blocks.{}.mlp.", "fc1", "fc2"),
    },
    name="CuMo's encoder",
)
CUMO_PROJECTOR = Layout(_experts("", "experts.", "0", "2"), name="CuMo's projector")
