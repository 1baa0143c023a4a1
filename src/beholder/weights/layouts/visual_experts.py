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
# THUDM/cogagent-chat-hf: modeling_cogagent.py, cross_visual.py
COGAGENT_WORDS = COGVLM_WORDS.but(
    {
        "layers.{}.cross_attn.key_value.weight": Split(
            ("blocks.{}.cross.k.weight", "blocks.{}.cross.v.weight")
        ),
        **_linear(
            {
                "layers.{}.post_cross_attention_layernorm": "blocks.{}.cross_norm",
                "layers.{}.cross_attn.query": "blocks.{}.cross.q",
                "layers.{}.cross_attn.dense": "blocks.{}.cross.out",
            }
        ),
    },
    name="CogAgent decoder",
)
COGAGENT_PLACES = Layout({"pos_embed": "positions"}, name="CogAgent's places of details")
# X-PLUG/mPLUG-Owl: mPLUG-Owl2/mplug_owl2/model/modeling_llama2.py and multiway.py; way 0 is the words', way 1 the pictures'
OWL2_WORDS = Layout(
    {
        "layers.{}.self_attn.rotary_emb.inv_freq": None,
        **_linear(
            {
                "embed_tokens": "embedding",
                "norm": "norm",
                "layers.{}.input_layernorm.multiway.0": "blocks.{}.norm1",
                "layers.{}.post_attention_layernorm.multiway.0": "blocks.{}.norm2",
                "layers.{}.self_attn.q_proj": "blocks.{}.attn.q",
                "layers.{}.self_attn.k_proj.multiway.0": "blocks.{}.attn.k",
                "layers.{}.self_attn.v_proj.multiway.0": "blocks.{}.attn.v",
                "layers.{}.self_attn.o_proj": "blocks.{}.attn.out",
                **{f"layers.{{}}.mlp.{part}_proj": f"blocks.{{}}.mlp.{part}" for part in MLP},
            }
        ),
    },
    name="mPLUG-Owl2 decoder",
)
OWL2_EXPERTS = Layout(
    _linear(
        {
            "{}.input_layernorm.multiway.1": "{}.norm1.own",
            "{}.post_attention_layernorm.multiway.1": "{}.norm2.own",
            "{}.self_attn.k_proj.multiway.1": "{}.qkv.own.k",
            "{}.self_attn.v_proj.multiway.1": "{}.qkv.own.v",
        }
    ),
    name="mPLUG-Owl2 modality-adaptive module",
)
# ... visual_encoder.py; numbers: heads
OWL_VISION = Layout(
    {
        "embeddings.cls_token": Leading("cls", 2),
        "embeddings.position_embedding": Leading("positions"),
        "embeddings.patch_embed.weight": "patch.weight",
        **{
            f"encoder.layers.{{}}.self_attn.query_key_value.{leaf}": Split(
                tuple(f"blocks.{{}}.attn.{part}.{leaf}" for part in QKV), groups="heads"
            )
            for leaf in ("weight", "bias")
        },
        **affine(
            {
                "embeddings.pre_layernorm": "pre_norm",
                "post_layernorm": "post_norm",
                "encoder.layers.{}.self_attn.dense": "blocks.{}.attn.out",
                "encoder.layers.{}.input_layernorm": "blocks.{}.norm1",
                "encoder.layers.{}.post_attention_layernorm": "blocks.{}.norm2",
                "encoder.layers.{}.mlp.fc1": "blocks.{}.mlp.up",
                "encoder.layers.{}.mlp.fc2": "blocks.{}.mlp.down",
            }
        ),
    },
    name="mPLUG-Owl vision",
)
_ABSTRACTOR = "encoder.layers.{}.crossattention."
OWL_ABSTRACTOR = Layout(
    {
        "query_embeds": Leading("queries"),
        "vit_eos": Leading("end", 2),
        f"{_ABSTRACTOR}attention.q_pos_embed": None,  # fixed waves
        f"{_ABSTRACTOR}attention.k_pos_embed": None,
        **affine(
            {
                "visual_fc": "project",
                **{
                    _ABSTRACTOR + key: f"blocks.{{}}.{own}"
                    for key, own in {
                        "norm1": "norm1",
                        "normk": "norm_features",
                        "attention.query": "attn.q",
                        "attention.key": "attn.k",
                        "attention.value": "attn.v",
                        "output.out_proj": "attn.out",
                        "output.norm2": "norm2",
                        "output.mlp.w1": "mlp.gate",
                        "output.mlp.w3": "mlp.up",
                        "output.mlp.ffn_ln": "mlp.inner_norm",
                        "output.mlp.w2": "mlp.down",
                    }.items()
                },
            }
        ),
    },
    name="mPLUG-Owl abstractor",
)
