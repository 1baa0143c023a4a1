"""Molmo of 2024 as Ai2 releases it: files speak of the language model alone, and the code has the encoder's numbers
(allenai/molmo olmo/hf_molmo.py reads them back; olmo/model.py and image_vit.py have the names). MolmoE's files are others.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from beholder.cards.schema import Card
from beholder.errors import BeholderError
from beholder.media.geometry import Geometry
from beholder.media.overlap import OverlapCrops
from beholder.media.settings import geometry_from_official
from beholder.parts.blocks.mlp import FeedForward
from beholder.parts.blocks.transformer import Arrangement
from beholder.parts.connectors.crops import SquarePool
from beholder.parts.connectors.projections import Mlp
from beholder.parts.fusion.splice import Splice
from beholder.parts.heads.next_token import NextToken
from beholder.parts.language.decoder import Decoder
from beholder.parts.language.embedding import TokenEmbedding
from beholder.parts.vision import sizes
from beholder.parts.vision.vit import Take, ViT
from beholder.weights.layout import Binding
from beholder.weights.layouts import molmo as layouts
from beholder.weights.readers.decoders import DecoderDefaults, biased, decoder
from beholder.weights.readers.fields import Fields
from beholder.weights.readers.hierarchical import expect
from beholder.weights.readers.read import Read
from beholder.weights.readers.reading import CONNECTOR, VISION, Reading, language_naming, text_stages

MOLMO = DecoderDefaults(vocab_size=50304, context=2048, eps=1e-5, eps_key="layer_norm_eps")
# OpenAI's encoder without its last layer; features of two layers are joined
EYES: ViT = sizes.CLIP_L_14_336.but(
    num_layers=23, pool=None, post_norm=False, take=Take((-2, -9), norm=False)
)
EXTRA = 128  # words behind the vocabulary, of which the third stands for a patch
NEEDED = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")

# Read above, or by nothing
UNREAD = (
    *("embedding_size", "layer_norm_type", "use_position_ids", "weight_tying", "clip_qkv", "norm_after"),
    *("attention_layer_norm", "qkv_bias", "position_embedding_type"),
)


def _molmo(fields: Fields, name: str, geometry: Geometry | None) -> Reading:
    """Raises `BeholderError` for MolmoE, whose files have other fields, and for choices that no release made."""
    if "d_model" in fields:
        raise BeholderError(
            f"{fields.name}: d_model is of MolmoE's files, which are not read; take Molmo-7B-D or -O"
        )
    for key in NEEDED:
        fields.need(key)
    language = _language(fields)
    config = language.config
    images = geometry or geometry_from_official({"image_processor_type": "MolmoImageProcessor"})
    if not isinstance(images, OverlapCrops):
        raise BeholderError(
            "preprocessor_config.json: Molmo sees crops that overlap; these settings make none"
        )
    assert isinstance(config.mlp, FeedForward)
    mlp = Mlp(hidden=config.mlp.hidden, act="silu", bias=False, gated=True)
    pool = SquarePool(
        mlp, num_heads=EYES.attention.num_heads, width=EYES.dim, margin=images.margin, padding=True
    )
    card = Card(
        name=name,
        vision=EYES,
        connector=pool,
        images=images,
        fusion=(Splice(token_id=config.vocab_size + 2, added=True),),
        language=config,
        heads=(NextToken(),),
    )
    naming = (
        Binding(
            "model.vision_backbone.image_vit.", VISION, layouts.CLIP, {"patch_values": 3 * EYES.patch**2}
        ),
        Binding("model.vision_backbone.", CONNECTOR, layouts.PADDED_CONNECTOR),
        *language_naming(language, "model.transformer.", "model.transformer.ff_out."),
    )
    return Reading(card, (naming,), text_stages())


def _language(fields: Fields) -> Read[Decoder]:
    """`intermediate_size` is that of values and gates together, `embedding_size` that of the table with words nobody has."""
    words = fields.count("embedding_size", fields.count("vocab_size", MOLMO.vocab_size))
    own = {key: fields.raw(key) for key in fields}
    doubled = fields.count("intermediate_size", 2)
    for key, default, known in (("layer_norm_type", "rms", "rms"), ("use_position_ids", True, True)):
        expect(fields, key, default, known)
    tied = fields.get("weight_tying", False)
    if tied or fields.raw("clip_qkv") is not None or doubled % 2:
        raise BeholderError(
            f"{fields.name}: weight_tying is {tied}, clip_qkv {fields.raw('clip_qkv')}, intermediate_size {doubled}; expected "
            "false, none and an even number"
        )
    after, normed = fields.get("norm_after", False), fields.get("attention_layer_norm", False)
    # what `tie_word_embeddings` says is not heeded by the code, which reads `weight_tying`
    inner = Fields(
        {**own, "vocab_size": words, "intermediate_size": doubled // 2, "tie_word_embeddings": False}
    )
    config = biased(decoder(inner, MOLMO), qkv=fields.get("qkv_bias", False))
    config = config.but(embedding=TokenEmbedding(extra=EXTRA))
    if normed:
        config = config.but(**{"attention.qk_norm": config.norm, "attention.qk_norm_over": "all"})
    if after:
        config = config.but(arrangement=Arrangement("after"))
    fields.ignore(*own)
    inner.ignore(*UNREAD)
    inner.finish()
    layout = layouts.FIRST_DECODER_AFTER if after else layouts.FIRST_DECODER
    return Read(config, layout, {"words": words, "further_words": EXTRA})


READERS: Mapping[str, Callable[[Fields, str, Geometry | None], Reading]] = {"molmo": _molmo}
