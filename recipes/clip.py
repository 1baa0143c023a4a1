"""CLIP ViT-L/14 (2103.00020, tables 18 and 20): contrast of 32,768 pictures and texts, 32 epochs of 400M pairs, from nothing.

Rate 4e-4 (L/14; 5e-4 for B/32 and B/16), decay 0.2, 2,000 steps of warm-up. Contrast is among the pairs of all processes'
batches: start as many processes as `accumulate` says for the published batch. Figures have not been checked against
the paper's text.
"""

from beholder.cards import card
from beholder.cards.schema import Stage, Trains
from beholder.train.recipe import Lesson, Recipe

UNDECAYED = ("*norm*", "*bias", "heads.0.*", "*positions", "*cls")  # gains, biases and what is no matrix

RECIPE = Recipe(
    card("clip-l-14"),
    (
        Lesson(
            Stage(
                "contrast",
                rules=(
                    *(Trains(name, lr=4e-4) for name in UNDECAYED),
                    Trains("*", lr=4e-4, weight_decay=0.2),
                ),
                data="400M pairs",
                objective="contrast",
                steps=390_625,
                batch=128,
                accumulate=256,
                warmup=2000,
                betas=(0.9, 0.98),
                eps=1e-6,
            ),
            small="tiny/captions.json",
        ),
    ),
)
