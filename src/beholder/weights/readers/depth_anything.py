"""Depth Anything (2401.10891, 2406.09414). Defaults are those of the official config class."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from beholder.cards.schema import Branch, Card
from beholder.errors import BeholderError
from beholder.media.geometry import Geometry
from beholder.parts.heads.depth import DepthMap
from beholder.parts.vision.vit import Take
from beholder.weights.layout import Binding, Layout
from beholder.weights.layouts.rules import affine
from beholder.weights.readers.fields import Fields
from beholder.weights.readers.hierarchical import counts, expect
from beholder.weights.readers.parts import read_vit
from beholder.weights.readers.read import Recorded
from beholder.weights.readers.reading import VISION, Reading

SMALL: Mapping[str, Any] = {
    "image_size": 518,
    "hidden_size": 384,
    "num_attention_heads": 6,
    "out_indices": [9, 10, 11, 12],
}
_JOIN = "neck.fusion_stage.layers.{}."
# transformers: models/depth_anything/modeling_depth_anything.py
HEAD = Layout(
    {
        "neck.convs.{}.weight": "convs.{}.weight",
        **affine(
            {
                "neck.reassemble_stage.layers.{}.projection": "projects.{}",
                "neck.reassemble_stage.layers.{}.resize": "resizes.{}",
                f"{_JOIN}projection": "joins.{}.project",
                **{
                    f"{_JOIN}residual_layer{number}.convolution{place}": f"joins.{{}}.{own}.{part}"
                    for number, own in ((1, "own"), (2, "both"))
                    for place, part in ((1, "first"), (2, "second"))
                },
                "head.conv1": "first",
                "head.conv2": "second",
                "head.conv3": "last",
            }
        ),
    },
    name="transformers Depth Anything",
)


def _depth_anything(fields: Fields, name: str, geometry: Geometry | None) -> Reading:
    part = fields.part("backbone_config", "dinov2", absent=SMALL)
    layers = part.get("out_indices", [])
    expect(part, "apply_layernorm", True, True)
    tower = read_vit(part)
    fields.ignore("backbone", "use_timm_backbone", "use_pretrained_backbone", "backbone_kwargs")
    expect(fields, "head_in_index", -1, -1)
    kind = fields.get("depth_estimation_type", "relative")
    if kind not in ("relative", "metric"):
        raise BeholderError(f"{fields.name}: depth_estimation_type is {kind!r}; expected relative or metric")
    head = DepthMap(
        dim=fields.count("reassemble_hidden_size", 384),
        widths=counts(fields, "neck_hidden_sizes", (48, 96, 192, 384)),
        factors=tuple(float(factor) for factor in fields.get("reassemble_factors", [4, 2, 1, 0.5])),
        width=fields.count("fusion_hidden_size", 64),
        hidden=fields.count("head_hidden_size", 32),
        patch=fields.count("patch_size", 14),
        metric=kind == "metric",
        most=fields.positive("max_depth", 1.0),
    )
    if len(layers) != len(head.widths) or head.dim != tower.config.dim or head.patch != tower.config.patch:
        raise BeholderError(
            f"{fields.name}: {len(layers)} features of {tower.config.dim} channels and patches of {tower.config.patch} pixels "
            f"for {len(head.widths)} maps of {head.dim} channels and {head.patch} pixels"
        )
    vision = tower.config.but(take=Take(tuple(layers)))
    card = Card(name=name, branches=(Branch((vision,), geometry),), heads=(head,))
    naming = (Binding("backbone.", VISION, tower.layout, tower.numbers), Binding("", "heads.0.", HEAD))
    return Reading(card, (naming,), {"depth": Recorded("predicted_depth")})


READERS: Mapping[str, Callable[[Fields, str, Geometry | None], Reading]] = {"depth_anything": _depth_anything}
