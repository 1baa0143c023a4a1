"""Decoders of Llama's form."""

from __future__ import annotations

from collections.abc import Mapping

from beholder.weights.layout import Layout
from beholder.weights.layouts.rules import Rules, affine
from beholder.weights.ops import Count, Split, Stack

USUAL: Mapping[str, str] = {
    "norm1": "input_layernorm",
    "attn.q": "self_attn.q_proj",
    "attn.k": "self_attn.k_proj",
    "attn.v": "self_attn.v_proj",
    "attn.q_norm": "self_attn.q_norm",
    "attn.k_norm": "self_attn.k_norm",
    "attn.out": "self_attn.o_proj",
    "norm2": "post_attention_layernorm",
    "mlp.gate": "mlp.gate_proj",
    "mlp.up": "mlp.up_proj",
    "mlp.down": "mlp.down_proj",
}
QKV = ("attn.q", "attn.k", "attn.v")
GATE_UP = ("mlp.gate", "mlp.up")


def names(
    changes: Mapping[str, str | None] | None = None,
    *,
    layer: str = "layers.{}.",
    embedding: str = "embed_tokens",
    norm: str = "norm",
    fused: Mapping[str, tuple[str, ...]] | None = None,
    groups: Count = 1,
) -> Rules:
    """Rules for a decoder whose layers are published under `layer`.

    changes: own name within a layer -> published name where it is not the usual one, None for what there is not.
    fused: published name -> the modules of ours that it is made of; groups: how many times those alternate.
    """
    fused = fused or {}
    parts = {own for owns in fused.values() for own in owns}
    own = {**USUAL, **(changes or {})}
    pairs = {layer + name: f"blocks.{{}}.{key}" for key, name in own.items() if name and key not in parts}
    return {
        f"{embedding}.weight": "embedding.weight",
        f"{layer}self_attn.rotary_emb.inv_freq": None,
        **affine({norm: "norm", **pairs}),
        **{
            f"{layer}{name}.{leaf}": Split(tuple(f"blocks.{{}}.{own}.{leaf}" for own in owns), groups=groups)
            for name, owns in fused.items()
            for leaf in ("weight", "bias")
        },
    }


# transformers: models/llama/modeling_llama.py. Most others have the same names, and those norms that they use
DECODER = Layout(names(), name="transformers decoder")

# transformers: models/diffllama/modeling_diffllama.py
DIFFLLAMA = DECODER.but(
    {
        f"layers.{{}}.self_attn.lambda_{part}{number}": f"blocks.{{}}.attn.shares.{name}_{part}"
        for number, name in ((1, "first"), (2, "second"))
        for part in "qk"
    },
    name="transformers DiffLlama",
)

# transformers: models/chameleon/modeling_chameleon.py, `ChameleonSwinDecoderLayer`
CHAMELEON_AFTER = Layout(
    names(
        {
            "norm1": None,
            "norm2": None,
            "after1": "input_layernorm",
            "after2": "post_attention_layernorm",
        }
    ),
    name="transformers Chameleon with norms after",
)

# transformers: models/phi/modeling_phi.py
PHI = Layout(
    names(
        {
            "attn.out": "self_attn.dense",
            "attn.q_norm": "self_attn.q_layernorm",
            "attn.k_norm": "self_attn.k_layernorm",
            "norm2": None,
            "mlp.gate": None,
            "mlp.up": "mlp.fc1",
            "mlp.down": "mlp.fc2",
        },
        norm="final_layernorm",
    ),
    name="transformers Phi",
)

# microsoft/phi-1_5 and phi-2 of 2023: modeling_phi.py; the last norm stands with the output matrix
OLD_PHI = Layout(
    names(
        {
            "norm1": "ln",
            "norm2": None,
            "attn.out": "mixer.out_proj",
            "mlp.gate": None,
            "mlp.up": "mlp.fc1",
            "mlp.down": "mlp.fc2",
        },
        layer="transformer.h.{}.",
        embedding="transformer.embd.wte",
        norm="lm_head.ln",
        fused={"mixer.Wqkv": QKV},
    ),
    name="Phi as first released",
)

# transformers: models/phi3/modeling_phi3.py
PHI3 = Layout(
    names(fused={"self_attn.qkv_proj": QKV, "mlp.gate_up_proj": GATE_UP}), name="transformers Phi-3"
)

# transformers: models/apertus/modeling_apertus.py
APERTUS = Layout(
    {
        **names({"norm1": "attention_layernorm", "norm2": "feedforward_layernorm", "mlp.gate": None}),
        "layers.{}.mlp.act_fn.{}": "blocks.{}.mlp.act.{}",
    },
    name="transformers Apertus",
)

# transformers: models/starcoder2/modeling_starcoder2.py
STARCODER2 = Layout(
    names({"mlp.gate": None, "mlp.up": "mlp.c_fc", "mlp.down": "mlp.c_proj"}), name="transformers StarCoder2"
)

# transformers: models/stablelm/modeling_stablelm.py; numbers: num_heads, num_kv_heads
STABLELM = Layout(
    {
        **names({"attn.q_norm": None, "attn.k_norm": None}),
        "layers.{}.self_attn.q_layernorm.norms.{}.weight": Stack("blocks.{}.attn.q_norm.weight", "num_heads"),
        "layers.{}.self_attn.k_layernorm.norms.{}.weight": Stack(
            "blocks.{}.attn.k_norm.weight", "num_kv_heads"
        ),
    },
    name="transformers StableLM",
)

