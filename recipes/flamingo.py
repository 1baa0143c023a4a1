"""Pictures and words in turn, as Flamingo (2204.14198) and OpenFlamingo (2308.01390, section 3.2) learn them.

Resampler, gated layers and new tokens train, at a constant rate of 1e-4 after 1,875 steps, with a decay of 0.1: the warm-
up is of mlfoundations/open_flamingo's example of training, rate and decay have not been checked against its code. Data:
60M sequences of Multimodal C4 and 120M pairs of LAION-2B, mixed here by weight. Steps and batch are ours.
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
                rules=tuple(rule.but(weight_decay=0.1) for rule in TRAIN.rules),
                schedule="constant",
                steps=60_000,
                batch=32,
                accumulate=32,
                warmup=1875,
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
