"""Pictures and words in turn, as Flamingo (2204.14198) and OpenFlamingo (2308.01390) learn them.

60M sequences of Multimodal C4 and 120M pairs of LAION-2B at a constant rate of 1e-4, decay of 0.1 for the gated layers
alone: sections 3.2 and 3.3. 64 processes of 32 sequences and 64 pairs (section 3.3 and README.md of mlfoundations/
open_flamingo: 29,280 steps, 1,875 of warm-up); clipping at 1 and AdamW's own moments: open_flamingo/train. There gradients
of both sets add up with weights of 1 and 0.2, and of words only the two new ones learn; here the sets are mixed, answers
weigh alike and all words learn.
"""

from beholder.cards import card
from beholder.train.recipe import Lesson, Recipe, Start

CARD = card("openflamingo-3b")
(TRAIN,) = CARD.stages

RECIPE = Recipe(
    CARD,
    (
        Lesson(
            TRAIN.but(
                steps=29_280,
                batch=96,
                accumulate=64,
                betas=(0.9, 0.999),
                data="mix:mmc4=1,laion=2",
            ),
            small="tiny/interleaved.json",
        ),
    ),
    start=(
        Start("branches.image.vision", "clip-l-14"),
        Start("languages.main", "anas-awadalla/mpt-1b-redpajama-200b"),
    ),
)
