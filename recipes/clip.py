"""CLIP ViT-L/14 (2103.00020): contrast of 32,768 pictures and texts, 32 epochs of 400M pairs, from nothing.

Batch, epochs, rate (4e-4; 5e-4 for B/32 and B/16), decay of 0.2, 2,000 steps of warm-up, moments, eps, at most 100 for the
scale: tables 18 and 20; cosine, no decay of gains and biases: section 2.5. Which parameters these are, and that no gradient
is clipped: mlfoundations/open_clip src/open_clip_train. Contrast is among the pairs of all processes' batches: start as
many processes as `accumulate` says for the published batch.
"""

from beholder.cards import card
from beholder.cards.schema import Stage, Trains
from beholder.parts.heads.similarity import Similarity
from beholder.train.recipe import Lesson, Recipe

UNDECAYED = ("*norm*", "*bias", "heads.0.*", "*.cls")  # what has fewer than two dimensions

RECIPE = Recipe(
    card("clip-l-14").but(heads=(Similarity(most=100.0),)),
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
                clip=0.0,
                betas=(0.9, 0.98),
                eps=1e-6,
            ),
            small="tiny/captions.json",
        ),
    ),
)
