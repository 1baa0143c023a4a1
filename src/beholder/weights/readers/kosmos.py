"""Kosmos-2 and Kosmos-2.5: latents that read CLIP, or pages, before MAGNETO. Defaults are those of the official classes."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace

from beholder.cards.schema import Card
from beholder.errors import BeholderError
from beholder.media.geometry import Geometry
from beholder.parts.blocks.attention import Attention
from beholder.parts.blocks.mlp import FeedForward
from beholder.parts.blocks.norms import Norm
from beholder.parts.connectors.latent_queries import LatentQueries
from beholder.parts.fusion.splice import Splice
from beholder.parts.heads.next_token import NextToken
from beholder.parts.language.decoder import Decoder
from beholder.parts.vision.filled import FilledViT
from beholder.parts.vision.positions import RowsColumns
from beholder.parts.vision.vit import Take
from beholder.weights.layout import Binding, Layout
from beholder.weights.layouts.encoder_decoders import MAGNETO
from beholder.weights.layouts.pages import PIX2STRUCT_VISION
from beholder.weights.layouts.rules import affine
from beholder.weights.readers.encoder_decoders import READERS as LANGUAGES
from beholder.weights.readers.fields import Fields
from beholder.weights.readers.parts import read_language, read_vit
from beholder.weights.readers.read import Recorded, activation_name, head_dim
from beholder.weights.readers.reading import CONNECTOR, VISION, Reading, language_naming, text_stages

# transformers: models/kosmos2/modeling_kosmos2.py `Kosmos2ImageToTextProjection`
PROJECTION = Layout(
    {
        "latent_query": "latents",
        **affine(
            {"dense": "linear.linear", **{f"x_attn.{k}_proj": f"attn.{k}" for k in ("q", "k", "v", "out")}}
        ),
    },
    name="transformers Kosmos-2 projection",
)
CLIP_L = {
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "patch_size": 14,
}


def _kosmos_2(fields: Fields, name: str, geometry: Geometry | None) -> Reading:
    """Files name no token for pictures: the official forward is told where they stand."""
    tower = read_vit(clip_fields(fields, "kosmos_2_vision_model", CLIP_L))
    vision = tower.config.but(pool=None, take=Take(front=True))
    language = read_language(fields.part("text_config", "kosmos_2_text_model"))
    if not isinstance(language.config, Decoder):
        raise BeholderError("config.json: text_config is no decoder; Kosmos-2 writes with MAGNETO's")
    fields.raw("tie_word_embeddings")
    decoder = language.config
    assert isinstance(decoder.attention, Attention)
    connector = LatentQueries(
        latents=fields.count("latent_query_num", 64),
        attention=Attention(decoder.attention.num_heads, qkv_bias=True, out_bias=True),
        scale=decoder.embedding.scale,
    )
    card = Card(
        name=name,
        vision=vision,
        connector=connector,
        images=geometry,
        fusion=(Splice(token_id=decoder.vocab_size),),
        language=decoder,
        heads=(NextToken(),),
    )
    naming = (
        Binding("vision_model.model.", VISION, tower.layout),
        Binding("image_to_text_projection.", CONNECTOR, PROJECTION),
        *language_naming(language, "text_model.model.", "text_model.lm_head."),
    )
    stages = {"connector": Recorded("image_embeds", times=connector.scale), **text_stages()}
    return Reading(card, (naming,), stages)


def clip_fields(fields: Fields, kind: str, assumed: Mapping[str, int]) -> Fields:
    """`vision_config` of a type `kind` that is CLIP's under another name. assumed: what a file leaves out."""
    inner = dict(fields.get("vision_config", {}) or {})
    given = inner.pop("model_type", kind)
    if given != kind:
        raise BeholderError(f"{fields.name}: vision_config has the type {given!r}; known: {kind}")
    return Fields({"model_type": "clip_vision_model", **assumed, **inner}, f"{fields.name}: vision_config")


PAGE_WORDS = {
    "vocab_size": 108481,
    "embed_dim": 1536,
    "ffn_dim": 6144,
    "attention_heads": 16,
    "max_position_embeddings": 4096,
}


def _kosmos_2_5(fields: Fields, name: str, geometry: Geometry | None) -> Reading:
    """Pages are read with their padding. Released files name no token for pictures, as Kosmos-2's do not."""
    vision = _page_encoder(fields.part("vision_config", "kosmos_2_5_vision_model"))
    text = fields.part("text_config", "kosmos_2_5_text_model").assuming(**PAGE_WORDS)
    read = LANGUAGES["kosmos_2_text_model"](text)
    text.finish()
    decoder = read.config.but(tied=fields.get("tie_word_embeddings", True))
    decoder = decoder.but(**{"attention.inner_norm": None, "embedding.segments": 2})
    connector = LatentQueries(
        latents=fields.count("latent_query_num", 2048),
        attention=Attention(decoder.attention.num_heads, qkv_bias=True, out_bias=True),
        scale=decoder.embedding.scale,
        padded=True,
    )
    card = Card(
        name=name,
        vision=vision,
        connector=connector,
        images=geometry,
        fusion=(Splice(token_id=decoder.vocab_size, kind=1),),
        language=decoder,
        heads=(NextToken(),),
    )
    naming = (
        Binding("vision_model.", VISION, PIX2STRUCT_VISION, {"patch_values": 3 * vision.patch**2}),
        Binding("image_to_text_projection.", CONNECTOR, PROJECTION),
        *language_naming(
            replace(read, config=decoder, layout=SEGMENTED), "text_model.model.", "text_model.lm_head."
        ),
    )
    stages = {
        "vision": Recorded("vision_model_output.last_hidden_state", padded=True),
        "connector": Recorded("image_embeds", times=connector.scale),
        **text_stages(),
    }
    return Reading(card, (naming,), stages)


SEGMENTED = MAGNETO.but({"segment_emb.weight": "embedding.segments"}, name="transformers Kosmos-2.5 decoder")


def _page_encoder(fields: Fields) -> FilledViT:
    """Pix2Struct's encoder under other names of fields, with scaled scores."""
    values, dim = fields.count("patch_embed_hidden_size", 768), fields.count("hidden_size", 1536)
    patch, lines = math.isqrt(values // 3), fields.count("max_num_patches", 4096)
    if 3 * patch**2 != values or fields.count("patch_size", patch) != patch:
        raise BeholderError(f"{fields.name}: patches of {values} values are no squares of three colours")
    fields.ignore("initializer_factor", "dropout_rate")
    heads = fields.count("num_attention_heads", 24)
    vit = FilledViT(
        image_size=max(math.isqrt(lines - 1), 1) * patch,
        patch=patch,
        dim=dim,
        num_layers=fields.layers("num_hidden_layers", 18),
        attention=Attention(heads, head_dim=head_dim(fields, dim, heads, 64)),
        mlp=FeedForward(
            fields.count("intermediate_size", 3968),
            activation_name(fields, "dense_act_fn", "gelu_new"),
            gated=True,
            bias=False,
        ),
        norm=Norm("rms", fields.positive("layer_norm_eps", 1e-6)),
        positions=RowsColumns(lines),
    )
    fields.finish()
    return vit


READERS: Mapping[str, Callable[[Fields, str, Geometry | None], Reading]] = {
    "kosmos-2": _kosmos_2,
    "kosmos-2.5": _kosmos_2_5,
}
