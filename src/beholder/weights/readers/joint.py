"""Encoders of words and features together. Defaults are those of the official config classes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from beholder.cards.schema import Branch, Card
from beholder.errors import BeholderError
from beholder.media.geometry import Geometry
from beholder.parts.blocks.attention import Attention
from beholder.parts.blocks.mlp import FeedForward
from beholder.parts.blocks.norms import Norm
from beholder.parts.blocks.transformer import Arrangement
from beholder.parts.connectors.projections import Linear
from beholder.parts.contracts import HeadConfig
from beholder.parts.fusion.joint import Joint
from beholder.parts.fusion.towers import Towers
from beholder.parts.heads.joint import Answers, Matching
from beholder.parts.heads.masked_token import MaskedToken
from beholder.parts.heads.mixed import Mixed
from beholder.parts.vision.positions import GridTable
from beholder.parts.vision.regions import RegionFeatures
from beholder.parts.vision.vit import Take, ViT
from beholder.weights.layout import Binding
from beholder.weights.layouts import common
from beholder.weights.layouts.joint import (
    FLAVA_MIXED,
    VILT_KINDS,
    VILT_LAYERS,
    VILT_PATCHES,
    VILT_WORDS,
    VISUAL_MARKS,
    WIDE_ANSWERS,
)
from beholder.weights.layouts.text import masked_token
from beholder.weights.layouts.vision import BERT_VIT
from beholder.weights.readers.fields import Fields
from beholder.weights.readers.read import Recorded, activation_name
from beholder.weights.readers.reading import CONNECTOR, LANGUAGE, VISION, Naming, Reading
from beholder.weights.readers.text import read_bert


def _visual_bert(fields: Fields, name: str, _: Geometry | None) -> Reading:
    """BERT over words and regions; the class that wrote a file says which heads it has."""
    classes = " ".join(fields.raw("architectures") or ())
    for key in ("bypass_transformer", "special_visual_initialize"):  # of the training code
        fields.raw(key)
    labels = len(fields.get("id2label", {})) or 2
    regions = RegionFeatures(fields.count("visual_embedding_dim", 512))
    read = read_bert(fields)
    encoder = read.config
    assert isinstance(encoder.mlp, FeedForward)
    heads: tuple[HeadConfig, ...] = ()
    rest: Naming = ()
    if "ForPreTraining" in classes:
        heads = (MaskedToken(encoder.mlp.act, encoder.norm), Matching())
        words = masked_token("transform.dense", "transform.LayerNorm", "decoder", "bias")
        rest = (
            Binding("cls.predictions.", "heads.0.", words),
            Binding("cls.predictions.decoder.", LANGUAGE, common.TIED_HEAD),
            Binding("cls.seq_relationship.", "heads.1.linear.", common.AFFINE),
        )
    elif "ForQuestionAnswering" in classes or "ForVisualReasoning" in classes:
        heads = (Answers(labels, "last word" if "ForQuestionAnswering" in classes else "pooled"),)
        rest = (Binding("cls.", "heads.0.linear.", common.AFFINE),)
    card = Card(
        name=name,
        branches=(Branch((regions,), connector=Linear(), modality="regions"),),
        fusion=(Joint(segments=fields.count("type_vocab_size", 2), positions=encoder.context),),
        language=encoder,
        heads=heads,
    )
    body = "visual_bert." if heads else ""
    naming = (
        Binding(body, LANGUAGE, read.layout, read.numbers),
        Binding(f"{body}embeddings.", "fusion.0.", VISUAL_MARKS),
        Binding(f"{body}embeddings.visual_projection.", CONNECTOR + "linear.", common.AFFINE),
        *rest,
    )
    stages = {
        "hidden states": Recorded(f"hook/{body}encoder/last_hidden_state"),
        "text vectors": Recorded(f"hook/{body}pooler"),
        "answers": Recorded("logits"),
        "logits": Recorded("prediction_logits"),
        "matching": Recorded("seq_relationship_logits"),
    }
    return Reading(card, (naming,), stages)


def _vilt(fields: Fields, name: str, geometry: Geometry | None) -> Reading:
    """Patches without any encoder of their own; the layers are a ViT's."""
    classes = " ".join(fields.raw("architectures") or ())
    for key in (
        "max_image_length",
        "num_images",
    ):  # which patches training samples; pictures of a head for several
        fields.raw(key)
    labels = len(fields.get("id2label", {})) or 2
    if fields.count("num_channels", 3) != 3:
        raise BeholderError("config.json: num_channels must be 3")
    read = read_bert(fields)
    context, bias = fields.count("max_position_embeddings", 40), fields.get("qkv_bias", True)
    attention = read.config.attention.but(qkv_bias=bias)
    encoder = read.config.but(
        context=context, arrangement=Arrangement(), final_norm=True, attention=attention
    )
    assert isinstance(encoder.mlp, FeedForward)
    patches = ViT(
        image_size=fields.count("image_size", 384),
        patch=fields.count("patch_size", 32),
        dim=encoder.dim,
        num_layers=0,
        attention=attention,
        mlp=encoder.mlp,
        cls=True,
        post_norm=False,
        positions=GridTable("bilinear", corners=True),
        take=Take((0,), norm=False, front=True),
    )
    answers = "ForQuestionAnswering" in classes
    card = Card(
        name=name,
        vision=patches,
        images=geometry,
        fusion=(Joint(segments=fields.count("modality_type_vocab_size", 2), positions=0, late=True),),
        language=encoder,
        heads=(Answers(labels, wide=True),) if answers else (),
    )
    body = "vilt." if answers else ""
    naming = (
        Binding(f"{body}embeddings.text_embeddings.", LANGUAGE + "embedding.", VILT_WORDS),
        Binding(f"{body}embeddings.", VISION, VILT_PATCHES),
        Binding(f"{body}embeddings.", "fusion.0.", VILT_KINDS),
        Binding(body, LANGUAGE, VILT_LAYERS),
        *((Binding("classifier.", "heads.0.", WIDE_ANSWERS),) if answers else ()),
    )
    stages = {
        "hidden states": Recorded(f"hook/{body}layernorm"),
        "text vectors": Recorded(f"hook/{body}pooler"),
        "answers": Recorded("logits"),
    }
    return Reading(card, (naming,), stages)


