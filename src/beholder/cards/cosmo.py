"""COSMO (2401.00849): narrow gated layers in the upper half of a language model, whose lower half is compared with pictures.

Numbers: showlab/cosmo src/config/train_server/base_180m.yaml (2.1B) and mixtral/base.yaml, and src/multimodal_model; words are
added to vocabularies in the order of load_language_model.py. The configurations of the larger two were not released; theirs
are taken to be those of its other model of 32 layers, with which the 3.4B is as large as published.
"""

from beholder.cards.open_flamingo import QUESTIONS
from beholder.cards.schema import Branch, Card, Source, Stage, Trains
from beholder.media.clips import Frames
from beholder.media.geometry import CLIP_MEAN, CLIP_STD, Fixed
from beholder.parts.blocks.cross_attention import CrossAttention
from beholder.parts.blocks.mlp import FeedForward
from beholder.parts.blocks.norms import Norm
from beholder.parts.connectors.resampler import Resampler
from beholder.parts.fusion.cross_attention import GatedCross, Layers
from beholder.parts.heads.next_token import NextToken
from beholder.parts.heads.text_query import TextQuery
from beholder.parts.language import sizes, sizes_gpt
from beholder.parts.vision import sizes as vision
from beholder.parts.vision.vit import Take

# A half or a fourth as wide as Flamingo's, their scores scaled as if they were not.
HALF = GatedCross(
    token_id=50266,
    at="<visual>",
    attention=CrossAttention(num_heads=8, head_dim=32, scale=0.125, memory_dim=1024),
    mlp=FeedForward(hidden=4096, bias=False),
    norm=Norm(),
    layers=Layers(every=2, first=12),
)
FOURTH = HALF.but(layers=Layers(every=4, first=16), **{"attention.head_dim": 16})
COSMO_2B = Card(
    name="cosmo-2.1b",
    system="cosmo",
    paper="2401.00849",
    branches=(
        Branch(
            encoders=(vision.CLIP_L_14.but(pool=None, take=Take(norm=False)),),
            connector=Resampler(together=True, summary=True),
            geometry=Fixed(size=(224, 224), fit="crop", mean=CLIP_MEAN, std=CLIP_STD),
            frames=Frames(count=3, apart=False),
        ),
    ),
    fusion=(HALF,),
    language=sizes_gpt.OPT_1_3B.but(vocab_size=50271),
    heads=(NextToken(), TextQuery()),
    prompt=QUESTIONS.but(name="cosmo"),
    stages=(
        Stage(
            "interleaved",
            rules=(
                Trains("branches.image.connector.*", 5e-4),
                Trains("fusion.*", 5e-4),
                Trains("heads.*", 5e-4),
            ),
            objective="next-token, contrast",
            warmup=500,
        ),
    ),
    weights=(Source("hub", "Awiny/cosmo2.1b", note="in the authors' own layout"),),
)
COSMO_3B = COSMO_2B.but(
    name="cosmo-3.4b",
    fusion=(FOURTH.but(token_id=50278, mlp=FeedForward(hidden=2560, bias=False)),),
    language=sizes_gpt.REDPAJAMA_3B.but(vocab_size=50283),
    heads=(NextToken(), TextQuery(depth=15)),
    weights=(Source("hub", "Awiny/cosmo3.4b", note="in the authors' own layout"),),
)
COSMO_8B = COSMO_2B.but(
    name="cosmo-8.1b",
    fusion=(FOURTH.but(token_id=32001, mlp=FeedForward(hidden=4096, bias=False)),),
    language=sizes.MISTRAL_7B.but(vocab_size=32006),
    heads=(NextToken(), TextQuery(depth=15)),
    weights=(Source("hub", "Awiny/cosmo8.1b", note="in the authors' own layout"),),
)
