"""mini: the small system that comes with the library. EfficientNet-Lite0 and SmolLM2-135M-Instruct (2502.02737), joined
and trained by `recipes/mini/train.py`.
"""

from __future__ import annotations

from beholder.cards.schema import Card, Stage, Trains
from beholder.media.geometry import Fixed
from beholder.parts.connectors.named_things import NamedThings
from beholder.parts.connectors.projections import Mlp
from beholder.parts.fusion.splice import Splice
from beholder.parts.heads.next_token import NextToken
from beholder.parts.language import sizes as language
from beholder.parts.vision.efficientnet import EfficientNetLite
from beholder.prompts.answers import PlainBoxes
from beholder.prompts.coordinates import Coordinates
from beholder.prompts.formats import CHATML
from beholder.prompts.tasks import Task

# Edges of boxes in hundredths of the picture's sides.
HUNDREDTHS = Coordinates("[{x0},{y0},{x1},{y1}]", between=", ", steps=100, digits=2)

# Stage 5, from whose finer grid letters are read, and all behind it: ImageNet's features of photos are poor ones of drawings.
LAST_CONVOLUTIONS = (
    "branches.image.vision.blocks.[89].*", "branches.image.vision.blocks.1[0-5].*", "branches.image.vision.last.*",
)  # fmt: skip

MINI = Card(
    name="mini",
    licence="Apache-2.0",
    vision=EfficientNetLite(mid_stage=5),
    # 808 names, 43 kinds and 12 colours of the training data.
    connector=NamedThings(Mlp(depth=2, norm=True), words=808, kinds=43, colours=12, fine=448),
    images=Fixed(size=(224, 224), fit="pad", mean=(127 / 255,) * 3, std=(128 / 255,) * 3),
    fusion=(Splice(token_id=49152),),
    language=language.SMOLLM2_135M,
    heads=(NextToken(),),
    prompt=CHATML.but(boxes=HUNDREDTHS),
    tasks=(
        Task("name", "What is this?"),
        Task("describe", "Describe the picture."),
        Task("point", "Point to the {text} with a box.", answer=PlainBoxes(HUNDREDTHS)),
        Task("read", "What word is written?"),
    ),
    stages=(
        Stage(
            "see",
            rules=(
                Trains("branches.image.connector.*", lr=1e-3),
                Trains(LAST_CONVOLUTIONS[0], lr=2e-4),
                Trains(LAST_CONVOLUTIONS[1], lr=5e-4),
                Trains(LAST_CONVOLUTIONS[2], lr=5e-4),
            ),
            data="scenes and easy-VQA",
            objective="things",
            steps=200000,
            batch=8,
            accumulate=3,
            warmup=50,
        ),
        Stage(
            "tell",
            rules=(
                Trains("branches.image.connector.*_values", lr=2e-4),
                Trains("branches.image.connector.nothing", lr=2e-4),
                Trains("branches.image.connector.rest", lr=2e-4),
                Trains("languages.main.blocks.*", lr=1e-3, rank=16),
            ),
            data="scenes and easy-VQA",
            steps=200000,
            batch=2,
            accumulate=2,
            warmup=40,
        ),
    ),
)
