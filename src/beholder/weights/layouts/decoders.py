"""Decoders."""

from __future__ import annotations

from beholder.weights.layout import Layout
from beholder.weights.layouts.rules import affine
from beholder.weights.ops import RopePermute

# transformers: models/llama/modeling_llama.py; Mistral and Qwen2 use the same names
DECODER = Layout(
    {
        "embed_tokens.weight": "embedding.weight",
        "norm.weight": "norm.weight",
        "layers.{}.self_attn.rotary_emb.inv_freq": None,
        **affine(
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
