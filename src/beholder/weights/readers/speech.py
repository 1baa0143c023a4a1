"""Speech to text: an encoder of sound whose tokens are the memory of a decoder (Whisper, 2212.04356; fairseq S2T,
2010.05171).
"""

from __future__ import annotations

import math

from beholder.cards.schema import Branch, Card
from beholder.media.geometry import Geometry
from beholder.parts.audio.transformer import SignalTransformer
from beholder.parts.blocks.attention import Attention
from beholder.parts.blocks.cross_attention import CrossAttention
from beholder.parts.blocks.mlp import FeedForward
from beholder.parts.blocks.norms import Norm
from beholder.parts.fusion.memory import Memory
from beholder.parts.heads.next_token import NextToken
from beholder.parts.language.decoder import Decoder
from beholder.parts.language.embedding import TokenEmbedding
from beholder.weights.layout import Binding, Layout
from beholder.weights.layouts import common
from beholder.weights.layouts.audio import SPEECH_DECODER, SPEECH_TO_TEXT, WHISPER
from beholder.weights.readers.audio import speech_to_text_encoder, whisper_encoder
from beholder.weights.readers.fields import Fields
from beholder.weights.readers.read import Recorded, activation_name
from beholder.weights.readers.reading import AUDIO, LANGUAGE, Naming, Reading, text_stages


def whisper(fields: Fields, name: str, _: Geometry | None) -> Reading:
    """The defaults are the tiny model's."""
    decoder = _decoder(
        fields,
        dim=fields.count("d_model", 384),
        layers=4,
        heads=6,
        hidden=1536,
        act="gelu",
        vocab=51865,
        context=448,
        k_bias=False,
        embedding=TokenEmbedding(positions="learned"),
    )
    fields.ignore("median_filter_width", "mask_time_prob", "mask_feature_prob", "forced_decoder_ids")
    return _reading(name, whisper_encoder(fields), decoder, WHISPER, "proj_out.")


def speech_to_text(fields: Fields, name: str, _: Geometry | None) -> Reading:
    """Positions of words begin behind the padding id, as those of frames do."""
    dim = fields.count("d_model", 256)
    decoder = _decoder(
        fields,
        dim=dim,
        layers=6,
        heads=4,
        hidden=2048,
        act="relu",
        vocab=10000,
        context=1024,
        embedding=TokenEmbedding(
            scale=math.sqrt(dim) if fields.get("scale_embedding", True) else 1.0,
            positions="sinusoidal",
            offset=fields.get("pad_token_id", 1) + 1,
        ),
    )
    return _reading(name, speech_to_text_encoder(fields), decoder, SPEECH_TO_TEXT, "lm_head.")


def _decoder(
    fields: Fields,
    *,
    dim: int,
    layers: int,
    heads: int,
    hidden: int,
    act: str,
    vocab: int,
    context: int,
    embedding: TokenEmbedding,
    k_bias: bool = True,
) -> Decoder:
    """The other numbers are what the official config class assumes."""
    fields.ignore("decoder_layerdrop")
    heads = fields.count("decoder_attention_heads", heads)
    return Decoder(
        vocab_size=fields.count("vocab_size", vocab),
        dim=dim,
        num_layers=fields.layers("decoder_layers", layers),
        attention=Attention(heads, qkv_bias=True, k_bias=k_bias, out_bias=True),
        mlp=FeedForward(
            fields.count("decoder_ffn_dim", hidden), activation_name(fields, "activation_function", act)
        ),
        norm=Norm(),
        tied=fields.get("tie_word_embeddings", True),
        context=fields.count("max_target_positions", context),
        embedding=embedding,
        cross=CrossAttention(heads, qkv_bias=True, k_bias=k_bias, out_bias=True),
    )


def _reading(name: str, encoder: SignalTransformer, decoder: Decoder, layout: Layout, head: str) -> Reading:
    card = Card(
        name=name,
        branches=(Branch((encoder,), name="audio", modality="audio"),),
        fusion=(Memory("audio"),),
        language=decoder,
        heads=(NextToken(),),
    )
    output = (
        Binding(head, LANGUAGE, common.TIED_HEAD)
        if decoder.tied
        else Binding(head, LANGUAGE + "head.", common.WEIGHT)
    )
    naming: Naming = (
        Binding("model.encoder.", AUDIO, layout),
        Binding("model.", LANGUAGE, SPEECH_DECODER),
        output,
    )
    return Reading(card, (naming,), {"sound": Recorded("encoder_last_hidden_state"), **text_stages()})


READERS = {"whisper": whisper, "speech_to_text": speech_to_text}
