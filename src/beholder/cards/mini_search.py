"""mini-search: pictures by words, offline. EfficientNet-Lite0 and all-MiniLM-L6-v2 side by side, joined by SigLIP's loss
(2303.15343) in `recipes/search/train.py`.
"""

from __future__ import annotations

import math

from beholder.cards.mini import LAST_CONVOLUTIONS
from beholder.cards.schema import Card, Stage, Trains
from beholder.media.geometry import Fixed
from beholder.parts.connectors.projections import Pooled
from beholder.parts.fusion.towers import Towers
from beholder.parts.heads.similarity import Similarity
from beholder.parts.language import sizes_text as language
from beholder.parts.vision.efficientnet import EfficientNetLite

WHITE = (255, 255, 255)

MINI_SEARCH = Card(
    name="mini-search",
    licence="Apache-2.0",
    vision=EfficientNetLite(image_size=160),  # drawings have little detail
    connector=Pooled(project=True),
    images=Fixed(size=(160, 160), fit="pad", mean=(127 / 255,) * 3, std=(128 / 255,) * 3, background=WHITE),
    fusion=(Towers(),),
    language=language.MINILM_L6.but(pool="mean", projection_bias=False, projection_act=None),
    heads=(Similarity(scale=math.log(10), bias=-10.0),),  # where SigLIP starts (section 3.1)
    stages=(
        Stage(
            "pairs",
            rules=(
                Trains("branches.image.connector.*", lr=1e-3),
                Trains(LAST_CONVOLUTIONS[0], lr=3e-4),
                Trains(LAST_CONVOLUTIONS[1], lr=3e-4),
                Trains("languages.main.projection.*", lr=3e-4),
                Trains("heads.0.*", lr=3e-3),
            ),
            data="clip art and icons",
            objective="sigmoids",
            steps=1500,
            batch=128,
            accumulate=2,
            warmup=40,
        ),
    ),
)
