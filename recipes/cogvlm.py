"""CogVLM (2311.03079, section 2.3 and table of hyper-parameters): visual experts beside a frozen language model.

Captions: 120,000 steps of 8,192 at 1e-4; captions and grounding: 60,000 steps of 1,024 at 1e-5, the last half at 490 pixels;
then instructions at 1e-5. Decay 0.05, moments 0.9 and 0.95. Data: LAION-2B and COYO (1.5B pairs), 40M grounded pictures,
public question sets. These figures have not been checked against the paper's text; the warm-up of the last stage is ours.
"""

from beholder.cards import card
from beholder.train.recipe import Lesson, Recipe, Start

CARD = card("cogvlm-chat")
CAPTION, GROUND, INSTRUCT = (
    stage.but(betas=(0.9, 0.95), rules=tuple(rule.but(weight_decay=0.05) for rule in stage.rules))
    for stage in CARD.stages
)
GENTLE = tuple(rule.but(lr=1e-5) for rule in GROUND.rules)

RECIPE = Recipe(
    CARD,
    (
        Lesson(
            CAPTION.but(
                steps=120_000, warmup=12_000, batch=32, accumulate=256, side=224, data="1.5B captions"
            ),
            small="tiny/captions.json",
        ),
        Lesson(
            GROUND.but(
                rules=GENTLE,
                steps=30_000,
                warmup=1_200,
                batch=16,
                accumulate=64,
                side=224,
                data="captions, boxes",
            ),
            small="tiny/captions.json",
        ),
        Lesson(
            GROUND.but(
                name="ground-490",
                rules=GENTLE,
                steps=30_000,
                warmup=0,
                batch=16,
                accumulate=64,
                side=490,
                data="the same",
            ),
            small="tiny/captions.json",
        ),
        Lesson(
            INSTRUCT.but(steps=6_000, warmup=300, batch=16, accumulate=64, side=490, data="instructions"),
            small="tiny/instruct.json",
        ),
    ),
    start=(Start("languages.main", "lmsys/vicuna-7b-v1.5"),),
    recompute=True,
)
