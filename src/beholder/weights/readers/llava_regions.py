"""`config.json` files of systems grown from LLaVA's code that read regions: Osprey and Ferret.

Names: CircleRadon/Osprey osprey/model, apple/ml-ferret ferret/model. Ferret was released as differences from Vicuna's weights;
what is read is their sum.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from beholder.cards.schema import Card
from beholder.errors import BeholderError
from beholder.media.geometry import CLIP_MEAN, CLIP_STD, Fixed, Geometry
from beholder.parts.connectors.projections import Linear
from beholder.parts.fusion.region_points import SampledPoints
from beholder.parts.fusion.regions import MaskPooled, RegionTokens
from beholder.parts.fusion.splice import Splice
from beholder.parts.heads.next_token import NextToken
from beholder.parts.vision.sizes_hierarchical import CLIP_CONVNEXT_L_320
from beholder.weights.layout import Binding
from beholder.weights.layouts import common
from beholder.weights.layouts import llava_kin as layouts
from beholder.weights.readers.fields import Fields
from beholder.weights.readers.llava_own import IMAGE_TOKEN, language_of, projector_of, tower_of
from beholder.weights.readers.parts import read_decoder
from beholder.weights.readers.reading import CONNECTOR, VISION, Reading, language_naming, text_stages

REGIONS = "fusion.0.encoder."
OSPREY_EYES = CLIP_CONVNEXT_L_320.but(image_size=512, tokens=3)  # of the code, whatever `mm_vision_tower` is


def _osprey(fields: Fields, name: str, geometry: Geometry | None) -> Reading:
    """Words for a mask and its place stand behind the vocabulary, in this order."""
    connector, layout, place = projector_of(fields)
    language = read_decoder(language_of(fields, "llama"))
    size = (OSPREY_EYES.image_size, OSPREY_EYES.image_size)
    behind = language.config.vocab_size
    card = Card(
        name=name,
        vision=OSPREY_EYES,
        connector=connector,
        images=geometry or Fixed(size=size, mean=CLIP_MEAN, std=CLIP_STD),
        fusion=(RegionTokens(MaskPooled(), token_ids=(behind, behind + 1)), Splice(token_id=IMAGE_TOKEN)),
        language=language.config,
        heads=(NextToken(),),
    )
    naming = (
        Binding("model.vision_tower.vision_tower.visual.", VISION, layouts.OSPREY_EYES),
        Binding("model.mm_projector.", CONNECTOR + place, layout),
        Binding("mask_extractor.", REGIONS, layouts.OSPREY_REGIONS),
        *language_naming(language, "model.", "lm_head."),
    )
    return Reading(card, (naming,), text_stages())


def _ferret(fields: Fields, name: str, geometry: Geometry | None) -> Reading:
    tower = tower_of(fields)
    pooled = fields.get("sampler_pooler_mode", "mean")
    if not fields.get("region_geo_sampler", False) or pooled != "max":
        raise BeholderError(
            f"config.json: region_geo_sampler with sampler_pooler_mode {pooled!r}; only max of the released models is known"
        )
    own = ("region_geo_sampler", "sampler_pooler_mode", "im_region_fea_token")
    language = read_decoder(language_of(fields, "llama", *own))
    region = fields.get("im_region_fea_token", language.config.vocab_size - 1)
    sampler = SampledPoints(dim=tower.vision.out_dim, swapped=True)
    size = (tower.vision.image_size, tower.vision.image_size)
    card = Card(
        name=name,
        vision=tower.vision,
        connector=Linear(),
        images=geometry or Fixed(size=size, mean=tower.mean, std=tower.std),
        fusion=(RegionTokens(sampler, token_ids=(region,)), Splice(token_id=IMAGE_TOKEN)),
        language=language.config,
        heads=(NextToken(),),
    )
    naming = (
        Binding(tower.prefix, VISION, tower.read.layout, tower.read.numbers),
        Binding("model.mm_projector.", CONNECTOR + "linear.", common.AFFINE),
        Binding("model.region_geo_sampler.", REGIONS, layouts.FERRET_REGIONS),
        *language_naming(language, "model.", "lm_head."),
    )
    return Reading(card, (naming,), text_stages())


READERS: Mapping[str, Callable[[Fields, str, Geometry | None], Reading]] = {
    "osprey": _osprey,
    "ferret": _ferret,
}
