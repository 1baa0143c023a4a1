"""Systems whose language models read patches without an encoder. Defaults are those of the official config classes."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from beholder.cards.schema import Card
from beholder.errors import BeholderError, UnknownName
from beholder.media.geometry import CLIP_MEAN, CLIP_STD, Geometry
from beholder.media.native import Native
from beholder.parts.connectors.projections import Linear, Mlp
from beholder.parts.fusion.experts import VisualExpert
from beholder.parts.fusion.splice import Splice
from beholder.parts.heads.next_token import NextToken
from beholder.parts.vision.patch_layers import PooledPatches, StackedPatches
from beholder.parts.vision.raw_patches import RawPatches
from beholder.weights.layout import Binding
from beholder.weights.layouts import early_fusion as layouts
from beholder.weights.layouts.decoders import DECODER
from beholder.weights.readers.decoders import READERS as DECODERS
from beholder.weights.readers.decoders import DecoderDefaults, decoder
from beholder.weights.readers.fields import Fields
from beholder.weights.readers.parts import read_decoder
from beholder.weights.readers.read import Read, Recorded
from beholder.weights.readers.reading import CONNECTOR, VISION, Reading, language_naming, text_stages

# Of Persimmon, which the first releases keep beside the system's own
FUYU_TEXT = (
    *("vocab_size", "max_position_embeddings", "hidden_size", "intermediate_size", "num_hidden_layers"),
    *(
        "num_attention_heads",
        "hidden_act",
        "initializer_range",
        "layer_norm_eps",
        "use_cache",
        "qk_layernorm",
    ),
    *("hidden_dropout", "attention_dropout", "rope_scaling", "rope_theta", "partial_rotary_factor"),
)


def _fuyu(fields: Fields, name: str, geometry: Geometry | None) -> Reading:
    own = {key: fields.raw(key) for key in FUYU_TEXT if key in fields}
    text = fields.part("text_config", "persimmon", absent=own)
    language = read_decoder(text)
    if fields.count("num_channels", 3) != 3:
        raise BeholderError("config.json: num_channels is not 3; pictures have red, green and blue")
    if fields.get("tie_word_embeddings", False):
        raise BeholderError("config.json: tie_word_embeddings is true; Fuyu has a head of its own")
    patch = fields.count("patch_size", 30)
    card = Card(
        name=name,
        vision=RawPatches(patch, fields.count("image_size", 300)),
        connector=Linear(bias=True),
        images=geometry,
        fusion=(Splice(token_id=fields.get("image_token_id", 71011)),),
        language=language.config,
        heads=(NextToken(),),
    )
    namings = tuple(
        (Binding(outer, CONNECTOR, layouts.FUYU_PATCHES), *language_naming(language, body, head))
        for outer, body, head in (
            ("", "language_model.model.", "language_model.lm_head."),
            ("model.", "model.language_model.", "lm_head."),
        )
    )
    stages = {"connector": Recorded("hook/model.vision_embed_tokens"), **text_stages()}
    return Reading(card, namings, stages)


# Of training, and what the code decides by itself
EVE_UNREAD = (
    *("mm_use_im_patch_token", "mm_use_im_start_end", "mm_vision_select_feature", "mm_vision_select_layer"),
    *("mm_vision_tower_clip", "requires_cliploss", "tune_mm_mlp_adapter", "freeze_mm_mlp_adapter"),
    *("mm_projector_lr", "vision_tower_lr", "clip_loss_coef", "tokenizer_padding_side"),
    *("tokenizer_model_max_length", "use_mm_proj", "image_aspect_ratio", "unfreeze_mm_vision_tower"),
)


def _longest(fields: Fields, default: int) -> int:
    """Pixels of the longer side, which only the name of the processor's folder says (`eve-patch14-anypixel-672`)."""
    found = re.search(r"(?:res|pixel-|pix-)(\d+)", str(fields.raw("mm_vision_tower") or ""))
    return int(found[1]) if found else default


def _eve(fields: Fields, name: str, geometry: Geometry | None) -> Reading:
    for key in EVE_UNREAD:
        fields.raw(key)
    kind = fields.get("mm_projector_type", "linear")
    if kind != "mlp2x_gelu":
        raise UnknownName("config.json: mm_projector_type", kind, ("mlp2x_gelu",))
    longest = _longest(fields, 672)
    vision = PooledPatches(image_size=longest, patch=14, stride=2, dim=fields.count("mm_hidden_size", 1024))
    language = decoder(fields, DecoderDefaults())
    # 24 of the teacher's patches on the longer side
    pictures = Native(
        cell=max(longest // 24, 28), size=(longest, longest), fit="longest", mean=CLIP_MEAN, std=CLIP_STD
    )
    card = Card(
        name=name,
        vision=vision,
        connector=Mlp(depth=2),
        images=geometry or pictures,
        fusion=(Splice(token_id=language.vocab_size),),
        language=language,
        heads=(NextToken(),),
    )
    naming = (
        Binding("model.vision_tower.", VISION, layouts.EVE_PATCHES),
        Binding("model.mm_projector.", CONNECTOR, layouts.EVE_PROJECTOR),
        *language_naming(Read(language, DECODER), "model.", "lm_head."),
    )
    return Reading(card, (naming,), text_stages())


def _eve2(fields: Fields, name: str, geometry: Geometry | None) -> Reading:
    for key in (*EVE_UNREAD, "mm_projector_type"):
        fields.raw(key)
    doubled = str(fields.raw("moe_part") or "layernorm-self_attn-mlp")
    parts = {part for part in ("layernorm", "self_attn", "mlp") if part in doubled}
    if not fields.get("add_moe", True) or len(parts) < 3:
        raise BeholderError(
            f"config.json: moe_part is {doubled!r}; EVEv2 doubles layernorm, self_attn and mlp"
        )
    language = DECODERS["qwen2"](fields)
    area = _longest(fields, 1600)
    card = Card(
        name=name,
        vision=StackedPatches(
            image_size=area,
            patch=16,
            stride=2,
            dim=language.config.dim,
            hidden=fields.count("mm_hidden_size", 1024),
        ),
        images=geometry or Native(cell=32, size=(area, area), fit="area", mean=CLIP_MEAN, std=CLIP_STD),
        fusion=(Splice(token_id=151665), VisualExpert(norms=True)),
        language=language.config,
        heads=(NextToken(),),
    )
    naming = (
        Binding("model.vision_tower.", VISION, layouts.EVE2_PATCHES),
        Binding("model.layers.", "fusion.1.layers.", layouts.EVE2_EXPERTS),
        *language_naming(language, "model.", "lm_head."),
    )
    return Reading(card, (naming,), text_stages())


READERS: Mapping[str, Callable[[Fields, str, Geometry | None], Reading]] = {
    "fuyu": _fuyu,
    "eve": _eve,
    "eve-qwen2": _eve2,
}
