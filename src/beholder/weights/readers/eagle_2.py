"""Eagle 2's `config.json` (modeling_eagle_chat.py beside its releases): SigLIP alone, or with a ConvNeXt that
sees the same tiles.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from beholder.cards.schema import Branch, Card
from beholder.errors import BeholderError, UnknownName
from beholder.media.geometry import Geometry
from beholder.media.tiles import Tiles
from beholder.parts.connectors.projections import Folded, Mlp
from beholder.parts.connectors.several import Concat, Squares, Way
from beholder.parts.fusion.splice import Splice
from beholder.parts.heads.next_token import NextToken
from beholder.parts.vision.rescaled import Rescaled
from beholder.parts.vision.sizes_hierarchical import CLIP_CONVNEXT_XXL
from beholder.parts.vision.vit import ViT
from beholder.weights.layout import Binding
from beholder.weights.layouts.llava_kin import EAGLE_CONVNEXT
from beholder.weights.layouts.tiled import INTERNVL_MLP
from beholder.weights.readers.fields import Fields
from beholder.weights.readers.parts import read_decoder, read_vit
from beholder.weights.readers.read import Read
from beholder.weights.readers.reading import (
    CONNECTOR,
    VISION,
    Naming,
    Reading,
    language_naming,
    text_stages,
)

CONTEXT_ID = 151667  # of <IMG_CONTEXT>, behind Qwen2's words
DETAILS = CLIP_CONVNEXT_XXL
TOWERS = ("palisiglip", "convnext-1024")
MIXED = "convnext_512_siglip_448"
UNREAD = (
    *(
        "template",
        "use_backbone_lora",
        "use_llm_lora",
        "pad2square",
        "tie_word_embeddings",
        "efficient_loss",
        "hidden_size",
    ),
    *(
        "keep_aspect_ratio",
        "loss_version",
        "mlp_checkpoint",
        "pre_feature_reduction",
        "vocab_size",
        "system_message",
    ),
)
UNSEEN = (  # of training, and what other fields say
    *(
        "delay_load",
        "device",
        "drop_vision_last_layer",
        "freeze_backbones",
        "grid_size",
        "hidden_size",
        "image_size",
    ),
    *(
        "mm_vision_select_layer",
        "normalize_type",
        "use_flash_attn",
        "vision_tower_convnext_path",
        "vision_tower_siglip_path",
    ),
)


def _eagle_2(fields: Fields, name: str, geometry: Geometry | None) -> Reading:
    fields.ignore(*UNREAD)
    layer, share = fields.get("select_layer", -1), fields.positive("downsample_ratio", 0.5)
    if layer != -1 or share != 0.5:
        raise BeholderError(
            f"config.json: select_layer {layer}, downsample_ratio {share}; released files have -1 and 0.5"
        )
    tiles = Tiles(
        tile=fields.count("force_image_size", 448),
        least=fields.count("min_dynamic_patch", 1),
        most=fields.count("max_dynamic_patch", 12) if fields.get("dynamic_image_size", True) else 1,
    )
    if tiles.most > 1 and not fields.get("use_thumbnail", True):
        raise BeholderError("config.json: tiles without use_thumbnail are not supported")
    seen = fields.part("vision_config", "siglip_vision_model")
    mixed = str(seen.raw("model_type")).startswith("MOB")
    connector_of = Mlp(depth=2, norm=True)
    language = read_decoder(fields.part("llm_config", "qwen2"))
    seeing: Naming
    if mixed:
        encoders, seeing = _mixed(seen)
        branch = Branch(encoders, tiles, Concat(ways=(Way((0,), Squares()), Way((1,))), then=connector_of))
    else:
        tower = read_vit(seen)
        eyes = tower.config.but(pool=None)
        seeing = (_eyes("vision_model.vision_model.", tower),)
        branch = Branch((eyes,), tiles, Folded(then=connector_of))
    if geometry is not None and isinstance(geometry, Tiles):
        branch = branch.but(geometry=geometry)
    card = Card(
        name=name,
        branches=(branch,),
        fusion=(Splice(token_id=CONTEXT_ID, at="<IMG_CONTEXT>"),),
        language=language.config,
        heads=(NextToken(),),
    )
    naming: Naming = (
        *seeing,
        Binding("mlp1.", CONNECTOR, INTERNVL_MLP),
        *language_naming(language, "language_model.model.", "language_model.lm_head."),
    )
    return Reading(card, (naming,), text_stages())


def _eyes(prefix: str, tower: Read[ViT]) -> Binding:
    return Binding(prefix, VISION, tower.layout, tower.numbers, drop=("head.*",))


def _mixed(seen: Fields) -> tuple[tuple[ViT, Rescaled], tuple[Binding, Binding]]:
    """SigLIP and the ConvNeXt, in the connector's order; the file numbers them in its own."""
    towers, kind = str(seen.get("vision_tower", "")).split(";"), seen.get("moe_version_type", MIXED)
    if sorted(towers) != sorted(TOWERS):
        raise UnknownName(f"{seen.name}: vision_tower", ";".join(towers), (";".join(TOWERS),))
    if kind != MIXED:
        raise UnknownName(f"{seen.name}: moe_version_type", kind, (MIXED,))
    tower = read_vit(seen.part("siglip_vision_config", "siglip_vision_model"))
    side = seen.count("convnext_img_size", 512)
    seen.ignore(*UNSEEN)
    seen.finish()
    places = [
        f"vision_model.vision_model.vision_towers.{towers.index(each)}.vision_tower." for each in TOWERS
    ]
    bindings = (
        _eyes(f"{places[0]}vision_model.", tower),
        Binding(places[1], "branches.image.others.0.encoder.", EAGLE_CONVNEXT),
    )
    return (tower.config.but(pool=None), Rescaled(DETAILS, side, corners=True)), bindings


READERS: Mapping[str, Callable[[Fields, str, Geometry | None], Reading]] = {"eagle_chat": _eagle_2}
