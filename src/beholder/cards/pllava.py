"""PLLaVA (2404.16994): LLaVA-NeXT's frames, averaged in space and a little in time.

models/pllava/{modeling,processing}_pllava.py of magic-research/PLLaVA and the paper's section 4.1: 16 frames of 24 x 24 become
16 x 12 x 12. What trains: tasks/train/config_pllava_nframe.py. The low-rank change is scaled down when answering (section 3.4):
to 4 of 128 (scripts/demo.sh), where training had 32.
"""

from beholder.cards.llava import LLAVA_16_VICUNA_7B
from beholder.cards.schema import Branch, Card, Source, Stage, Trains
from beholder.media.clips import Frames
from beholder.media.geometry import CLIP_MEAN, CLIP_STD, Fixed
from beholder.parts.connectors.projections import Mlp
from beholder.parts.connectors.temporal import ClipPool
from beholder.parts.fusion.splice import Splice
from beholder.parts.heads.next_token import NextToken
from beholder.parts.language import sizes as language
from beholder.prompts import formats_clips as formats

EYES = LLAVA_16_VICUNA_7B.branch().encoders
FRAME = Fixed(size=(336, 336), fit="crop", mean=CLIP_MEAN, std=CLIP_STD)

PLLAVA_7B = Card(
    name="pllava-7b",
    system="pllava",
    paper="2404.16994",
    licence="Apache-2.0",
    branches=(
        Branch(
            encoders=EYES,
            connector=ClipPool(Mlp()),
            geometry=FRAME,
            frames=Frames(16, apart=False),
        ),
    ),
    fusion=(Splice(token_id=32000),),
    language=language.LLAMA_2_7B.but(vocab_size=32064),
    heads=(NextToken(),),
    prompt=formats.PLLAVA,
    stages=(
        Stage(
            "instruct",
            rules=(
                Trains("branches.image.connector.*", lr=2e-5),
                Trains("languages.main.blocks.*.attn.[qv].*", lr=2e-5, rank=128),
            ),
            batch=128,
        ),
    ),
    weights=(Source("hub", "ermu2001/pllava-7b"),),
)
PLLAVA_13B = PLLAVA_7B.but(
    name="pllava-13b",
    language=language.LLAMA_2_13B.but(vocab_size=32064),
    weights=(Source("hub", "ermu2001/pllava-13b"),),
)
PLLAVA_34B = PLLAVA_7B.but(
    name="pllava-34b",
    fusion=(Splice(token_id=64002),),
    language=language.YI_34B.but(vocab_size=64064),
    prompt=formats.PLLAVA_34B,
    weights=(Source("hub", "ermu2001/pllava-34b"),),
)
