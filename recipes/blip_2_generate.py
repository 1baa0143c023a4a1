"""BLIP-2's second stage (2301.12597, section 4.1): the Q-Former speaks to a frozen OPT-2.7B.

80,000 steps of 1,920 pairs; the rate ends at 5e-5 (the paper's; LAVIS' pretrain_stage2.yaml has 1e-5). Give the first
stage's run as the connector's start. Data: the first stage's.
"""

from beholder.cards import card
from beholder.train.recipe import Lesson, Recipe, Start

CARD = card("blip-2-opt-2.7b")
(GENERATE,) = CARD.stages

RECIPE = Recipe(
    CARD,
    (
        Lesson(
            GENERATE.but(batch=64, accumulate=30, floor=0.5, data="129M pairs"),
            small="tiny/captions.json",
            bare=True,
        ),
    ),
    start=(Start("languages.main", "facebook/opt-2.7b"),),
)