FLAVA_UNREAD = (  # of training, and of the codes that masked patches are predicted as
    *(
        "hidden_size",
        "layer_norm_eps",
        "init_codebook",
        "ce_ignore_index",
        "mim_weight",
        "mlm_weight",
        "itm_weight",
    ),
    *("global_contrastive_weight", "mmm_image_weight", "mmm_text_weight", "global_backprop_contrastive"),
    *("skip_unmasked_multimodal_encoder", "return_loss", "initializer_factor", "logit_scale_init_value"),
    *("image_codebook_config", "tie_word_embeddings"),
)


def _flava(fields: Fields, name: str, geometry: Geometry | None) -> Reading:
    """A ViT, a text encoder of a ViT's layers, and layers over both."""
    for key in FLAVA_UNREAD:
        fields.raw(key)
    picture, words = (
        fields.part("image_config", "flava_image_model"),
        fields.part("text_config", "flava_text_model"),
    )
    mixed = fields.part("multimodal_config", "flava_multimodal_model")
    for part in (picture, mixed):
        part.raw("model_type")
    picture.raw("vocab_size")
    if picture.count("num_channels", 3) != 3:
        raise BeholderError("image_config: num_channels must be 3")
    layers, read = picture.layers("num_hidden_layers", 12), read_bert(words)
    words.raw("model_type")
    encoder = read.config.but(
        arrangement=Arrangement(),
        final_norm=True,
        attention=read.config.attention.but(qkv_bias=words.get("qkv_bias", True)),
    )
    vision = ViT(
        image_size=picture.count("image_size", 224),
        patch=picture.count("patch_size", 16),
        num_layers=layers,
        **_layer(picture),
        cls=True,
        mask_token=picture.get("mask_token", True),
        pool="dense",
        take=Take(taps=(layers,), front=True),
    )
    parts = _layer(mixed)
    head = Mixed(
        dim=vision.dim,
        depth=layers,
        width=parts.pop("dim"),
        num_layers=mixed.layers("num_hidden_layers", 6),
        **parts,
        cls=mixed.get("use_cls_token", True),
        shared=fields.count("projection_dim", 768),
    )
    for part in (picture, words, mixed):
        part.finish()
    card = Card(
        name=name, vision=vision, images=geometry, fusion=(Towers(),), language=encoder, heads=(head,)
    )
    naming = (
        Binding("image_model.", VISION, BERT_VIT),
        Binding("text_model.embeddings.", LANGUAGE + "embedding.", VILT_WORDS),
        Binding("text_model.", LANGUAGE, VILT_LAYERS),
        Binding("", "heads.0.", FLAVA_MIXED),
    )
    stages = {
        "vision": Recorded("image_embeddings"),
        "pooled": Recorded("image_output.pooler_output"),
        "hidden states": Recorded("text_embeddings"),
        "text vectors": Recorded("text_output.pooler_output"),
        "mixed": Recorded("multimodal_output.pooler_output"),
    }
    return Reading(card, (naming,), stages)


def _layer(fields: Fields) -> dict[str, Any]:
    """Width, attention, MLP and norm of a ViT's layers."""
    heads, act = fields.count("num_attention_heads", 12), activation_name(fields, "hidden_act", "gelu")
    return {
        "dim": fields.count("hidden_size", 768),
        "attention": Attention(heads, qkv_bias=fields.get("qkv_bias", True), out_bias=True),
        "mlp": FeedForward(fields.count("intermediate_size", 3072), act),
        "norm": Norm("layer", fields.positive("layer_norm_eps", 1e-12)),
    }


READERS: Mapping[str, Callable[[Fields, str, Geometry | None], Reading]] = {
    "visual_bert": _visual_bert,
    "vilt": _vilt,
    "flava": _flava,
}
