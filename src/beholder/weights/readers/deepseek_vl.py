"""DeepSeek-VL as its authors release it: parts are classes with parameters (deepseek-ai/DeepSeek-VL deepseek_vl/models)."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from beholder.cards.schema import Branch, Card
from beholder.errors import BeholderError, UnknownName
from beholder.media.geometry import Geometry
from beholder.media.settings import geometry_from_official
from beholder.parts.connectors.projections import Mlp
from beholder.parts.contracts import ConnectorConfig
from beholder.parts.fusion.splice import Splice
from beholder.parts.heads.next_token import NextToken
from beholder.parts.vision import sizes, sizes_hierarchical
from beholder.parts.vision.vit import ViT
from beholder.parts.vision.vitdet import VitDet
from beholder.weights.layout import Binding
from beholder.weights.layouts import several as layouts
from beholder.weights.layouts.hierarchical import SEGMENT_ANYTHING
from beholder.weights.layouts.vision import TIMM_VIT
from beholder.weights.readers.fields import Fields
from beholder.weights.readers.parts import read_decoder
from beholder.weights.readers.reading import (
    CONNECTOR,
    VISION,
    Naming,
    Reading,
    language_naming,
    text_stages,
)
from beholder.weights.readers.several import DETAILS, hybrid

IMAGE_TOKEN = 100015  # `<image_placeholder>` in the released tokenizers
# `model_name` -> an encoder (siglip_vit.py and sam.py); the pool of SigLIP's is in the files, and unread
WHOLES: dict[str, ViT] = {
    "siglip_large_patch16_384": sizes.SIGLIP_L_16,
    "siglip_so400m_patch14_384": sizes.SIGLIP_SO400M_14,
    "siglip_so400m_patch14_224": sizes.SIGLIP_SO400M_14,
}
DETAILED: dict[str, VitDet] = {"sam_b_downsample": sizes_hierarchical.SAM_B}
OF_TRAINING = (
    "ckpt_path",
    "output_dim",
    "pixel_mean",
    "pixel_std",
    "select_feature",
)  # or said by the geometry


def _deepseek_vl(fields: Fields, name: str, geometry: Geometry | None) -> Reading:
    """Raises `UnknownName` for a part of another class or size, and `BeholderError` for Janus, which has the same type."""
    if "gen_vision_config" in fields:
        raise BeholderError(
            f"{fields.name}: Janus in its authors' layout is not read; open the files that transformers has (model_type janus)"
        )
    eyes, words = fields.part("vision_config"), fields.part("language_config", "llama")
    kind, params = eyes.raw("cls"), eyes.part("params")
    if kind not in ("CLIPVisionTower", "HybridVisionTower"):
        raise UnknownName(f"{eyes.name}: cls", str(kind), ("CLIPVisionTower", "HybridVisionTower"))
    both = kind == "HybridVisionTower"
    params.ignore("concat_type", "freeze_high", "freeze_low")
    whole = _whole(params.part("low_res_cfg") if both else params)
    detailed = _detailed(params.part("high_res_cfg")) if both else None
    params.finish()
    connector, aligner = _aligner(fields.part("aligner_config").part("params"), whole, detailed)
    language = read_decoder(words)
    processor = {"image_processor_type": "VLMImageProcessor", "do_normalize": detailed is None}
    side = (detailed or whole).image_size
    config = {"vision_config": {"params": {key: params.raw(key) for key in params}}}
    branch = Branch(
        encoders=(whole,) if detailed is None else (whole, detailed),
        geometry=geometry or geometry_from_official(processor | {"image_size": side}, config),
        connector=connector,
    )
    card = Card(
        name=name,
        branches=(branch,),
        fusion=(Splice(token_id=IMAGE_TOKEN, at="<image_placeholder>"),),
        language=language.config,
        heads=(NextToken(),),
    )
    naming: Naming = (
        *_towers(detailed),
        aligner,
        *language_naming(language, "language_model.model.", "language_model.lm_head."),
    )
    return Reading(card, (naming,), text_stages())


def _towers(detailed: VitDet | None) -> Naming:
    """Where the encoders stand; what their files have besides is never read."""
    unread = ("attn_pool.*",)
    if detailed is None:
        return (Binding("vision_model.vision_tower.", VISION, TIMM_VIT, drop=unread),)
    high, details = "vision_model.vision_tower_high.vision_tower.", CONNECTOR + "ways.0."
    table = {"table": detailed.image_size // detailed.patch}
    return (
        Binding("vision_model.vision_tower_low.vision_tower.", VISION, TIMM_VIT, drop=unread),
        Binding(high, DETAILS, SEGMENT_ANYTHING, table),
        Binding(high, details, layouts.DEEPSEEK_DETAILS),
        Binding("vision_model.", "", layouts.DEEPSEEK_UNREAD),
    )


def _whole(tower: Fields) -> ViT:
    """SigLIP as timm has it, cut off behind the layer that is read, with the norm of its last."""
    tower.ignore(*OF_TRAINING)
    known = str(tower.raw("model_name"))
    if known not in WHOLES:
        raise UnknownName(f"{tower.name}: model_name", known, WHOLES)
    made, last = WHOLES[known], tower.get("select_layer", -2)
    layers = made.num_layers + last + 1 if last <= 0 else last
    if not 1 <= layers <= made.num_layers:
        raise BeholderError(f"{tower.name}: select_layer is {last}; the encoder has {made.num_layers} layers")
    size = tower.count("image_size", 336)
    tower.finish()
    return made.but(image_size=size, num_layers=layers, pool=None, **{"mlp.act": "gelu"})


def _detailed(tower: Fields) -> VitDet:
    tower.ignore(*OF_TRAINING, "select_layer")
    known = str(tower.raw("model_name"))
    if known not in DETAILED:
        raise UnknownName(f"{tower.name}: model_name", known, DETAILED)
    made, size = DETAILED[known], tower.count("image_size", 336)
    if size != made.image_size:
        raise BeholderError(f"{tower.name}: image_size is {size}; {known} takes {made.image_size} pixels")
    tower.finish()
    return made


def _aligner(params: Fields, whole: ViT, detailed: VitDet | None) -> tuple[ConnectorConfig, Binding]:
    """The connector and where its weights are."""
    wanted = "mlp_gelu" if detailed is None else "low_high_hybrid_split_mlp_gelu"
    kind, depth = params.raw("projector_type"), params.layers("depth", 1)
    if kind != wanted:
        raise UnknownName(f"{params.name}: projector_type", str(kind), (wanted,))
    if detailed is None:
        return Mlp(depth=depth), Binding("aligner.", CONNECTOR, layouts.deepseek_aligner(depth))
    if depth != 2:
        raise BeholderError(f"{params.name}: depth is {depth}; two encoders were released with 2")
    return hybrid(whole.side, detailed), Binding("aligner.", CONNECTOR, layouts.DEEPSEEK_HYBRID_ALIGNER)


READERS: Mapping[str, Callable[[Fields, str, Geometry | None], Reading]] = {"multi_modality": _deepseek_vl}
