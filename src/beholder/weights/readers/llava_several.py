"""`config.json` files of systems grown from LLaVA's code with several encoders: Cambrian-1, EAGLE and Mini-Gemini.

A file names the encoders; what they are is written in the code, and here on the cards. Cambrian's releases hold no weights of
encoders: `weights/beside.py` reads them from folders inside.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from beholder.cards import card
from beholder.cards.schema import Branch, Card
from beholder.errors import BeholderError, UnknownName
from beholder.media.geometry import Geometry
from beholder.parts.connectors.aggregator import SpatialAggregator
from beholder.parts.connectors.several import Concat, Squares, Way
from beholder.parts.contracts import EncoderConfig
from beholder.parts.fusion.aggregators import Aggregators
from beholder.parts.fusion.cross_attention import Layers
from beholder.parts.fusion.splice import Splice
from beholder.parts.heads.next_token import NextToken
from beholder.parts.language.decoder import Decoder
from beholder.parts.vision.rescaled import Rescaled
from beholder.parts.vision.vit import ViT
from beholder.parts.vision.vitdet import VitDet
from beholder.weights.layout import Binding, Layout
from beholder.weights.layouts import common
from beholder.weights.layouts import llava_kin as layouts
from beholder.weights.layouts.hierarchical import SAM, TIMM_CONVNEXT
from beholder.weights.layouts.pages import PIX2STRUCT_VISION
from beholder.weights.layouts.vision import DINOV2_GATED, VIT
from beholder.weights.readers.fields import Fields
from beholder.weights.readers.llava_own import IMAGE_TOKEN, language_of, own_llava, projector_of
from beholder.weights.readers.parts import read_decoder
from beholder.weights.readers.reading import (
    CONNECTOR,
    VISION,
    Naming,
    Reading,
    language_naming,
    text_stages,
)

OTHERS = "branches.image.others."


def _system(name: str, branch: Branch, language: Decoder, *fusion: Any) -> Card:
    return Card(name=name, branches=(branch,), fusion=fusion, language=language, heads=(NextToken(),))


def encoder_prefix(encoder: EncoderConfig, number: int) -> str:
    """Where an encoder's parameters stand: those that another config holds are its `encoder`."""
    place = VISION if number == 0 else f"{OTHERS}{number - 1}."
    while not isinstance(encoder, (ViT, VitDet)) and hasattr(encoder, "encoder"):
        encoder, place = encoder.encoder, place + "encoder."
    return place


# name in `mm_vision_tower_aux_list` -> what goes before its parameters, and their names
CAMBRIAN_TOWERS: Mapping[str, tuple[str, Layout]] = {
    "siglip/CLIP-ViT-SO400M-14-384": ("", layouts.SIGLIP_TRUNK),
    "openai/clip-vit-large-patch14-336": ("vision_model.", VIT),
    "facebook/dinov2-giant-res378": ("", DINOV2_GATED),
    "clip-convnext-XXL-multi-stage": ("", TIMM_CONVNEXT),
}
CAMBRIAN = (
    *("connector_depth", "connector_only", "num_of_vision_sampler_layers", "num_query_group"),
    *("query_num_list", "start_of_vision_sampler_layers", "stride_of_vision_sampler_layers"),
    *("vision_hidden_size", "spmd_debug", "spmd_fsdp_sharding", "spmd_mesh"),
)


