"""Official `config.json` files of Ovis 1 (AIDC-AI/Ovis, initial commit) and Ovis 2: an encoder, a visual table, a decoder."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from beholder.cards.schema import Card
from beholder.errors import UnknownName
from beholder.media.geometry import CLIP_MEAN, CLIP_STD, Fixed, Geometry
from beholder.parts.connectors.visual_table import VisualTable
from beholder.parts.fusion.splice import Splice
from beholder.parts.heads.next_token import NextToken
from beholder.parts.vision.vit import Take
from beholder.weights.layout import Binding, Layout
from beholder.weights.layouts import common
from beholder.weights.layouts.rules import affine
from beholder.weights.layouts.vision import AIMV2
from beholder.weights.readers.fields import Fields
from beholder.weights.readers.parts import read_decoder, read_vit
from beholder.weights.readers.read import Recorded
from beholder.weights.readers.reading import CONNECTOR, VISION, Reading, language_naming, text_stages

MARKS = (151666, 151667, 151668, 151669, 151670)
ENCODER = Layout(
    {
        key.replace("embeddings.patch_embed.", "embeddings.patch_embedding."): op
        for key, op in AIMV2.rules.items()
    },
    name="transformers Ovis 2 encoder",
)
HEAD = Layout({"head_linear.weight": "head.weight", **affine({"head_norm": "norm"})}, name="Ovis 2 head")


def _ovis2(fields: Fields, name: str, geometry: Geometry | None) -> Reading:
    seen = fields.part("vision_config", "ovis2_vision")
    words, stride = seen.count("vocab_size", 16384), seen.count("hidden_stride", 1)
    way = seen.get("tokenize_function", "softmax")
    if way != "softmax":
        raise UnknownName("config.json: tokenize_function", way, ("softmax",))
    seen.ignore("num_visual_indicator_tokens")
    own = {key: seen.raw(key) for key in seen}
    for key in ("vocab_size", "hidden_stride", "tokenize_function", "num_visual_indicator_tokens"):
        own.pop(key, None)
    kind = {"model_type": "aimv2_vision_model", "use_head": False}
    vision = read_vit(Fields({**own, **kind}, seen.name))
    language = read_decoder(fields.part("text_config", "qwen2"))
    language = replace(language, config=language.config.but(tied=fields.get("tie_word_embeddings", True)))
    fields.ignore("hidden_size", "vocab_size")
    marks = tuple(int(mark) for mark in fields.get("visual_indicator_token_ids", list(MARKS)))
    card = Card(
        name=name,
        vision=vision.config,
        connector=VisualTable(words, bounds=False, factor=stride, marks=marks),
        images=geometry,
        fusion=(Splice(token_id=fields.count("image_token_id", 151665)),),
        language=language.config,
        heads=(NextToken(),),
    )
    naming = (
        Binding("model.vision_tower.transformer.", VISION, ENCODER, vision.numbers),
        Binding("model.vision_tower.", CONNECTOR, HEAD),
        Binding("model.visual_embeddings_table.", CONNECTOR + "table.", common.WEIGHT),
        *language_naming(language, "model.language_model.", "lm_head."),
    )
    stages = {
        "vision": Recorded("hook/model.vision_tower/last_hidden_state"),
        "connector": Recorded("hook/model.visual_embeddings_table", first=True),
        **text_stages(),
    }
    return Reading(card, (naming,), stages)


OWN_HEAD = Layout({"0.weight": "head.weight", **affine({"1": "norm"})}, name="Ovis 1 head")


def _ovis(fields: Fields, name: str, geometry: Geometry | None) -> Reading:
    """Of the first releases, whose encoder is CLIP's. Their code pads pictures, whatever the processor does."""
    fields.ignore("conversation_formatter_class", "multimodal_max_length", "hidden_size")
    seen = fields.part("visual_tokenizer_config")
    kind, way = seen.raw("model_type"), seen.get("tokenize_function", "softmax")
    if kind != "clip_visual_tokenizer":
        raise UnknownName(
            "config.json: visual_tokenizer_config: model_type", str(kind), ("clip_visual_tokenizer",)
        )
    if way != "softmax":
        raise UnknownName("config.json: visual_tokenizer_config: tokenize_function", way, ("softmax",))
    seen.ignore("tau", "depths", "hidden_stride", "backbone_kwargs")
    tower = read_vit(seen.part("backbone_config", "clip_vision_model"))
    front = not seen.get("drop_cls_token", False)
    connector = VisualTable(seen.count("vocab_size", 16384), bounds=seen.get("use_indicators", False))
    seen.finish()
    language = read_decoder(fields.part("llm_config"))
    side = tower.config.image_size
    mean, std = (geometry.mean, geometry.std) if geometry else (CLIP_MEAN, CLIP_STD)
    red, green, blue = (int(value * 255) for value in mean)
    padded = Fixed(size=(side, side), fit="pad", background=(red, green, blue), mean=mean, std=std)
    card = Card(
        name=name,
        vision=tower.config.but(pool=None, take=Take(norm=False, front=front)),
        connector=connector,
        images=padded,
        fusion=(Splice(token_id=-200),),
        language=language.config,
        heads=(NextToken(),),
    )
    naming = (
        Binding("visual_tokenizer.backbone.vision_model.", VISION, tower.layout, tower.numbers),
        Binding("visual_tokenizer.head.", CONNECTOR, OWN_HEAD),
        Binding("vte.", CONNECTOR + "table.", common.WEIGHT),
        *language_naming(language, "llm.model.", "llm.lm_head."),
    )
    return Reading(card, (naming,), text_stages())


READERS: Mapping[str, Callable[[Fields, str, Geometry | None], Reading]] = {"ovis": _ovis, "ovis2": _ovis2}
