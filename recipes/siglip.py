"""SigLIP ViT-B/16 (2303.15343, section 4): every picture and text of a batch told whether they belong together.

Batch 32,768, rate 1e-3, decay 1e-4, second moment 0.95 (section 4.5 and table 6). The published models use Adafactor;
this is AdamW with its settings. Texts pass from process to process, so no process holds all scores. Steps and warm-up are
ours, and the other figures have not been checked against the paper's text. Data: WebLI.
"""

from beholder.cards import card
from beholder.cards.schema import Stage, Trains
from beholder.train.recipe import Lesson, Recipe

RECIPE = Recipe(
    card("siglip-b-16-224"),
    (
        Lesson(
            Stage(
                "sigmoids",
                rules=(Trains("*", lr=1e-3, weight_decay=1e-4),),
                data="WebLI pairs",
                objective="sigmoids",
                steps=107_000,
                batch=256,
                accumulate=128,
                warmup=6500,
                betas=(0.9, 0.95),
            ),
            small="tiny/captions.json",
        ),
    ),
)
