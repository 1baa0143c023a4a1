"""Systems whose connectors join squares of tokens (InternVL, Aya Vision, Command A Vision and LFM2-VL) or keep all tokens of
many tiles (MiniMax-VL-01), and GOT-OCR 2.0. Defaults are those of the official config classes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from beholder.cards.schema import Card
from beholder.errors import BeholderError, UnknownName
from beholder.media.geometry import IMAGENET_MEAN, IMAGENET_STD, Geometry
from beholder.media.tiles import Tiles
from beholder.parts.connectors.downsample import Strided
from beholder.parts.connectors.projections import Folded, Mlp
from beholder.parts.contracts import ConnectorConfig, EncoderConfig
from beholder.parts.fusion.splice import Splice
from beholder.parts.heads.next_token import NextToken
from beholder.parts.language.decoder import Decoder
from beholder.parts.vision.vit import Take, ViT
from beholder.weights.layout import Binding, Layout
from beholder.weights.layouts import common
from beholder.weights.layouts import tiled as layouts
from beholder.weights.readers.fields import Fields
from beholder.weights.readers.llava import READERS as LLAVA
from beholder.weights.readers.parts import read_decoder, read_encoder, read_vit
from beholder.weights.readers.read import Read, Recorded, activation_name
from beholder.weights.readers.reading import (
    CONNECTOR,
    VISION,
    Naming,
    Reading,
    language_naming,
    text_stages,
)

OLDER = ("", "language_model.model.", "language_model.lm_head.")
AYA_TAGS = {
    "tag": "TILE_{n}",
    "whole": "TILE_GLOBAL",
    "begin": "<|START_OF_IMG|>",
    "end": "<|END_OF_IMG|>",
}
NEWER = ("model.", "model.language_model.", "lm_head.")


def _internvl(fields: Fields, name: str, geometry: Geometry | None) -> Reading:
    """InternVL 2.5 and 3 as transformers has them."""
    vision = _at_depth(fields, read_vit(fields.part("vision_config", "internvl_vision")), "default", -1)
    language = _tied(fields, read_decoder(fields.part("text_config", "qwen2")))
    fields.ignore("image_seq_length")
    connector = Folded(
        then=Mlp(norm=True, act=activation_name(fields, "projector_hidden_act", "gelu")),
        factor=_factor(fields),
    )
    geometry = _tagged(geometry, begin="<img>", end="</img>")
    card = _card(fields, name, vision, connector, geometry, language, 151667)
    namings = _namings(vision, layouts.SHUFFLED_MLP, language, OLDER, NEWER)
    return Reading(card, namings, _stages(vision.config))


# of training, and what the processor says
CHAT_UNREAD = (
    *("template", "use_backbone_lora", "use_llm_lora", "system_message", "auto_map", "image_fold"),
    *("hidden_size", "pad2square", "tie_word_embeddings", "use_cache", "num_image_token", "loss_version"),
)
# `ps_version` -> whether tokens follow each other column by column, as the first one leaves them (InternVL 1.2, NVLM-D)
SHUFFLES = {"v1": True, "v2": False}
# <IMG_CONTEXT> of the tokenizers, behind the words of the language model
CONTEXT_IDS = {"internlm2": 92546, "qwen2": 151667}


def _internvl_chat(fields: Fields, name: str, geometry: Geometry | None) -> Reading:
    """InternVL 1.2 to 3 as OpenGVLab releases them (`configuration_internvl_chat.py`)."""
    fields.ignore(*CHAT_UNREAD)
    if geometry is not None and not isinstance(geometry, Tiles):
        geometry = None  # released with CLIP's settings, which the published code leaves alone
    side = fields.count("force_image_size", 448)
    tower = read_vit(fields.part("vision_config", "intern_vit_6b"))
    depth = fields.get("select_layer", -1)
    vision = replace(tower, config=tower.config.but(pool=None, take=Take((depth,), norm=False)))
    spoken = fields.part("llm_config", "internlm2")
    kind = str(spoken.raw("model_type"))
    if kind not in CONTEXT_IDS:
        raise UnknownName("config.json: llm_config: model_type", kind, CONTEXT_IDS)
    language = read_decoder(spoken)
    shuffled = fields.get("ps_version", "v1")
    if shuffled not in SHUFFLES:
        raise UnknownName("config.json: ps_version", shuffled, SHUFFLES)
    if tower.config.image_size != side:
        raise BeholderError(
            f"config.json: force_image_size is {side} but the encoder takes {tower.config.image_size} pixels"
        )
    tiles = Tiles(
        tile=side,
        least=fields.count("min_dynamic_patch", 1),
        most=fields.count("max_dynamic_patch", 6) if fields.get("dynamic_image_size", False) else 1,
        begin="<img>",
        end="</img>",
        mean=IMAGENET_MEAN,
        std=IMAGENET_STD,
    )
    if not fields.get("use_thumbnail", False) and tiles.most > 1:
        raise BeholderError("config.json: tiles without use_thumbnail are not supported")
    connector = Folded(then=Mlp(norm=True), factor=_factor(fields), by_columns=SHUFFLES[shuffled])
    card = _card(fields, name, vision, connector, geometry or tiles, language, CONTEXT_IDS[kind])
    naming = (
        Binding("vision_model.", VISION, vision.layout, vision.numbers),
        Binding("mlp1.", CONNECTOR, layouts.INTERNVL_MLP),
        *language_naming(language, "language_model.model.", f"language_model.{language.head}"),
    )
    return Reading(card, (naming,), text_stages())


def _tagged(geometry: Geometry | None, **tags: str) -> Geometry | None:
    """The geometry with what the official processor writes around tiles."""
    return geometry.but(**tags) if isinstance(geometry, Tiles) else geometry


def _factor(fields: Fields) -> int:
    ratio = fields.positive("downsample_ratio", 0.5)
    if ratio > 1 or round(1 / ratio) * ratio != 1:
        raise BeholderError(f"{fields.name}: downsample_ratio is {ratio}; expected 1 over a whole number")
    return round(1 / ratio)


def _aya_vision(fields: Fields, name: str, geometry: Geometry | None) -> Reading:
    """Aya Vision (2505.08751): a gated MLP behind a norm."""
    absent = {
        "hidden_size": 1152,
        "intermediate_size": 4304,
        "patch_size": 14,
        "image_size": 384,
        "num_hidden_layers": 26,
        "num_attention_heads": 14,
        "vision_use_head": False,
    }
    tower = read_vit(fields.part("vision_config", "siglip_vision_model", absent=absent))
    vision = _at_depth(fields, tower, "full")
    language = _tied(fields, read_decoder(fields.part("text_config", "cohere2")))
    connector = _gated(
        fields,
        fields.count("alignment_intermediate_size", language.config.dim),
        eps=fields.positive("adapter_layer_norm_eps", 1e-6),
    )
    card = _card(fields, name, vision, connector, _tagged(geometry, **AYA_TAGS), language, 255036)
    namings = _namings(vision, layouts.SHUFFLED_GATED, language, OLDER, NEWER)
    return Reading(card, namings, _stages(vision.config))


def _cohere2_vision(fields: Fields, name: str, geometry: Geometry | None) -> Reading:
    """Command A Vision: Aya Vision's connector without its norm."""
    absent = {
        "hidden_size": 1152,
        "intermediate_size": 3072,
        "image_size": 512,
        "num_hidden_layers": 27,
        "num_attention_heads": 12,
    }
    vision = read_vit(fields.part("vision_config", "siglip_vision_model", absent=absent))
    language = _tied(fields, read_decoder(fields.part("text_config", "cohere2")))
    connector = _gated(fields, fields.count("alignment_intermediate_size", 36864))
    card = _card(fields, name, vision, connector, geometry, language, 255036)
    return Reading(card, _namings(vision, layouts.SHUFFLED_GATED, language, NEWER), _stages(vision.config))


