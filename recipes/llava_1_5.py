"""LLaVA-1.5 (2310.03744, table 9): a two-layer projection, 336 pixels, academic questions with short answers.

Rates, batches and warm-up: haotian-liu/LLaVA scripts/v1_5/pretrain.sh and finetune.sh (eight processes of 32 and of 16 rows).
Data: liuhaotian/LLaVA-Pretrain (558K) and llava_v1_5_mix665k.json.
"""

from beholder.cards import card
from beholder.train.recipe import Lesson, Recipe, Start

CARD = card("llava-1.5-7b")
ALIGN, INSTRUCT = CARD.stages
BETAS = (0.9, 0.999)

RECIPE = Recipe(
    CARD,
    (
        Lesson(
            ALIGN.but(steps=2181, batch=32, accumulate=8, warmup=65, betas=BETAS, data="LLaVA-Pretrain 558K"),
            small="tiny/captions.json",
            chat="llava-plain",
            bare=True,
        ),
        Lesson(
            INSTRUCT.but(
                steps=5197, batch=16, accumulate=8, warmup=156, betas=BETAS, data="llava_v1_5_mix665k.json"
            ),
            small="tiny/instruct.json",
            alike=True,
        ),
    ),
    start=(
        Start("branches.image.vision", "clip-l-14-336"),
        Start("languages.main", "lmsys/vicuna-7b-v1.5"),
    ),
    recompute=True,
)
