"""mPLUG-Owl2 (2311.04257): norms, keys and values of their own for pictures in every layer, all else shared.

Numbers: configuration_mplug_owl2.py of X-PLUG/mPLUG-Owl; the language model's are those of Llama 2.
"""

from beholder.cards.schema import Card, Source, Stage, Trains
from beholder.media.geometry import CLIP_MEAN, CLIP_STD, Fixed
from beholder.parts.blocks.attention import Attention
from beholder.parts.blocks.mlp import FeedForward
from beholder.parts.blocks.norms import Norm
from beholder.parts.connectors.abstractor import Abstractor
from beholder.parts.fusion.experts import VisualExpert
from beholder.parts.fusion.splice import Splice
from beholder.parts.heads.next_token import NextToken
from beholder.parts.language import sizes as language
from beholder.parts.vision import sizes as vision
from beholder.parts.vision.positions import GridTable
from beholder.parts.vision.vit import Take
from beholder.prompts import formats

MPLUG_OWL2_7B = Card(
    name="mplug-owl2-7b",
    system="mplug-owl2",
    paper="2311.04257",
    licence="Apache-2.0",
    vision=vision.CLIP_L_14.but(
        image_size=448,
        norm=Norm("layer", 1e-6),
        positions=GridTable("bicubic"),
        pool=None,
        take=Take(front=True),
    ),
    connector=Abstractor(
        attention=Attention(num_heads=16, qkv_bias=True, out_bias=True),
        mlp=FeedForward(2816, "silu", gated=True, inner_norm=Norm("layer", 1e-6)),
    ),
    images=Fixed(size=(448, 448), mean=CLIP_MEAN, std=CLIP_STD),
    fusion=(
        Splice(token_id=32000, at="<|image|>"),
        VisualExpert(norms=True, queries=False, out=False, mlp=False),
    ),
    language=language.LLAMA_2_7B.but(context=2048),
    heads=(NextToken(),),
    prompt=formats.MPLUG_OWL_2,
    stages=(
        Stage(
            "align", rules=(Trains("branches.image.*", lr=1e-4), Trains("fusion.1.*", lr=1e-4)), batch=8192
        ),
        Stage("instruct", rules=(Trains("*", lr=2e-5),), batch=256),
    ),
    weights=(Source("hub", "MAGAer13/mplug-owl2-llama2-7b"),),
)
