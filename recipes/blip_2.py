"""BLIP-2's first stage (2301.12597, sections 3.2 and 4.1): a Q-Former learns what of a frozen encoder's features words tell.

Contrast, matching and captions; 250,000 steps of 1,680 pairs with ViT-g. Rates, floor and warm-up: salesforce/LAVIS
lavis/projects/blip2/train/pretrain_stage1.yaml. Contrast is among the pairs of all processes' batches: start sixteen.
Data: 129M pairs of COCO, Visual Genome, CC3M, CC12M, SBU and LAION400M.
"""

from beholder.cards import card
from beholder.train.recipe import Lesson, Recipe, Start

CARD = card("blip-2-pretrain-vit-g")
(REPRESENT,) = CARD.stages

RECIPE = Recipe(
    CARD,
    (
        Lesson(
            REPRESENT.but(batch=105, accumulate=16, floor=0.1, data="129M pairs"),
            small="tiny/captions.json",
        ),
    ),
    start=(Start("languages.main", "google-bert/bert-base-uncased"),),
    recompute=True,
)
