"""Detectors of what phrases name. Defaults are those of the official config classes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

from beholder.cards.schema import Card
from beholder.media.geometry import Geometry
from beholder.parts.connectors.class_gated import ClassGated
from beholder.parts.fusion.towers import Towers
from beholder.parts.heads.phrases import Phrases
from beholder.weights.layout import Binding
from beholder.weights.layouts import common
from beholder.weights.layouts.detectors import OWL_HEADS
from beholder.weights.readers.fields import Fields
from beholder.weights.readers.parts import read_text_encoder, read_vit
from beholder.weights.readers.read import Recorded
from beholder.weights.readers.reading import CONNECTOR, LANGUAGE, VISION, Reading


def _owl(fields: Fields, name: str, geometry: Geometry | None, *, kind: str) -> Reading:
    """CLIP's towers; every patch has a box. kind: `owlvit`, or `owlv2`, which scores boxes without phrases too."""
    vision = read_vit(fields.part("vision_config", f"{kind}_vision_model"))
    text = read_text_encoder(fields.part("text_config", f"{kind}_text_model"))
    projection = fields.count("projection_dim", 512)
    card = Card(
        name=name,
        vision=vision.config,
        connector=ClassGated(vision.config.norm),
        images=geometry,
        fusion=(Towers(),),
        language=text.config.but(projection=projection),
        heads=(Phrases(vision.config.dim, objectness=kind == "owlv2"),),
    )
    body = f"{kind}."
    naming = (
        Binding(f"{body}vision_model.", VISION, vision.layout),
        Binding(f"{body}visual_projection.", CONNECTOR + "linear.", common.WEIGHT),
        Binding("layer_norm.", CONNECTOR + "norm.", common.AFFINE),
        Binding(f"{body}text_model.", LANGUAGE, text.layout),
        Binding(f"{body}text_projection.", LANGUAGE + "projection.", common.WEIGHT),
        Binding(body, "heads.0.", common.CLIP_SCALE),
        Binding("", "heads.0.", OWL_HEADS),
    )
    stages = {
        "connector": Recorded("image_embeds"),
        "boxes": Recorded("pred_boxes"),
        "phrases": Recorded("logits"),
        "objectness": Recorded("objectness_logits"),
    }
    return Reading(card, (naming,), stages)


READERS: Mapping[str, Callable[[Fields, str, Geometry | None], Reading]] = {
    kind: partial(_owl, kind=kind) for kind in ("owlvit", "owlv2")
}
