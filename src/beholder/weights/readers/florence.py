"""Florence-2, in the files of transformers and in microsoft's own. Defaults are those of the official config classes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from beholder.cards.schema import Card
from beholder.errors import BeholderError
from beholder.media.geometry import Geometry
from beholder.parts.connectors.placed import Placed
from beholder.parts.fusion.splice import Splice
from beholder.parts.heads.next_token import NextToken
from beholder.parts.language.encoder_decoder import EncoderDecoder
from beholder.parts.vision.davit import DaVit
from beholder.weights.layout import Binding
from beholder.weights.layouts import florence as layouts
from beholder.weights.layouts.hierarchical import FLORENCE_2
from beholder.weights.readers.encoder_decoders import STAGES
from beholder.weights.readers.fields import Fields
from beholder.weights.readers.parts import read_encoder, read_language
from beholder.weights.readers.read import Read, Recorded
from beholder.weights.readers.reading import CONNECTOR, VISION, Reading, language_naming

FIRST_PLACEHOLDER = 51289  # behind the words of both published sizes


def _florence(fields: Fields, name: str, geometry: Geometry | None) -> Reading:
    own = "dim_embed" in (fields.raw("vision_config") or {})
    vision_fields = _own_vision(fields) if own else fields.part("vision_config", "florence_vision")
    placed = Placed(
        side=vision_fields.count("max_position_embeddings", 50),
        frames=vision_fields.count("max_temporal_embeddings", 100),
    )
    width = vision_fields.count("projection_dim", 1024)
    vision: Read[DaVit] = read_encoder(vision_fields)  # type: ignore[assignment]
    language = _language(fields, own)
    if language.config.dim != width:
        raise BeholderError(
            f"config.json: projection_dim is {width}, the language model's width {language.config.dim}; they must agree"
        )
    card = Card(
        name=name,
        vision=vision.config,
        connector=placed,
        images=geometry,
        fusion=(Splice(token_id=fields.count("image_token_id", FIRST_PLACEHOLDER)),),
        language=language.config,
        heads=(NextToken(),),
    )
    if own:
        naming = (
            Binding("vision_tower.", VISION, FLORENCE_2),
            Binding("", CONNECTOR, layouts.OWN_PROJECTOR),
            *_own_language(language),
        )
    else:
        naming = (
            Binding("model.vision_tower.", VISION, vision.layout),
            Binding("model.multi_modal_projector.", CONNECTOR, layouts.PROJECTOR),
            *language_naming(language, "model.language_model.", "lm_head."),
        )
    stages = {
        "vision": Recorded("hook/model.vision_tower/last_hidden_state", channels_first=True),
        "connector": Recorded("hook/model.multi_modal_projector"),
        **STAGES,
    }
    return Reading(card, (naming,), stages)


def _language(fields: Fields, own: bool) -> Read[EncoderDecoder]:
    """BART; transformers' has no bias of the logits. Microsoft's files call its type by another name."""
    inner = fields.get("text_config", {})
    if own:
        fields.raw("projection_dim"), fields.raw("vocab_size")
        text = Fields({**inner, "model_type": "bart"}, f"{fields.name}: text_config")
        for key in ("classif_dropout", "output_attentions"):
            text.raw(key)
    else:
        text = fields.part("text_config", "bart")
    read = read_language(text)
    if not isinstance(read.config, EncoderDecoder):
        raise BeholderError(f"{fields.name}: text_config is no encoder-decoder")
    tied = fields.get("tie_word_embeddings", True)
    config = read.config.but(**{"decoder.head_bias": own, "decoder.tied": tied})
    return replace(read, config=config)  # type: ignore[return-value]


def _own_vision(fields: Fields) -> Fields:
    """Microsoft's names of the same settings."""
    own = fields.part("vision_config")
    kept = {
        key: own.raw(key)
        for key in (
            *("depths", "patch_size", "patch_stride", "patch_padding", "patch_prenorm", "num_heads"),
            *("num_groups", "window_size", "mlp_ratio", "qkv_bias", "projection_dim", "drop_path_rate"),
        )
        if own.raw(key) is not None
    }
    source = own.get("image_feature_source", ["spatial_avg_pool", "temporal_avg_pool"])
    if source != ["spatial_avg_pool", "temporal_avg_pool"]:
        raise BeholderError(
            f"{own.name}: image_feature_source is {source}; known: spatial_avg_pool, temporal_avg_pool"
        )
    own.raw("enable_checkpoint")
    for key, kind in (("image_pos_embed", "learned_abs_2d"), ("visual_temporal_embedding", "COSINE")):
        if own.part(key).get("type", kind) != kind:
            raise BeholderError(f"{own.name}: {key} is {own.raw(key)}; known: type {kind}")
    renamed = {
        "embed_dim": own.raw("dim_embed"),
        "max_position_embeddings": own.part("image_pos_embed").count("max_pos_embeddings", 50),
        "max_temporal_embeddings": own.part("visual_temporal_embedding").count(
            "max_temporal_embeddings", 100
        ),
    }
    own.finish()
    return Fields({"model_type": "florence_vision", **kept, **renamed}, own.name)


def _own_language(language: Read[EncoderDecoder]) -> tuple[Binding, ...]:
    """As in `BartForConditionalGeneration`, under a prefix."""
    bindings = language_naming(language, "language_model.model.", "language_model.lm_head.")
    return tuple(
        binding if binding.prefix else replace(binding, prefix="language_model.") for binding in bindings
    )


READERS: Mapping[str, Callable[[Fields, str, Geometry | None], Reading]] = {"florence2": _florence}
