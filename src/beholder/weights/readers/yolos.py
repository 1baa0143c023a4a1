"""YOLOS (2106.00666). Defaults are those of the official config class."""

from __future__ import annotations

from dataclasses import fields as dataclass_fields

from beholder.errors import BeholderError
from beholder.parts.heads.objects import ObjectTokens
from beholder.parts.vision.detection_tokens import DetectionViT
from beholder.parts.vision.vit import Take
from beholder.weights.layout import Binding, Layout
from beholder.weights.layouts.rules import affine
from beholder.weights.layouts.vision import BERT_VIT
from beholder.weights.ops import Leading, Reshape
from beholder.weights.readers.fields import Fields
from beholder.weights.readers.read import Read, Readers, Recorded
from beholder.weights.readers.vision import plain_vit

UNREAD = (
    *("auxiliary_loss", "bbox_cost", "bbox_loss_coefficient", "class_cost", "eos_coefficient"),
    *("giou_cost", "giou_loss_coefficient"),
)
# transformers: models/yolos/modeling_yolos.py; numbers: layers_behind
VIT = BERT_VIT.but(
    {
        "embeddings.position_embeddings": Leading("places"),
        "embeddings.detection_tokens": Leading("registers"),
        "embeddings.distillation_token": None,
        "encoder.mid_position_embeddings": Reshape("middle", ("layers_behind", 1, "places", -1)),
    },
    name="transformers YOLOS",
)
HEADS = Layout(
    affine(
        {
            "class_labels_classifier.layers.{}": "classes.layers.{}",
            "bbox_predictor.layers.{}": "boxes.layers.{}",
        }
    ),
    name="transformers YOLOS heads",
)


def _yolos(fields: Fields) -> Read[DetectionViT]:
    fields.ignore(*UNREAD)
    size = fields.get("image_size", [512, 864])
    patch, count = fields.count("patch_size", 16), fields.count("num_detection_tokens", 100)
    if len(size) != 2 or not all(type(side) is int and side >= patch for side in size):
        raise BeholderError(
            f"{fields.name}: image_size is {size}; expected a height and a width of {patch} or more"
        )
    square = Fields({**{key: fields.raw(key) for key in fields}, "image_size": patch}, fields.name)
    square.ignore(*UNREAD, "num_detection_tokens", "use_mid_position_embeddings")
    usual = plain_vit(
        square, image_size=patch, patch=16, dim=768, hidden=3072, heads=12, act="gelu", eps=1e-12
    )
    bias = square.get("qkv_bias", True)
    square.finish()
    given = {field.name: getattr(usual, field.name) for field in dataclass_fields(usual)}
    vit = DetectionViT(
        **{
            **given,
            "attention": usual.attention.but(qkv_bias=bias),
            "cls": True,
            "registers": count,
            "positions": None,
            "take": Take(front=True),
            "table": (size[0] // patch, size[1] // patch),
            "middle": fields.get("use_mid_position_embeddings", True),
        }
    )
    numbers = {"layers_behind": vit.num_layers - 1, "places": vit.places}
    classes = " ".join(fields.raw("architectures") or ())
    stages = {"vision": Recorded("last_hidden_state")}
    if "ForObjectDetection" not in classes:
        return Read(vit, VIT, numbers, body=("",), stages=stages)
    named = fields.get("id2label", {}) or {"0": "LABEL_0", "1": "LABEL_1"}
    names = tuple(str(named[str(number)]) for number in range(len(named)))
    head = ObjectTokens(vit.dim, count, len(names), first=1, names=names)
    stages = {"boxes": Recorded("pred_boxes"), "classes": Recorded("logits")}
    rest = (Binding("", "heads.0.", HEADS),)
    return Read(vit, VIT, numbers, body=("vit.",), stages=stages, heads=(head,), rest=rest)


READERS: Readers = {"yolos": _yolos}
