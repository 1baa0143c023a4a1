"""Parrot's `config.json` (AIDC-AI/Parrot parrot/model): LLaVA's settings beside those of experts that the question chooses."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from beholder.cards.schema import Card
from beholder.errors import BeholderError
from beholder.media.geometry import Geometry
from beholder.parts.connectors.experts import LanguageExperts
from beholder.parts.fusion.splice import Splice
from beholder.parts.heads.next_token import NextToken
from beholder.weights.layout import Binding
from beholder.weights.layouts.llava_kin import PARROT_EXPERTS
from beholder.weights.readers.fields import Fields
from beholder.weights.readers.llava_own import IMAGE_TOKEN, geometry_of, language_of, projector_of, tower_of
from beholder.weights.readers.parts import read_decoder
from beholder.weights.readers.reading import CONNECTOR, VISION, Reading, language_naming, text_stages

SWITCHES = ("use_moe", "use_moe_residual", "moe_top_k")
SIZES = ("num_experts", "moe_hidden_size", "moe_intermediate_size", "moe_weight")


def _parrot(fields: Fields, name: str, geometry: Geometry | None) -> Reading:
    """`moe_top_k` is unread there: all experts count."""
    if not fields.get("use_moe", True) or not fields.get("use_moe_residual", True):
        raise BeholderError(
            "config.json: use_moe and use_moe_residual must be true, as in the released files"
        )
    tower = tower_of(fields, "cls_patch")
    projector, layout, place = projector_of(fields)
    language = read_decoder(language_of(fields, "qwen2", *SWITCHES, *SIZES))
    width = fields.count("moe_hidden_size", language.config.dim)
    if width != language.config.dim:
        raise BeholderError(f"config.json: moe_hidden_size is {width}, hidden_size {language.config.dim}")
    connector = LanguageExperts(
        projector,
        token_id=IMAGE_TOKEN,
        num_experts=fields.count("num_experts", 6),
        hidden=fields.count("moe_intermediate_size", 4096),
        blend=fields.positive("moe_weight", 1.0),
    )
    card = Card(
        name=name,
        vision=tower.vision,
        connector=connector,
        images=geometry or geometry_of(fields, tower, tower.vision.image_size),
        fusion=(Splice(token_id=IMAGE_TOKEN),),
        language=language.config,
        heads=(NextToken(),),
    )
    naming = (
        Binding(tower.prefix, VISION, tower.read.layout, tower.read.numbers),
        Binding("model.mm_projector.", CONNECTOR + "then." + place, layout),
        Binding("model.moe_model.", CONNECTOR, PARROT_EXPERTS),
        *language_naming(language, "model.", "lm_head."),
    )
    return Reading(card, (naming,), text_stages())


READERS: Mapping[str, Callable[[Fields, str, Geometry | None], Reading]] = {"parrot_qwen2": _parrot}
