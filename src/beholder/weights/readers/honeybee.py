"""Honeybee's files, of khanrc/honeybee's code in its two states: released ones are of the first, whose type is `mllm`; those
that the later code writes have no type and name their class (honeybee/configuration_honeybee.py).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from beholder.cards.schema import Card
from beholder.errors import BeholderError, UnknownName
from beholder.media.geometry import CLIP_MEAN, CLIP_STD, Fixed, Geometry
from beholder.parts.blocks.attention import Attention
from beholder.parts.blocks.mlp import FeedForward
from beholder.parts.connectors.convolutional import CAbstractor
from beholder.parts.connectors.deformable import DAbstractor
from beholder.parts.connectors.projections import Mlp
from beholder.parts.contracts import ConnectorConfig
from beholder.parts.fusion.splice import Splice
from beholder.parts.heads.next_token import NextToken
from beholder.parts.vision.vit import Take
from beholder.weights.layout import Binding, Layout
from beholder.weights.layouts import honeybee as layouts
from beholder.weights.readers.fields import Fields
from beholder.weights.readers.parts import read_decoder, read_vit
from beholder.weights.readers.read import activation_name
from beholder.weights.readers.reading import CONNECTOR, VISION, Reading, language_naming, text_stages

PROJECTORS = ("c-abs", "d-abs")
# of training, names of what the weights were taken from, and what the language model's settings say once more
UNREAD = ("lm_config", "hidden_size", "is_encoder_decoder", "tie_word_embeddings", "is_composition")
OLDER = ("use_decoder_only_language_model", "generation_config", "num_attention_heads", "num_hidden_layers")


def _honeybee(fields: Fields, name: str, geometry: Geometry | None) -> Reading:
    """Raises `UnknownName` for another encoder or projector, and `BeholderError` for tokens behind the picture."""
    older = fields.raw("visual_projector_config") is not None
    where = "visual_projector_config" if older else "projector_config"
    fields.need("vision_config")
    fields.need(where)
    fields.ignore(*UNREAD, *OLDER)
    seen: dict[str, Any] = dict(fields.raw("vision_config"))
    if seen.get("encoder_type", "openai.clip") != "openai.clip":
        raise UnknownName("config.json: vision_config: encoder_type", seen["encoder_type"], ("openai.clip",))
    eyes = Fields({**seen, "model_type": "clip_vision_model"}, "config.json: vision_config")
    eyes.ignore("encoder_type", "pretrained_vision_name_or_path")
    mean, std = _colour(eyes, "image_mean", CLIP_MEAN), _colour(eyes, "image_std", CLIP_STD)
    tower = read_vit(eyes)
    parts = fields.part(where)
    queries = fields.count("num_query_tokens", parts.count("num_query_tokens", None))
    if queries is None or math.isqrt(queries) ** 2 != queries:
        raise BeholderError(f"config.json: num_query_tokens is {queries}; expected the square of a number")
    vision = tower.config.but(
        pool=None, take=Take(layers=(parts.get("feature_layer_index", -1),), norm=False)
    )
    connector, layout = _abstractor(parts, math.isqrt(queries), vision.side**2, older)
    language = read_decoder(fields.part("text_config", "llama"))
    size = (vision.image_size, vision.image_size)
    card = Card(
        name=name,
        vision=vision,
        connector=connector,
        images=geometry or Fixed(size=size, mean=mean, std=std),
        fusion=(Splice(token_id=language.config.vocab_size),),
        language=language.config,
        heads=(NextToken(),),
    )
    naming = (
        Binding("vision_model.vision_model.", VISION, tower.layout),
        Binding("abstractor.", CONNECTOR, layout),
        *language_naming(language, "language_model.model.", "language_model.lm_head."),
    )
    return Reading(card, (naming,), text_stages())


def _colour(eyes: Fields, key: str, usual: tuple[float, ...]) -> tuple[float, float, float]:
    values = eyes.get(key, list(usual))
    if len(values) != 3:
        raise BeholderError(f"{eyes.name}: {key} has {len(values)} numbers; expected 3")
    red, green, blue = (float(value) for value in values)
    return red, green, blue


def _abstractor(parts: Fields, side: int, places: int, older: bool) -> tuple[ConnectorConfig, Layout]:
    """The connector and its layout. Of `DeformableDetrConfig`'s fields most are of the detector's other parts."""
    kind = parts.raw("projector_type")
    if kind not in PROJECTORS:
        raise UnknownName(f"{parts.name}: projector_type", str(kind), PROJECTORS)
    for key, wanted in (("num_eos_tokens", 0), ("prenorm", False), ("pos_emb", True)):
        if parts.get(key, wanted) != wanted:
            raise BeholderError(f"{parts.name}: {key} is {parts.raw(key)}; only {wanted} was released")
    if kind == "c-abs":
        for key in ("depth", "mlp_depth"):
            parts.need(key)
        depth, matrices = parts.layers("depth", 3), parts.layers("mlp_depth", 2)
        readout = Mlp(depth=matrices, act="silu")
        hidden = parts.count("hidden_size", 1024)
        connector = CAbstractor(side=side, hidden=hidden, depth=depth, positions=places, readout=readout)
        return connector, layouts.c_abstractor(depth, matrices, with_cls=older)
    levels, pooled = parts.count("num_feature_levels", 4), parts.raw("pooled_v_target")
    alike = parts.count("d_model", 256) == parts.count("encoder_hidden_size", 1024)
    if levels != 1 or pooled != "query" or not alike or not parts.get("except_cls", True):
        raise BeholderError(
            f"{parts.name}: num_feature_levels is {levels}, pooled_v_target {pooled!r}; expected 1 and 'query', d_model as "
            "encoder_hidden_size, and except_cls"
        )
    heads = parts.count("decoder_attention_heads", 8)
    connector_d = DAbstractor(
        attention=Attention(heads, qkv_bias=True, out_bias=True),
        mlp=FeedForward(
            parts.count("decoder_ffn_dim", 1024), activation_name(parts, "activation_function", "relu")
        ),
        side=side,
        positions=places,
        depth=parts.layers("decoder_layers", 6),
        points=parts.count("decoder_n_points", 4),
    )
    return connector_d, layouts.D_ABSTRACTOR


READERS: Mapping[str, Callable[[Fields, str, Geometry | None], Reading]] = {
    "mllm": _honeybee,
    "HoneybeeForConditionalGeneration": _honeybee,
}
