"""DETR (2005.12872). Defaults are those of the official config class."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from beholder.cards.schema import Branch, Card
from beholder.errors import BeholderError, UnknownName
from beholder.media.geometry import Geometry
from beholder.parts.connectors.asked_objects import AskedObjects
from beholder.parts.heads.objects import ObjectTokens
from beholder.parts.vision.convnets import BatchNorm
from beholder.parts.vision.resnet import ResNet
from beholder.weights.layout import Binding, Layout
from beholder.weights.layouts.hierarchical import RESNET, TORCHVISION_RESNET
from beholder.weights.layouts.rules import affine, pointwise
from beholder.weights.readers.fields import Fields
from beholder.weights.readers.hierarchical import READERS as ENCODERS
from beholder.weights.readers.hierarchical import expect
from beholder.weights.readers.read import Recorded, activation_name
from beholder.weights.readers.reading import CONNECTOR, VISION, Reading

UNREAD = (  # of training
    *("auxiliary_loss", "bbox_cost", "bbox_loss_coefficient", "class_cost", "dice_loss_coefficient"),
    *("eos_coefficient", "giou_cost", "giou_loss_coefficient", "mask_loss_coefficient", "init_xavier_std"),
    *(
        "activation_dropout",
        "use_pretrained_backbone",
        "num_hidden_layers",
        "scale_embedding",
        "max_position_embeddings",
    ),
)
DEPTHS = {
    "resnet50": (3, 4, 6, 3),
    "resnet101": (3, 4, 23, 3),
}  # of backbones that are named and not described
_LAYER = {
    **{
        f"self_attn.{theirs}": f"attn.{own}"
        for own, theirs in zip("qkv", ("q_proj", "k_proj", "v_proj"), strict=True)
    },
    "self_attn.out_proj": "attn.out",
    "self_attn_layer_norm": "norm1",
    **{f"encoder_attn.{part}_proj": f"cross.{part}" for part in "qkv"},
    "encoder_attn.out_proj": "cross.out",
    "encoder_attn_layer_norm": "cross_norm",
    "fc1": "mlp.up",
    "fc2": "mlp.down",
    "final_layer_norm": "norm2",
}
# transformers: models/detr/modeling_detr.py, as released
TRANSFORMER = Layout(
    {
        "query_position_embeddings.weight": "queries",
        **pointwise({"input_projection": "project"}),
        **affine({"decoder.layernorm": "norm"}),
        **affine(
            {
                f"{side}.layers.{{}}.{key}": f"{own}.{{}}.{value}"
                for side, own in (("encoder", "reads"), ("decoder", "asks"))
                for key, value in _LAYER.items()
                if own == "asks" or not value.startswith("cross")
            }
        ),
    },
    name="transformers DETR",
)
HEADS = Layout(
    affine({"class_labels_classifier": "classes.layers.0", "bbox_predictor.layers.{}": "boxes.layers.{}"}),
    name="transformers DETR heads",
)


def _detr(fields: Fields, name: str, geometry: Geometry | None) -> Reading:
    fields.ignore(*UNREAD)
    expect(fields, "position_embedding_type", "sine", "sine")
    expect(fields, "dilation", False, False)
    classes = " ".join(fields.raw("architectures") or ("DetrForObjectDetection",))
    if "ForObjectDetection" not in classes:
        raise BeholderError(
            f"{fields.name}: architectures are {classes}; only DetrForObjectDetection is supported"
        )
    encoder, layout = _backbone(fields)
    width = fields.count("d_model", 256)
    sides = {
        side: (
            fields.layers(f"{side}_layers", 6),
            fields.count(f"{side}_attention_heads", 8),
            fields.count(f"{side}_ffn_dim", 2048),
        )
        for side in ("encoder", "decoder")
    }
    connector = AskedObjects(
        width,
        fields.count("num_queries", 100),
        *sides["encoder"],
        asking=sides["decoder"],
        act=activation_name(fields, "activation_function", "relu"),
    )
    named = fields.get("id2label", {}) or {"0": "LABEL_0", "1": "LABEL_1"}
    names = tuple(str(named.get(str(number), number)) for number in range(max(map(int, named)) + 1))
    head = ObjectTokens(width, connector.queries, len(names), deep=1, names=names)
    card = Card(name=name, branches=(Branch((encoder,), geometry, connector),), heads=(head,))
    naming = (
        Binding("model.backbone.conv_encoder.model.", VISION, layout),
        Binding("model.", CONNECTOR, TRANSFORMER),
        Binding("", "heads.0.", HEADS),
    )
    stages = {
        "vision": Recorded("hook/model.backbone.model.encoder/last_hidden_state", channels_first=True),
        "connector": Recorded("last_hidden_state"),
        "boxes": Recorded("pred_boxes"),
        "classes": Recorded("logits"),
    }
    return Reading(card, (naming,), stages)


def _backbone(fields: Fields) -> tuple[ResNet, Layout]:
    """A ResNet whose norms are frozen: described, or named as another library does."""
    norm = BatchNorm(counted=False)
    named = fields.raw("backbone")
    if fields.get("use_timm_backbone", named is not None):
        fields.ignore("backbone_config", "backbone_kwargs")
        if named not in DEPTHS:
            raise UnknownName(f"{fields.name}: backbone", str(named), DEPTHS)
        return ResNet(depths=DEPTHS[str(named)], norm=norm), TORCHVISION_RESNET
    fields.ignore("backbone_kwargs")
    part = fields.part("backbone_config", "resnet")
    part.ignore("out_features", "out_indices", "stage_names")
    config = ENCODERS["resnet"](part).config
    part.finish()
    return config.but(norm=norm), RESNET


READERS: Mapping[str, Callable[[Fields, str, Geometry | None], Reading]] = {"detr": _detr}
