"""Qwen-VL (2308.12966, section 3 and table 8): encoder and adapter on pairs, all on seven tasks at 448 pixels, then chat.

Table 8: rates 2e-4, 5e-5 and 1e-5 with floors of 1e-6, 1e-5 and 1e-6, warm-up of 500, 400 and 3,000 steps, moments 0.9 and
0.98, eps 1e-6, decay 0.05, clipping at 1, the encoder's rates falling by 0.95 a layer. Data: 1.4B cleaned pairs; 76.8M rows of
seven tasks (tables 2 and 3); 350K chats. The paper's own text was not at hand: every figure agrees with others' accounts of
it, but for the encoder's 0.95 in the second stage, of which they say nothing.
"""

from beholder.cards import card
from beholder.cards.schema import Trains
from beholder.train.recipe import Lesson, Recipe, Start

CARD = card("qwen-vl-chat")
ALIGN, TASKS, CHAT = (
    stage.but(betas=(0.9, 0.98), eps=1e-6, rules=tuple(rule.but(weight_decay=0.05) for rule in stage.rules))
    for stage in CARD.stages
)


def by_layer(rate: float) -> Trains:
    """The encoder's rule."""
    return Trains("branches.image.vision.*", lr=rate, weight_decay=0.05, layer_decay=0.95)


RECIPE = Recipe(
    CARD,
    (
        Lesson(
            ALIGN.but(
                rules=(by_layer(2e-4), *ALIGN.rules),
                steps=50_000,
                warmup=500,
                floor=0.005,
                batch=60,
                accumulate=512,
                side=224,
                data="1.4B pairs",
            ),
            small="tiny/captions.json",
            bare=True,
        ),
        Lesson(
            TASKS.but(
                rules=(by_layer(5e-5), *TASKS.rules),
                steps=19_000,
                warmup=400,
                floor=0.2,
                batch=16,
                accumulate=256,
                side=448,
                data="77M rows of seven tasks",
            ),
            small="tiny/instruct.json",
            tokens=2048,
        ),
        Lesson(
            CHAT.but(
                steps=8_000, warmup=3_000, floor=0.1, batch=16, accumulate=8, side=448, data="350K chats"
            ),
            small="tiny/instruct.json",
        ),
    ),
    start=(Start("languages.main", "Qwen/Qwen-7B"),),
    recompute=True,
)
