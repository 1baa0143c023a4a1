"""Official `config.json` files of whole systems: a card, its bindings and where a recorded reference holds its stages.

A reader of a system calls the readers of its parts, so any checkpoint of a known type loads at any size.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from beholder.cards.schema import Card
from beholder.errors import BeholderError, UnknownName
from beholder.media.geometry import Geometry
from beholder.parts.connectors.projections import Mlp, PixelShuffle, Pooled
from beholder.parts.fusion.splice import Splice
from beholder.parts.fusion.towers import Towers
from beholder.parts.heads.next_token import NextToken
from beholder.parts.heads.similarity import Similarity
from beholder.parts.language.decoder import Decoder
from beholder.parts.vision.vit import Take, ViT
from beholder.weights import layouts
from beholder.weights.layout import Binding
from beholder.weights.readers.fields import Fields
from beholder.weights.readers.parts import activation_name, read_decoder, read_text_encoder, read_vision

VISION, CONNECTOR, LANGUAGE = "branches.image.vision.", "branches.image.connector.", "languages.main."

Naming = tuple[Binding, ...]


@dataclass(frozen=True)
class Recorded:
    """A tensor of a recorded reference. skip: tokens in front of each view's (class tokens) that are no features."""

    name: str
    skip: int = 0


@dataclass(frozen=True)
class Reading:
    """What an official config says. namings: the ways releases name the same weights, the usual one first.
    stages: stage name -> where a recorded reference holds it.
    """

    card: Card
    namings: tuple[Naming, ...]
    stages: Mapping[str, Recorded]


def read_system(config: Mapping[str, Any], *, name: str, geometry: Geometry | None = None) -> Reading:
    """The system that `config` describes, called `name`. geometry: from the processor's settings, if there are any.

    Raises `UnknownName` for an unknown `model_type` and `BeholderError` for settings that do not fit together.
    """
    kind = str(config.get("model_type"))
    if kind not in SYSTEMS:
        raise UnknownName("config.json: model_type", kind, SYSTEMS)
    fields = Fields(config)
    reading = SYSTEMS[kind](fields, name, geometry)
    fields.finish()
    return reading


def _text_only(fields: Fields, name: str, _: Geometry | None) -> Reading:
    decoder = read_decoder(fields)
    card = Card(name=name, language=decoder, heads=(NextToken(),))
    return Reading(card, (_decoder_naming(decoder, "model.", "lm_head."),), _text_stages())


def _decoder_naming(decoder: Decoder, body: str, head: str) -> Naming:
    if decoder.tied:
        return Binding(body, LANGUAGE, layouts.DECODER), Binding(head, LANGUAGE, layouts.TIED_HEAD)
    return Binding(body, LANGUAGE, layouts.DECODER), Binding(head, LANGUAGE + "head.", layouts.WEIGHT)


def _text_stages() -> dict[str, Recorded]:
    return {
        "logits": Recorded("logits"),
        "greedy logits": Recorded("gen/gen_logits"),
        "greedy": Recorded("gen/new_ids"),
    }


def _llava_language(fields: Fields, vision: ViT) -> Decoder:
    decoder = read_decoder(fields.part("text_config", "llama"))
    fields.get("vocab_size", decoder.vocab_size)
    tied = fields.get("tie_word_embeddings", False)
    strategy = fields.get("vision_feature_select_strategy", "default")
    if strategy not in ("default", "full"):
        raise UnknownName("config.json: vision_feature_select_strategy", strategy, ("default", "full"))
    if vision.cls != (strategy == "default"):
        what = "keeps" if strategy == "full" else "drops the first token as"
        raise BeholderError(
            f"vision_feature_select_strategy {strategy!r} {what} a class token; not supported here"
        )
    return decoder.but(tied=decoder.tied or tied)


CLIP_L_336 = {
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "patch_size": 14,
    "image_size": 336,
}


