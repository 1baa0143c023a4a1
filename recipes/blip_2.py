"""BLIP-2's first stage (2301.12597, section 3.2): a Q-Former learns what of a frozen encoder's features words tell.

Contrast, matching and captions; 250,000 steps of 1,680 pairs with ViT-g, rate, decay, moments and 2,000 steps of warm-up:
section 3.4. Floor, what does not decay and that no gradient is clipped: salesforce/LAVIS pretrain_stage1.yaml (whose warm-up
is 5,000), base_model.py, base_task.py. Contrast is among the pairs of all processes' batches: start sixteen. Data: 129M pairs
of COCO, Visual Genome, CC3M, CC12M, SBU and LAION400M.
"""

from beholder.cards import card
from beholder.cards.schema import Trains
from beholder.train.recipe import Lesson, Recipe, Start

CARD = card("blip-2-pretrain-vit-g")
(REPRESENT,) = CARD.stages
UNDECAYED = tuple(
    Trains(f"heads.0.{name}", lr=1e-4) for name in ("temperature", "*bias", "*norm.weight", "*after*")
)

RECIPE = Recipe(
    CARD,
    (
        Lesson(
            REPRESENT.but(
                rules=(*UNDECAYED, *REPRESENT.rules),
                batch=105,
                accumulate=16,
                floor=0.1,
                clip=0.0,
                data="129M pairs",
            ),
            small="tiny/captions.json",
        ),
    ),
    start=(Start("languages.main", "google-bert/bert-base-uncased"),),
    recompute=True,
)
