"""Molmo 2 as transformers and Ai2 release it: squares of a ViT's patches pooled by attention and added to the placeholders'
vectors. Defaults are those of the official config classes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from beholder.cards.schema import Card
from beholder.errors import BeholderError, UnknownName
from beholder.media.geometry import Geometry
from beholder.media.overlap import OverlapCrops
from beholder.parts.blocks.positions import Rotary
from beholder.parts.blocks.transformer import Arrangement
from beholder.parts.connectors.crops import SquarePool
from beholder.parts.connectors.projections import Mlp
from beholder.parts.fusion.splice import Splice
from beholder.parts.heads.next_token import NextToken
from beholder.parts.language.decoder import Decoder
from beholder.parts.language.embedding import TokenEmbedding
from beholder.parts.vision.vit import Take, ViT
from beholder.weights.layout import Binding
from beholder.weights.layouts import molmo as layouts
from beholder.weights.ops import Numbers
from beholder.weights.readers.decoders import DecoderDefaults, attention_of, biased, decoder, varied
from beholder.weights.readers.fields import Fields
from beholder.weights.readers.hierarchical import expect
from beholder.weights.readers.read import Read, Recorded, activation_name
from beholder.weights.readers.reading import CONNECTOR, VISION, Reading, language_naming, text_stages
from beholder.weights.readers.vision import plain_vit

MOLMO2 = DecoderDefaults(
    vocab_size=151936,
    hidden=12288,
    num_layers=36,
    num_kv_heads=8,
    head_dim=128,
    context=36864,
)
MARKS = {  # tokens around features, which see and are seen as these are
    "image_start_token_id": 151936,
    "image_end_token_id": 151937,
    "low_res_image_start_token_id": 151940,
    "frame_start_token_id": 151943,
    "frame_end_token_id": 151944,
}
COLUMN = 151939  # <im_col>, behind each row of features
QK_NORMS = {"qwen3": "head", "olmo": "all"}
# Ai2's names of fields, and those of transformers
OLDER_VISION = {
    "image_default_input_size": "image_size",
    "image_patch_size": "patch_size",
    "image_num_pos": "num_position_embeddings",
}
OLDER_TEXT = {"qkv_bias": "attention_bias", "layer_norm_eps": "rms_norm_eps"}


def _molmo2(fields: Fields, name: str, geometry: Geometry | None) -> Reading:
    older = fields.raw("vision_config") is None and fields.raw("vit_config") is not None
    vision = _vision(_renamed(fields.part("vit_config" if older else "vision_config"), OLDER_VISION))
    adapter = _renamed(fields.part("adapter_config"), {"vit_layers": "vision_feature_layer"})
    vision = replace(vision, config=_taking(adapter, vision.config, cut=older))
    language = _language(_renamed(fields.part("text_config"), OLDER_TEXT))
    tied = fields.get("tie_word_embeddings", False)
    if tied:
        raise BeholderError(
            f"{fields.name}: tie_word_embeddings is true; only a head of its own is supported"
        )
    marks = tuple(fields.get(key, default) for key, default in MARKS.items())
    card = Card(
        name=name,
        vision=vision.config,
        connector=_pool(adapter, vision.config, geometry),
        images=geometry,
        fusion=(
            Splice(
                token_id=fields.get("image_patch_id", 151938),
                added=True,
                sees="pictures",
                marks=(*marks, COLUMN),
            ),
        ),
        language=language.config,
        heads=(NextToken(),),
    )
    parts = (
        Binding("model.vision_backbone.image_vit.", VISION, layouts.VISION, vision.numbers),
        Binding("model.vision_backbone.", CONNECTOR, layouts.CONNECTOR),
    )
    namings = tuple(
        (*parts, *language_naming(replace(language, numbers=numbers), "model.transformer.", "lm_head."))
        for numbers in _shares(language.config)
    )
    stages = {"connector": Recorded("hook/model.multi_modal_projector/last_hidden_state"), **text_stages()}
    return Reading(card, namings, stages)


def _renamed(fields: Fields, names: Mapping[str, str]) -> Fields:
    """The same fields under the newer names."""
    return Fields({names.get(key, key): fields.raw(key) for key in fields}, fields.name)


def _shares(config: Decoder) -> tuple[Numbers, ...]:
    """The usual words and the further ones are tables of their own; transformers writes two of equal length."""
    words, extra = config.vocab_size, config.embedding.extra
    return {"words": words, "further_words": extra}, {"words": 1, "further_words": 1}


def _vision(fields: Fields) -> Read[ViT]:
    config = plain_vit(
        fields, image_size=378, patch=14, dim=1152, hidden=4304, heads=16, act="gelu_pytorch_tanh", eps=1e-6
    )
    config = config.but(
        num_layers=fields.layers("num_hidden_layers", 25),
        pool=None,
        post_norm=False,
        attention=config.attention.but(head_dim=_head_dim(fields, config.dim, config.attention.num_heads)),
    )
    expect(fields, "attention_bias", True, True)
    cells = (config.image_size // config.patch) ** 2
    if fields.count("num_position_embeddings", cells) != cells:
        raise BeholderError(
            f"{fields.name}: num_position_embeddings is {fields.raw('num_position_embeddings')}; pictures of "
            f"{config.image_size} pixels have {cells} patches"
        )
    fields.ignore("num_key_value_heads", "float32_attention", "residual_dropout", "image_dropout")
    fields.ignore("attn_implementation", "hidden_size_", "image_norm_eps")
    read = Read(config, layouts.VISION, {"patch_values": 3 * config.patch**2})
    fields.finish()
    return read


def _head_dim(fields: Fields, dim: int, heads: int) -> int | None:
    """The width of a head where it is not the model's over the heads."""
    width = fields.count("head_dim", 72)
    return None if width * heads == dim else width


