"""Published sizes of BLIP's text transformer."""

from __future__ import annotations

from beholder.parts.blocks.cross_attention import CrossAttention
from beholder.parts.language.decoder import Decoder, Transform
from beholder.parts.language.embedding import TokenEmbedding
from beholder.parts.language.encoder_decoder import EncoderDecoder
from beholder.parts.language.med import Med
from beholder.parts.language.sizes_text import BERT_BASE, BERT_NORM

# salesforce/BLIP configs/med_config.json; ids of the tokens [DEC] and [ENC] that models/blip.py adds
_CROSS = CrossAttention(12, qkv_bias=True, out_bias=True, memory_dim=768)
_READER = BERT_BASE.but(
    vocab_size=30524,
    embedding=TokenEmbedding(positions="learned", norm=BERT_NORM),
    cross=_CROSS,
    projection=256,
    projection_act=None,
)
BLIP_WRITER = Decoder(
    vocab_size=30524,
    dim=768,
    num_layers=12,
    attention=_READER.attention,
    mlp=_READER.mlp,
    norm=BERT_NORM,
    tied=True,
    head_bias=True,
    context=512,
    arrangement=_READER.arrangement,
    embedding=_READER.embedding,
    final_norm=False,
    cross=_CROSS,
    transform=Transform(),
)
BLIP_B = Med(_READER, BLIP_WRITER, encode_id=30523, decode_id=30522)
BLIP_L = BLIP_B.but(**{"encoder.cross.memory_dim": 1024, "decoder.cross.memory_dim": 1024})
BLIP_ASKED = EncoderDecoder(
    _READER.but(pool=None, projection=0, projection_bias=False),
    BLIP_WRITER.but(**{"cross.memory_dim": None}),
    start_id=30522,
    shared=False,
)
