"""Official names of encoders of clips."""

from __future__ import annotations

from beholder.weights.layout import Layout
from beholder.weights.layouts.rules import QKV, Rules, affine
from beholder.weights.ops import Leading, Reshape, Split

_JOINED: Rules = {
    "blocks.{}.attn.qkv.weight": Split(tuple(f"blocks.{{}}.attn.{part}.weight" for part in QKV)),
    "blocks.{}.attn.q_bias": "blocks.{}.attn.q.bias",
    "blocks.{}.attn.v_bias": "blocks.{}.attn.v.bias",
}
_LAYERS = {
    "attn.proj": "attn.out",
    "mlp.fc1": "mlp.up",
    "mlp.fc2": "mlp.down",
    "norm1": "norm1",
    "norm2": "norm2",
}
_BLOCKS = {f"blocks.{{}}.{key}": f"blocks.{{}}.{own}" for key, own in _LAYERS.items()}

# transformers: models/videomae/modeling_videomae.py
_MAPS = ("query", "key", "value")  # biases of queries and values have names of their own, keys have none
_HF = {
    "attention.output.dense": "attn.out",
    "intermediate.dense": "mlp.up",
    "output.dense": "mlp.down",
    "layernorm_before": "norm1",
    "layernorm_after": "norm2",
}
VIDEO_MAE = Layout(
    {
        **{
            f"encoder.layer.{{}}.attention.attention.{key}.weight": f"blocks.{{}}.attn.{key[0]}.weight"
            for key in _MAPS
        },
        "encoder.layer.{}.attention.attention.q_bias": "blocks.{}.attn.q.bias",
        "encoder.layer.{}.attention.attention.v_bias": "blocks.{}.attn.v.bias",
        **affine({f"encoder.layer.{{}}.{key}": f"blocks.{{}}.{own}" for key, own in _HF.items()}),
        **affine({"embeddings.patch_embeddings.projection": "patch", "layernorm": "post_norm"}),
    },
    name="transformers VideoMAE",
)
# OpenGVLab/VideoChat-Flash: multimodal_encoder/umt/vit.py
UMT = Layout(
    {**_JOINED, **affine({"patch_embed.proj": "patch", "vision_layernorm": "post_norm", **_BLOCKS})},
    name="UMT",
)
# the same repository: multimodal_encoder/internvideo2/vit_scale_clean.py; pictures' own table stays unread
INTERN_VIDEO_2 = Layout(
    {
        "cls_token": Leading("cls", 2),
        "pos_embed": Leading("positions"),
        "img_pos_embed": None,
        "blocks.{}.attn.qkv.weight": _JOINED["blocks.{}.attn.qkv.weight"],
        "blocks.{}.ls1.gamma": "blocks.{}.scale1",
        "blocks.{}.ls2.gamma": "blocks.{}.scale2",
        **affine(
            {
                "patch_embed.proj": "patch",
                "blocks.{}.attn.q_norm": "blocks.{}.attn.q_norm",
                "blocks.{}.attn.k_norm": "blocks.{}.attn.k_norm",
                **_BLOCKS,
            }
        ),
    },
    name="InternVideo2",
)


def _jepa_layers() -> Rules:
    """Layers of V-JEPA 2's encoder and predictor."""
    names = {"query": "attn.q", "key": "attn.k", "value": "attn.v", "proj": "attn.out"}
    pairs = {
        **{f"attention.{key}": own for key, own in names.items()},
        "mlp.fc1": "mlp.up",
        "mlp.fc2": "mlp.down",
    }
    pairs |= {"norm1": "norm1", "norm2": "norm2"}
    return affine({f"layer.{{}}.{key}": f"blocks.{{}}.{own}" for key, own in pairs.items()})


# transformers: models/vjepa2/modeling_vjepa2.py
V_JEPA_2 = Layout(
    {**_jepa_layers(), **affine({"embeddings.patch_embeddings.proj": "patch", "layernorm": "post_norm"})},
    name="transformers V-JEPA 2",
)
V_JEPA_2_PREDICTOR = Layout(
    {
        **_jepa_layers(),
        "embeddings.mask_tokens": Reshape("masks", ("masks", 1, 1, -1)),
        **affine({"embeddings.predictor_embeddings": "enter", "layernorm": "norm", "proj": "leave"}),
    },
    name="transformers V-JEPA 2 predictor",
)