def _taking(adapter: Fields, vit: ViT, *, cut: bool) -> ViT:
    """The encoder with the layers whose features are joined. cut: there are none behind the last of these."""
    count = vit.num_layers
    layers = adapter.get("vision_feature_layer", [24, 18])
    if not layers or not all(type(layer) is int and -count <= layer < count for layer in layers):
        raise BeholderError(f"{adapter.name}: layers {layers} of an encoder of {count}; name some of these")
    depths = tuple(layer % count + 1 for layer in layers)
    return vit.but(num_layers=max(depths) if cut else count, take=Take(depths, norm=False))


def _pool(adapter: Fields, vit: ViT, geometry: Geometry | None) -> SquarePool:
    heads = adapter.count("num_attention_heads", 16)
    width = adapter.count("hidden_size", 1152)
    expect(adapter, "attention_bias", True, True)
    if adapter.count("head_dim", 72) * heads != width or adapter.count("num_key_value_heads", heads) != heads:
        raise BeholderError(
            f"{adapter.name}: head_dim and num_key_value_heads must make {heads} heads of {width} channels in all"
        )
    cells = vit.image_size // vit.patch
    margin = geometry.margin if isinstance(geometry, OverlapCrops) else min(4, (cells - 1) // 2)
    mlp = Mlp(
        hidden=adapter.count("intermediate_size", 18944),
        act=activation_name(adapter, "hidden_act", "silu"),
        bias=False,
        gated=True,
    )
    expect(adapter, "mlp_bias", False, False)
    adapter.ignore("text_hidden_size", "image_feature_dropout", "float32_attention", "residual_dropout")
    adapter.ignore("attn_implementation")
    adapter.finish()
    return SquarePool(mlp, num_heads=heads, width=width, margin=margin)


def _language(fields: Fields) -> Read[Decoder]:
    config = biased(decoder(fields, MOLMO2), qkv=fields.get("attention_bias", False))
    kind = fields.get("qk_norm_type", "qwen3")
    if kind not in QK_NORMS:
        raise UnknownName(f"{fields.name}: qk_norm_type", kind, QK_NORMS)
    config = config.but(
        **{"attention.qk_norm": config.norm, "attention.qk_norm_over": QK_NORMS[kind]},
        embedding=TokenEmbedding(extra=fields.get("additional_vocab_size", 128)),
    )
    after = fields.get("norm_after", False)
    if after:
        config = config.but(arrangement=Arrangement("after"))
    config = _scaled_in(fields, config)
    fields.ignore("use_qk_norm", "embedding_dropout", "attn_implementation", "rope_theta")
    fields.finish()
    return Read(config, layouts.DECODER_AFTER if after else layouts.DECODER)


def _scaled_in(fields: Fields, config: Decoder) -> Decoder:
    """Layers outside `rope_scaling_layers` have the same wavelengths unscaled."""
    layers = fields.get("rope_scaling_layers", list(range(config.num_layers)))
    scaled = attention_of(config)
    assert isinstance(scaled.rotary, Rotary)
    if scaled.rotary.scaling is None:
        return config
    plain = scaled.but(rotary=scaled.rotary.but(scaling=None))
    return varied(config, [scaled if layer in layers else plain for layer in range(config.num_layers)])


READERS: Mapping[str, Callable[[Fields, str, Geometry | None], Reading]] = {"molmo2": _molmo2}
