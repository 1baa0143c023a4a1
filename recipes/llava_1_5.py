"""LLaVA-1.5 (2310.03744): a two-layer projection, 336 pixels, academic questions with short answers.

Rates, batches, cosine, warm-up of 3 %, no decay: the appendix' table of hyper-parameters; haotian-liu/LLaVA scripts/v1_5/
pretrain.sh and finetune.sh (eight processes of 32 and of 16 rows). Moments are transformers' defaults; scripts/zero2.json and
zero3.json clip no gradient. Steps are counted as its Trainer does, of 558,128 and 665,298 rows. Data: liuhaotian/
LLaVA-Pretrain (558K) and llava_v1_5_mix665k.json.
"""

from beholder.cards import card
from beholder.train.recipe import Lesson, Recipe, Start

CARD = card("llava-1.5-7b")
ALIGN, INSTRUCT = (stage.but(betas=(0.9, 0.999), clip=0.0) for stage in CARD.stages)

RECIPE = Recipe(
    CARD,
    (
        Lesson(
            ALIGN.but(steps=2181, batch=32, accumulate=8, warmup=66, data="LLaVA-Pretrain 558K"),
            small="tiny/captions.json",
            chat="llava-plain",
            bare=True,
        ),
        Lesson(
            INSTRUCT.but(steps=5198, batch=16, accumulate=8, warmup=156, data="llava_v1_5_mix665k.json"),
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
