"""State-space, recurrent and linear-attention decoders, and the hybrids built of them."""

from __future__ import annotations

from beholder.weights.layout import Layout
from beholder.weights.layouts.decoders import DECODER
from beholder.weights.layouts.experts import NORMED_MOE, experts
from beholder.weights.layouts.rules import Rules, affine
from beholder.weights.ops import Fuse, Leading, Reshape, Split, Tied


def _attention(at: str, out: str = "o_proj") -> Rules:
    """An attention layer's maps, at `at`."""
    names = {"q_proj": "q", "k_proj": "k", "v_proj": "v", out: "out"}
    return affine({f"{at}.{name}": f"blocks.{{}}.attn.{own}" for name, own in names.items()})


def _mlp(at: str, gate: str, up: str, down: str) -> Rules:
    names = {gate: "gate", up: "up", down: "down"}
    return affine({f"{at}.{name}": f"blocks.{{}}.mlp.{own}" for name, own in names.items()})


def _ends(embedding: str, norm: str) -> Rules:
    return {f"{embedding}.weight": "embedding.weight", f"{norm}.weight": "norm.weight"}


def _mamba(at: str) -> Rules:
    """Either generation of Mamba's mixer, at `at`."""
    return {
        f"{at}.A_log": "blocks.{}.attn.a_log",
        f"{at}.D": "blocks.{}.attn.skip",
        **affine(
            {
                f"{at}.in_proj": "blocks.{}.attn.input",
                f"{at}.conv1d": "blocks.{}.attn.conv",
                f"{at}.out_proj": "blocks.{}.attn.output",
            }
        ),
    }


def _mamba1(at: str) -> Rules:
    return {
        **_mamba(at),
        f"{at}.x_proj.weight": "blocks.{}.attn.select.weight",
        **affine({f"{at}.dt_proj": "blocks.{}.attn.dt"}),
    }


def _mamba2(at: str) -> Rules:
    """The norm has a row for each group here."""
    return {
        **_mamba(at),
        f"{at}.dt_bias": "blocks.{}.attn.dt_bias",
        f"{at}.norm.weight": Reshape("blocks.{}.attn.norm.weight", (-1,)),
    }


_PLAIN: Rules = {
    **_ends("embeddings", "norm_f"),
    "embedding.weight": Tied("embedding.weight"),  # its name in mamba_ssm and early conversions
    "layers.{}.norm.weight": "blocks.{}.norm1.weight",
}

# transformers: models/mamba/modeling_mamba.py, models/falcon_mamba/modeling_falcon_mamba.py
MAMBA = Layout({**_PLAIN, **_mamba1("layers.{}.mixer")}, name="transformers Mamba")

# transformers: models/mamba2/modeling_mamba2.py
MAMBA2 = Layout({**_PLAIN, **_mamba2("layers.{}.mixer")}, name="transformers Mamba-2")

_HYBRID: Rules = {
    **_ends("embed_tokens", "final_layernorm"),
    "layers.{}.input_layernorm.weight": "blocks.{}.norm1.weight",
    "layers.{}.pre_ff_layernorm.weight": "blocks.{}.norm2.weight",
    **_attention("layers.{}.self_attn"),
    **_mlp("layers.{}.feed_forward", "gate_proj", "up_proj", "down_proj"),
}

# transformers: models/bamba/modeling_bamba.py
BAMBA = Layout({**_HYBRID, **_mamba2("layers.{}.mamba")}, name="transformers Bamba")

# transformers: models/jamba/modeling_jamba.py; numbers: num_experts
JAMBA = Layout(
    {
        **_HYBRID,
        **_mamba1("layers.{}.mamba"),
        **{
            f"layers.{{}}.mamba.{name}_layernorm.weight": f"blocks.{{}}.attn.{name}_norm.weight"
            for name in ("dt", "b", "c")
        },
        **experts("layers.{}.feed_forward", "router"),
    },
    name="transformers Jamba",
)

