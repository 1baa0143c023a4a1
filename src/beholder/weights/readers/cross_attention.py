"""Systems whose language models attend to features. Defaults are those of the official config classes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise

from beholder.cards.schema import Card
from beholder.errors import BeholderError, UnknownName
from beholder.media.geometry import Geometry
from beholder.parts.blocks.attention import Attention
from beholder.parts.blocks.cross_attention import CrossAttention
from beholder.parts.blocks.mlp import FeedForward
from beholder.parts.blocks.norms import Norm
from beholder.parts.connectors.projections import Linear
from beholder.parts.connectors.resampler import Resampler
from beholder.parts.fusion.cross_attention import GatedCross, Layers
from beholder.parts.heads.next_token import NextToken
from beholder.parts.language.decoder import Decoder
from beholder.parts.language.embedding import TokenEmbedding
from beholder.parts.vision.patches import Patches
from beholder.parts.vision.tiled_vit import TiledViT
from beholder.parts.vision.vit import Take, ViT
from beholder.weights.layout import Binding
from beholder.weights.layouts import common
from beholder.weights.layouts import cross_attention as layouts
from beholder.weights.layouts.decoders import DECODER
from beholder.weights.layouts.vision import VIT
from beholder.weights.readers.decoders import DecoderDefaults, attention_of, decoder
from beholder.weights.readers.fields import Fields
from beholder.weights.readers.hierarchical import indices, side
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


SHAPES_OF_FOUR = [[1, 1], [1, 2], [1, 3], [1, 4], [2, 1], [2, 2], [3, 1], [4, 1]]
MLLAMA = DecoderDefaults(
    vocab_size=128256,
    hidden=14336,
    num_layers=40,
    num_kv_heads=8,
    context=131072,
    eps=1e-5,
    theta=500000.0,
)


def _mllama_vision(fields: Fields) -> TiledViT:
    """Depths are counted from the first layer's output, which files call 0."""
    heads = fields.count("attention_heads", fields.count("num_attention_heads", 16))
    layers = fields.layers("num_hidden_layers", 32)
    vision = TiledViT(
        image_size=side(fields, "image_size", 448),
        patch=side(fields, "patch_size", 14),
        dim=fields.count("hidden_size", 1280),
        num_layers=layers,
        num_global=fields.layers("num_global_layers", 8),
        attention=Attention(heads),
        mlp=FeedForward(
            fields.count("intermediate_size", 5120), activation_name(fields, "hidden_act", "gelu")
        ),
        norm=Norm("layer", fields.positive("norm_eps", 1e-5)),
        tiles=fields.count("max_num_tiles", 4),
        take=tuple(1 + depth for depth in indices(fields, "intermediate_layers_indices", [3, 7, 15, 23, 30])),
    )
    shapes = fields.get("supported_aspect_ratios", SHAPES_OF_FOUR)
    if [list(shape) for shape in vision.shapes] != shapes:
        raise BeholderError(
            f"{fields.name}: supported_aspect_ratios are {shapes}, not all shapes of up to {vision.tiles} tiles"
        )
    if vision.out_dim != fields.count("vision_output_dim", 7680):
        raise BeholderError(
            f"{fields.name}: vision_output_dim is not the {vision.out_dim} of the joined depths"
        )
    fields.finish()
    return vision


def _mllama(fields: Fields, name: str, geometry: Geometry | None) -> Reading:
    vision = _mllama_vision(fields.part("vision_config"))
    text = fields.part("text_config")
    own = decoder(text, MLLAMA)
    looking = indices(text, "cross_attention_layers", [3, 8, 13, 18, 23, 28, 33, 38])
    text.finish()
    heads = attention_of(own).but(rotary=None, qk_norm=own.norm)
    fusion = GatedCross(
        token_id=fields.get("image_token_index", fields.get("image_token_id", 128256)),
        attention=_over(heads, own.dim).but(memory_dim=None),
        mlp=own.mlp,
        norm=own.norm,
        layers=_behind(looking, own.num_layers),
        slot="after",
        sees="run",
        blind="all",
    )
    language = own.but(num_layers=own.num_layers - len(looking), embedding=TokenEmbedding(extra=8))
    card = Card(
        name=name,
        vision=vision,
        connector=Linear(),
        images=geometry,
        fusion=(fusion,),
        language=language,
        heads=(NextToken(),),
    )
    namings = tuple(
        _mllama_naming(vision, looking, own.num_layers, *prefixes)
        for prefixes in (
            ("", "language_model.model.", "language_model.lm_head."),
            ("model.", "model.language_model.", "lm_head."),
        )
    )
    stages = {
        "vision": Recorded("hook/model.vision_model/last_hidden_state"),
        "connector": Recorded("hook/model.multi_modal_projector"),
        **text_stages(),
    }
    return Reading(card, namings, stages)


def _behind(looking: Sequence[int], num_layers: int) -> Layers:
    """The own layers behind which those that look stand, where all layers are numbered together."""
    numbers = tuple(layer - 1 - place for place, layer in enumerate(looking))
    fits = numbers and numbers[0] >= 0 and looking[-1] < num_layers
    if not fits or any(a >= b for a, b in pairwise(numbers)):
        raise BeholderError(
            f"config.json: cross_attention_layers {list(looking)} of {num_layers} layers; expected rising numbers, each "
            "behind a layer that does not look"
        )
    every = numbers[1] - numbers[0] if len(numbers) > 1 else num_layers
    regular = Layers(every=every, first=numbers[0])
    return regular if regular.of(num_layers - len(looking)) == numbers else Layers(numbers=numbers)


def _mllama_naming(
    vision: TiledViT, looking: Sequence[int], num_layers: int, outer: str, body: str, head: str
) -> Naming:
    """Published layers are numbered together, ours by kind."""
    layers = []
    for layer in range(num_layers):
        before = sum(other < layer for other in looking)
        prefix = f"{body}layers.{layer}."
        if layer in looking:
            layers.append(Binding(prefix, f"{FUSION}layers.{before}.", layouts.MLLAMA_CROSS))
        else:
            layers.append(Binding(prefix, f"{LANGUAGE}blocks.{layer - before}.", layouts.MLLAMA_SELF))
    return (
        Binding(outer + "vision_model.", VISION, layouts.MLLAMA_VISION, {"kinds": len(vision.shapes) + 1}),
        Binding(outer + "multi_modal_projector.", CONNECTOR + "linear.", common.AFFINE),
        Binding(body, LANGUAGE, layouts.MLLAMA_WORDS),
        Binding(head, LANGUAGE + "head.", common.WEIGHT),
        *layers,
    )


READERS: Mapping[str, Callable[[Fields, str, Geometry | None], Reading]] = {
    "idefics": _idefics,
    "mllama": _mllama,
}
