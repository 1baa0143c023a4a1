"""Layers that attend to features, resamplers, and the encoder of tiles."""

from __future__ import annotations

from beholder.weights.layout import Layout
from beholder.weights.layouts.decoders import DECODER, USUAL
from beholder.weights.layouts.rules import Rules, affine
from beholder.weights.ops import Fuse, Leading, Reshape, Split

_PROJECTIONS = {"q_proj": "q", "k_proj": "k", "v_proj": "v"}


def _under(published: str, own: str, names: dict[str, str]) -> Rules:
    """`affine` of modules under a prefix on either side."""
    return affine({published + key: own + name for key, name in names.items()})


# transformers: models/idefics/modeling_idefics.py
_GATED = _PROJECTIONS | {"o_proj": "out", "q_layer_norm": "q_norm", "k_layer_norm": "k_norm"}
_FEEDS = {"mlp.gate_proj": "mlp.gate", "mlp.up_proj": "mlp.up", "mlp.down_proj": "mlp.down"}
_NORMS = {"input_layernorm": "norm1", "post_attention_layernorm": "norm2"}
IDEFICS_CROSS = Layout(
    {
        "{}.alpha_cross_attn": "layers.{}.gate1",
        "{}.alpha_dense": "layers.{}.gate2",
        "{}.cross_attn.rotary_emb.inv_freq": None,
        **_under("{}.cross_attn.", "layers.{}.attn.", _GATED),
        **_under("{}.", "layers.{}.", {**_FEEDS, **_NORMS}),
    },
    name="transformers IDEFICS cross-attention",
)
IDEFICS_CROSS_CHANNELS = IDEFICS_CROSS.but(
    {
        "{}.alpha_cross_attn": Leading("layers.{}.gate1", 2),
        "{}.alpha_dense": Leading("layers.{}.gate2", 2),
    },
    name="transformers IDEFICS cross-attention with gates for each channel",
)
# transformers: models/idefics/perceiver.py
IDEFICS_RESAMPLER = Layout(
    {
        "latents": "latents",
        **affine({"layer_norm": "norm"}),
        **_under(
            "blocks.{}.",
            "blocks.{}.",
            {
                "0.context_layer_norm": "norm_features",
                "0.latents_layer_norm": "norm1",
                "0.q_layer_norm": "attn.q_norm",
                "0.k_layer_norm": "attn.k_norm",
                **{f"0.{key}": f"attn.{own}" for key, own in _PROJECTIONS.items()},
                "0.output_proj": "attn.out",
                "1.ln": "norm2",
                "1.fc": "mlp.up",
                "1.c_proj": "mlp.down",
            },
        ),
    },
    name="transformers IDEFICS resampler",
)
# Llama's words and those added are apart; numbers: vocab_size, additional
_WORDS = ("vocab_size", "additional")
IDEFICS_DECODER = Layout(
    {
        "model.embed_tokens.weight": Fuse("embedding.weight", 0, _WORDS),
        "model.embed_tokens.additional_embedding.weight": Fuse("embedding.weight", 1, _WORDS),
        "lm_head.weight": Fuse("head.weight", 0, _WORDS),
        "lm_head.additional_fc.weight": Fuse("head.weight", 1, _WORDS),
        **{f"model.{key}": own for key, own in DECODER.rules.items() if key != "embed_tokens.weight"},
    },
    name="transformers IDEFICS decoder",
)
# mlfoundations/open_flamingo: open_flamingo/src/helpers.py; one layer, under the number of its language layer
_FEED = {"ff.0": "norm2", "ff.1": "mlp.up", "ff.3": "mlp.down"}
FLAMINGO_CROSS = Layout(
    {
        "attn_gate": "gate1",
        "ff_gate": "gate2",
        "attn.to_kv.weight": Split(("attn.k.weight", "attn.v.weight")),
        **affine({"attn.norm": "norm1", "attn.to_q": "attn.q", "attn.to_out": "attn.out", **_FEED}),
    },
    name="OpenFlamingo cross-attention",
)
FLAMINGO_RESAMPLER = Layout(
    {
        "latents": "latents",
        "frame_embs": "frames",
        "layers.{}.0.to_kv.weight": Split(("blocks.{}.attn.k.weight", "blocks.{}.attn.v.weight")),
        **affine({"norm": "norm"}),
        **_under(
            "layers.{}.",
            "blocks.{}.",
            {
                "0.norm_media": "norm_features",
                "0.norm_latents": "norm1",
                "0.to_q": "attn.q",
                "0.to_out": "attn.out",
                "1.0": "norm2",
                "1.1": "mlp.up",
                "1.3": "mlp.down",
            },
        ),
    },
    name="OpenFlamingo resampler",
)

# transformers: models/mllama/modeling_mllama.py; single layers, as those of two kinds are numbered together
MLLAMA_SELF = Layout(
    affine({name: own for own, name in USUAL.items()}), name="transformers Mllama self-attention"
)
MLLAMA_CROSS = Layout(
    {
        "cross_attn_attn_gate": "gate1",
        "cross_attn_mlp_gate": "gate2",
        **_under(
            "cross_attn.", "attn.", _PROJECTIONS | {"o_proj": "out", "q_norm": "q_norm", "k_norm": "k_norm"}
        ),
        **_under("", "", {**_FEEDS, **_NORMS}),
    },
    name="transformers Mllama cross-attention",
)
MLLAMA_WORDS = Layout(
    {"embed_tokens.weight": "embedding.weight", "norm.weight": "norm.weight"},
    name="transformers Mllama words",
)
_TILE_LAYER = {
    **_NORMS,
    **{f"self_attn.{key}": f"attn.{own}" for key, own in (_PROJECTIONS | {"o_proj": "out"}).items()},
    "mlp.fc1": "mlp.up",
    "mlp.fc2": "mlp.down",
}
# numbers: kinds, the shapes of canvases and none
MLLAMA_VISION = Layout(
    {
        "class_embedding": "cls",
        "patch_embedding.weight": "patch.weight",
        "gated_positional_embedding.embedding": "positions",
        "gated_positional_embedding.gate": "position_gate",
        "gated_positional_embedding.tile_embedding.weight": Reshape("tile_positions", ("kinds", -1)),
        "pre_tile_positional_embedding.embedding.weight": Reshape("before", ("kinds", -1)),
        "pre_tile_positional_embedding.gate": "before_gate",
        "post_tile_positional_embedding.embedding.weight": Reshape("behind", ("kinds", -1)),
        "post_tile_positional_embedding.gate": "behind_gate",
        **affine({"layernorm_pre": "pre_norm", "layernorm_post": "post_norm"}),
        **_under("transformer.layers.{}.", "blocks.{}.", _TILE_LAYER),
        **_under("global_transformer.layers.{}.", "wide.{}.", _TILE_LAYER),
        "global_transformer.layers.{}.gate_attn": "wide.{}.scale1",
        "global_transformer.layers.{}.gate_ffn": "wide.{}.scale2",
    },
    name="transformers Mllama encoder",
)
