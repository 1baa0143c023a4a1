"""Cambrian-1 (2406.16860): a grid of queries reads four encoders, before the language model and behind some of its layers.

Numbers: config.json of nyu-visionx/cambrian-8b, cambrian/model/{cambrian_arch,vision_sampler}.py and README.md (batches,
rates) of cambrian-mllm/cambrian. Words outside the vocabulary stand for pictures. SigLIP is timm's, with
the exact GELU.
"""

from beholder.cards.schema import Branch, Card, Source, Stage, Trains
from beholder.media.geometry import CLIP_MEAN, CLIP_STD, HALF, IMAGENET_MEAN, IMAGENET_STD, Fixed
from beholder.media.several import Several
from beholder.parts.connectors.aggregator import SpatialAggregator
from beholder.parts.fusion.aggregators import Aggregators
from beholder.parts.fusion.cross_attention import Layers
from beholder.parts.fusion.splice import Splice
from beholder.parts.heads.next_token import NextToken
from beholder.parts.language import sizes as language
from beholder.parts.vision import sizes as vision
from beholder.parts.vision import sizes_hierarchical as hierarchical
from beholder.parts.vision.pieces import JoinedStages
from beholder.parts.vision.vit import Take
from beholder.prompts import formats, formats_llava

SQUARE = Fixed(size=(384, 384), fit="pad", mean=HALF, std=HALF, background=(127, 127, 127))
EYES = Branch(
    encoders=(
        vision.SIGLIP_SO400M_14.but(image_size=384, pool=None, **{"mlp.act": "gelu"}),
        vision.CLIP_L_14_336.but(pool=None, take=Take(layers=(-2,), norm=False)),
        vision.DINOV2_G_14.but(pool=None),
        JoinedStages(hierarchical.CLIP_CONVNEXT_XXL.but(image_size=1024), side=96),
    ),
    geometry=Several(
        parts=(
            SQUARE,
            SQUARE.but(size=(336, 336), mean=CLIP_MEAN, std=CLIP_STD, background=(122, 116, 104)),
            SQUARE.but(size=(378, 378), mean=IMAGENET_MEAN, std=IMAGENET_STD, background=(123, 116, 103)),
            SQUARE.but(size=(1024, 1024), mean=CLIP_MEAN, std=CLIP_STD, background=(122, 116, 104)),
        ),
        unpad=True,
        newline=True,
    ),
    connector=SpatialAggregator(),
)
# cambrian_trainer.py: queries and what reads for them have a rate of their own.
SVA = (
    Trains("branches.image.connector.query", lr=1e-4),
    Trains("branches.image.connector.layers.*", lr=1e-4),
    Trains("branches.image.connector.*", lr=1e-3),
    Trains("fusion.0.*", lr=1e-3),
    Trains("fusion.1.*", lr=1e-4),
)
TUNED = (
    Trains("branches.image.connector.*", lr=4e-5),
    Trains("fusion.*", lr=4e-5),
    Trains("languages.main.*", lr=4e-5),
)

CAMBRIAN_8B = Card(
    name="cambrian-8b",
    system="cambrian-1",
    paper="2406.16860",
    licence="Llama 3 Community License",
    branches=(EYES,),
    fusion=(
        Splice(token_id=128256, newline=True),
        Aggregators(token_id=128256, layers=Layers(numbers=(0, 3, 6, 9, 12, 15, 18, 21, 24, 27))),
    ),
    language=language.LLAMA_3_8B,
    heads=(NextToken(),),
    prompt=formats_llava.CAMBRIAN_LLAMA_3,
    stages=(Stage("align", rules=SVA, batch=512), Stage("instruct", rules=TUNED, batch=512)),
    weights=(Source("hub", "nyu-visionx/cambrian-8b"),),
)
CAMBRIAN_13B = CAMBRIAN_8B.but(
    name="cambrian-13b",
    licence="Llama 2 Community License",
    fusion=(
        Splice(token_id=32000, newline=True),
        Aggregators(token_id=32000, layers=Layers(numbers=(0, 4, 8, 12, 16, 20, 24, 28, 32, 36))),
    ),
    language=language.LLAMA_2_13B,
    prompt=formats.VICUNA_V1,
    weights=(Source("hub", "nyu-visionx/cambrian-13b"),),
)
CAMBRIAN_34B = CAMBRIAN_8B.but(
    name="cambrian-34b",
    licence="Apache-2.0",
    fusion=(
        Splice(token_id=64000, newline=True),
        Aggregators(token_id=64000, layers=Layers(numbers=(0, 7, 14, 21, 28, 35, 42, 49, 56))),
    ),
    language=language.YI_34B,
    prompt=formats_llava.CAMBRIAN_CHATML,
    stages=(
        Stage("align", rules=SVA, batch=1024),
        Stage(
            "instruct",
            rules=(
                Trains("branches.image.connector.*", lr=2e-5),
                Trains("fusion.*", lr=2e-5),
                Trains("languages.main.*", lr=2e-5),
            ),
            batch=1024,
        ),
    ),
    weights=(Source("hub", "nyu-visionx/cambrian-34b"),),
)
