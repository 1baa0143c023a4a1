"""CogVLM (2311.03079): visual experts beside a frozen language model; to the last stage's questions the encoder learns too.

Captions, captions and boxes (the last half at 490 pixels; one fall of the rate over both), instructions: steps, batches,
rates, warm-ups, cosine, decay (0.05, then 0.1), moments and eps are tables 5 and 6, what trains sections 2.2 and 2.3. The last
stage's warm-up of 2 % and clipping at 0.1 are those of THUDM/CogVLM finetune_demo, for fine-tuning; of clipping before, nothing
was found. Left out: dropout of 0.1 and a moving average of untold decay (section 3.5). Data: LAION-2B and COYO (1.5B pairs),
40M grounded pictures, public question sets.
"""

from beholder.cards import card
from beholder.train.recipe import Lesson, Recipe, Start

CARD = card("cogvlm-chat")
CAPTION, GROUND, INSTRUCT = (
    stage.but(betas=(0.9, 0.95), rules=tuple(rule.but(weight_decay=decay) for rule in stage.rules), side=side)
    for stage, decay, side in zip(CARD.stages, (0.05, 0.05, 0.1), (224, 224, 490), strict=True)
)
HALF = GROUND.but(steps=30_000, batch=16, accumulate=64, floor=0.5, data="captions, boxes")
REST = HALF.but(
    name="ground-490", rules=tuple(rule.but(lr=5e-6) for rule in HALF.rules), warmup=0, floor=0.0, side=490
)

RECIPE = Recipe(
    CARD,
    (
        Lesson(CAPTION.but(batch=32, accumulate=256, data="1.5B captions"), small="tiny/captions.json"),
        Lesson(HALF, small="tiny/captions.json"),
        Lesson(REST, small="tiny/captions.json"),
        Lesson(
            INSTRUCT.but(batch=16, accumulate=64, warmup=120, clip=0.1, data="instructions"),
            small="tiny/instruct.json",
        ),
    ),
    start=(Start("languages.main", "lmsys/vicuna-7b-v1.5"),),
    recompute=True,
)
