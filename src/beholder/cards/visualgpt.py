"""VisualGPT (2102.10407): GPT-2 that shares each layer between its own words and a picture's regions.

Vision-CAIR/VisualGPT: models/transformer/encoders.py and gpt_decoder_visualGPT.py; threshold (tau 0.2) and rate are those of
the command in README.md, three levels and 50 regions those of train_visualGPT.py.
Regions were made beforehand by bottom-up attention's detector (1707.07998), which stands in front here.
"""

from beholder.cards.schema import Card, Stage, Trains
from beholder.media.shapes import Whole
from beholder.parts.connectors.levels import Levels
from beholder.parts.fusion.resurrecting import Resurrecting
from beholder.parts.heads.next_token import NextToken
from beholder.parts.language import sizes_gpt as language
from beholder.parts.vision import sizes_hierarchical as vision
from beholder.parts.vision.regions import FasterRcnn

VISUALGPT = Card(
    name="visualgpt",
    system="visualgpt",
    paper="2102.10407",
    licence="MIT",
    vision=FasterRcnn(vision.RESNET_101.but(stride="first"), count=50),
    connector=Levels(),
    images=Whole(
        edge=600,
        limit=1000,
        filter="bilinear",
        mean=(0.485, 0.456, 0.406),
        std=(0.229, 0.224, 0.225),
    ),
    fusion=(Resurrecting(),),
    language=language.GPT2,
    heads=(NextToken(),),
    stages=(
        Stage(
            "captions",
            rules=(
                Trains("branches.image.connector.*", 1e-4),
                Trains("fusion.*", 1e-4),
                Trains("languages.main.*", 1e-4),
            ),
        ),
    ),
)
