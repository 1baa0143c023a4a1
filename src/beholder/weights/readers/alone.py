"""Official `config.json` files of single parts: a language model, a text tower, an encoder or a codec by itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from beholder.cards.schema import Branch, Card, CodecPart
from beholder.errors import BeholderError
from beholder.media.geometry import Geometry
from beholder.parts.blocks.norms import Norm
from beholder.parts.connectors.projections import Pooled
from beholder.parts.contracts import HeadConfig
from beholder.parts.heads.labels import Ctc, Labels
from beholder.parts.heads.next_token import NextToken
from beholder.parts.language.decoder import Decoder
from beholder.parts.language.encoder_decoder import EncoderDecoder
from beholder.parts.language.text_encoder import TextEncoder
from beholder.parts.vision.stages import StagedConfig
from beholder.parts.vision.vit import ViT
from beholder.weights.layout import Binding, Layout
from beholder.weights.layouts import common
from beholder.weights.layouts.rules import affine
from beholder.weights.readers.codecs import READERS as CODECS
from beholder.weights.readers.codecs import read_codec
from beholder.weights.readers.fields import Fields
from beholder.weights.readers.parts import AUDIO as SOUNDS
from beholder.weights.readers.parts import LANGUAGE as LANGUAGES
from beholder.weights.readers.parts import VISION as ENCODERS
from beholder.weights.readers.parts import read_audio, read_encoder, read_language, read_text_encoder
from beholder.weights.readers.read import Recorded
from beholder.weights.readers.reading import (
    AUDIO,
    CONNECTOR,
    LANGUAGE,
    VISION,
    Naming,
    Reading,
    language_naming,
    text_stages,
)


def _language(fields: Fields, name: str, _: Geometry | None) -> Reading:
    """A decoder writes text; an encoder gives hidden states and, where it has them, vectors of whole texts."""
    read = read_language(fields)
    writes = isinstance(read.config, (Decoder, EncoderDecoder))
    card = Card(name=name, language=read.config, heads=(NextToken(),) if writes else read.heads)
    stages = read.stages or (text_stages() if writes else ENCODED)
    namings = tuple((*language_naming(read, body, read.head), *read.rest) for body in read.body)
    return Reading(card, namings, stages)


ENCODED = {"hidden states": Recorded("last_hidden_state"), "text vectors": Recorded("pooler_output")}


def _text_tower(fields: Fields, name: str, _: Geometry | None) -> Reading:
    """CLIP's text tower, with or without its projection."""
    projected = "CLIPTextModelWithProjection" in (fields.raw("architectures") or ())
    read = read_text_encoder(fields)
    tower = read.config
    assert isinstance(tower, TextEncoder)
    card = Card(name=name, language=tower if projected else tower.but(projection=0))
    naming = language_naming(read, read.body[0], read.head)
    if projected:
        naming += (Binding("text_projection.", LANGUAGE + "projection.", common.WEIGHT),)
    return Reading(
        card, (naming,), {"text vectors": Recorded("text_embeds" if projected else "pooler_output")}
    )


def _vision(fields: Fields, name: str, geometry: Geometry | None) -> Reading:
    """An encoder of pictures, with its labels where the file has them."""
    read = read_encoder(fields)
    config, layout = read.config, read.layout
    classes = " ".join(fields.raw("architectures") or ())
    heads, rest = read.heads, read.rest
    stages = read.stages or {"vision": Recorded("last_hidden_state"), "pooled": Recorded("pooler_output")}
    if "ForImageClassification" in classes:
        if isinstance(config, ViT):
            width = config.dim * (2 if config.pool == "cls and mean" else 1)
            rest = (Binding("classifier.", "heads.0.linear.", common.AFFINE),)
            stages = {"vision": Recorded(f"hook/{read.body[0]}layernorm", skip=config.front)}
        else:
            assert isinstance(config, StagedConfig)
            config, width = config.but(classes=0), getattr(config, "pooled_dim", config.dim)
            layout, classifier = _classifier_apart(layout)
            rest = (Binding("", "heads.0.linear.", classifier),)
        heads = (_labels(fields, width),)
        stages = {**stages, "labels": Recorded("logits")}
    elif isinstance(config, ViT) and "ForPreTraining" in classes:
        rest = (Binding("", VISION, common.PIXEL_DECODER),)
    card = Card(name=name, branches=(Branch((config,), geometry=geometry),), heads=heads)
    namings = tuple((Binding(body, VISION, layout, read.numbers), *rest) for body in read.body)
    return Reading(card, namings, stages)


