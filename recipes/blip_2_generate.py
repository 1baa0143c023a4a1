"""BLIP-2's second stage (2301.12597): the Q-Former speaks to a frozen OPT-2.7B.

80,000 steps of 1,920 pairs, rate to 5e-5, decay, moments, warm-up: section 3.4 (the rate of salesforce/LAVIS
pretrain_stage2.yaml ends at 1e-5). What does not decay and that no gradient is clipped: LAVIS base_model.py, base_task.py.
Give the first stage's run as the connector's start. Data: the first stage's.
"""

from beholder.cards import card
from beholder.cards.schema import Trains
from beholder.train.recipe import Lesson, Recipe, Start

CARD = card("blip-2-opt-2.7b")
(GENERATE,) = CARD.stages
UNDECAYED = tuple(
    Trains(f"branches.image.connector.{name}", lr=1e-4) for name in ("*bias", "*norm.weight", "*after*")
)

RECIPE = Recipe(
    CARD,
    (
        Lesson(
            GENERATE.but(
                rules=(*UNDECAYED, *GENERATE.rules),
                batch=64,
                accumulate=30,
                floor=0.5,
                clip=0.0,
                data="129M pairs",
            ),
            small="tiny/captions.json",
            bare=True,
        ),
    ),
    start=(Start("languages.main", "facebook/opt-2.7b"),),
)