# transformers: models/minimax/modeling_minimax.py, and modeling_minimax_text_01.py of the release; numbers: num_experts
MINIMAX = Layout(
    {
        **_ends("embed_tokens", "norm"),
        "layers.{}.input_layernorm.weight": "blocks.{}.norm1.weight",
        "layers.{}.post_attention_layernorm.weight": "blocks.{}.norm2.weight",
        **_attention("layers.{}.self_attn"),
        **{
            f"layers.{{}}.self_attn.{name}.weight": f"blocks.{{}}.attn.{own}.weight"
            for name, own in (
                ("qkv_proj", "qkv"),
                ("output_gate", "gate"),
                ("norm", "norm"),
                ("out_proj", "output"),
            )
        },
        **{
            f"layers.{{}}.self_attn.{name}": f"blocks.{{}}.attn.{name}"
            for name in ("slope_rate", "query_decay", "key_decay", "diagonal_decay")
        },
        **experts("layers.{}.block_sparse_moe", "gate", ("w1", "w3", "w2")),
    },
    name="transformers MiniMax",
)

# transformers: models/recurrent_gemma/modeling_recurrent_gemma.py
RECURRENT_GEMMA = Layout(
    {
        **_ends("embed_tokens", "final_norm"),
        "layers.{}.temporal_pre_norm.weight": "blocks.{}.norm1.weight",
        "layers.{}.channel_pre_norm.weight": "blocks.{}.norm2.weight",
        **_attention("layers.{}.temporal_block"),
        **affine(
            {
                "layers.{}.temporal_block.linear_x": "blocks.{}.attn.x",
                "layers.{}.temporal_block.linear_y": "blocks.{}.attn.y",
                "layers.{}.temporal_block.conv_1d": "blocks.{}.attn.conv",
                "layers.{}.temporal_block.linear_out": "blocks.{}.attn.output",
            }
        ),
        "layers.{}.temporal_block.rg_lru.recurrent_param": "blocks.{}.attn.rate",
        **{
            f"layers.{{}}.temporal_block.rg_lru.{gate}_gate_{leaf}": f"blocks.{{}}.attn.{gate}_gate.{leaf}"
            for gate in ("input", "recurrent")
            for leaf in ("weight", "bias")
        },
        **_mlp("layers.{}.mlp_block", "gate_proj", "up_proj", "down_proj"),
    },
    name="transformers RecurrentGemma",
)

_QWEN3_MIXERS: Rules = {
    **{
        f"layers.{{}}.self_attn.q_proj.{leaf}": Split(
            (f"blocks.{{}}.attn.q.{leaf}", f"blocks.{{}}.attn.gate.{leaf}"), groups="num_heads"
        )
        for leaf in ("weight", "bias")
    },
    **affine(
        {
            "layers.{}.linear_attn.conv1d": "blocks.{}.attn.conv",
            "layers.{}.linear_attn.norm": "blocks.{}.attn.norm",
            "layers.{}.linear_attn.out_proj": "blocks.{}.attn.output",
        }
    ),
    "layers.{}.linear_attn.A_log": "blocks.{}.attn.a_log",
    "layers.{}.linear_attn.dt_bias": "blocks.{}.attn.dt_bias",
}
# transformers: models/qwen3_next/modeling_qwen3_next.py; numbers: num_experts, num_heads
QWEN3_NEXT = NORMED_MOE.but(
    {
        **_QWEN3_MIXERS,
        **affine(
            {
                "layers.{}.linear_attn.in_proj_qkvz": "blocks.{}.attn.input",
                "layers.{}.linear_attn.in_proj_ba": "blocks.{}.attn.rates",
            }
        ),
    },
    name="transformers Qwen3-Next",
)
# transformers: models/qwen3_5/modeling_qwen3_5.py; numbers: num_heads, mixed and gates, rows of the two projections
QWEN3_5 = DECODER.but(
    {
        **_QWEN3_MIXERS,
        "layers.{}.linear_attn.in_proj_qkv.weight": Fuse(
            "blocks.{}.attn.input.weight", 0, ("mixed", "gates")
        ),
        "layers.{}.linear_attn.in_proj_z.weight": Fuse("blocks.{}.attn.input.weight", 1, ("mixed", "gates")),
        "layers.{}.linear_attn.in_proj_b.weight": Fuse("blocks.{}.attn.rates.weight", 0, (1, 1)),
        "layers.{}.linear_attn.in_proj_a.weight": Fuse("blocks.{}.attn.rates.weight", 1, (1, 1)),
    },
    name="transformers Qwen3.5",
)

