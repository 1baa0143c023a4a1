"""A transfer of PaliGemma (2407.07726, section 3.2.4 and appendix J) to captions of COCO: all of it trains, gently.

google-research/big_vision big_vision/configs/proj/paligemma/transfers/cococap.py: five epochs of 256, rate 1e-5 (the best of
its sweep), cosine with a warm-up of 5 %, second moment 0.999, clipping at 1. Its decay of 1e-6 is a tenth of the rate, so 0.1
in AdamW, and reaches the encoder's and the projection's matrices alone (big_vision/optax.py: names that end in `kernel`, as
none of Gemma's do). Data: COCO captions, 113,287 pictures, one caption drawn each epoch; the words `caption en` are asked.
"""

from beholder.cards import card
from beholder.cards.schema import Trains
from beholder.train.recipe import Lesson, Recipe

CARD = card("paligemma-3b-224")
TRANSFER = CARD.stages[-1]
UNDECAYED = ("*norm*", "*bias", "*.positions")

RECIPE = Recipe(
    CARD,
    (
        Lesson(
            TRANSFER.but(
                rules=(
                    *(Trains(f"branches.image.{name}", lr=1e-5) for name in UNDECAYED),
                    Trains("branches.image.*", lr=1e-5, weight_decay=0.1),
                    *TRANSFER.rules,
                ),
                steps=2_213,
                warmup=111,
                batch=16,
                accumulate=16,
                betas=(0.9, 0.999),
                objective="next-token, prefix",
                data="COCO captions",
            ),
            small="tiny/captions.json",
            caption="caption en",
        ),
    ),
    source="google/paligemma-3b-pt-224",
    recompute=True,
)
