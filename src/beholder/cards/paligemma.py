"""PaliGemma (2407.07726) and PaliGemma 2 (2412.03555): SigLIP's patches through one matrix in front of a question that Gemma
reads both ways.

google/paligemma-3b-pt-224 and google/paligemma2-3b-pt-224 config.json. Position tables of the larger pictures were resized
from the smallest's before training went on. Of videos 8 frames: google-research/big_vision configs/proj/paligemma/transfers.
Rates: 2412.03555, section 3, for both; of transfers the middle one of 2407.07726, section 3.2.4.
"""

from beholder.cards.schema import Branch, Card, Source, Stage, Trains
from beholder.media.clips import Frames
from beholder.media.geometry import Fixed
from beholder.parts.connectors.projections import Linear
from beholder.parts.fusion.splice import Splice
from beholder.parts.heads.next_token import NextToken
from beholder.parts.language import sizes_decoders as language
from beholder.parts.vision import sizes as vision
from beholder.parts.vision.positions import BICUBIC
from beholder.prompts import formats, tasks

VISION = vision.SIGLIP_SO400M_14.but(pool=None)
LARGER, LARGEST = VISION.but(image_size=448, positions=BICUBIC), VISION.but(image_size=896, positions=BICUBIC)
ALL, HALF, QUARTER = (Trains("*", lr=2e-5),), (Trains("*", lr=1e-5),), (Trains("*", lr=5e-6),)
TRANSFER = Stage("transfer", rules=(Trains("*", lr=1e-5),))

PALIGEMMA_3B = Card(
    name="paligemma-3b-224",
    system="paligemma",
    paper="2407.07726",
    licence="Gemma Terms of Use",
    branches=(Branch((VISION,), Fixed(size=(224, 224)), Linear(), frames=Frames(count=8)),),
    fusion=(Splice(token_id=257152, sees="prompt"),),
    language=language.GEMMA_2B.but(vocab_size=257216),
    heads=(NextToken(),),
    prompt=formats.PALIGEMMA,
    tasks=tasks.PALI,
    stages=(Stage("multimodal", rules=ALL), Stage("resolution", rules=ALL), TRANSFER),
    weights=(Source("hub", "google/paligemma-3b-pt-224"),),
)
PALIGEMMA_3B_448 = PALIGEMMA_3B.but(
    name="paligemma-3b-448",
    vision=LARGER,
    images=Fixed(size=(448, 448)),
    weights=(Source("hub", "google/paligemma-3b-pt-448"),),
)
PALIGEMMA_3B_896 = PALIGEMMA_3B.but(
    name="paligemma-3b-896",
    vision=LARGEST,
    images=Fixed(size=(896, 896)),
    weights=(Source("hub", "google/paligemma-3b-pt-896"),),
)
PALIGEMMA_2_3B = PALIGEMMA_3B.but(
    name="paligemma2-3b-224",
    system="paligemma-2",
    paper="2412.03555",
    language=language.GEMMA_2_2B.but(vocab_size=257216),
    stages=(Stage("multimodal", rules=HALF), Stage("resolution", rules=HALF), TRANSFER),
    weights=(Source("hub", "google/paligemma2-3b-pt-224"),),
)
PALIGEMMA_2_10B = PALIGEMMA_2_3B.but(
    name="paligemma2-10b-224",
    language=language.GEMMA_2_9B.but(vocab_size=257216),
    stages=(Stage("multimodal", rules=QUARTER), Stage("resolution", rules=QUARTER), TRANSFER),
    weights=(Source("hub", "google/paligemma2-10b-pt-224"),),
)
PALIGEMMA_2_28B = PALIGEMMA_2_3B.but(
    name="paligemma2-28b-224",
    language=language.GEMMA_2_27B.but(vocab_size=257216),
    stages=PALIGEMMA_2_10B.stages,
    weights=(Source("hub", "google/paligemma2-28b-pt-224"),),
)
PALIGEMMA_2_3B_448 = PALIGEMMA_2_3B.but(
    name="paligemma2-3b-448",
    vision=LARGER,
    images=Fixed(size=(448, 448)),
    weights=(Source("hub", "google/paligemma2-3b-pt-448"),),
)
PALIGEMMA_2_3B_896 = PALIGEMMA_2_3B.but(
    name="paligemma2-3b-896",
    vision=LARGEST,
    images=Fixed(size=(896, 896)),
    weights=(Source("hub", "google/paligemma2-3b-pt-896"),),
)
