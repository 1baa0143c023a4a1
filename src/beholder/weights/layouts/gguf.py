"""Decoders in GGUF files."""

from __future__ import annotations

from beholder.weights.layout import Layout
from beholder.weights.layouts.rules import Rules, affine
from beholder.weights.ops import RopePermute, Split

# llama.cpp: gguf-py/gguf/constants.py
_USUAL: Rules = {
    "token_embd.weight": "embedding.weight",
    "position_embd.weight": "embedding.positions",
    "rope_freqs.weight": None,
    "rope_factors_long.weight": None,
    "rope_factors_short.weight": None,
    **affine(
        {
            "token_embd_norm": "embedding.norm",
            "output_norm": "norm",
            "output": "head",
            "blk.{}.attn_output": "blocks.{}.attn.out",
            "blk.{}.attn_q_norm": "blocks.{}.attn.q_norm",
            "blk.{}.attn_k_norm": "blocks.{}.attn.k_norm",
            "blk.{}.post_attention_norm": "blocks.{}.after1",
            "blk.{}.post_ffw_norm": "blocks.{}.after2",
            "blk.{}.ffn_down": "blocks.{}.mlp.down",
        }
    ),
}


def gguf_layout(
    *, permuted: bool = False, fused_qkv: bool = False, fused_mlp: bool = False, second: str = "ffn_norm"
) -> Layout:
    """permuted: rows of queries and keys are pairs that turn together (numbers: num_heads, num_kv_heads). fused: one
    tensor for queries, keys and values, or for the MLP's gate and up. second: the norm before the MLP; where it is
    `attn_norm`, the attention's own is `attn_norm_2` (Falcon-40B).
    """
    first = "attn_norm_2" if second == "attn_norm" else "attn_norm"
    rules = _USUAL | affine({f"blk.{{}}.{first}": "blocks.{}.norm1", f"blk.{{}}.{second}": "blocks.{}.norm2"})
    for leaf in ("weight", "bias"):
        own = {letter: f"blocks.{{}}.attn.{letter}.{leaf}" for letter in "qkv"}
        if fused_qkv:
            rules[f"blk.{{}}.attn_qkv.{leaf}"] = Split(tuple(own.values()))
        else:
            rules |= {f"blk.{{}}.attn_{letter}.{leaf}": name for letter, name in own.items()}
        if permuted:
            rules[f"blk.{{}}.attn_q.{leaf}"] = RopePermute(own["q"], "num_heads")
            rules[f"blk.{{}}.attn_k.{leaf}"] = RopePermute(own["k"], "num_kv_heads")
    if fused_mlp:
        rules["blk.{}.ffn_up.weight"] = Split(("blocks.{}.mlp.gate.weight", "blocks.{}.mlp.up.weight"))
    else:
        rules |= affine({"blk.{}.ffn_gate": "blocks.{}.mlp.gate", "blk.{}.ffn_up": "blocks.{}.mlp.up"})
    return Layout(rules, name="GGUF decoder")
