"""Decoders of GPT's form."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from beholder.weights.layout import Layout
from beholder.weights.layouts.rules import Rules, affine
from beholder.weights.ops import Count, Split, Transpose


def _rules(
    layer: str,
    own: Mapping[str, str],
    *,
    fused: str = "",
    order: str = "qkv",
    groups: Count = 1,
    top: Mapping[str, str] | None = None,
    embedding: str = "wte",
    unused: Sequence[str] = (),
) -> Rules:
    """Rules for a decoder whose layers are published under `layer`.

    own: module of ours in a layer -> published module; top: the same outside of layers. fused: the published module that
    holds queries, keys and values in this `order`, alternating in `groups`. unused: buffers within a layer.
    """
    rules: Rules = {f"{embedding}.weight": "embedding.weight"}
    rules |= affine({name: key for key, name in (top or {"norm": "ln_f"}).items()})
    rules |= affine({layer + name: f"blocks.{{}}.{key}" for key, name in own.items()})
    rules |= {layer + name: None for name in unused}
    if fused:
        for leaf in ("weight", "bias"):
            into = tuple(f"blocks.{{}}.attn.{letter}.{leaf}" for letter in order)
            rules[f"{layer}{fused}.{leaf}"] = Split(into, groups=groups)
    return rules


MASKS = ("attn.bias", "attn.masked_bias")
SEPARATE = {"attn.q": "q_proj", "attn.k": "k_proj", "attn.v": "v_proj", "attn.out": "out_proj"}


def _within(module: str) -> dict[str, str]:
    """Separate projections inside `module`."""
    return {own: f"{module}.{name}" for own, name in SEPARATE.items()}


GPT2_LAYER = {
    "norm1": "ln_1",
    "attn.out": "attn.c_proj",
    "norm2": "ln_2",
    "mlp.up": "mlp.c_fc",
    "mlp.down": "mlp.c_proj",
}
_GPT2 = {
    **_rules("h.{}.", GPT2_LAYER, fused="attn.c_attn", unused=MASKS),
    "wpe.weight": "embedding.positions",
}

# transformers: models/gpt2/modeling_gpt2.py; its matrices have the input first
GPT2 = Layout(
    {
        **_GPT2,
        "h.{}.attn.c_attn.weight": Split(
            tuple(Transpose(f"blocks.{{}}.attn.{letter}.weight") for letter in "qkv"), dim=1
        ),
        **{
            f"h.{{}}.{name}.weight": Transpose(f"blocks.{{}}.{own}.weight")
            for own, name in GPT2_LAYER.items()
            if "norm" not in own
        },
    },
    name="transformers GPT-2",
)

# transformers: models/gpt_bigcode/modeling_gpt_bigcode.py; numbers: groups
GPT_BIGCODE = Layout(
    {
        **_rules("h.{}.", GPT2_LAYER, fused="attn.c_attn", groups="groups", unused=MASKS),
        "wpe.weight": "embedding.positions",
    },
    name="transformers GPT-BigCode",
)

# transformers: models/gpt_neo/modeling_gpt_neo.py
GPT_NEO = Layout(
    {
        **_rules(
            "h.{}.",
            {**GPT2_LAYER, **_within("attn.attention")},
            unused=("attn.attention.bias", "attn.attention.masked_bias"),
        ),
        "wpe.weight": "embedding.positions",
    },
    name="transformers GPT-Neo",
)

# transformers: models/gptj/modeling_gptj.py
GPTJ_LAYER = {"norm1": "ln_1", "mlp.up": "mlp.fc_in", "mlp.down": "mlp.fc_out"}
GPTJ = Layout(
    _rules("h.{}.", {**GPTJ_LAYER, **_within("attn")}, unused=MASKS),
    name="transformers GPT-J",
)

# transformers: models/codegen/modeling_codegen.py; the four groups are the cores of the processor it was trained on
CODEGEN = Layout(
    _rules(
        "h.{}.",
        {**GPTJ_LAYER, "attn.out": "attn.out_proj"},
        fused="attn.qkv_proj",
        order="qvk",
        groups=4,
        unused=("attn.causal_mask",),
    ),
    name="transformers CodeGen",
)

MEGATRON_MLP = {"mlp.up": "mlp.dense_h_to_4h", "mlp.down": "mlp.dense_4h_to_h"}
MEGATRON_NORMS = {"norm1": "input_layernorm", "norm2": "post_attention_layernorm"}

# transformers: models/gpt_neox/modeling_gpt_neox.py; numbers: groups
GPT_NEOX = Layout(
    _rules(
        "layers.{}.",
        {**MEGATRON_NORMS, **MEGATRON_MLP, "attn.out": "attention.dense"},
        fused="attention.query_key_value",
        groups="groups",
        top={"norm": "final_layer_norm"},
        embedding="embed_in",
        unused=("attention.bias", "attention.masked_bias", "attention.rotary_emb.inv_freq"),
    ),
    name="transformers GPT-NeoX",
)

# transformers: models/persimmon/modeling_persimmon.py; numbers: groups
PERSIMMON = Layout(
    _rules(
        "layers.{}.",
        {
            **MEGATRON_NORMS,
            **MEGATRON_MLP,
            "attn.out": "self_attn.dense",
            "attn.q_norm": "self_attn.q_layernorm",
            "attn.k_norm": "self_attn.k_layernorm",
        },
        fused="self_attn.query_key_value",
        groups="groups",
        top={"norm": "final_layernorm"},
        embedding="embed_tokens",
        unused=("self_attn.rotary_emb.inv_freq",),
    ),
    name="transformers Persimmon",
)


def _refined(norms: Mapping[str, str], **top: str) -> Rules:
    return _rules(
        "h.{}.",
        {**norms, **MEGATRON_MLP, "attn.out": "self_attention.dense"},
        fused="self_attention.query_key_value",
        groups="groups",
        top={"norm": "ln_f", **top},
        embedding="word_embeddings",
        unused=("self_attention.rotary_emb.inv_freq", "self_attention.maybe_rotary.inv_freq"),
    )


# transformers: models/falcon/modeling_falcon.py, where halves in parallel have norms of other names; numbers: groups
FALCON = Layout(_refined(MEGATRON_NORMS), name="transformers Falcon")
FALCON_TWO_NORMS = Layout(
    _refined({"norm1": "ln_attn", "norm2": "ln_mlp"}), name="transformers Falcon, two norms in parallel"
)

# transformers: models/bloom/modeling_bloom.py; numbers: groups
BLOOM = Layout(
    _refined(MEGATRON_NORMS, **{"embedding.norm": "word_embeddings_layernorm"}), name="transformers BLOOM"
)

MPT_ATTENTION = {"attn.q_norm": "attn.q_ln", "attn.k_norm": "attn.k_ln", "attn.out": "attn.out_proj"}

# transformers: models/mpt/modeling_mpt.py, with what llm-foundry adds to it
MPT = Layout(
    {
        **_rules(
            "blocks.{}.",
            {
                **MPT_ATTENTION,
                "norm1": "norm_1",
                "norm2": "norm_2",
                "mlp.gate": "ffn.gate_proj",
                "mlp.up": "ffn.up_proj",
                "mlp.down": "ffn.down_proj",
            },
            fused="attn.Wqkv",
            top={"norm": "norm_f"},
        ),
        "wpe.weight": "embedding.positions",
    },
    name="transformers MPT",
)
# mosaicml/mpt-1b-redpajama-200b mosaic_gpt.py; llm-foundry scripts/misc/convert_examples_ckpt.py has both sets of names
MOSAIC_GPT = Layout(
    {
        **_rules(
            "blocks.{}.",
            {
                **MPT_ATTENTION,
                "norm1": "ln_1",
                "norm2": "ln_2",
                "mlp.up": "mlp.mlp_up",
                "mlp.down": "mlp.mlp_down",
            },
            fused="attn.Wqkv",
        ),
        "wpe.weight": "embedding.positions",
    },
    name="MosaicGPT",
)

FAIRSEQ_LAYER = {**_within("self_attn"), "mlp.up": "fc1", "mlp.down": "fc2"}
FAIRSEQ_NORMS = {"norm1": "self_attn_layer_norm", "norm2": "final_layer_norm"}

# transformers: models/opt/modeling_opt.py; norms may follow the sums instead (OPT-350m)
_OPT: Rules = {
    "embed_positions.weight": "embedding.positions",
    "project_in.weight": "embedding.projection.weight",
    "project_out.weight": "unproject.weight",
}
OPT = Layout(
    {
        **_OPT,
        **_rules(
            "layers.{}.",
            {**FAIRSEQ_LAYER, **FAIRSEQ_NORMS},
            top={"norm": "final_layer_norm"},
            embedding="embed_tokens",
        ),
    },
    name="transformers OPT",
)
OPT_POST = Layout(
    {
        **_OPT,
        **_rules(
            "layers.{}.",
            {**FAIRSEQ_LAYER, "after1": "self_attn_layer_norm", "after2": "final_layer_norm"},
            top={},
            embedding="embed_tokens",
        ),
    },
    name="transformers OPT with norms after the sums",
)

# transformers: models/xglm/modeling_xglm.py, models/biogpt/modeling_biogpt.py
XGLM = Layout(
    {
        **_rules(
            "layers.{}.",
            {**FAIRSEQ_LAYER, **FAIRSEQ_NORMS},
            top={"norm": "layer_norm"},
            embedding="embed_tokens",
        ),
        "embed_positions.weights": None,
    },
    name="transformers XGLM",
)
BIOGPT = Layout(
    {**XGLM.rules, "embed_positions.weight": "embedding.positions"},
    name="transformers BioGPT",
)
