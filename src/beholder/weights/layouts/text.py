"""Text towers and encoders."""

from __future__ import annotations

from collections.abc import Mapping

from beholder.weights.layout import Layout
from beholder.weights.layouts.rules import Rules, affine
from beholder.weights.ops import Split, Tied

CLIP_LAYERS = affine(
    {
        "encoder.layers.{}.layer_norm1": "blocks.{}.norm1",
        "encoder.layers.{}.self_attn.q_proj": "blocks.{}.attn.q",
        "encoder.layers.{}.self_attn.k_proj": "blocks.{}.attn.k",
        "encoder.layers.{}.self_attn.v_proj": "blocks.{}.attn.v",
        "encoder.layers.{}.self_attn.out_proj": "blocks.{}.attn.out",
        "encoder.layers.{}.layer_norm2": "blocks.{}.norm2",
        "encoder.layers.{}.mlp.fc1": "blocks.{}.mlp.up",
        "encoder.layers.{}.mlp.fc2": "blocks.{}.mlp.down",
    }
)

TEXT_TOWER = Layout(
    {
        "embeddings.token_embedding.weight": "embedding.weight",
        "embeddings.position_embedding.weight": "embedding.positions",
        "embeddings.position_ids": None,
        **CLIP_LAYERS,
        **affine({"final_layer_norm": "norm", "head": "projection"}),
    },
    name="transformers text tower",
)


def _encoder(prefix: str, names: Mapping[str, str], layers: Mapping[str, str], index: str = "{}") -> Rules:
    """names: of the model's own modules; layers: of those in every layer, under `prefix`. Ours -> published."""
    modules = {key: own for own, key in names.items()}
    modules |= {prefix + key: f"blocks.{index}.{own}" for own, key in layers.items()}
    rules = affine(modules)
    for key, own in modules.items():  # releases up to 2019 name a norm's parameters as TensorFlow does
        if "norm" in own or "after" in own:
            rules |= {f"{key}.gamma": Tied(f"{own}.weight"), f"{key}.beta": Tied(f"{own}.bias")}
    return rules


BERT_TABLES: Rules = {
    "embeddings.word_embeddings.weight": "embedding.weight",
    "embeddings.position_embeddings.weight": "embedding.positions",
    "embeddings.token_type_embeddings.weight": "embedding.segments",
    "embeddings.position_ids": None,
}
BERT_ENDS = {"embedding.norm": "embeddings.LayerNorm", "projection": "pooler.dense"}
BERT_MLP = {"mlp.up": "intermediate.dense", "mlp.down": "output.dense", "after2": "output.LayerNorm"}

# transformers: models/bert/modeling_bert.py, models/roberta/modeling_roberta.py, models/electra/modeling_electra.py
BERT = Layout(
    {
        **BERT_TABLES,
        **_encoder(
            "encoder.layer.{}.",
            {**BERT_ENDS, "embedding.projection": "embeddings_project"},
            {
                "attn.q": "attention.self.query",
                "attn.k": "attention.self.key",
                "attn.v": "attention.self.value",
                "attn.out": "attention.output.dense",
                "after1": "attention.output.LayerNorm",
                **BERT_MLP,
            },
        ),
    },
    name="transformers BERT",
)

# transformers: models/deberta_v2/modeling_deberta_v2.py
DEBERTA = Layout(
    {
        **BERT_TABLES,
        "encoder.rel_embeddings.weight": "distances.weight",
        **_encoder(
            "encoder.layer.{}.",
            {
                "embedding.norm": "embeddings.LayerNorm",
                "embedding.projection": "embeddings.embed_proj",
                "distances.norm": "encoder.LayerNorm",
            },
            {
                "attn.q": "attention.self.query_proj",
                "attn.k": "attention.self.key_proj",
                "attn.v": "attention.self.value_proj",
                "attn.place_q": "attention.self.pos_query_proj",
                "attn.place_k": "attention.self.pos_key_proj",
                "attn.out": "attention.output.dense",
                "after1": "attention.output.LayerNorm",
                **BERT_MLP,
            },
        ),
    },
    name="transformers DeBERTa v2",
)
DEBERTA_HEADS = Layout(
    {f"{name}.*": None for name in ("lm_predictions", "mask_predictions", "cls")},
    name="DeBERTa's heads of pretraining",
)