def _gated(fields: Fields, joined: int, eps: float | None = None) -> Folded:
    """joined: width of values and gates together; eps: of the norm, None for none."""
    if joined % 2:
        raise BeholderError(
            f"{fields.name}: alignment_intermediate_size is {joined}; expected an even number"
        )
    mlp = Mlp(act="silu", hidden=joined // 2, gated=True)
    return Folded(
        then=mlp if eps is None else mlp.but(norm=True, eps=eps), factor=fields.count("downsample_factor", 2)
    )


def _lfm2_vl(fields: Fields, name: str, geometry: Geometry | None) -> Reading:
    """LFM2-VL: pictures of any size."""
    vision = read_vit(fields.part("vision_config", "siglip2_vision_model"))
    language = _tied(fields, read_decoder(fields.part("text_config", "lfm2")))
    connector = Folded(
        then=Mlp(
            norm=fields.get("projector_use_layernorm", True),
            act=activation_name(fields, "projector_hidden_act", "gelu"),
            hidden=fields.count("projector_hidden_size", 2560),
            bias=fields.get("projector_bias", True),
        ),
        factor=fields.count("downsample_factor", 2),
    )
    card = _card(fields, name, vision, connector, geometry, language, 396)
    return Reading(card, _namings(vision, layouts.SHUFFLED_MLP, language, NEWER), _stages(vision.config))


GOT_WORDS = {
    "vocab_size": 151860,
    "hidden_size": 1024,
    "intermediate_size": 2816,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "num_key_value_heads": 16,
    "max_position_embeddings": 32768,
    "rope_theta": 1000000.0,
}


def _got_ocr2(fields: Fields, name: str, geometry: Geometry | None) -> Reading:
    """GOT-OCR 2.0 (2409.01704): SAM's encoder, its map halved twice by convolutions."""
    vision = read_encoder(fields.part("vision_config", "got_ocr2_vision"))
    language = _tied(fields, read_decoder(fields.part("text_config", "qwen2", absent=GOT_WORDS)))
    fields.ignore("image_seq_length")
    connector = Strided(dims=(2 * vision.config.out_dim, language.config.dim))
    card = _card(fields, name, vision, connector, geometry, language, 151859)
    stages = {
        "vision": Recorded("hook/model.vision_tower/last_hidden_state", channels_first=True),
        "connector": Recorded("hook/model.multi_modal_projector"),
        **text_stages(),
    }
    return Reading(card, _namings(vision, layouts.GOT_OCR2, language, OLDER, NEWER), stages)


def _minimax_vl_01(fields: Fields, name: str, geometry: Geometry | None) -> Reading:
    """MiniMax-VL-01 (2501.08313, `configuration_minimax_vl_01.py`): LLaVA-NeXT over MiniMax-Text-01."""
    fields.ignore("image_seq_length", "process_image_mode")
    return LLAVA["llava_next"](fields, name, geometry)


def _at_depth(fields: Fields, read: Read[ViT], strategy: str, own: int | None = None) -> Read[ViT]:
    """The encoder with the depth that files name. strategy: the official default of whether class tokens are dropped. own:
    the depth that stands for the encoder's own output.
    """
    depth = fields.get("vision_feature_layer", -1)
    given = fields.get("vision_feature_select_strategy", strategy)
    if given not in ("default", "full"):
        raise UnknownName("config.json: vision_feature_select_strategy", given, ("default", "full"))
    if read.config.cls != (given == "default"):
        raise BeholderError(
            f"vision_feature_select_strategy {given!r} does not fit an encoder "
            f"{'with' if read.config.cls else 'without'} a class token"
        )
    return read if depth == own else replace(read, config=read.config.but(take=Take((depth,), norm=False)))


def _tied(fields: Fields, read: Read[Decoder]) -> Read[Decoder]:
    """As the system's file says. The systems of Cohere's models leave out the scale of logits, which changes no choice."""
    return replace(
        read, config=read.config.but(tied=fields.get("tie_word_embeddings", True), logit_scale=1.0)
    )


def _card(
    fields: Fields,
    name: str,
    vision: Read[EncoderConfig],
    connector: ConnectorConfig,
    geometry: Geometry | None,
    language: Read[Decoder],
    token_id: int,
) -> Card:
    """token_id: the official default of the picture's."""
    token = fields.get("image_token_index", fields.get("image_token_id", token_id))
    return Card(
        name=name,
        vision=vision.config,
        connector=connector,
        images=geometry,
        fusion=(Splice(token_id=token),),
        language=language.config,
        heads=(NextToken(),),
    )


def _namings(
    vision: Read[EncoderConfig], connector: Layout, language: Read[Decoder], *places: tuple[str, str, str]
) -> tuple[Naming, ...]:
    """places: what stands before the encoder's and the connector's names, the decoder's, and its output matrix's."""
    return tuple(
        (
            Binding(f"{outer}vision_tower.", VISION, vision.layout, vision.numbers),
            Binding(f"{outer}multi_modal_projector.", CONNECTOR, connector),
            *language_naming(language, body, head),
        )
        for outer, body, head in places
    )


def _stages(vision: ViT) -> dict[str, Recorded]:
    """Depths in front of the norm are recorded as their layer's output."""
    depth = vision.take.layers[0] % (vision.num_layers + 1)
    layer = f"layer/model.vision_tower.encoder.layers.{depth - 1}"
    own = vision.take.norm or not vision.post_norm
    name = "hook/model.vision_tower/last_hidden_state" if own else layer
    return {
        "vision": Recorded(name, skip=int(vision.cls)),
        "connector": Recorded("hook/model.multi_modal_projector"),
        **text_stages(),
    }


def _llama_4(fields: Fields, name: str, geometry: Geometry | None) -> Reading:
    """Llama 4: squares of tokens go through three matrices, the first two of which are the encoder's in files."""
    eyes, text = (
        fields.part("vision_config", "llama4_vision_model"),
        fields.part("text_config", "llama4_text"),
    )
    share = eyes.positive("pixel_shuffle_ratio", 0.5)
    width, behind = (eyes.count(f"projector_{side}_dim", 4096) for side in ("input", "output"))
    if width != behind:
        raise BeholderError(
            f"{eyes.name}: projector_input_dim {width} and projector_output_dim {behind} differ"
        )
    vision, language = read_vit(eyes), read_decoder(text)
    language = replace(language, config=language.config.but(tied=fields.get("tie_word_embeddings", False)))
    fields.ignore("boi_token_index", "eoi_token_index")
    connector = Folded(Mlp(depth=3, bias=False, hidden=width), factor=round(1 / share))
    card = _card(fields, name, vision, connector, geometry, language, 200092)
    naming = (
        Binding("vision_model.", VISION, vision.layout, vision.numbers),
        Binding("vision_model.vision_adapter.mlp.", CONNECTOR, layouts.LLAMA_4_ADAPTER),
        Binding("multi_modal_projector.linear_1.", CONNECTOR + "then.layers.2.", common.WEIGHT),
        *language_naming(language, *OLDER[1:]),
    )
    return Reading(card, (naming,), {"connector": Recorded("hook/multi_modal_projector"), **text_stages()})


READERS: Mapping[str, Callable[[Fields, str, Geometry | None], Reading]] = {
    "llama4": _llama_4,
    "got_ocr2": _got_ocr2,
    "minimax_vl_01": _minimax_vl_01,
    "internvl": _internvl,
    "internvl_chat": _internvl_chat,
    "aya_vision": _aya_vision,
    "cohere2_vision": _cohere2_vision,
    "lfm2_vl": _lfm2_vl,
}