def _llava(fields: Fields, name: str, geometry: Geometry | None, *, newline: bool = False) -> Reading:
    vision = read_vision(fields.part("vision_config", "clip_vision_model", absent=CLIP_L_336))
    layer = fields.raw("vision_feature_layer")
    layers = tuple(layer) if isinstance(layer, list) else (-2 if layer is None else layer,)
    if not all(type(number) is int for number in layers):
        raise BeholderError(f"config.json: vision_feature_layer is {layer!r}; expected whole numbers")
    pool = (
        None if vision.pool == "cls" else vision.pool
    )  # SigLIP's pooling head has weights, which files keep
    vision = vision.but(pool=pool, take=Take(layers, norm=False))
    decoder = _llava_language(fields, vision)
    connector = Mlp(
        depth=2,
        act=activation_name(fields, "projector_hidden_act", "gelu"),
        bias=fields.get("multimodal_projector_bias", True),
    )
    fields.raw("image_grid_pinpoints")  # checked against the processor's, which decides
    card = Card(
        name=name,
        vision=vision,
        connector=connector,
        images=geometry,
        fusion=(Splice(token_id=_image_token(fields, 32000), newline=newline),),
        language=decoder,
        heads=(NextToken(),),
    )
    return Reading(card, tuple(_llava_namings(decoder, newline)), _llava_stages(vision))


def _llava_namings(decoder: Decoder, newline: bool) -> list[Naming]:
    """Releases up to transformers 4.51 and the files that later versions write, and the module names of later ones."""
    namings: list[Naming] = []
    for outer, body, head in (
        ("", "language_model.model.", "language_model.lm_head."),
        ("model.", "model.language_model.", "lm_head."),
    ):
        rest = [Binding(outer + "multi_modal_projector.", CONNECTOR, layouts.LLAVA_PROJECTOR)]
        rest += [Binding(outer, "fusion.0.", layouts.NEWLINE)] if newline else []
        rest += _decoder_naming(decoder, body, head)
        for tower in ("vision_tower.vision_model.", "vision_tower."):
            namings.append((Binding(outer + tower, VISION, layouts.VIT), *rest))
    return namings


def _llava_stages(vision: ViT) -> dict[str, Recorded]:
    """Joined depths are recorded apart, so then the connector is the first stage to compare."""
    stages = {"connector": Recorded("hook/model.multi_modal_projector"), **_text_stages()}
    if len(vision.take.layers) > 1:
        return stages
    depth = vision.take.layers[0] % (vision.num_layers + 1)
    recorded = Recorded(f"layer/model.vision_tower.encoder.layers.{depth - 1}", skip=int(vision.cls))
    return {"vision": recorded, **stages}


def _llava_next(fields: Fields, name: str, geometry: Geometry | None) -> Reading:
    return _llava(fields, name, geometry, newline=True)


def _image_token(fields: Fields, default: int) -> int:
    """`image_token_index`, or `image_token_id` in newer files."""
    return int(fields.get("image_token_index", fields.get("image_token_id", default)))


def _idefics3(fields: Fields, name: str, geometry: Geometry | None) -> Reading:
    kind = str(fields.raw("model_type"))
    vision = read_vision(fields.part("vision_config", f"{kind}_vision"))
    text = fields.part("text_config", "llama", absent={"rms_norm_eps": 1e-5})
    for key in ("pixel_shuffle_factor", "qk_layer_norms"):  # of the training code; officially unread
        text.raw(key)
    decoder = read_decoder(text).but(tied=fields.get("tie_word_embeddings", False))
    fields.get("vocab_size", decoder.vocab_size)
    card = Card(
        name=name,
        vision=vision,
        connector=PixelShuffle(factor=fields.count("scale_factor", 2)),
        images=geometry,
        fusion=(Splice(token_id=_image_token(fields, 128257)),),
        language=decoder,
        heads=(NextToken(),),
    )
    naming = (
        Binding("model.vision_model.", VISION, layouts.VIT),
        Binding("model.connector.", CONNECTOR, layouts.IDEFICS3_CONNECTOR),
        *_decoder_naming(decoder, "model.text_model.", "lm_head."),
    )
    stages = {
        "vision": Recorded("hook/model.vision_model/last_hidden_state"),
        "connector": Recorded("hook/model.connector"),
        **_text_stages(),
    }
    return Reading(card, (naming,), stages)


DUAL_STAGES = {
    "connector": Recorded("image_embeds"),
    "text vectors": Recorded("text_embeds"),
    "similarity": Recorded("logits_per_image"),
}


