"""Small systems for tests: a text model, one that sees, a dual encoder, and a tokenizer of single bytes."""

from __future__ import annotations

from beholder.cards.schema import Card
from beholder.media.geometry import Fixed, Split
from beholder.parts.blocks.attention import Attention
from beholder.parts.blocks.mlp import FeedForward
from beholder.parts.blocks.norms import Norm
from beholder.parts.blocks.positions import Rotary
from beholder.parts.connectors.projections import Mlp, PixelShuffle, Pooled
from beholder.parts.fusion.splice import Splice
from beholder.parts.fusion.towers import Towers
from beholder.parts.heads.next_token import NextToken
from beholder.parts.heads.similarity import Similarity
from beholder.parts.language.decoder import Decoder
from beholder.parts.language.text_encoder import TextEncoder
from beholder.parts.vision.positions import GridTable
from beholder.parts.vision.vit import ViT
from beholder.prompts.byte_level import byte_tokenizer as byte_tokenizer
from beholder.prompts.chat import ChatFormat, Turn

DECODER = Decoder(
    vocab_size=300,
    dim=32,
    num_layers=2,
    attention=Attention(num_heads=4, num_kv_heads=2, rotary=Rotary()),
    mlp=FeedForward(48, act="silu", gated=True, bias=False),
    norm=Norm("rms"),
    context=256,
)
VIT = ViT(
    image_size=28,
    patch=14,
    dim=32,
    num_layers=2,
    attention=Attention(num_heads=4, qkv_bias=True, out_bias=True),
    mlp=FeedForward(48),
)
TEXT_TOWER = TextEncoder(
    vocab_size=300,
    dim=32,
    num_layers=2,
    attention=Attention(num_heads=4, qkv_bias=True, out_bias=True),
    mlp=FeedForward(48),
    context=40,
    end_id=256,
    projection=24,
)
CHAT = ChatFormat(
    "toy",
    system=Turn("<s>", "</s>"),
    user=Turn("<s>U:", "</s>"),
    assistant=Turn("<s>A:", "</s>"),
    generation="<s>A:",
    stops=("</s>",),
)
TEXT = Card(name="toy-text", language=DECODER, heads=(NextToken(),), prompt=CHAT)
SEES = Card(
    name="toy-sees",
    vision=VIT,
    connector=Mlp(),
    images=Fixed(size=(28, 28)),
    fusion=(Splice(token_id=999),),
    language=DECODER,
    heads=(NextToken(),),
    prompt=CHAT,
)
TILES = SEES.but(
    name="toy-tiles",
    vision=VIT.but(positions=GridTable("bucketed")),
    connector=PixelShuffle(),
    images=Split(tile=28, longest=56),
    language=DECODER.but(context=1024),  # tags are many tokens of one byte
)
DUAL = Card(
    name="toy-dual",
    vision=VIT.but(pool="cls", cls=True),
    connector=Pooled(),
    images=Fixed(size=(28, 28), fit="crop"),
    fusion=(Towers(),),
    language=TEXT_TOWER,
    heads=(Similarity(),),
    prompt=ChatFormat("toy-dual", user=Turn("", "</s>")),
)
ALL = (TEXT, SEES, TILES, DUAL)
