"""Systems whose language models attend to features. Defaults are those of the official config classes."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from beholder.cards.schema import Card
from beholder.errors import BeholderError, UnknownName
from beholder.media.geometry import Geometry
from beholder.parts.blocks.attention import Attention
from beholder.parts.blocks.cross_attention import CrossAttention
from beholder.parts.blocks.mlp import FeedForward
from beholder.parts.blocks.norms import Norm
from beholder.parts.connectors.resampler import Resampler
from beholder.parts.fusion.cross_attention import GatedCross, Layers
from beholder.parts.heads.next_token import NextToken
from beholder.parts.language.decoder import Decoder
from beholder.parts.vision.patches import Patches
from beholder.parts.vision.vit import Take, ViT
from beholder.weights.layout import Binding
from beholder.weights.layouts import cross_attention as layouts
from beholder.weights.layouts.decoders import DECODER
from beholder.weights.layouts.vision import VIT
from beholder.weights.readers.decoders import DecoderDefaults, attention_of, decoder
from beholder.weights.readers.fields import Fields
from beholder.weights.readers.hierarchical import side
from beholder.weights.readers.read import Read, Recorded, activation_name
from beholder.weights.readers.reading import (
    CONNECTOR,
    LANGUAGE,
    VISION,
    Naming,
    Reading,
    language_naming,
    text_stages,
)

FUSION = "fusion.0."
# Of IDEFICS' training: what starts how and what is frozen
UNREAD = (
    "alpha_initializer",
    "alphas_initializer_range",
    "freeze_lm_head",
    "freeze_text_layers",
    "freeze_text_module_exceptions",
    "freeze_vision_layers",
    "freeze_vision_module_exceptions",
    "use_resampler",
)

GATES = {
    "float": ("number", layouts.IDEFICS_CROSS),
    "vector": ("channels", layouts.IDEFICS_CROSS_CHANNELS),
}


def _idefics_vision(fields: Fields) -> ViT:
    """All tokens of the last layer, the class token's among them."""
    width = fields.count("embed_dim", fields.count("hidden_size", 768))
    vit = ViT(
        image_size=side(fields, "image_size", 224),
        patch=side(fields, "patch_size", 14),
        dim=width,
        num_layers=fields.layers("num_hidden_layers", 32),
        attention=Attention(fields.count("num_attention_heads", 16), qkv_bias=True, out_bias=True),
        mlp=FeedForward(
            fields.count("intermediate_size", 5120), activation_name(fields, "hidden_act", "gelu")
        ),
        norm=Norm("layer", fields.positive("layer_norm_eps", 1e-5)),
        cls=True,
        patches=Patches(bias=False),
        pre_norm=True,
        take=Take(norm=False, front=True),
    )
    fields.finish()
    return vit


def _idefics_resampler(fields: Fields) -> Resampler:
    """Present or not, which the system's config says."""
    fields.raw("use_resampler")
    norms = fields.get("qk_layer_norms_perceiver", False)
    heads, width = fields.count("resampler_n_heads", 16), fields.count("resampler_head_dim", 96)
    resampler = Resampler(
        latents=fields.count("resampler_n_latents", 64),
        depth=fields.layers("resampler_depth", 6),
        attention=Attention(heads, head_dim=width, qk_norm=Norm() if norms else None),
        act="relu",
    )
    fields.finish()
    return resampler


def _idefics(fields: Fields, name: str, geometry: Geometry | None) -> Reading:
    kind = fields.get("alpha_type", "float")
    if kind not in GATES:
        raise UnknownName("config.json: alpha_type", kind, GATES)
    gate, cross = GATES[kind]
    vision = _idefics_vision(fields.part("vision_config"))
    resampler = _idefics_resampler(fields.part("perceiver_config"))
    resampled = fields.get("use_resampler", False)
    for key in UNREAD:
        fields.raw(key)
    own = decoder(fields, DecoderDefaults())
    language, words = _more_words(fields, own)
    norms = fields.get("qk_layer_norms", False)
    heads = attention_of(own).but(rotary=None, qk_norm=own.norm if norms else None)
    fusion = GatedCross(
        token_id=own.vocab_size + 1,
        attention=_over(heads, vision.dim),
        mlp=own.mlp,
        norm=own.norm,
        layers=Layers(every=fields.count("cross_layer_interval", 1)),
        gate=gate,
    )
    if own.num_layers % fusion.layers.every:
        raise BeholderError(
            f"config.json: {own.num_layers} layers do not divide into intervals of {fusion.layers.every}"
        )
    card = Card(
        name=name,
        vision=vision,
        connector=resampler if resampled else None,
        images=geometry,
        fusion=(fusion,),
        language=language,
        heads=(NextToken(),),
    )
    naming: Naming = (
        Binding("model.vision_model.", VISION, VIT),
        Binding("model.gated_cross_attn_layers.", FUSION, cross),
        *words,
    )
    if resampled:
        naming = (Binding("model.perceiver_resampler.", CONNECTOR, layouts.IDEFICS_RESAMPLER), *naming)
    stages = {
        "vision": Recorded("hook/model.vision_model/last_hidden_state"),
        "connector": Recorded("image_hidden_states"),
        **text_stages(),
    }
    return Reading(card, (naming,), stages)


def _over(heads: Attention, width: int) -> CrossAttention:
    """The same heads over features of `width` channels."""
    return CrossAttention(
        heads.num_heads, heads.num_kv_heads, heads.head_dim, qk_norm=heads.qk_norm, memory_dim=width
    )


def _more_words(fields: Fields, own: Decoder) -> tuple[Decoder, Naming]:
    """The decoder with the words that were added, which files keep apart."""
    if not fields.raw("additional_vocab_size"):
        return own, language_naming(Read(own, DECODER), "model.", "lm_head.")
    more = fields.count("additional_vocab_size", 0)
    if own.tied:
        raise BeholderError("config.json: tie_word_embeddings with additional words is not supported")
    numbers = {"vocab_size": own.vocab_size, "additional": more}
    words = Binding("", LANGUAGE, layouts.IDEFICS_DECODER, numbers)
    return own.but(vocab_size=own.vocab_size + more), (words,)


READERS: Mapping[str, Callable[[Fields, str, Geometry | None], Reading]] = {"idefics": _idefics}
