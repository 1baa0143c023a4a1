"""DeepSeek-VL (2403.05525): SigLIP alone in the smaller one; beside SAM's encoder, which sees 1024 pixels, in the larger one.

Numbers: deepseek_vl/models/{sam,siglip_vit,projector,clip_encoder}.py of deepseek-ai/DeepSeek-VL and the paper's tables 2 and
4 (rates); word 100015 stands for pictures. Not compared with released files: colours of pixels and padding of the larger one.
"""

from beholder.cards.schema import Branch, Card, Source, Stage, Trains
from beholder.media.geometry import CLIP_MEAN, CLIP_STD
from beholder.media.several import Several
from beholder.media.shapes import Inside
from beholder.parts.connectors.downsample import Strided
from beholder.parts.connectors.projections import Linear, Mlp
from beholder.parts.connectors.several import Concat, Way
from beholder.parts.fusion.splice import Splice
from beholder.parts.heads.next_token import NextToken
from beholder.parts.language import sizes_llama as language
from beholder.parts.vision import sizes as vision
from beholder.parts.vision import sizes_hierarchical as hierarchical
from beholder.prompts import formats_several as formats

EYES = vision.SIGLIP_L_16.but(image_size=384, pool=None, **{"mlp.act": "gelu"})
WHOLE = Inside(side=384, background=(127, 127, 127))

DEEPSEEK_VL_1_3B = Card(
    name="deepseek-vl-1.3b",
    system="deepseek-vl",
    paper="2403.05525",
    licence="DeepSeek License",
    vision=EYES,
    connector=Mlp(depth=2),
    images=WHOLE,
    fusion=(Splice(token_id=100015, at="<image_placeholder>"),),
    language=language.DEEPSEEK_LLM_1_3B,
    heads=(NextToken(),),
    prompt=formats.DEEPSEEK_VL,
    stages=(
        Stage("warm-up", rules=(Trains("branches.image.connector.*", lr=1e-3),), batch=256),
        Stage(
            "joint",
            rules=(Trains("branches.image.connector.*", lr=3e-5), Trains("languages.main.*", lr=3e-5)),
            batch=1024,
        ),
        Stage(
            "instruct",
            rules=(
                Trains("branches.image.connector.*", lr=2e-5),
                Trains("branches.image.vision.*", lr=2e-5),
                Trains("languages.main.*", lr=2e-5),
            ),
            batch=256,
        ),
    ),
    weights=(Source("hub", "deepseek-community/deepseek-vl-1.3b-chat"),),
)
DEEPSEEK_VL_7B = DEEPSEEK_VL_1_3B.but(
    name="deepseek-vl-7b",
    branches=(
        Branch(
            encoders=(EYES, hierarchical.SAM_B),
            geometry=Several(
                parts=(
                    WHOLE.but(through=(1024,)),
                    Inside(side=1024, background=(127, 127, 127), mean=CLIP_MEAN, std=CLIP_STD),
                )
            ),
            connector=Concat(
                ways=(Way((1,), Strided(side=24, early=True)), Way((0,), Linear())),
                act="gelu",
                then=Mlp(depth=1),
            ),
        ),
    ),
    language=language.DEEPSEEK_LLM_7B,
    weights=(
        Source("hub", "deepseek-community/deepseek-vl-7b-chat"),
        Source("hub", "deepseek-ai/deepseek-vl-7b-chat", note="in the authors' own layout"),
    ),
)
