"""GLaMM's `config.json` (mbzuai-oryx/groundingLMM model): LLaVA's own, with the number of the word for a box. SAM and what
reads boxes are of the code's sizes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from beholder.cards import card
from beholder.cards.schema import Branch, Card
from beholder.errors import BeholderError
from beholder.media.geometry import Geometry
from beholder.parts.fusion.regions import RegionTokens
from beholder.parts.fusion.splice import Splice
from beholder.parts.heads.masks import PromptedMasks
from beholder.parts.heads.next_token import NextToken
from beholder.parts.vision.vit import ViT
from beholder.parts.vision.vitdet import VitDet
from beholder.weights.layout import Binding
from beholder.weights.layouts import masks as layouts
from beholder.weights.layouts.hierarchical import SEGMENT_ANYTHING
from beholder.weights.layouts.llava_kin import GLAMM_REGIONS, PERCEPTRON
from beholder.weights.readers.fields import Fields
from beholder.weights.readers.llava import READERS as LLAVA
from beholder.weights.readers.llava_own import IMAGE_TOKEN, geometry_of, language_of, projector_of, tower_of
from beholder.weights.readers.parts import read_decoder
from beholder.weights.readers.reading import CONNECTOR, VISION, Reading, language_naming, text_stages

SAM, HEAD = "model.grounding_encoder.", "heads.1."
OWN = (  # set by the code, whatever files say
    *("bbox_token_idx", "num_level_reg_features", "num_reg_features", "out_dim", "select_feature_type"),
    *("train_mask_decoder", "vision_module", "with_region", "pretrain_mm_mlp_adapter"),
)


def _glamm(fields: Fields, name: str, geometry: Geometry | None) -> Reading:
    """Ids behind Vicuna's: <im_start>, <im_end>, <bbox>, <point>, [SEG], <p>, </p>."""
    tower, known = tower_of(fields), card("glamm-7b")
    eyes, (regions, _), masks = known.branch().encoders[0], known.fusion, known.heads[1]
    assert isinstance(eyes, ViT) and isinstance(tower.vision, ViT)
    assert isinstance(regions, RegionTokens) and isinstance(masks, PromptedMasks)
    connector, layout, place = projector_of(fields)
    language = read_decoder(language_of(fields, "llama", *OWN))
    box = fields.count("bbox_token_idx", 32002)
    if language.config.vocab_size < box + 5:
        raise BeholderError(
            f"config.json: vocab_size is {language.config.vocab_size}; <bbox> is {box}, and four words follow it"
        )
    vision = tower.vision.but(**{"take.taps": eyes.take.taps})
    image = Branch((vision,), geometry or geometry_of(fields, tower, vision.image_size), connector)
    sam = known.branch("sam")
    system = Card(
        name=name,
        branches=(image, sam),
        fusion=(regions.but(token_ids=(box,)), Splice(token_id=IMAGE_TOKEN)),
        language=language.config,
        heads=(NextToken(), masks.but(token_ids=(box + 2,))),
    )
    naming = (
        Binding(tower.prefix, VISION, tower.read.layout, tower.read.numbers),
        Binding("model.mm_projector.", CONNECTOR + place, layout),
        Binding("model.region_encoder.", "fusion.0.encoder.", GLAMM_REGIONS),
        *_sam(sam),
        Binding("model.text_hidden_fcs.0.", f"{HEAD}project.", PERCEPTRON),
        *language_naming(language, "model.", "lm_head."),
    )
    return Reading(system, (naming,), text_stages())


def _sam(branch: Branch) -> tuple[Binding, ...]:
    eyes = branch.encoders[0]
    assert isinstance(eyes, VitDet)
    return (
        Binding(f"{SAM}image_encoder.", "branches.sam.vision.", SEGMENT_ANYTHING, {"table": eyes.table}),
        Binding(f"{SAM}mask_decoder.", f"{HEAD}decoder.", layouts.OWN_SAM_DECODER),
        Binding(f"{SAM}prompt_encoder.", HEAD, layouts.OWN_SAM_STATES),
    )


def _llava(fields: Fields, name: str, geometry: Geometry | None) -> Reading:
    """GLaMM's files have LLaVA's type."""
    return (_glamm if "bbox_token_idx" in fields else LLAVA["llava"])(fields, name, geometry)


READERS: Mapping[str, Callable[[Fields, str, Geometry | None], Reading]] = {"llava": _llava}
