"""Systems whose language models read patches without an encoder. Defaults are those of the official config classes."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from beholder.cards.schema import Card
from beholder.errors import BeholderError
from beholder.media.geometry import Geometry
from beholder.parts.connectors.projections import Linear
from beholder.parts.fusion.splice import Splice
from beholder.parts.heads.next_token import NextToken
from beholder.parts.vision.raw_patches import RawPatches
from beholder.weights.layout import Binding
from beholder.weights.layouts import early_fusion as layouts
from beholder.weights.readers.fields import Fields
from beholder.weights.readers.parts import read_decoder
from beholder.weights.readers.read import Recorded
from beholder.weights.readers.reading import CONNECTOR, Reading, language_naming, text_stages

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


READERS: Mapping[str, Callable[[Fields, str, Geometry | None], Reading]] = {"fuyu": _fuyu}
