"""Valley (2306.07207): the frames' patches as one frame, and a token for each frame.

valley/model/valley_model.py, README.md, util/config.py and configs/experiment of RupertLuo/Valley; released files say which
module over time they have (`use_delta_transformer`, `use_patch_importance_pooling`), Valley-13b-v1 has none
(`OverTime(Linear(), "transformer")` and `"weights"` are the others). Special words stand behind the 32,001 of
Stable-Vicuna; behind the 32,002 of Llama 2 as added_tokens.json of luoruipu1/Valley2-7b-pretrain has them.
"""

from beholder.cards.schema import Branch, Card, Source, Stage, Trains
from beholder.media.clips import Frames
from beholder.media.geometry import CLIP_MEAN, CLIP_STD, Fixed
from beholder.parts.connectors.projections import Linear
from beholder.parts.connectors.temporal import OverTime
from beholder.parts.fusion.splice import Splice
from beholder.parts.heads.next_token import NextToken
from beholder.parts.language import sizes
from beholder.parts.language import sizes_llama as language
from beholder.parts.vision import sizes as vision
from beholder.parts.vision.vit import Take
from beholder.prompts import formats_clips as formats

VALLEY_13B = Card(
    name="valley-13b-v1",
    system="valley",
    paper="2306.07207",
    licence="LLaMA License (weights), Apache-2.0 (code)",
    branches=(
        Branch(
            encoders=(vision.CLIP_L_14.but(pool=None, take=Take(layers=(-2,), norm=False, front=True)),),
            connector=OverTime(Linear()),
            geometry=Fixed(size=(224, 224), fit="crop", edge=256, mean=CLIP_MEAN, std=CLIP_STD),
            frames=Frames(8, spread="ends", apart=False, between="<im_end><vi_start>"),
        ),
    ),
    fusion=(Splice(token_id=32001, at="<im_patch>"),),
    language=language.STABLE_VICUNA_13B.but(vocab_size=32008),
    heads=(NextToken(),),
    prompt=formats.VALLEY,
    stages=(
        Stage("align", rules=(Trains("branches.image.connector.*", lr=2e-3),), batch=128),
        Stage(
            "instruct",
            rules=(Trains("branches.image.connector.*", lr=2e-5), Trains("languages.main.*", lr=2e-5)),
            batch=32,
        ),
    ),
    weights=(Source("hub", "luoruipu1/valley-13b-v1-delta", note="a difference to LLaMA's weights"),),
)
VALLEY_7B = VALLEY_13B.but(
    name="valley2-7b",
    licence="Llama 2 Community License",
    language=sizes.LLAMA_2_7B.but(vocab_size=32008, context=2048),
    fusion=(Splice(token_id=32005, at="<im_patch>"),),
    weights=(Source("hub", "luoruipu1/Valley2-7b"),),
)
