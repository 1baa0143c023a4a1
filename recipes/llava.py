"""LLaVA (2304.08485, section 5): captions teach the projection, conversations teach projection and language model.

Rates, batches, epochs, cosine, warm-up of 3 %, no decay: the paper's section 5 and appendix C; moments and clipping at 1:
transformers' defaults, which hold under the appendix' FSDP (the DeepSpeed files of haotian-liu/LLaVA clip nothing). Steps are
counted as its Trainer does, of 595,375 and 157,712 rows. Data: liuhaotian/LLaVA-CC3M-Pretrain-595K and LLaVA-Instruct-150K,
in LLaVA's JSON.
"""

from beholder.cards import card
from beholder.train.recipe import Lesson, Recipe, Start

CARD = card("llava-7b")
ALIGN, INSTRUCT = CARD.stages
BETAS = (0.9, 0.999)

RECIPE = Recipe(
    CARD,
    (
        Lesson(  # one epoch of 595 K
            ALIGN.but(
                steps=4652, batch=16, accumulate=8, warmup=140, betas=BETAS, data="595K captions of CC3M"
            ),
            small="tiny/captions.json",
            chat="llava-plain",
            bare=True,
        ),
        Lesson(  # three epochs of 158 K
            INSTRUCT.but(
                steps=14787, batch=4, accumulate=8, warmup=444, betas=BETAS, data="LLaVA-Instruct-158K"
            ),
            small="tiny/instruct.json",
        ),
    ),
    start=(
        Start("branches.image.vision", "clip-l-14"),
        Start("languages.main", "lmsys/vicuna-7b-v1.3"),
    ),
    recompute=True,
)
