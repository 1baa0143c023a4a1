"""Systems whose pictures go through several encoders; DeepSeek-VL's smaller one, of the same make, has one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from beholder.cards.schema import Branch, Card
from beholder.media.geometry import CLIP_MEAN, CLIP_STD, Fixed, Geometry
from beholder.media.several import Several
from beholder.parts.connectors.downsample import Strided
from beholder.parts.connectors.projections import Linear, Mlp
from beholder.parts.connectors.several import Concat, Way
from beholder.parts.contracts import EncoderConfig
from beholder.parts.fusion.splice import Splice
from beholder.parts.heads.next_token import NextToken
from beholder.parts.language.decoder import Decoder
from beholder.parts.vision.vit import Take
from beholder.parts.vision.vitdet import VitDet
from beholder.weights.layout import Binding
from beholder.weights.layouts import several as layouts
from beholder.weights.layouts.hierarchical import SEGMENT_ANYTHING
from beholder.weights.readers.fields import Fields
from beholder.weights.readers.llava_own import CLIP_L
from beholder.weights.readers.own_code import READERS as LANGUAGES
from beholder.weights.readers.parts import read_decoder, read_encoder, read_vit
from beholder.weights.readers.read import Read, Recorded
from beholder.weights.readers.reading import CONNECTOR, VISION, Reading, language_naming, text_stages

DETAILS = "branches.image.others.0."
COLOURS: dict[str, Any] = {"mean": CLIP_MEAN, "std": CLIP_STD}


STAGES = {
    "vision": Recorded("hook/model.vision_model/last_hidden_state"),
    "connector": Recorded("hook/model.aligner"),
    **text_stages(),
}


def hybrid(side: int, details: EncoderConfig) -> Concat:
    """The connector of two encoders, the first with `side` rows of tokens; each convolution doubles the channels."""
    dims = (2 * details.dim, 4 * details.dim)
    ways = (Way((1,), Strided(dims, side=side, early=True)), Way((0,), Linear()))
    return Concat(ways, act="gelu", then=Mlp(depth=1))


def _deepseek_vl(fields: Fields, name: str, geometry: Geometry | None) -> Reading:
    hybrid_type = fields.raw("model_type") == "deepseek_vl_hybrid"
    vision = read_vit(fields.part("vision_config", "siglip_vision_model"))
    details = read_encoder(fields.part("high_res_vision_config", "sam_vision_model")) if hybrid_type else None
    language = read_decoder(fields.part("text_config", "llama"))
    fields.get("tie_word_embeddings", False)
    encoders = (vision.config,) if details is None else (vision.config, details.config)
    branch = Branch(
        encoders,
        geometry=geometry,
        connector=Mlp(depth=2) if details is None else hybrid(vision.config.side, details.config),
    )
    card = Card(
        name=name,
        branches=(branch,),
        fusion=(Splice(token_id=fields.get("image_token_id", 100015), at="<image_placeholder>"),),
        heads=(NextToken(),),
        language=language.config,
    )
    connector = [Binding("model.aligner.", CONNECTOR, layouts.ALIGNER)]
    if details is not None:
        connector = [
            Binding("model.high_res_vision_model.vision_encoder.", DETAILS, details.layout, details.numbers),
            Binding("model.", CONNECTOR, layouts.HYBRID_ALIGNER),
            Binding("model.", CONNECTOR + "ways.0.", layouts.HYBRID_DETAILS),
        ]
    naming = (
        Binding("model.vision_model.", VISION, vision.layout, vision.numbers),
        *connector,
        *language_naming(language, "model.language_model.", "lm_head."),
    )
    return Reading(card, (naming,), STAGES)


def _vary(fields: Fields, name: str, geometry: Geometry | None) -> Reading:
    """Vary and Vary-toy as their authors release them. Files do not speak of the encoders, whose sizes the code has; a
    `vision_config` and a `high_res_vision_config` beside are read where there are any.
    """
    whole = read_vit(fields.part("vision_config", "clip_vision_model", absent={**CLIP_L, "image_size": 224}))
    details = read_encoder(
        fields.part("high_res_vision_config", "sam_vision_model", absent={"image_size": 1024})
    )
    assert isinstance(details.config, VitDet)
    for key in (
        "freeze_vision_tower",
        "vision_tower",
        "use_im_start_end",
        "image_token_len",
        "sep_image_conv_front",
    ):
        fields.raw(key)
    layer = fields.get("vision_select_layer", -2)
    language: Read[Decoder] = LANGUAGES["qwen"](fields)
    dims = (2 * details.config.dim, 4 * details.config.dim)
    pixels = (whole.config.image_size, details.config.image_size)
    parts = (Fixed(size=(pixels[0],) * 2, fit="crop", **COLOURS), Fixed(size=(pixels[1],) * 2, **COLOURS))
    branch = Branch(
        (whole.config.but(pool=None, take=Take(layers=(layer,), norm=False)), details.config),
        geometry=geometry or Several(parts=parts),
        connector=Concat(ways=(Way((0,), Linear()), Way((1,), Strided(dims)))),
    )
    card = Card(
        name=name,
        branches=(branch,),
        fusion=(Splice(token_id=fields.get("im_patch_token", 151859), at="<imgpad>"),),
        heads=(NextToken(),),
        language=language.config,
    )
    naming = (
        Binding("transformer.vision_tower.vision_model.", VISION, whole.layout, whole.numbers),
        Binding("transformer.vision_tower_high.", DETAILS, SEGMENT_ANYTHING, details.numbers),
        Binding("transformer.vision_tower_high.", CONNECTOR + "ways.1.", layouts.VARY_DETAILS),
        Binding("transformer.", CONNECTOR, layouts.VARY_PROJECTORS),
        *language_naming(language, "transformer.", "lm_head."),
    )
    return Reading(card, (naming,), text_stages())


READERS: Mapping[str, Callable[[Fields, str, Geometry | None], Reading]] = {
    "deepseek_vl": _deepseek_vl,
    "deepseek_vl_hybrid": _deepseek_vl,
    "vary": _vary,
}
