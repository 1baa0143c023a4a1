"""Molmo of 2024 as Ai2 releases it: files speak of the language model alone, and the code has the encoder's numbers
(allenai/molmo olmo/hf_molmo.py reads them back; olmo/model.py and image_vit.py have the names). MolmoE's files have the fields
of the training code, the encoder's too (config.json and modeling_molmoe.py of allenai/MolmoE-1B-0924).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from beholder.cards.schema import Card
from beholder.errors import BeholderError
from beholder.media.geometry import Geometry
from beholder.media.overlap import OverlapCrops
from beholder.media.settings import geometry_from_official
from beholder.parts.blocks.mlp import FeedForward
from beholder.parts.blocks.moe import Experts, Routing
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


# MolmoE's fields -> those of other files
OTHER_NAMES = {
    "hidden_size": "d_model",
    "num_attention_heads": "n_heads",
    "num_key_value_heads": "n_kv_heads",
    "num_hidden_layers": "n_layers",
    "max_position_embeddings": "max_sequence_length",
}
SAME_NAMES = (
    *(
        "attention_layer_norm",
        "clip_qkv",
        "embedding_size",
        "layer_norm_eps",
        "layer_norm_type",
        "norm_after",
    ),
    *("qkv_bias", "rope_theta", "use_position_ids", "vocab_size", "weight_tying"),
)
# what was released, of fields that change the computation
CHOICES: Mapping[str, object] = {
    "activation_type": "swiglu",
    "additional_vocab_size": EXTRA,
    "alibi": False,
    "block_type": "moe",
    "image_padding_embed": "pad_and_partial_pad",
    "image_pooling_2d": "attention-meanq",
    "image_projector": "mlp",
    "include_bias": False,
    "moe_interleave": False,
    "moe_shared_expert": False,
    "normalize_input_embeds": False,
    "rope": True,
    "rope_impl": "llama",
    "scale_logits": False,
    "use_cls_feature": False,
    "vit_layers": [-2, -9],
}


def _molmo(fields: Fields, name: str, geometry: Geometry | None) -> Reading:
    """Raises `BeholderError` for choices that no release made."""
    if "d_model" in fields:
        language, eyes, width = _experts(fields)
        return _system(name, language, eyes, width, geometry)
    for key in NEEDED:
        fields.need(key)
    language = _language(fields)
    assert isinstance(language.config.mlp, FeedForward)
    return _system(name, language, EYES, language.config.mlp.hidden, geometry)


def _experts(fields: Fields) -> tuple[Read[Decoder], ViT, int]:
    """MolmoE's language model, its encoder, and the width of its projector, which is that of an expert."""
    for key, known in CHOICES.items():
        expect(fields, key, known, known)
    dim, count = fields.count("d_model", 2048), fields.count("moe_num_experts", 64)
    doubled = fields.count("mlp_hidden_size", fields.count("mlp_ratio", 1) * dim)
    own = {key: fields.raw(key) for key in SAME_NAMES}
    own |= {key: fields.raw(theirs) for key, theirs in OTHER_NAMES.items()}
    own["num_key_value_heads"] = own["num_key_value_heads"] or own["num_attention_heads"]
    read = _language(Fields({**own, "intermediate_size": doubled}, fields.name))
    mlp = Experts(count, doubled // 2, Routing(active=fields.count("moe_top_k", 8)))
    eyes = _eyes(fields.part("vision_backbone"))
    fields.ignore(*fields)
    numbers = {**read.numbers, "num_experts": count}
    return Read(read.config.but(mlp=mlp), layouts.FIRST_EXPERTS, numbers), eyes, mlp.hidden


def _eyes(fields: Fields) -> ViT:
    """The encoder's numbers, which MolmoE's files have; others are CLIP's."""
    heads, hidden = fields.count("image_num_heads", 16), fields.count("image_mlp_dim", 4096)
    return EYES.but(
        dim=fields.count("image_emb_dim", 1024),
        num_layers=fields.layers("image_num_layers", 23),
        patch=fields.count("image_patch_size", 14),
        **{"attention.num_heads": heads, "mlp.hidden": hidden},
    )


def _system(name: str, language: Read[Decoder], eyes: ViT, width: int, geometry: Geometry | None) -> Reading:
    """width: of the projector's MLP."""
    config = language.config
    images = geometry or geometry_from_official({"image_processor_type": "MolmoImageProcessor"})
    if not isinstance(images, OverlapCrops):
        raise BeholderError(
            "preprocessor_config.json: Molmo sees crops that overlap; these settings make none"
        )
    mlp = Mlp(hidden=width, act="silu", bias=False, gated=True)
    pool = SquarePool(
        mlp, num_heads=eyes.attention.num_heads, width=eyes.dim, margin=images.margin, padding=True
    )
    card = Card(
        name=name,
        vision=eyes,
        connector=pool,
        images=images,
        fusion=(Splice(token_id=config.vocab_size + 2, added=True),),
        language=config,
        heads=(NextToken(),),
    )
    naming = (
        Binding(
            "model.vision_backbone.image_vit.", VISION, layouts.CLIP, {"patch_values": 3 * eyes.patch**2}
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
