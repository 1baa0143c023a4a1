"""`config.json` files of systems of recordings grown from LLaVA's code. VideoChat-Flash (OpenGVLab/VideoChat-Flash
llava-train_videochat/llava/model): an encoder of clips by name, and a projector that merges tokens; Valley.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from beholder.cards.schema import Card
from beholder.errors import BeholderError, UnknownName
from beholder.media.geometry import IMAGENET_MEAN, IMAGENET_STD, Fixed, Geometry
from beholder.parts.connectors.projections import Linear, Mlp
from beholder.parts.connectors.temporal import OverTime, TokenMerging
from beholder.parts.fusion.splice import Splice
from beholder.parts.heads.next_token import NextToken
from beholder.parts.vision.positions import FrameTable
from beholder.parts.vision.sizes_clips import UMT_L_16, UMT_L_16_448
from beholder.parts.vision.vit import ViT
from beholder.weights.layout import Binding
from beholder.weights.layouts.clips import UMT
from beholder.weights.layouts.llava_kin import TOKEN_MERGING, VALLEY
from beholder.weights.readers.fields import Fields
from beholder.weights.readers.llava_own import IMAGE_TOKEN, architecture, language_of, tower_of
from beholder.weights.readers.parts import read_decoder
from beholder.weights.readers.reading import CONNECTOR, VISION, Reading, language_naming, text_stages

TOWERS: Mapping[str, ViT] = {"umt-hd-large": UMT_L_16_448, "umt-large": UMT_L_16}
PROJECTOR = "tome16_mlp_hd64"
UNREAD = (  # of training; those of `llm_compress` hide tokens where `mm_llm_compress` is on
    *(
        "frame_aspect_ratio",
        "frame_grid_pinpoints",
        "max_num_pixels",
        "min_slow_num_frames",
        "pos_skipping_range",
    ),
    *(
        "llm_compress_layer_list",
        "llm_compress_type",
        "llm_image_token_ratio_list",
        "vision_encode_type",
        "use_pos_skipping",
    ),
    *("auto_map", "image_crop_resolution", "image_split_resolution"),
)


def _videochat_flash(fields: Fields, name: str, geometry: Geometry | None) -> Reading:
    """The file holds the encoder's layers up to the one that is read, `mm_vision_select_layer`."""
    called, kind = str(fields.get("mm_vision_tower", "")), fields.get("mm_projector_type", PROJECTOR)
    if called not in TOWERS:
        raise UnknownName("config.json: mm_vision_tower", called, TOWERS)
    if kind != PROJECTOR:
        raise UnknownName("config.json: mm_projector_type", kind, (PROJECTOR,))
    if fields.get("mm_newline_position", "nothing") != "nothing" or fields.get("mm_llm_compress", False):
        raise BeholderError(
            "config.json: mm_newline_position or mm_llm_compress; released files have nothing and false"
        )
    whole, layer = TOWERS[called], fields.get("mm_vision_select_layer", -2)
    if not -whole.num_layers <= layer < 0:
        raise BeholderError(
            f"config.json: mm_vision_select_layer is {layer}; expected {-whole.num_layers} to -1"
        )
    places = whole.positions
    assert isinstance(places, FrameTable)
    vision = whole.but(
        num_layers=whole.num_layers + layer + 1,
        positions=places.but(frames=fields.count("mm_local_num_frames", 4)),
    )
    language = read_decoder(language_of(fields, "qwen2", *UNREAD))
    size = (vision.image_size, vision.image_size)
    card = Card(
        name=name,
        vision=vision,
        connector=TokenMerging(Mlp(), heads=vision.attention.num_heads),
        images=geometry or Fixed(size=size, mean=IMAGENET_MEAN, std=IMAGENET_STD),
        fusion=(Splice(token_id=IMAGE_TOKEN),),
        language=language.config,
        heads=(NextToken(),),
    )
    naming = (
        Binding("model.vision_tower.vision_tower.encoder.", VISION, UMT),
        Binding("model.mm_projector.", CONNECTOR, TOKEN_MERGING),
        *language_naming(language, "model.", "lm_head."),
    )
    return Reading(card, (naming,), text_stages())


def _valley(fields: Fields, name: str, geometry: Geometry | None) -> Reading:
    """RupertLuo/Valley valley/model/valley_model.py. The words that it adds end with those of pictures: patch, begin, end."""
    if not architecture(fields).startswith("ValleyLlama"):
        raise UnknownName(
            "config.json: architectures of Valley", architecture(fields), ("ValleyLlamaForCausalLM",)
        )
    tower = tower_of(fields, None)
    assert isinstance(tower.vision, ViT)
    weighed, turned = (
        bool(fields.get(key, False)) for key in ("use_patch_importance_pooling", "use_delta_transformer")
    )
    way = "transformer" if turned else "weights" if weighed else "mean"
    side = tower.vision.image_size
    places = (side // tower.vision.patch) ** 2
    own = ("use_patch_importance_pooling", "use_delta_transformer", "sep_image_conv_front")
    language = read_decoder(language_of(fields, "llama", *own))
    vision = tower.vision.but(**{"take.front": True})
    crop = Fixed(size=(side, side), fit="crop", edge=round(side * 8 / 7), mean=tower.mean, std=tower.std)
    card = Card(
        name=name,
        vision=vision,
        connector=OverTime(Linear(), way, places),
        images=geometry or crop,
        fusion=(Splice(token_id=language.config.vocab_size - 3, at="<im_patch>"),),
        language=language.config,
        heads=(NextToken(),),
    )
    naming = (
        Binding("model.vision_tower.vision_model.", VISION, tower.read.layout, tower.read.numbers),
        Binding("model.", CONNECTOR, VALLEY),
        *language_naming(language, "model.", "lm_head."),
    )
    return Reading(card, (naming,), text_stages())


READERS: Mapping[str, Callable[[Fields, str, Geometry | None], Reading]] = {
    **dict.fromkeys(("videochat_flash_qwen", "llava_qwen_flash"), _videochat_flash),
    "valley": _valley,
}