# transformers: models/lfm2/modeling_lfm2.py
LFM2 = Layout(
    {
        **_ends("embed_tokens", "embedding_norm"),
        "layers.{}.operator_norm.weight": "blocks.{}.norm1.weight",
        "layers.{}.ffn_norm.weight": "blocks.{}.norm2.weight",
        **_attention("layers.{}.self_attn", "out_proj"),
        "layers.{}.self_attn.q_layernorm.weight": "blocks.{}.attn.q_norm.weight",
        "layers.{}.self_attn.k_layernorm.weight": "blocks.{}.attn.k_norm.weight",
        **affine(
            {
                "layers.{}.conv.in_proj": "blocks.{}.attn.input",
                "layers.{}.conv.conv": "blocks.{}.attn.conv",
                "layers.{}.conv.out_proj": "blocks.{}.attn.output",
            }
        ),
        **_mlp("layers.{}.feed_forward", "w1", "w3", "w2"),
    },
    name="transformers LFM2",
)

# togethercomputer/stripedhyena: stripedhyena/model.py; numbers: poles
STRIPED_HYENA = Layout(
    {
        "embedding_layer.weight": "embedding.weight",
        "norm.scale": "norm.weight",
        "blocks.{}.pre_norm.scale": "blocks.{}.norm1.weight",
        "blocks.{}.post_norm.scale": "blocks.{}.norm2.weight",
        "blocks.{}.inner_mha_cls.rotary_emb.inv_freq": None,
        **{
            f"blocks.{{}}.inner_mha_cls.Wqkv.{leaf}": Split(
                tuple(f"blocks.{{}}.attn.{name}.{leaf}" for name in ("q", "k", "v"))
            )
            for leaf in ("weight", "bias")
        },
        **affine(
            {
                "blocks.{}.inner_mha_cls.out_proj": "blocks.{}.attn.out",
                "blocks.{}.projections": "blocks.{}.attn.input",
                "blocks.{}.out_filter_dense": "blocks.{}.attn.output",
            }
        ),
        "blocks.{}.filter.short_filter_weight": "blocks.{}.attn.conv.weight",
        "blocks.{}.filter.short_filter_bias": "blocks.{}.attn.conv.bias",
        "blocks.{}.filter.D": "blocks.{}.attn.skip",
        "blocks.{}.filter.poles": Reshape("blocks.{}.attn.poles", (-1, "poles", 1, 2)),
        "blocks.{}.filter.residues": Reshape("blocks.{}.attn.residues", (-1, "poles", 1, 2)),
        **_mlp("blocks.{}.mlp", "l1", "l2", "l3"),
    },
    name="StripedHyena",
)


def rwkv(layers: int) -> Layout:
    """transformers: models/rwkv/modeling_rwkv.py, each of whose `layers` is two of ours."""
    rules: Rules = {
        "embeddings.weight": "embedding.weight",
        **affine({"ln_out": "norm", "blocks.0.pre_ln": "embedding.norm"}),
    }
    for layer in range(layers):
        for half, (name, norm, maps) in enumerate(
            (
                ("attention", "ln1", ("key", "value", "receptance", "output")),
                ("feed_forward", "ln2", ("key", "receptance", "value")),
            )
        ):
            own = f"blocks.{2 * layer + half}."
            shares = ("key", "value", "receptance") if half == 0 else ("key", "receptance")
            rules |= affine({f"blocks.{layer}.{norm}": f"{own}norm1"})
            rules |= {f"blocks.{layer}.{name}.{key}.weight": f"{own}attn.{key}.weight" for key in maps}
            rules |= {
                f"blocks.{layer}.{name}.time_mix_{key}": Leading(f"{own}attn.shares.{key}", 2)
                for key in shares
            }
        rules |= {
            f"blocks.{layer}.attention.time_{key}": f"blocks.{2 * layer}.attn.{key}"
            for key in ("decay", "first")
        }
    return Layout(rules, name="transformers RWKV")
