"""TextHawk (2404.09204): documents in tiles of their shape, a sixteenth of the patches as tokens, boxes from hidden states.

Pictures, compression and what trains are the paper's (sections 3 and 4). The resampler's width and heads, the depths it reads
and rates of training are not in what we could read of it; these are ours. No weights were released.
"""

from beholder.cards.mplug_owl import CROPS
from beholder.cards.schema import Card, Stage, Trains
from beholder.media.slices import Anchors
from beholder.parts.blocks.attention import Attention
from beholder.parts.blocks.mlp import FeedForward
from beholder.parts.connectors.hawk import Hawk
from beholder.parts.fusion.splice import Splice
from beholder.parts.heads.box_regression import BoxRegression
from beholder.parts.heads.next_token import NextToken
from beholder.parts.language import sizes_llama as language
from beholder.parts.vision import sizes as vision
from beholder.parts.vision.vit import Take
from beholder.prompts import formats

TEXTHAWK_7B = Card(
    name="texthawk-7b",
    system="texthawk",
    paper="2404.09204",
    vision=vision.SIGLIP_SO400M_14.but(pool=None, take=Take(taps=(26, 20, 14, 8))),
    connector=Hawk(
        width=1024,
        levels=(26, 20, 14, 8),
        attention=Attention(16, qkv_bias=True, out_bias=True),
        mlp=FeedForward(4096),
    ),
    images=Anchors(tile=224, grids=CROPS),
    fusion=(Splice(token_id=103176),),
    language=language.INTERNLM_7B.but(vocab_size=103176),
    heads=(NextToken(), BoxRegression(token_id=103168)),
    prompt=formats.VICUNA_V1,
    stages=(
        Stage("resample", rules=(Trains("branches.image.connector.*", lr=1e-4),)),
        Stage(
            "resolve",
            rules=(
                Trains("branches.image.connector.*", lr=5e-5),
                Trains("languages.main.blocks.*", lr=5e-5, rank=64),
            ),
        ),
        Stage(
            "instruct",
            rules=(
                Trains("branches.image.connector.*", lr=2e-5),
                Trains("heads.1.*", lr=2e-5),
                Trains("languages.main.blocks.*", lr=2e-5, rank=64),
            ),
            objective="next-token, boxes",
        ),
    ),
)