def _cambrian(fields: Fields, name: str, geometry: Geometry | None) -> Reading:
    if fields.get("mm_projector_type", "sva") != "sva" or fields.get("connector_only", False):
        raise BeholderError(
            "config.json: mm_projector_type or connector_only; only sva between layers was released"
        )
    towers, tokens = (fields.get(f"mm_vision_tower_aux{end}", []) for end in ("_list", "_token_len_list"))
    if towers != list(CAMBRIAN_TOWERS) or len(tokens) != len(towers):
        raise UnknownName("config.json: mm_vision_tower_aux_list", str(towers), [str(list(CAMBRIAN_TOWERS))])
    known = card("cambrian-8b").branch()
    side, sides = math.isqrt(fields.count("image_token_len", 576)), tuple(map(math.isqrt, tokens))
    width = fields.count("vision_hidden_size", 1024)
    sampler = SpatialAggregator(side=side, sides=sides, width=width, depth=fields.count("connector_depth", 3))
    language = read_decoder(language_of(fields, "llama", *CAMBRIAN))
    first, step = (
        fields.get("start_of_vision_sampler_layers", 0),
        fields.count("stride_of_vision_sampler_layers", 3),
    )
    numbers = tuple(first + step * n for n in range(fields.count("num_of_vision_sampler_layers", 10)))
    cells = tuple(each // side for each in sides)
    behind = Aggregators(
        token_id=IMAGE_TOKEN, layers=Layers(numbers=numbers), cells=cells, side=side, width=width
    )
    branch = known.but(connector=sampler, geometry=geometry or known.geometry)
    place = Splice(token_id=IMAGE_TOKEN, newline=True)
    naming: Naming = (
        *(
            Binding(
                f"model.vision_tower_aux_list.{n}.vision_tower.{inner}", encoder_prefix(encoder, n), layout
            )
            for n, (encoder, (inner, layout)) in enumerate(
                zip(branch.encoders, CAMBRIAN_TOWERS.values(), strict=True)
            )
        ),
        Binding("model.", CONNECTOR, layouts.CAMBRIAN_SAMPLER),
        Binding("model.", "fusion.0.", common.NEWLINE),
        Binding("model.", "fusion.1.", layouts.CAMBRIAN_LAYERS),
        *language_naming(language, "model.", "lm_head."),
    )
    return Reading(_system(name, branch, language.config, place, behind), (naming,), text_stages())


def _llava_llama(fields: Fields, name: str, geometry: Geometry | None) -> Reading:
    """Some of Cambrian's files have LLaVA's type."""
    return (_cambrian if "mm_vision_tower_aux_list" in fields else own_llava)(fields, name, geometry)


# name in `mm_vision_tower` -> number of the encoder on the card, what goes before its parameters, and their names
EAGLE_TOWERS: Mapping[str, tuple[int, str, Layout]] = {
    "clip-448": (0, "vision_model.", layouts.EAGLE_CLIP),
    "convnext-1024": (1, "", layouts.EAGLE_CONVNEXT),
    "sam-1024": (2, "", SAM),
    "det-1024": (3, "", layouts.EAGLE_DETECTION),
    "pix2struct-1024": (4, "", PIX2STRUCT_VISION),
}


def _eagle(fields: Fields, name: str, geometry: Geometry | None) -> Reading:
    towers = str(fields.get("mm_vision_tower", "")).split(";")
    unknown = [tower for tower in towers if tower not in EAGLE_TOWERS]
    if unknown or len(set(towers)) < len(towers):
        raise UnknownName("config.json: mm_vision_tower", ";".join(unknown or towers), EAGLE_TOWERS)
    known = card("eagle-x5-7b").branch()
    chosen = [EAGLE_TOWERS[tower] for tower in towers]
    encoders = tuple(known.encoders[number] for number, _, _ in chosen)
    projector, _, _ = projector_of(fields)
    ways = tuple(Way((n,), Squares() if _sam(encoder) else None) for n, encoder in enumerate(encoders))
    language = read_decoder(language_of(fields, "llama"))
    branch = known.but(
        encoders=encoders,
        geometry=geometry or known.geometry,
        connector=Concat(ways=ways, then=projector, corners=True),
    )
    naming: Naming = (
        *(
            Binding(
                f"model.vision_tower.vision_towers.{n}.vision_tower.{inner}",
                encoder_prefix(encoder, n),
                layout,
                _numbers(encoder),
            )
            for n, (encoder, (_, inner, layout)) in enumerate(zip(encoders, chosen, strict=True))
        ),
        _eagle_projector(encoders),
        *language_naming(language, "model.", "lm_head."),
    )
    return Reading(
        _system(name, branch, language.config, Splice(token_id=IMAGE_TOKEN)), (naming,), text_stages()
    )


def _sam(encoder: EncoderConfig) -> bool:
    return isinstance(encoder, Rescaled) and isinstance(encoder.encoder, VitDet)


def _numbers(encoder: EncoderConfig) -> dict[str, int]:
    """What the operations of an encoder's layout name."""
    inner = encoder.encoder if isinstance(encoder, Rescaled) else encoder
    if isinstance(inner, VitDet):
        return {"table": inner.table}
    return {"patch_values": 3 * inner.patch**2} if isinstance(inner, ViT) else {}


def _eagle_projector(encoders: tuple[EncoderConfig, ...]) -> Binding:
    """Channels of all encoders follow each other; those of SAM are squares of four tokens."""
    at = 0
    for encoder in encoders:
        if _sam(encoder):
            numbers = {"squares_at": at, "squares_dim": encoder.out_dim, "squares_size": 4}
            return Binding("model.mm_projector.", CONNECTOR + "then.", layouts.EAGLE_PROJECTOR, numbers)
        at += encoder.out_dim
    return Binding("model.mm_projector.", CONNECTOR + "then.", layouts.PERCEPTRON)


OWN_LANGUAGES = {"": "llama", "_mistral": "mistral", "_mixtral": "mixtral", "_gemma": "gemma"}
# `model_type` -> that of the language model; the second name is that of the first files
MGM = {f"{own}{end}": kind for own in ("mgm", "mini_gemini") for end, kind in OWN_LANGUAGES.items()}


def _mgm(fields: Fields, name: str, geometry: Geometry | None) -> Reading:
    """`image_grid` 2 is the HD models'."""
    grid, whole = fields.count("image_grid", 1), fields.get("image_global", False)
    if grid > 2 or (grid == 2) != whole:
        raise BeholderError(
            f"config.json: image_grid is {grid} and image_global {whole}; expected 1 without, or 2 with it"
        )
    for key, ends in (
        ("mm_vision_tower", "clip-vit-large-patch14-336"),
        ("mm_vision_tower_aux", "openclip-convnext-large-d-320-laion2B-s29B-b131K-ft-soup"),
    ):
        if not str(fields.raw(key)).rstrip("/").endswith(ends):
            raise UnknownName(f"config.json: {key}", str(fields.raw(key)), (ends,))
    known = card("mini-gemini-7b-hd" if grid == 2 else "mini-gemini-7b").branch()
    side = known.encoders[1].image_size if hasattr(known.encoders[1], "image_size") else None
    if fields.count("image_size_aux", side) != side:
        raise BeholderError(f"config.json: image_size_aux is {fields.raw('image_size_aux')}; known: {side}")
    projector, layout, place = projector_of(fields)
    own = ("optimize_vision_tower", "optimize_vision_tower_aux", "drop_path")
    language = read_decoder(language_of(fields, MGM[str(fields.raw("model_type"))], *own))
    branch = known.but(geometry=geometry or known.geometry, **{"connector.then": projector})
    eyes, fine = (encoder_prefix(encoder, n) for n, encoder in enumerate(branch.encoders))
    naming: Naming = (
        Binding("model.vision_tower.vision_tower.vision_model.", eyes, VIT),
        Binding("model.vision_tower_aux.", fine, layouts.MGM_DETAILS),
        Binding("model.", CONNECTOR, layouts.MGM_MINING),
        Binding("model.mm_projector.", CONNECTOR + "then." + place, layout),
        *language_naming(language, "model.", "lm_head."),
    )
    return Reading(
        _system(name, branch, language.config, Splice(token_id=IMAGE_TOKEN)), (naming,), text_stages()
    )


READERS: Mapping[str, Callable[[Fields, str, Geometry | None], Reading]] = {
    "llava_llama": _llava_llama,
    "cambrian_llama": _cambrian,
    "eagle_llama": _eagle,
    **dict.fromkeys(MGM, _mgm),
}
