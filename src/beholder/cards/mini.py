"""mini: the small system that comes with the library. EfficientNet-Lite0 and SmolLM2-135M-Instruct (2502.02737), joined
and trained by `recipes/mini/train.py`.
"""

from __future__ import annotations

from beholder.cards.schema import Card, Stage, Trains
from beholder.media.geometry import Fixed
from beholder.parts.connectors.projections import Mlp
from beholder.parts.connectors.visual_words import VisualWords
from beholder.parts.fusion.splice import Splice
from beholder.parts.heads.next_token import NextToken
from beholder.parts.language import sizes as language
from beholder.parts.vision.efficientnet import EfficientNetLite
from beholder.prompts.formats import CHATML

# Stages 6 and 7 and the last convolution: ImageNet's features of photos are poor features of drawings.
LAST_CONVOLUTIONS = ("branches.image.vision.blocks.1[1-5].*", "branches.image.vision.last.*")

MINI = Card(
    name="mini",
    licence="Apache-2.0",
    # The middle stage's finer grid is what counting needs.
    vision=EfficientNetLite(mid_stage=5),
    # 805 names, 43 kinds and 12 colours of the training data.
    connector=VisualWords(Mlp(depth=2, norm=True, positions=49), words=860),
    images=Fixed(size=(224, 224), fit="pad", mean=(127 / 255,) * 3, std=(128 / 255,) * 3),
    fusion=(Splice(token_id=49152),),
    language=language.SMOLLM2_135M,
    heads=(NextToken(),),
    prompt=CHATML,
    stages=(
        Stage(
            "align",
            rules=(
                Trains("branches.image.connector.*", lr=1e-3),
                Trains(LAST_CONVOLUTIONS[0], lr=3e-4),
                Trains(LAST_CONVOLUTIONS[1], lr=3e-4),
            ),
            data="single things",
            objective="words",
            steps=1500,
            batch=8,
            accumulate=8,
            warmup=50,
        ),
        Stage(
            "instruct",
            rules=(
                Trains("branches.image.connector.*", lr=4e-4),
                Trains("languages.main.blocks.*", lr=7e-4, rank=16),
                Trains(LAST_CONVOLUTIONS[0], lr=1e-4),
                Trains(LAST_CONVOLUTIONS[1], lr=1e-4),
            ),
            data="scenes and easy-VQA",
            steps=8000,
            batch=4,
            accumulate=6,
            warmup=60,
        ),
    ),
)