_AFTER = {"norm1": None, "after1": "post_attention_layernorm", "after2": "post_feedforward_layernorm"}

# transformers: models/olmo2/modeling_olmo2.py; OLMo 3 and EXAONE 4 have the same names
NORMS_AFTER = Layout(names({**_AFTER, "norm2": None}), name="transformers OLMo 2")

# transformers: models/gemma2/modeling_gemma2.py and models/gemma3/modeling_gemma3.py
GEMMA2 = Layout(
    names({**_AFTER, "norm1": "input_layernorm", "norm2": "pre_feedforward_layernorm"}),
    name="transformers Gemma 2",
)

_OWN_INPUTS: Rules = {
    "embed_tokens_per_layer.weight": "layer_inputs.weight",
    "per_layer_model_projection.weight": "layer_inputs.project.weight",
    "per_layer_projection_norm.weight": "layer_inputs.norm.weight",
    "layers.{}.per_layer_input_gate.weight": "blocks.{}.reader.gate.weight",
    "layers.{}.per_layer_projection.weight": "blocks.{}.reader.project.weight",
    "layers.{}.post_per_layer_input_norm.weight": "blocks.{}.reader.norm.weight",
}
# transformers: models/gemma4/modeling_gemma4.py
GEMMA_4 = GEMMA2.but(
    {**_OWN_INPUTS, "layers.{}.layer_scalar": "blocks.{}.scalar"}, name="transformers Gemma 4"
)
# transformers: models/gemma3n/modeling_gemma3n.py
GEMMA_3N = GEMMA2.but(
    {
        **_OWN_INPUTS,
        "altup_projections.{}.weight": "streams.entry.{}.weight",
        "altup_unembed_projections.{}.weight": "streams.exit.{}.weight",
        "layers.{}.altup.correct_output_scale": "blocks.{}.mix.scale",
        "layers.{}.altup.correction_coefs.weight": "blocks.{}.mix.corrector.weight",
        "layers.{}.altup.prediction_coefs.weight": "blocks.{}.mix.predictor.weight",
        "layers.{}.altup.modality_router.weight": "blocks.{}.mix.router.weight",
        "layers.{}.altup.router_norm.weight": "blocks.{}.mix.norm.weight",
        "layers.{}.laurel.linear_left.weight": "blocks.{}.laurel.down.weight",
        "layers.{}.laurel.linear_right.weight": "blocks.{}.laurel.up.weight",
        "layers.{}.laurel.post_laurel_norm.weight": "blocks.{}.laurel.norm.weight",
    },
    name="transformers Gemma 3n",
)

# transformers: models/glm/modeling_glm.py and models/glm4/modeling_glm4.py
GLM = Layout(
    names(
        {"after1": "post_self_attn_layernorm", "after2": "post_mlp_layernorm"},
        fused={"mlp.gate_up_proj": GATE_UP},
    ),
    name="transformers GLM",
)

# transformers: models/hunyuan_v1_dense/modeling_hunyuan_v1_dense.py
HUNYUAN = Layout(
    names({"attn.q_norm": "self_attn.query_layernorm", "attn.k_norm": "self_attn.key_layernorm"}),
    name="transformers HunYuan",
)

# 01-ai/Yi-6B of November 2023: modeling_yi.py
OLD_YI = Layout(names({"norm1": "ln1", "norm2": "ln2"}), name="Yi as first released")

# Qwen/Qwen-7B: modeling_qwen.py
QWEN = Layout(
    names(
        {
            "norm1": "ln_1",
            "norm2": "ln_2",
            "attn.out": "attn.c_proj",
            "mlp.gate": "mlp.w2",
            "mlp.up": "mlp.w1",
            "mlp.down": "mlp.c_proj",
        },
        layer="h.{}.",
        embedding="wte",
        norm="ln_f",
        fused={"attn.c_attn": QKV},
    ),
    name="Qwen",
)

# internlm/internlm2-7b: modeling_internlm2.py; numbers: num_kv_heads
INTERNLM2 = Layout(
    names(
        {
            "norm1": "attention_norm",
            "norm2": "ffn_norm",
            "attn.out": "attention.wo",
            "mlp.gate": "feed_forward.w1",
            "mlp.up": "feed_forward.w3",
            "mlp.down": "feed_forward.w2",
        },
        embedding="tok_embeddings",
        fused={"attention.wqkv": QKV},
        groups="num_kv_heads",
    ),
    name="InternLM2",
)

# THUDM/chatglm3-6b: modeling_chatglm.py; ChatGLM2 and GLM-4 with its own code have the same names
CHATGLM = Layout(
    {
        **names(
            {"attn.out": "self_attention.dense", "mlp.down": "mlp.dense_4h_to_h"},
            layer="encoder.layers.{}.",
            embedding="embedding.word_embeddings",
            norm="encoder.final_layernorm",
            fused={"self_attention.query_key_value": QKV, "mlp.dense_h_to_4h": GATE_UP},
        ),
        "rotary_pos_emb.inv_freq": None,
    },
    name="ChatGLM",
)

# baichuan-inc/Baichuan-7B: modeling_baichuan.py
BAICHUAN = Layout(names(fused={"self_attn.W_pack": QKV}), name="Baichuan")
