"""CLAP."""

from __future__ import annotations

from beholder.weights.layout import Layout
from beholder.weights.layouts.hierarchical import SWIN, steps
from beholder.weights.layouts.rules import Rules, affine, inside
from beholder.weights.layouts.text import BERT

# transformers: models/clap/modeling_clap.py; its blocks are Swin's under the same names
_ENCODER: Rules = {
    **{
        key.removeprefix("encoder."): op
        for key, op in SWIN.rules.items()
        if key.startswith("encoder.") and "relative_position_index" not in key and "downsample" not in key
    },
    "layers.{}.blocks.{}.attention.self.relative_position_index": "stages.{}.blocks.{}.mixer.bias.index",
    **affine({"patch_embed.proj": "stem.conv", "patch_embed.norm": "stem.norm", "norm": "norm"}),
    **affine(steps("layers.{}.downsample.norm", "norm")),
    **steps("layers.{}.downsample.reduction.weight", "linear.weight"),
}
SOUND = Layout(
    {
        "batch_norm.weight": "norm.weight",
        "batch_norm.bias": "norm.bias",
        "batch_norm.running_mean": "norm.running_mean",
        "batch_norm.running_var": "norm.running_var",
        "batch_norm.num_batches_tracked": "norm.num_batches_tracked",
        **inside(_ENCODER, "", "encoder."),
    },
    name="transformers CLAP encoder of sounds",
)
TEXT = Layout(
    {key: op for key, op in BERT.rules.items() if key != "embeddings.position_ids"},
    name="transformers CLAP text tower",
)
COUNTED = Layout(
    {"position_ids": "place_ids", "token_type_ids": "kind_ids"}, name="transformers CLAP numbers of places"
)
PROJECTION = Layout(
    affine({"linear1": "layers.0", "linear2": "layers.1"}), name="transformers CLAP projection"
)
SCALES = Layout({"logit_scale_a": "scale", "logit_scale_t": "scale_back"}, name="CLAP scales")
