"""SegFormer (2105.15203): the bare encoder, or with labels of pictures or of cells. Defaults are the official class's."""

from __future__ import annotations

from beholder.parts.contracts import HeadConfig
from beholder.parts.heads.cells import CellLabels
from beholder.parts.vision.mix_transformer import MixTransformer
from beholder.weights.layout import Binding
from beholder.weights.layouts import segformer as layouts
from beholder.weights.readers.fields import Fields
from beholder.weights.readers.hierarchical import counts, depths, expect
from beholder.weights.readers.read import Read, Readers, Recorded, activation_name

UNREAD = (
    "classifier_dropout_prob",
    "drop_path_rate",
    "semantic_loss_ignore_index",
    "layer_norm_eps",
    "num_labels",
)


def _segformer(fields: Fields) -> Read[MixTransformer]:
    fields.ignore(*UNREAD, "reshape_last_stage", "image_size", "downsampling_rates")
    dims = counts(fields, "hidden_sizes", (32, 64, 160, 256))
    expect(fields, "num_encoder_blocks", 4, len(dims))
    hidden = fields.get("mlp_ratios", [4] * len(dims))
    config = MixTransformer(
        dims=dims,
        depths=depths(fields, "depths", (2, 2, 2, 2)),
        heads=counts(fields, "num_attention_heads", (1, 2, 5, 8)),
        kernels=counts(fields, "patch_sizes", (7, 3, 3, 3)),
        strides=counts(fields, "strides", (4, 2, 2, 2)),
        ratios=counts(fields, "sr_ratios", (8, 4, 2, 1)),
        hidden=tuple(float(ratio) for ratio in hidden),
        act=activation_name(fields, "hidden_act", "gelu"),
    )
    width = fields.count("decoder_hidden_size", 256)
    classes = " ".join(fields.raw("architectures") or ())
    stages = {f"stage {n}": Recorded(f"hidden_states.{n - 1}", channels_first=True) for n in config.taps}
    classified, heads = "ForImageClassification" in classes, tuple[HeadConfig, ...]()
    rest: tuple[Binding, ...] = ()
    if "ForSemanticSegmentation" in classes:
        named = fields.get("id2label", {}) or {"0": "LABEL_0", "1": "LABEL_1"}
        names = tuple(str(named[str(number)]) for number in range(len(named)))
        heads = (CellLabels(dims, width, len(names), names=names),)
        rest = (Binding("decode_head.", "heads.0.", layouts.CELLS),)
        stages["cells"] = Recorded("logits", channels_first=True)
    if classified:
        config = config.but(classes=len(fields.raw("id2label") or range(2)))
    body = "segformer.encoder." if classified or heads else "encoder."
    layout = layouts.encoder(body, classified=classified)
    return Read(config, layout, body=("",), stages=stages, heads=heads, rest=rest)


READERS: Readers = {"segformer": _segformer}
