"""LayoutLMv3: words with places on a page and its patches, read together. Defaults are those of the official config class."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from beholder.cards.schema import Card
from beholder.errors import BeholderError
from beholder.media.geometry import Geometry
from beholder.parts.blocks.attention import Attention
from beholder.parts.blocks.mlp import FeedForward
from beholder.parts.blocks.norms import Norm
from beholder.parts.blocks.relative import RelativeBuckets
from beholder.parts.blocks.transformer import Arrangement
from beholder.parts.fusion.on_page import OnPage
from beholder.parts.language.embedding import TokenEmbedding
from beholder.parts.language.page_reader import PageReader
from beholder.parts.vision.positions import GridTable
from beholder.parts.vision.vit import Take, ViT
from beholder.weights.layout import Binding
from beholder.weights.layouts.page import LAYOUTLMV3
from beholder.weights.layouts.vision import LAYOUTLMV3_PATCHES
from beholder.weights.readers.fields import Fields
from beholder.weights.readers.read import Recorded, activation_name
from beholder.weights.readers.reading import LANGUAGE, VISION, Reading

NEEDED = ("has_relative_attention_bias", "has_spatial_attention_bias", "text_embed", "visual_embed")
IGNORED = ("tie_word_embeddings", "hidden_dropout_prob", "attention_probs_dropout_prob", "classifier_dropout")


def _layoutlmv3(fields: Fields, name: str, geometry: Geometry | None) -> Reading:
    """The bare model. Heads of fine-tuned releases are refused, since their weights would be left over."""
    for key in IGNORED:
        fields.raw(key)
    for key in NEEDED:
        if not fields.get(key, True):
            raise BeholderError(f"config.json: {key} must be true")
    if fields.count("num_channels", 3) != 3:
        raise BeholderError("config.json: num_channels must be 3")
    dim = fields.count("hidden_size", 768)
    norm = Norm("layer", fields.positive("layer_norm_eps", 1e-5))
    attention = Attention(fields.count("num_attention_heads", 12), qkv_bias=True, out_bias=True)
    mlp = FeedForward(fields.count("intermediate_size", 3072), activation_name(fields, "hidden_act", "gelu"))
    offset = fields.get("pad_token_id", 1) + 1
    patches = ViT(
        image_size=fields.count("input_size", 224),
        patch=fields.count("patch_size", 16),
        dim=dim,
        num_layers=0,
        attention=attention,
        mlp=mlp,
        norm=Norm("layer", 1e-6),
        cls=True,
        positions=GridTable(),
        take=Take((0,), front=True),
    )
    words = PageReader(
        vocab_size=fields.count("vocab_size", 50265),
        dim=dim,
        num_layers=fields.layers("num_hidden_layers", 12),
        attention=attention,
        mlp=mlp,
        norm=norm,
        arrangement=Arrangement("post"),
        embedding=TokenEmbedding(
            positions="learned", offset=offset, segments=fields.count("type_vocab_size", 2), norm=norm
        ),
        final_norm=False,
        context=fields.count("max_position_embeddings", 512) - offset,
        causal=False,
        pool=None,
        projection=0,
        edge=fields.count("coordinate_size", 128),
        extent=fields.count("shape_size", 128),
        steps=fields.count("max_2d_position_embeddings", 1024),
        joint_norm=norm,
        distances=RelativeBuckets(fields.count("rel_pos_bins", 32), fields.count("max_rel_pos", 128)),
        edges=RelativeBuckets(fields.count("rel_2d_pos_bins", 64), fields.count("max_rel_2d_pos", 256)),
    )
    side = patches.image_size // patches.patch
    fusion = OnPage(segments=0, positions=0, late=True, side=side)
    card = Card(name=name, vision=patches, images=geometry, fusion=(fusion,), language=words)
    namings = tuple(
        (Binding(prefix, LANGUAGE, LAYOUTLMV3), Binding(prefix, VISION, LAYOUTLMV3_PATCHES))
        for prefix in ("", "layoutlmv3.")
    )
    stages = {"hidden states": Recorded("last_hidden_state")}
    return Reading(card, namings, stages)


READERS: Mapping[str, Callable[[Fields, str, Geometry | None], Reading]] = {"layoutlmv3": _layoutlmv3}
