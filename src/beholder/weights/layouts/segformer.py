"""SegFormer."""

from __future__ import annotations

from beholder.weights.layout import Layout
from beholder.weights.layouts.rules import affine, inside

_BLOCK = {
    "attention.self.query": "mixer.heads.q",
    "attention.self.key": "mixer.heads.k",
    "attention.self.value": "mixer.heads.v",
    "attention.self.sr": "mixer.reduce",
    "attention.self.layer_norm": "mixer.norm",
    "attention.output.dense": "mixer.heads.out",
    "layer_norm_1": "norm1",
    "layer_norm_2": "norm2",
    "mlp.dense1": "mlp.up",
    "mlp.dwconv.dwconv": "mlp.depthwise",
    "mlp.dense2": "mlp.down",
}


def encoder(body: str, *, classified: bool) -> Layout:
    """transformers: models/segformer/modeling_segformer.py, as released; `body` is the bare encoder's prefix."""
    pairs = {
        "patch_embeddings.{}.proj": "stages.{}.conv",
        "patch_embeddings.{}.layer_norm": "stages.{}.first_norm",
        "layer_norm.{}": "stages.{}.norm",
        **{f"block.{{}}.{{}}.{key}": f"stages.{{}}.blocks.{{}}.{own}" for key, own in _BLOCK.items()},
    }
    classifier = affine({"classifier": "classifier"}) if classified else {}
    return Layout({**inside(affine(pairs), body, ""), **classifier}, name="transformers SegFormer")


CELLS = Layout(
    {
        "linear_fuse.weight": "fuse.weight",
        **affine({"linear_c.{}.proj": "maps.{}", "batch_norm": "norm", "classifier": "labels"}),
        **{
            f"batch_norm.{name}": f"norm.{name}"
            for name in ("running_mean", "running_var", "num_batches_tracked")
        },
    },
    name="transformers SegFormer labels of cells",
)