# transformers: models/mpnet/modeling_mpnet.py
MPNET = Layout(
    {
        **BERT_TABLES,
        "encoder.relative_attention_bias.weight": "relative.weight",
        **_encoder(
            "encoder.layer.{}.",
            BERT_ENDS,
            {
                **{f"attn.{own}": f"attention.attn.{own[0]}" for own in ("q", "k", "v", "out")},
                "after1": "attention.LayerNorm",
                **BERT_MLP,
            },
        ),
    },
    name="transformers MPNet",
)

# transformers: models/distilbert/modeling_distilbert.py
DISTILBERT = Layout(
    {
        **BERT_TABLES,
        **_encoder(
            "transformer.layer.{}.",
            BERT_ENDS,
            {
                **{f"attn.{own}": f"attention.{own}_lin" for own in ("q", "k", "v", "out")},
                "after1": "sa_layer_norm",
                "mlp.up": "ffn.lin1",
                "mlp.down": "ffn.lin2",
                "after2": "output_layer_norm",
            },
        ),
    },
    name="transformers DistilBERT",
)

# transformers: models/albert/modeling_albert.py
ALBERT = Layout(
    {
        **BERT_TABLES,
        **_encoder(
            "encoder.albert_layer_groups.0.albert_layers.0.",
            {
                "embedding.norm": "embeddings.LayerNorm",
                "embedding.projection": "encoder.embedding_hidden_mapping_in",
                "projection": "pooler",
            },
            {
                "attn.q": "attention.query",
                "attn.k": "attention.key",
                "attn.v": "attention.value",
                "attn.out": "attention.dense",
                "after1": "attention.LayerNorm",
                "mlp.up": "ffn",
                "mlp.down": "ffn_output",
                "after2": "full_layer_layer_norm",
            },
            index="0",
        ),
    },
    name="transformers ALBERT",
)

# transformers: models/nomic_bert/modeling_nomic_bert.py, in the names of nomic-ai/nomic-bert-2048
NOMIC_BERT = Layout(
    {
        **BERT_TABLES,
        "encoder.layers.{}.attn.Wqkv.weight": Split(
            tuple(f"blocks.{{}}.attn.{name}.weight" for name in ("q", "k", "v"))
        ),
        **_encoder(
            "encoder.layers.{}.",
            {"embedding.norm": "emb_ln"},
            {
                "attn.out": "attn.out_proj",
                "after1": "norm1",
                "mlp.up": "mlp.fc11",
                "mlp.gate": "mlp.fc12",
                "mlp.down": "mlp.fc2",
                "after2": "norm2",
            },
        ),
    },
    name="transformers NomicBERT",
)


# transformers: models/modernbert/modeling_modernbert.py
MODERN_BERT = Layout(
    {
        "embeddings.tok_embeddings.weight": "embedding.weight",
        **{
            f"layers.{{}}.attn.Wqkv.{leaf}": Split(
                tuple(f"blocks.{{}}.attn.{name}.{leaf}" for name in ("q", "k", "v"))
            )
            for leaf in ("weight", "bias")
        },
        **{
            f"layers.{{}}.mlp.Wi.{leaf}": Split(
                (f"blocks.{{}}.mlp.gate.{leaf}", f"blocks.{{}}.mlp.up.{leaf}")
            )
            for leaf in ("weight", "bias")
        },
        **affine(
            {
                "embeddings.norm": "embedding.norm",
                "layers.{}.attn_norm": "blocks.{}.norm1",
                "layers.{}.attn.Wo": "blocks.{}.attn.out",
                "layers.{}.mlp_norm": "blocks.{}.norm2",
                "layers.{}.mlp.Wo": "blocks.{}.mlp.down",
                "final_norm": "norm",
            }
        ),
    },
    name="transformers ModernBERT",
)


def masked_token(dense: str, norm: str, decoder: str, bias: str) -> Layout:
    """A head over masks; the weights of `decoder` are the token table once more, and its bias may be a copy of `bias`."""
    copy: Rules = {} if bias == f"{decoder}.bias" else {f"{decoder}.bias": Tied("bias")}
    return Layout(
        {
            **affine({dense: "dense", norm: "norm"}),
            f"{norm}.gamma": Tied("norm.weight"),
            f"{norm}.beta": Tied("norm.bias"),
            bias: "bias",
            **copy,
        },
        name="transformers masked tokens",
    )


# Heads that only training used: whether a sentence follows another, the order of two, words that were replaced
IDLE_HEADS = Layout(
    {"cls.seq_relationship.*": None, "sop_classifier.*": None, "discriminator_predictions.*": None},
    name="heads over sentences and replaced words",
)
