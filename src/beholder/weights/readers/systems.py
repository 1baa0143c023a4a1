"""Official `config.json` files of whole systems.

A reader of a system calls the readers of its parts, so any checkpoint of a known type loads at any size.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from beholder.cards.schema import Card
from beholder.errors import BeholderError, UnknownName
from beholder.media.geometry import Geometry
from beholder.parts.connectors.projections import PixelShuffle, Pooled
from beholder.parts.fusion.splice import Splice
from beholder.parts.fusion.towers import Towers
from beholder.parts.heads.next_token import NextToken
from beholder.parts.heads.similarity import Similarity
from beholder.weights.layout import Binding
from beholder.weights.layouts import common
from beholder.weights.readers import (
    blip,
    blip_2,
    clap,
    cobra,
    coded,
    cross_attention,
    cumo,
    deepseek_vl,
    depth_anything,
    detectors,
    detr,
    dual,
    eagle_2,
    early_fusion,
    expert_systems,
    florence,
    gemma_vision,
    git,
    glamm,
    glm,
    heard,
    honeybee,
    janus,
    joint,
    kosmos,
    layoutlmv3,
    llava,
    llava_clips,
    llava_mole,
    llava_next_own,
    llava_own,
    llava_regions,
    llava_several,
    llava_uhd,
    marked_rows,
    masks,
    minigpt,
    molmo,
    molmo_first,
    monkey,
    moondream,
    native,
    native_kin,
    omg_llava,
    omni,
    open_clip,
    ovis,
    pages,
    parrot,
    phi_4,
    resampled,
    resampled_own,
    retrieval,
    sa2va,
    several,
    speech,
    sphinx,
    streams,
    tiled,
    transcribers,
    video_chatgpt,
    vila,
    visual_experts,
    x_clip,
    xgen_mm,
)
from beholder.weights.readers.alone import ALONE
from beholder.weights.readers.fields import Fields
from beholder.weights.readers.parts import read_decoder, read_text_encoder, read_vit
from beholder.weights.readers.read import Recorded
from beholder.weights.readers.reading import (
    CONNECTOR,
    LANGUAGE,
    VISION,
    Reading,
    language_naming,
    text_stages,
)


def read_system(config: Mapping[str, Any], *, name: str, geometry: Geometry | None = None) -> Reading:
    """The system that `config` describes, called `name`. geometry: from the processor's settings, if there are any. A file
    without a `model_type` is read by the first of its `architectures`.

    Raises `UnknownName` for an unknown `model_type` and `BeholderError` for settings that do not fit together.
    """
    written = config.get("architectures")
    kind = str(config.get("model_type") or (written[0] if isinstance(written, list) and written else None))
    if kind not in SYSTEMS:
        raise UnknownName("config.json: model_type", kind, SYSTEMS)
    fields = Fields(config)
    reading = SYSTEMS[kind](fields, name, geometry)
    fields.finish()
    return reading


def _idefics3(fields: Fields, name: str, geometry: Geometry | None) -> Reading:
    kind = str(fields.raw("model_type"))
    vision = read_vit(fields.part("vision_config", f"{kind}_vision"))
    text = fields.part("text_config", "llama", absent={"rms_norm_eps": 1e-5})
    for key in ("pixel_shuffle_factor", "qk_layer_norms"):  # of the training code; officially unread
        text.raw(key)
    language = read_decoder(text)
    language = replace(language, config=language.config.but(tied=fields.get("tie_word_embeddings", False)))
    fields.get("vocab_size", language.config.vocab_size)
    card = Card(
        name=name,
        vision=vision.config,
        connector=PixelShuffle(factor=fields.count("scale_factor", 2)),
        images=geometry,
        fusion=(Splice(token_id=llava.image_token(fields, 128257)),),
        language=language.config,
        heads=(NextToken(),),
    )
    naming = (
        Binding("model.vision_model.", VISION, vision.layout),
        Binding("model.connector.", CONNECTOR, common.IDEFICS3_CONNECTOR),
        *language_naming(language, "model.text_model.", "lm_head."),
    )
    stages = {
        "vision": Recorded("hook/model.vision_model/last_hidden_state"),
        "connector": Recorded("hook/model.connector"),
        **text_stages(),
    }
    return Reading(card, (naming,), stages)


def _clip(fields: Fields, name: str, geometry: Geometry | None) -> Reading:
    projection = fields.count("projection_dim", 512)
    # Files of the first releases have `..._config_dict` besides, which wins as a whole.
    vision_key, text_key = (
        name + "_dict" if fields.raw(name) is None or fields.raw(name + "_dict") else name
        for name in ("vision_config", "text_config")
    )
    vision = read_vit(fields.part(vision_key, "clip_vision_model"))
    text = read_text_encoder(fields.part(text_key, "clip_text_model"))
    card = Card(
        name=name,
        vision=vision.config,
        connector=Pooled(project=True),
        images=geometry,
        fusion=(Towers(),),
        language=text.config.but(projection=projection),
        heads=(Similarity(),),
    )
    naming = (
        Binding("vision_model.", VISION, vision.layout),
        Binding("visual_projection.", CONNECTOR + "linear.", common.WEIGHT),
        Binding("text_model.", LANGUAGE, text.layout),
        Binding("text_projection.", LANGUAGE + "projection.", common.WEIGHT),
        Binding("", "heads.0.", common.CLIP_SCALE),
    )
    stages = {"vision": Recorded("hook/vision_model/last_hidden_state", skip=1), **dual.STAGES}
    return Reading(card, (naming,), stages)


def _siglip(fields: Fields, name: str, geometry: Geometry | None) -> Reading:
    kind = fields.raw("model_type")
    vision = read_vit(fields.part("vision_config", f"{kind}_vision_model"))
    text = read_text_encoder(fields.part("text_config", f"{kind}_text_model"))
    if vision.config.pool is None:
        raise BeholderError("config.json: a SigLIP model without its vision head gives no picture vectors")
    card = Card(
        name=name,
        vision=vision.config,
        connector=Pooled(project=False),
        images=geometry,
        fusion=(Towers(),),
        language=text.config,
        heads=(Similarity(bias=0.0),),
    )
    naming = (
        Binding("vision_model.", VISION, vision.layout, vision.numbers),
        Binding("text_model.", LANGUAGE, text.layout),
        Binding("", "heads.0.", common.SIGLIP_SCALE),
    )
    return Reading(
        card, (naming,), {"vision": Recorded("hook/vision_model/last_hidden_state"), **dual.STAGES}
    )


SYSTEMS: Mapping[str, Callable[[Fields, str, Geometry | None], Reading]] = {
    **ALONE,
    **speech.READERS,
    **heard.READERS,
    **cross_attention.READERS,
    **blip_2.READERS,
    **minigpt.READERS,
    **blip.READERS,
    **florence.READERS,
    **early_fusion.READERS,
    **visual_experts.READERS,
    **glm.READERS,
    **marked_rows.READERS,
    **tiled.READERS,
    **native.READERS,
    **native_kin.READERS,
    **several.READERS,
    **deepseek_vl.READERS,
    **joint.READERS,
    **streams.READERS,
    **kosmos.READERS,
    **coded.READERS,
    **janus.READERS,
    **git.READERS,
    **transcribers.READERS,
    **pages.READERS,
    **detectors.READERS,
    **masks.READERS,
    **expert_systems.READERS,
    **dual.READERS,
    **x_clip.READERS,
    **retrieval.READERS,
    **open_clip.READERS,
    **resampled.READERS,
    **resampled_own.READERS,
    **monkey.READERS,
    **moondream.READERS,
    **honeybee.READERS,
    **llava.READERS,
    **llava_own.READERS,
    **glamm.READERS,
    **llava_next_own.READERS,
    **eagle_2.READERS,
    **cumo.READERS,
    **llava_regions.READERS,
    **llava_several.READERS,
    **sphinx.READERS,
    **cobra.READERS,
    **omg_llava.READERS,
    **llava_mole.READERS,
    **video_chatgpt.READERS,
    **vila.READERS,
    **llava_uhd.READERS,
    **llava_clips.READERS,
    **parrot.READERS,
    **xgen_mm.READERS,
    **sa2va.READERS,
    **ovis.READERS,
    **molmo.READERS,
    **molmo_first.READERS,
    **omni.READERS,
    **phi_4.READERS,
    **clap.READERS,
    **detr.READERS,
    **depth_anything.READERS,
    **layoutlmv3.READERS,
    **gemma_vision.READERS,
    "idefics3": _idefics3,
    "smolvlm": _idefics3,
    "clip": _clip,
    "siglip": _siglip,
    "siglip2": _siglip,
}