def _clip(fields: Fields, name: str, geometry: Geometry | None) -> Reading:
    projection = fields.count("projection_dim", 512)
    # Files of the first releases have `..._config_dict` besides, which wins as a whole.
    vision_key, text_key = (
        name + "_dict" if fields.raw(name) is None or fields.raw(name + "_dict") else name
        for name in ("vision_config", "text_config")
    )
    vision = read_vision(fields.part(vision_key, "clip_vision_model"))
    text = read_text_encoder(fields.part(text_key, "clip_text_model"))
    card = Card(
        name=name,
        vision=vision,
        connector=Pooled(project=True),
        images=geometry,
        fusion=(Towers(),),
        language=text.but(projection=projection),
        heads=(Similarity(),),
    )
    naming = (
        Binding("vision_model.", VISION, layouts.VIT),
        Binding("visual_projection.", CONNECTOR + "linear.", layouts.WEIGHT),
        Binding("text_model.", LANGUAGE, layouts.TEXT_TOWER),
        Binding("text_projection.", LANGUAGE + "projection.", layouts.WEIGHT),
        Binding("", "heads.0.", layouts.CLIP_SCALE),
    )
    stages = {"vision": Recorded("hook/vision_model/last_hidden_state", skip=1), **DUAL_STAGES}
    return Reading(card, (naming,), stages)


def _siglip(fields: Fields, name: str, geometry: Geometry | None) -> Reading:
    vision = read_vision(fields.part("vision_config", "siglip_vision_model"))
    text = read_text_encoder(fields.part("text_config", "siglip_text_model"))
    if vision.pool is None:
        raise BeholderError("config.json: a SigLIP model without its vision head gives no picture vectors")
    card = Card(
        name=name,
        vision=vision,
        connector=Pooled(project=False),
        images=geometry,
        fusion=(Towers(),),
        language=text,
        heads=(Similarity(bias=0.0),),
    )
    naming = (
        Binding("vision_model.", VISION, layouts.VIT),
        Binding("text_model.", LANGUAGE, layouts.TEXT_TOWER),
        Binding("", "heads.0.", layouts.SIGLIP_SCALE),
    )
    return Reading(
        card, (naming,), {"vision": Recorded("hook/vision_model/last_hidden_state"), **DUAL_STAGES}
    )


def _vision_only(fields: Fields, name: str, geometry: Geometry | None) -> Reading:
    """An encoder by itself; CLIP's may come with the projection into the space shared with texts."""
    kind = str(fields.raw("model_type"))
    projected = "CLIPVisionModelWithProjection" in (fields.raw("architectures") or ())
    width = fields.count("projection_dim", 512)
    vision = read_vision(fields)
    stages = {"vision": Recorded("last_hidden_state", skip=int(vision.cls))}
    connector = Pooled(width=width) if projected else None
    card = Card(name=name, vision=vision, connector=connector, images=geometry)
    projection = (Binding("visual_projection.", CONNECTOR + "linear.", layouts.WEIGHT),) if projected else ()
    if projected:
        stages["connector"] = Recorded("image_embeds")
    prefixes = ("vision_model.", "") if kind == "clip_vision_model" else ("", "vision_model.")
    return Reading(
        card, tuple((Binding(prefix, VISION, layouts.VIT), *projection) for prefix in prefixes), stages
    )


def _text_tower_only(fields: Fields, name: str, _: Geometry | None) -> Reading:
    """A text tower by itself, with or without its projection."""
    projected = "CLIPTextModelWithProjection" in (fields.raw("architectures") or ())
    tower = read_text_encoder(fields)
    card = Card(name=name, language=tower if projected else tower.but(projection=0))
    naming: Naming = (Binding("text_model.", LANGUAGE, layouts.TEXT_TOWER),)
    if projected:
        naming += (Binding("text_projection.", LANGUAGE + "projection.", layouts.WEIGHT),)
    return Reading(
        card, (naming,), {"text vectors": Recorded("text_embeds" if projected else "pooler_output")}
    )


SYSTEMS: Mapping[str, Callable[[Fields, str, Geometry | None], Reading]] = {
    "llama": _text_only,
    "mistral": _text_only,
    "qwen2": _text_only,
    "llava": _llava,
    "llava_next": _llava_next,
    "idefics3": _idefics3,
    "smolvlm": _idefics3,
    "clip": _clip,
    "siglip": _siglip,
    "clip_text_model": _text_tower_only,
    "clip_vision_model": _vision_only,
    "siglip_vision_model": _vision_only,
}
