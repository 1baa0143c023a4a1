"""MobileVLM 1.7B (2312.16886, section 4.1): LLaVA-1.5's two stages and data for a small language model and LDP.

Meituan-AutoML/MobileVLM run.sh: rates 1e-3 and 2e-5 (4e-5 for 3B), batches of 32 and 16 a process, eight of them here,
warm-up of 3 %, no decay.
"""

from beholder.cards import card
from beholder.train.recipe import Lesson, Recipe, Start

CARD = card("mobilevlm-1.7b")
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
        Start("languages.main", "mtgv/MobileLLaMA-1.4B-Chat"),
    ),
)