def _classifier_apart(layout: Layout) -> tuple[Layout, Layout]:
    """An encoder's layout without its classifier, and the classifier's, for the head that it is here."""
    own = {key for key, op in layout.rules.items() if isinstance(op, str) and op.startswith("classifier.")}
    rest = {key: op for key, op in layout.rules.items() if key not in own}
    head = {key: str(layout.rules[key]).removeprefix("classifier.") for key in own}
    return Layout(rest, layout.name), Layout(head, f"{layout.name}: classifier")


def _labels(fields: Fields, width: int, branch: str = "image", norm: Norm | None = None) -> Labels:
    """The labels that `id2label` names, of which officially there are two where it is absent."""
    named = fields.get("id2label", {}) or {"0": "LABEL_0", "1": "LABEL_1"}
    if set(named) != {str(number) for number in range(len(named))}:
        raise BeholderError(f"config.json: id2label numbers its {len(named)} labels otherwise than from 0 on")
    names = tuple(str(named[str(number)]) for number in range(len(named)))
    several = fields.raw("problem_type") == "multi_label_classification"
    return Labels(width, len(names), branch, norm, several, names)


def _clip_vision(fields: Fields, name: str, geometry: Geometry | None) -> Reading:
    """CLIP's encoder, which may come with the projection into the space shared with texts."""
    projected = "CLIPVisionModelWithProjection" in (fields.raw("architectures") or ())
    width = fields.count("projection_dim", 512)
    reading = _vision(fields, name, geometry)
    stages = {"vision": Recorded("last_hidden_state", skip=1), "pooled": Recorded("pooler_output")}
    if not projected:
        return Reading(reading.card, reading.namings, stages)
    (branch,) = reading.card.branches
    card = reading.card.but(branches=(branch.but(connector=Pooled(width=width)),))
    projection: Naming = (Binding("visual_projection.", CONNECTOR + "linear.", common.WEIGHT),)
    stages = {"vision": stages["vision"], "connector": Recorded("image_embeds")}
    return Reading(card, tuple(naming + projection for naming in reading.namings), stages)


def _audio(fields: Fields, name: str, _: Geometry | None) -> Reading:
    """An encoder of sounds, with its letters (CTC) or labels where the file has them."""
    classes = " ".join(fields.raw("architectures") or ())
    count = fields.count("vocab_size", 32)
    read = read_audio(fields)
    config = read.config
    heads: tuple[HeadConfig, ...] = ()
    rest: Naming = ()
    stages = {"sound": Recorded("last_hidden_state", skip=config.cls), "pooled": Recorded("pooler_output")}
    if "ForCTC" in classes:
        heads = (Ctc(config.dim, count, blank=fields.get("pad_token_id", 0)),)
        rest = (Binding("lm_head.", "heads.0.linear.", common.AFFINE),)
        stages = {
            "sound": Recorded(f"hook/{read.body[-1]}encoder/last_hidden_state"),
            "ctc": Recorded("logits"),
        }
    elif "ForAudioClassification" in classes:
        heads = (_labels(fields, config.dim, "audio", config.norm),)
        rest = (Binding("classifier.", "heads.0.", LABELS),)
        stages = {
            "sound": Recorded(f"hook/{read.body[-1]}layernorm", config.cls),
            "labels": Recorded("logits"),
        }
    elif "ForPreTraining" in classes:
        rest = (Binding("", AUDIO, PRETRAINING),)
    card = Card(name=name, branches=(Branch((config,), name="audio", modality="audio"),), heads=heads)
    layouts = (read.layout, *read.older)
    bodies = [(Binding(body, AUDIO, layout, read.numbers), *rest) for layout in layouts for body in read.body]
    return Reading(card, tuple(bodies), stages)


LABELS = Layout(affine({"layernorm": "norm", "dense": "linear"}), name="transformers AST labels")
PRETRAINING = Layout(
    {"quantizer.*": None, "project_hid.*": None, "project_q.*": None}, name="wav2vec 2.0 pretraining"
)


def _codec(fields: Fields, name: str, _: Geometry | None) -> Reading:
    """A tokenizer of pictures or sound."""
    read = read_codec(fields)
    modality = read.config.modality
    own = f"codecs.{modality}."
    layouts = (read.layout, *read.older)
    namings = tuple((Binding(body, own, layout, read.numbers),) for layout in layouts for body in read.body)
    return Reading(Card(name=name, codecs=(CodecPart(read.config, modality),)), namings, read.stages or {})


ALONE: Mapping[str, Callable[[Fields, str, Geometry | None], Reading]] = {
    **dict.fromkeys(LANGUAGES, _language),
    **dict.fromkeys(ENCODERS, _vision),
    **dict.fromkeys(SOUNDS, _audio),
    **dict.fromkeys(CODECS, _codec),
    "clip_text_model": _text_tower,
    "clip_vision_model": _clip_vision,
}
