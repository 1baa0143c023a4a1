"""EVE (2406.11832) and EVEv2 (2502.06788): pixels through a patch embedding layer into the language model, no encoder.

Numbers: vision_tokenizer.py, train.py and the preprocessor files of baaivision/EVE; EVE has 1024 channels before its MLP.
"""

from beholder.cards.schema import Branch, Card, Source, Stage, Trains
from beholder.media.geometry import CLIP_MEAN, CLIP_STD
from beholder.media.native import Native
from beholder.parts.connectors.projections import Mlp
from beholder.parts.fusion.experts import VisualExpert
from beholder.parts.fusion.splice import Splice
from beholder.parts.heads.alignment import TeacherAlignment
from beholder.parts.heads.next_token import NextToken
from beholder.parts.language import sizes as language
from beholder.parts.language import sizes_llama
from beholder.parts.vision import sizes as vision
from beholder.parts.vision.patch_layers import PooledPatches, StackedPatches
from beholder.parts.vision.vit import Take
from beholder.prompts import formats

BRANCH = Trains("branches.image.*", lr=4e-4)
# Placeholders of EVEv2 have the first id behind the words of its tokenizer

EVE_7B = Card(
    name="eve-7b",
    system="eve",
    paper="2406.11832",
    licence="Apache-2.0",
    vision=PooledPatches(image_size=672, patch=14, stride=2, dim=1024),
    connector=Mlp(depth=2),
    images=Native(cell=28, size=(672, 672), fit="longest", mean=CLIP_MEAN, std=CLIP_STD),
    fusion=(Splice(token_id=32000),),
    language=language.LLAMA_2_7B,
    heads=(NextToken(),),
    prompt=formats.VICUNA_V1,
    stages=(
        Stage("prealign", rules=(BRANCH,), batch=512),
        Stage("pretrain", rules=(Trains("*", lr=4e-5),), batch=512),
        Stage("instruct", rules=(Trains("*", lr=2e-5),), batch=128),
    ),
    weights=(Source("hub", "BAAI/EVE-7B-v1.0"),),
)
# In the first two stages; the frozen teacher sees the picture at half the size
EVE_7B_ALIGNING = EVE_7B.but(
    name="eve-7b-aligning",
    branches=(
        *EVE_7B.branches,
        Branch(
            name="teacher",
            encoders=(vision.CLIP_L_14_336.but(pool=None, take=Take(layers=(-2,), norm=False)),),
            geometry=Native(
                cell=14,
                size=(336, 336),
                fit="longest",
                square=True,
                mean=CLIP_MEAN,
                std=CLIP_STD,
                background=(122, 116, 104),
            ),
        ),
    ),
    heads=(NextToken(), TeacherAlignment()),
    stages=(
        Stage(
            "prealign",
            rules=(BRANCH, Trains("heads.1.*", lr=4e-4)),
            objective="next-token, teacher",
            batch=512,
        ),
        Stage(
            "pretrain",
            rules=(Trains("branches.teacher.*"), Trains("*", lr=4e-5)),
            objective="next-token, teacher",
            batch=512,
        ),
    ),
    weights=(),
)
# Sizes in steps of 56 pixels, as the teacher's patches at 336 pixels are enlarged four times
EVE_7B_HD = EVE_7B.but(
    name="eve-7b-hd",
    images=Native(cell=56, size=(1344, 1344), fit="longest", mean=CLIP_MEAN, std=CLIP_STD),
    weights=(Source("hub", "BAAI/EVE-7B-HD-v1.0"),),
    **{"vision.image_size": 1344},
)
EVE2_7B_HD = Card(
    name="eve-7b-hd-v2",
    system="eve-v2",
    paper="2502.06788",
    licence="Apache-2.0",
    vision=StackedPatches(image_size=1600, patch=16, stride=2, dim=3584),
    images=Native(cell=32, size=(1600, 1600), fit="area", mean=CLIP_MEAN, std=CLIP_STD),
    fusion=(Splice(token_id=151665), VisualExpert(norms=True)),
    language=sizes_llama.QWEN2_5_7B,
    heads=(NextToken(),),
    prompt=formats.EVE_2,
    stages=(
        Stage("prealign", rules=(BRANCH.but(lr=2e-4),), batch=1024),
        Stage("perceive", rules=(Trains("branches.image.*", lr=1e-4), Trains("fusion.1.*", lr=1e-4))),
        Stage("align", rules=(Trains("*", lr=2e-5),), batch=512),
        Stage("instruct", rules=(Trains("*", lr=1e-5),), batch=512),
    ),
    weights=(Source("hub", "BAAI/EVE-7B-HD-v2.0"),),
)
